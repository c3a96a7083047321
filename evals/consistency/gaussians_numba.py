"""Gaussian splatting on one CPU core: rendering, the derivative, the fit. Extra `consistency` (numba).

The same interface as gaussians_cuda.py: `fit` and `render`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, inverse
from wfm_sim.evals.consistency import splat_kernels as kernels
from wfm_sim.evals.consistency.gaussians import COLUMNS, FitSettings, Gaussians, Views
from wfm_sim.evals.consistency.photometric import loss_derivative

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """A camera as the kernels take it: world to camera, [3, 3] and [3]; fx, fy, cx, cy in pixels; (height, width)."""

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    pinhole: tuple[float, float, float, float]
    size: tuple[int, int]

    @classmethod
    def of(cls, c2w: NDArray[np.float64], intrinsics: Intrinsics) -> Camera:
        """From a pose camera to world, float64 [4, 4], OpenCV axes."""
        w2c, k = inverse(c2w), intrinsics
        pinhole = (float(k.fx), float(k.fy), float(k.cx), float(k.cy))
        return cls(w2c[:3, :3].copy(), w2c[:3, 3].copy(), pinhole, (k.height, k.width))


def render(gaussians: Gaussians, c2w: NDArray[np.float64], intrinsics: Intrinsics, background: Floats) -> Floats:
    """The picture, float32 [H, W, 3], about 0..1, before a background colour, float32 [3]."""
    return render_table(gaussians.table, Camera.of(c2w, intrinsics), background)


def fit(start: Gaussians, views: Views, settings: FitSettings) -> Gaussians:
    """Gaussians that explain the views, from where `start` puts them. Lengths are in units of the scene."""
    table, background = start.table.copy(), views.background()
    cameras = [Camera.of(pose, views.intrinsics) for pose in views.poses]
    first, second = np.zeros_like(table), np.zeros_like(table)
    rates, (beta1, beta2) = settings.column_rates(), settings.betas
    for step, view in enumerate(settings.order_of_views(len(cameras))):
        image = render_table(table, cameras[view], background)
        truth = views.frames[view]
        if views.masks is not None:  # what moves is right as it is
            truth = np.where(views.masks[view][..., None], image, truth)
        by_image = loss_derivative(image, truth, settings.dssim)
        gradient = table_derivative(table, cameras[view], image, by_image)
        # Kingma and Ba 2015, algorithm 1
        first += np.float32(1 - beta1) * (gradient - first)
        second += np.float32(1 - beta2) * (gradient * gradient - second)
        size = settings.final ** (step / settings.iterations) * rates / (1 - beta1 ** (step + 1))
        table -= size * first / (np.sqrt(second / np.float32(1 - beta2 ** (step + 1))) + np.float32(settings.epsilon))
    return Gaussians(table)


def compile_kernels() -> None:
    """Compile them, or read them from the cache, so that it is not counted as time of a fit."""
    table, size = np.zeros((1, COLUMNS), np.float32), (1, 1)
    table[0, 2] = table[0, 6] = 1
    camera = Camera(np.eye(3), np.zeros(3), (1.0, 1.0, 0.5, 0.5), size)
    image = render_table(table, camera, np.zeros(3, np.float32))
    table_derivative(table, camera, image, np.ones_like(image))


def render_table(table: Floats, camera: Camera, background: Floats) -> Floats:
    """`render` of float32 [N, 14]."""
    splats, order = _splats(table, camera)
    height, width = camera.size
    return kernels.composite(splats, order, height, width, background)


def table_derivative(table: Floats, camera: Camera, image: Floats, by_image: Floats) -> Floats:
    """The derivative [N, 14] of a loss by the table, from its derivative by the `image` that `render_table` gave."""
    splats, order = _splats(table, camera)
    by_splat = kernels.composite_backward(splats, order, image, by_image)
    return kernels.project_backward(table, camera.rotation, camera.translation, camera.pinhole, camera.size, by_splat)


def _splats(table: Floats, camera: Camera) -> tuple[Floats, NDArray[np.int64]]:
    """The splats [N, 9], and the indices of those that can be seen, nearest first."""
    splats, depth = kernels.project(table, camera.rotation, camera.translation, camera.pinhole, camera.size)
    order = np.argsort(depth, kind="stable")
    return splats, order[: np.searchsorted(depth[order], np.inf)]
