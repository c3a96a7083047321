"""Does a clip move, and does it show parallax? Without either, 3D consistency cannot be told from a flat picture.

A frozen clip has no Sampson error at all, and a camera that only turns has next to none: both would score perfectly.
So pairs farther and farther apart are asked whether their matches move, and whether something more than a turn of the
camera (with known intrinsics) or a homography (without) is needed to explain how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics
from wfm_sim.evals.consistency.matches import Features, match

# Shares of the frame's diagonal: 1.2 and 1.2 px of 320 x 240.
MOTION = 0.003
PARALLAX = 0.003
_SHARE = 0.2  # of the matches must show it: one object that moves is not the scene
_MIN_MATCHES = 16


@dataclass(frozen=True)
class Parallax:
    """What a clip shows, as shares of the frame's diagonal.

    Attributes:
        motion: The most by which half of the matches of a pair moved.
        parallax: The most by which a fifth of the matches of a pair are off the best turn (or homography).
        pairs: Pairs that had enough matches to say so.
        identical: All frames are the same.
    """

    motion: float
    parallax: float
    pairs: int
    identical: bool

    @property
    def reason(self) -> str:
        """Why 3D consistency is not applicable; '' when it is, or when nothing could be matched at all."""
        if self.identical:
            return "frozen: all frames are the same"
        if not self.pairs:
            return ""
        if self.motion < MOTION:
            return "the camera does not move"
        if self.parallax < PARALLAX:
            return "no parallax: the camera only turns, or the scene is flat"
        return ""


def measure(
    features: Sequence[Features],
    frames: NDArray[np.uint8],
    intrinsics: Intrinsics | None,
    *,
    seed: int = 0,
) -> Parallax:
    """See the module.

    Args:
        features: Of the frames.
        frames: uint8 [T, H, W, 3].
        intrinsics: Of the frames; None compares with a homography.
        seed: Of the estimators.
    """
    identical = bool((frames == frames[:1]).all())
    if identical:
        return Parallax(0.0, 0.0, 0, True)
    diagonal = float(np.hypot(*frames.shape[1:3]))
    motion = parallax = 0.0
    count = 0
    for first, second in _pairs(len(features)):
        a, b = match(features[first], features[second])
        if len(a) < _MIN_MATCHES:
            continue
        kept = _inliers(a, b, seed)
        if kept.sum() < _MIN_MATCHES:
            continue
        a, b = a[kept], b[kept]
        count += 1
        motion = max(motion, float(np.median(np.linalg.norm(b - a, axis=1))) / diagonal)
        parallax = max(parallax, float(np.quantile(_off(a, b, intrinsics, seed), 1 - _SHARE)) / diagonal)
    return Parallax(motion, parallax, count, False)


def _pairs(count: int) -> list[tuple[int, int]]:
    """Pairs (t, t + stride) for strides 1, 2, 4, ... and the whole clip, a few of each."""
    strides = sorted({*(2**i for i in range(12) if 2**i < count), count - 1})
    pairs = []
    for stride in strides:
        starts = np.unique(np.linspace(0, count - 1 - stride, min(3, count - stride)).round().astype(int))
        pairs += [(int(t), int(t) + stride) for t in starts]
    return pairs


def _inliers(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Matches [M] that one geometry explains: false matches have parallax of their own."""
    from wfm_sim.evals.consistency.sampson import fundamental, sampson_errors

    F = fundamental(a, b, seed)
    return np.zeros(len(a), bool) if F is None else sampson_errors(F, a, b) < 1.5


def _off(
    a: NDArray[np.float64], b: NDArray[np.float64], intrinsics: Intrinsics | None, seed: int
) -> NDArray[np.float64]:
    """float64 [M]: pixels by which matches are off the best turn of the camera, or off the best homography."""
    import cv2

    if intrinsics is None:
        cv2.setRNGSeed(seed)
        H, _ = cv2.findHomography(a, b, cv2.RANSAC, 1.5)  # and refined on its inliers
        if H is None:
            return np.full(len(a), np.inf)
    else:
        k = intrinsics.matrix
        H = k @ _turn(_rays(a, k), _rays(b, k)) @ np.linalg.inv(k)
    there = np.column_stack((a, np.ones(len(a)))) @ H.T
    return np.asarray(np.linalg.norm(there[:, :2] / there[:, 2:] - b, axis=1))


def _rays(points: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
    rays = np.column_stack((points, np.ones(len(points)))) @ np.linalg.inv(k).T
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _turn(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation that takes directions a to b [M, 3], by least squares, reweighted towards the least sum."""
    weights = np.ones(len(a))
    for _ in range(10):
        u, _, vt = np.linalg.svd((weights[:, None] * b).T @ a)
        R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        weights = 1 / np.maximum(np.linalg.norm(a @ R.T - b, axis=1), 1e-4)
    return np.asarray(R)
