"""The loss that Gaussians are fitted by, and its derivative: (1 - s) |x - y| + s (1 - SSIM) / 2, means over all values.

Kerbl et al. 2023, eq. 7; SSIM as in Wang et al. 2004, windows of 11 x 11 with sigma 1.5, zeros outside of the picture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # float32 [H, W, 3]

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
_KERNEL = cv2.getGaussianKernel(WINDOW, SIGMA).astype(np.float32)


def loss(image: Image, truth: Image, dssim: float) -> float:
    """Of float32 [H, W, 3] twice, 0..1."""
    return float(np.abs(image - truth).mean() * (1 - dssim) + dssim * (1 - _ssim(image, truth)[0].mean()) / 2)


def loss_derivative(image: Image, truth: Image, dssim: float) -> Image:
    """Of `loss` by `image`: float32 [H, W, 3]."""
    out = (1 - dssim) * np.sign(image - truth)
    if dssim:
        index, a1, a2, b1, b2, mean_x, mean_y = _ssim(image, truth)
        both = 1 / (b1 * b2)
        # SSIM by the three blurred pictures that depend on x: its mean, that of x^2, that of x y
        by_mean = 2 * mean_y * (a2 - a1) * both - 2 * mean_x * index * (1 / b1 - 1 / b2)
        by_square, by_product = -index / b2, 2 * a1 * both
        # the window is symmetric, so the derivative of the blur is the blur
        out -= dssim / 2 * (_blur(by_mean) + 2 * image * _blur(by_square) + truth * _blur(by_product))
    return (out / image.size).astype(np.float32)


def _ssim(x: Image, y: Image) -> tuple[Image, ...]:
    """The index at every pixel, its four factors (eq. 13: a1 a2 / (b1 b2)), and the two means."""
    mean_x, mean_y = _blur(x), _blur(y)
    a1, a2 = 2 * mean_x * mean_y + C1, 2 * (_blur(x * y) - mean_x * mean_y) + C2
    b1, b2 = mean_x**2 + mean_y**2 + C1, _blur(x * x) + _blur(y * y) - mean_x**2 - mean_y**2 + C2
    return a1 * a2 / (b1 * b2), a1, a2, b1, b2, mean_x, mean_y


def _blur(image: Image) -> Image:
    return np.asarray(cv2.sepFilter2D(image, -1, _KERNEL, _KERNEL, borderType=cv2.BORDER_CONSTANT))
