"""Frame metrics: PSNR, SSIM and PSNR of the region that moves, all on uint8 RGB frames.

SSIM follows Wang et al. 2004: Gaussian window 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, population (not
sample) covariance, only windows that lie wholly inside the image; computed per RGB channel and averaged, without the
down-sampling that the authors' script applies to images larger than 256 px.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

PEAK = 255.0
IDENTICAL_DB = 100.0  # PSNR of identical frames (really infinite), so that means stay finite
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
MOVED_LEVELS = 20  # a pixel has moved if a channel differs from the true first frame by more than this, of 255


def psnr(truth: Frames, imagined: Frames) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, frame by frame: uint8 [..., H, W, 3] twice -> float64 [...], at most 100."""
    _same(truth, imagined)
    error = truth.astype(np.float32) - imagined.astype(np.float32)
    return _decibel(np.square(error).mean(axis=(-3, -2, -1), dtype=np.float64))


def ssim(truth: Frames, imagined: Frames) -> NDArray[np.float64]:
    """Structural similarity, frame by frame: uint8 [..., H, W, 3] twice, H and W >= 11 -> float64 [...], at most 1."""
    _same(truth, imagined)
    height, width = truth.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW} x {SSIM_WINDOW} px, got {height} x {width}")
    flat_truth, flat_imagined = truth.reshape(-1, *truth.shape[-3:]), imagined.reshape(-1, *truth.shape[-3:])
    values = [_ssim_of_frame(a, b) for a, b in zip(flat_truth, flat_imagined, strict=True)]
    return np.array(values, dtype=np.float64).reshape(truth.shape[:-3])


def moving_mask(truth: Frames) -> NDArray[np.bool_]:
    """Where the truth has changed since its first frame: uint8 [T, H, W, 3] -> bool [T, H, W], grown by one pixel."""
    change = np.abs(truth.astype(np.int16) - truth[:1].astype(np.int16)).max(-1) > MOVED_LEVELS
    kernel = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(m.astype(np.uint8), kernel).astype(bool) for m in change])


def moving_psnr(truth: Frames, imagined: Frames) -> NDArray[np.float64]:
    """PSNR over `moving_mask(truth)` only: uint8 [T, H, W, 3] twice -> float64 [T] dB, NaN where nothing has moved."""
    _same(truth, imagined)
    mask = moving_mask(truth)
    error = np.square(truth.astype(np.float64) - imagined.astype(np.float64)).mean(-1)
    count = mask.sum((1, 2))
    total = np.where(mask, error, 0).sum((1, 2))
    return np.where(count > 0, _decibel(total / np.maximum(count, 1)), np.nan)


def _ssim_of_frame(a: Frames, b: Frames) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    margin = SSIM_WINDOW // 2

    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = cv2.GaussianBlur(image, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
        return np.asarray(blurred[margin:-margin, margin:-margin], dtype=np.float64)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * PEAK) ** 2, (SSIM_K2 * PEAK) ** 2
    # Wang et al. 2004, eq. 13
    index = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(index.mean())


def _decibel(mse: NDArray[np.float64]) -> NDArray[np.float64]:
    floor = PEAK**2 / 10 ** (IDENTICAL_DB / 10)
    return 10 * np.log10(PEAK**2 / np.maximum(mse, floor))


def _same(truth: Frames, imagined: Frames) -> None:
    for frames in (truth, imagined):
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 [..., H, W, 3], got {frames.dtype} {list(frames.shape)}")
    if truth.shape != imagined.shape:
        raise ValueError(f"frames differ in shape: {list(truth.shape)} and {list(imagined.shape)}")
