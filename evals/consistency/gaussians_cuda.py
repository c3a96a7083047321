"""Gaussian splatting on a CUDA device by gsplat (Ye et al. 2025, Apache-2.0). Extra `gsplat`.

The same interface as gaussians_numba.py, the same start, loss and step sizes. Its rasterizer differs in detail (reach
of a splat, order of sums), so scores of the two are never mixed, and atomic sums make its digits vary between runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, inverse
from wfm_sim.evals.consistency.gaussians import (
    BLUR,
    COLOURS,
    LOG_SCALES,
    MEANS,
    NEAR,
    OPACITY_LOGITS,
    QUATERNIONS,
    FitSettings,
    Gaussians,
    Views,
)  # fmt: skip
from wfm_sim.evals.consistency.photometric import C1, C2, SIGMA, WINDOW


def unavailable() -> str:
    """Why gsplat cannot be used here, one sentence; empty where it can."""
    import importlib.util

    import torch

    if not torch.cuda.is_available():
        return "gsplat needs a CUDA device, and torch sees none"
    if importlib.util.find_spec("gsplat") is None:
        return "the package gsplat is absent (pip install 'wfm-sim[gsplat]')"
    try:  # compiled on first use: it is None where no compiler was found
        from gsplat.cuda._backend import _C
    except (ImportError, OSError, RuntimeError) as error:
        return f"gsplat cannot be imported ({error})"
    return "" if _C is not None else "gsplat has no compiled CUDA kernels here"


def render(
    gaussians: Gaussians, c2w: NDArray[np.float64], intrinsics: Intrinsics, background: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The picture, float32 [H, W, 3], about 0..1, before a background colour, float32 [3]."""
    import torch
    from gsplat import rasterization

    with torch.inference_mode():
        table, colour = torch.from_numpy(gaussians.table).cuda(), torch.from_numpy(background).cuda()
        picture = _draw(rasterization, table, _camera(c2w, intrinsics, table.device), intrinsics, colour)
    return picture.cpu().numpy()


def fit(
    start: Gaussians,
    views: Views,
    settings: FitSettings,
    *,
    rasterization: Callable[..., Any] | None = None,
    device: str = "cuda",
) -> Gaussians:
    """Gaussians that explain the views, from where `start` puts them. Lengths are in units of the scene.

    rasterization, device: For tests: a function that is called like gsplat.rasterization, and where.
    """
    import torch

    if rasterization is None:
        import gsplat

        rasterization = gsplat.rasterization
    # each column has a rate of its own, so they are parameters of their own
    parts = [MEANS, LOG_SCALES, QUATERNIONS, OPACITY_LOGITS, COLOURS]
    parameters = [torch.tensor(start.table[:, part], device=device, requires_grad=True) for part in parts]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters, settings.rates, strict=True)]
    optimiser = torch.optim.Adam(groups, betas=settings.betas, eps=settings.epsilon)
    decay = settings.final ** (1 / settings.iterations)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimiser, decay)
    frames = torch.from_numpy(views.frames).to(device)
    masks = None if views.masks is None else torch.from_numpy(views.masks).to(device)
    cameras = [_camera(pose, views.intrinsics, device) for pose in views.poses]
    background = torch.from_numpy(views.background()).to(device)
    for view in settings.order_of_views(len(cameras)):
        image = _draw(rasterization, torch.cat(parameters, dim=1), cameras[view], views.intrinsics, background)
        truth = frames[view]
        if masks is not None:  # what moves is right as it is
            truth = torch.where(masks[view][..., None], image.detach(), truth)
        optimiser.zero_grad()
        _loss(image, truth, settings.dssim).backward()
        optimiser.step()
        scheduler.step()
    return Gaussians(torch.cat(parameters, dim=1).detach().cpu().numpy())


def _draw(
    rasterization: Callable[..., Any], table: Any, camera: tuple[Any, Any], k: Intrinsics, background: Any
) -> Any:
    """float32 [H, W, 3] of a table [N, 14]."""
    import torch

    viewmat, matrix = camera
    pictures, _, _ = rasterization(
        means=table[:, MEANS], quats=table[:, QUATERNIONS], scales=torch.exp(table[:, LOG_SCALES]),
        opacities=torch.sigmoid(table[:, OPACITY_LOGITS])[:, 0], colors=table[:, COLOURS], viewmats=viewmat[None],
        Ks=matrix[None], width=k.width, height=k.height, near_plane=NEAR, eps2d=BLUR, backgrounds=background[None],
    )  # fmt: skip
    return pictures[0]


def _camera(c2w: NDArray[np.float64], intrinsics: Intrinsics, device: Any) -> tuple[Any, Any]:
    """World to camera [4, 4] and K [3, 3], float32 on the device."""
    import torch

    return tuple(torch.tensor(m, dtype=torch.float32, device=device) for m in (inverse(c2w), intrinsics.matrix))  # type: ignore[return-value]


def _loss(image: Any, truth: Any, dssim: float) -> Any:
    """`photometric.loss` of tensors [H, W, 3]."""
    import torch
    from torch.nn.functional import conv2d

    x, y = image.permute(2, 0, 1)[:, None], truth.permute(2, 0, 1)[:, None]  # [3, 1, H, W]
    ramp = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    line = torch.exp(-(ramp**2) / (2 * SIGMA**2))
    window = (line[:, None] * line[None])[None, None] / line.sum() ** 2

    def blur(values: Any) -> Any:
        return conv2d(values, window, padding=WINDOW // 2)

    mean_x, mean_y = blur(x), blur(y)
    covariance = blur(x * y) - mean_x * mean_y
    variances = blur(x * x) + blur(y * y) - mean_x**2 - mean_y**2
    index = (2 * mean_x * mean_y + C1) * (2 * covariance + C2) / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))
    return (1 - dssim) * (image - truth).abs().mean() + dssim * (1 - index.mean()) / 2
