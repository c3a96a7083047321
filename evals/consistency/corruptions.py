"""What breaks 3D consistency, or only looks like it: corruptions of a clip for the validation of the evals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
_SHEET_PX = 24.0  # the warp is smooth over this many pixels (of 240 rows; in proportion else)


def jpeg(frames: Frames, quality: int = 40) -> Frames:
    """Every frame through JPEG."""
    import cv2

    out = []
    for frame in frames:
        _, code = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        out.append(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
    return np.stack(out)


def noise(frames: Frames, sigma: float = 20.0, seed: int = 0) -> Frames:
    """Gaussian noise, another in every frame; sigma in levels of 255."""
    rng = np.random.default_rng(seed)
    return np.stack([np.clip(f + rng.normal(0, sigma, f.shape), 0, 255).round().astype(np.uint8) for f in frames])


def rubber_sheet(frames: Frames, pixels: float, seed: int = 0) -> Frames:
    """A smooth random warp of `pixels` (root mean square per axis), another in every frame: nothing is rigid."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = []
    for frame in frames:
        warp = []
        for _ in range(2):
            rough = rng.standard_normal((height, width)).astype(np.float32)
            field = np.asarray(cv2.GaussianBlur(rough, (0, 0), _SHEET_PX * height / 240), np.float32)
            warp.append(np.float32(pixels) * field / field.std())
        out.append(_sample(frame, x + warp[0], y + warp[1]))
    return np.stack(out)


def jitter(frames: Frames, pixels: float = 4.0, degrees: float = 1.0, seed: int = 0) -> Frames:
    """Every frame shifted and turned in its plane at random (standard deviations), as by a shaking hand."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = []
    for frame in frames:
        matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, degrees), 1.0), np.float64)
        matrix[:, 2] += rng.normal(0, pixels, 2)
        a, b, c = matrix.T[:, :, None, None]
        out.append(_sample(frame, *(a * x + b * y + c)))
    return np.stack(out)


def swap(frames: Frames, other: Frames) -> Frames:
    """The second half is another scene."""
    half = len(frames) // 2
    return np.concatenate([frames[:half], other[half:]])


def frozen(frames: Frames) -> Frames:
    """The first frame, all the time."""
    return np.repeat(frames[:1], len(frames), axis=0)


def _sample(frame: Frames, x: NDArray[np.floating], y: NDArray[np.floating]) -> Frames:
    import cv2

    found = cv2.remap(
        frame, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(found, np.uint8)
