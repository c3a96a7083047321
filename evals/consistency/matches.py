"""SIFT features of frames and their matches, by OpenCV; the same frames give the same matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATIO = 0.8  # Lowe 2004
CONTRAST = 0.02  # as pycolmap's; OpenCV's own 0.04 finds a sixth of the features on painted walls


@dataclass(frozen=True)
class Features:
    """Of one frame: positions float64 [N, 2] in pixels of the frame (x, y; the first pixel's centre at 0.5, 0.5) and
    descriptors float32 [N, 128]."""

    points: NDArray[np.float64]
    descriptors: NDArray[np.float32]


def detect(
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_] | None = None,
    *,
    max_features: int = 2048,
    scale: float = 1.0,
    contrast: float = CONTRAST,
) -> list[Features]:
    """Features of every frame.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        masks: bool [T, H, W], True where no features are wanted.
        max_features: The strongest so many.
        scale: Detect in frames scaled by this.
        contrast: SIFT's threshold.
    """
    import cv2

    # a precise upscale, as positions are a quarter of a pixel off else
    sift = cv2.SIFT.create(nfeatures=max_features, contrastThreshold=contrast, enable_precise_upscale=True)
    found = []
    for i, frame in enumerate(frames):
        gray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        if scale != 1:
            size = (round(gray.shape[1] * scale), round(gray.shape[0] * scale))
            gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        keypoints, descriptors = sift.detectAndCompute(gray, None)
        if descriptors is None or not len(keypoints):  # a blank frame gives ((), None)
            found.append(Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32)))
            continue
        shrink = np.array([frame.shape[1] / gray.shape[1], frame.shape[0] / gray.shape[0]])
        points = (np.array([k.pt for k in keypoints], np.float64) + 0.5) * shrink
        if masks is not None:
            column, row = np.clip(points.astype(int), 0, np.array(frame.shape[1::-1]) - 1).T
            kept = ~masks[i][row, column]
            points, descriptors = points[kept], descriptors[kept]
        found.append(Features(points, np.asarray(descriptors, np.float32)))
    return found


def match(a: Features, b: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matched positions float64 [M, 2], [M, 2]: nearest neighbours that are clearly nearer than the second nearest."""
    import cv2

    if len(a.points) < 2 or len(b.points) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    pairs = cv2.BFMatcher().knnMatch(a.descriptors, b.descriptors, k=2)
    good = [(m.queryIdx, m.trainIdx) for m, second in pairs if m.distance < RATIO * second.distance]
    index = np.array(good, int).reshape(-1, 2)
    return a.points[index[:, 0]], b.points[index[:, 1]]
