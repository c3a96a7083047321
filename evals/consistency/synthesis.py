"""View synthesis as a test of consistency: Gaussians fitted to 7 of 8 views must predict the eighth.

    found = synthesise(frames, poses, points, colours, intrinsics)
    found.psnr, found.ssim, found.backend                   # means over the held-out views

Frames that are not pictures of one rigid scene cannot be explained by one: a warp of 1 px, with which SfM still
succeeds, costs several dB (docs/view_synthesis.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, check_pose
from wfm_sim.errors import UserError, unknown
from wfm_sim.evals.consistency.gaussians import FitSettings, Gaussians, Views, scene_unit, seed_gaussians
from wfm_sim.evals.consistency.lpips_score import load_lpips
from wfm_sim.video_metrics import IDENTICAL_DB, PEAK, ssim

Backend = Literal["auto", "numba", "gsplat"]
BACKENDS = ("auto", "numba", "gsplat")
PIXELS = 160 * 120  # larger frames are scaled down to about as many
COUNT = 11_000  # Gaussians, at least
MIN_FRAMES = 3
MIN_SIDE = 16  # px, of the frames scored


@dataclass(frozen=True)
class HeldOut:
    """One held-out view.

    Attributes:
        frame: Its index among the frames given.
        psnr: dB. ssim: At most 1. lpips: Or None, unscored.
    """

    frame: int
    psnr: float
    ssim: float
    lpips: float | None


@dataclass(frozen=True)
class Synthesis:
    """How well held-out views were predicted.

    Attributes:
        psnr: Mean over the held-out views, dB.
        ssim: Mean.
        lpips: Mean (AlexNet), or None with `lpips_reason`.
        per_view: Of each held-out view.
        backend: "numba" or "gsplat"; scores of the two must not be mixed.
        seconds: CPU seconds of this process with numba, by the clock with gsplat; compiling not counted.
        size: (height, width) at which views were fitted and scored.
        gaussians: The scene, in the frame and unit of the points given.
        rendered: uint8 [V, height, width, 3], the held-out views as predicted.
        truth: uint8, the same views as they are.
    """

    psnr: float
    ssim: float
    lpips: float | None
    lpips_reason: str
    per_view: tuple[HeldOut, ...]
    backend: str
    seconds: float
    size: tuple[int, int]
    gaussians: Gaussians
    rendered: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def synthesise(
    frames: NDArray[np.uint8],
    poses: NDArray[np.float64],
    points: NDArray[np.float64],
    colours: NDArray[np.uint8],
    intrinsics: Intrinsics,
    *,
    every: int = 8,
    iterations: int = 600,
    seed: int = 0,
    backend: Backend = "auto",
    masks: NDArray[np.bool_] | None = None,
) -> Synthesis:
    """Hold out frames 0, every, 2 every, ... (as Kerbl et al. 2023 do), fit the others, predict the held-out ones.

    The first frame is seen from the path's end, so a part of it is extrapolated: that is in every score alike. With
    numba the result is the same to the bit for the same input on the same machine.

    Args:
        frames: uint8 [T >= 3, H, W, 3], RGB, undistorted: only those whose camera is known.
        poses: float64 [T, 4, 4], camera to world, OpenCV axes.
        points: float64 [P >= 20, 3], where SfM saw something, in the poses' frame.
        colours: uint8 [P, 3], RGB.
        intrinsics: Of the frames.
        every: At least 2.
        iterations: Of the fit.
        backend: "auto" is gsplat where CUDA and its kernels are there, else numba.
        masks: bool [T, H, W], True on things that move: neither fitted nor counted by PSNR (by SSIM and LPIPS they
            count as right).

    Raises:
        UserError: input that does not fit, or a backend that is not there.
    """
    points = np.asarray(points, np.float64)
    poses = _check(frames, poses, points, colours, intrinsics, every, iterations, masks)
    name, module = _load(backend)
    clock: Callable[[], float] = time.process_time if name == "numba" else time.perf_counter
    begin = clock()
    small, masks, intrinsics = _scaled(frames, masks, intrinsics)
    held = np.arange(len(small)) % every == 0
    unit = scene_unit(points, poses)
    start = seed_gaussians(points / unit, colours, COUNT, unit=1.0, seed=seed)
    all_views = Views(small.astype(np.float32) / np.float32(PEAK), poses, intrinsics, masks).rescaled(1 / unit)
    seen = all_views.taken(~held)
    fitted = module.fit(start, seen, FitSettings(iterations=iterations, seed=seed))
    background = seen.background()
    images = [module.render(fitted, pose, intrinsics, background) for pose in all_views.poses[held]]
    rendered = np.clip(np.stack(images) * PEAK + 0.5, 0, PEAK).astype(np.uint8)
    truth = small[held]
    hidden = np.zeros(truth.shape[:3], bool) if masks is None else masks[held]
    per_view, reason = _score(truth, rendered, hidden, np.flatnonzero(held))
    distances = [view.lpips for view in per_view if view.lpips is not None]
    return Synthesis(
        psnr=float(np.mean([view.psnr for view in per_view])),
        ssim=float(np.mean([view.ssim for view in per_view])),
        lpips=float(np.mean(distances)) if distances else None,
        lpips_reason=reason,
        per_view=per_view,
        backend=name,
        seconds=clock() - begin,
        size=(intrinsics.height, intrinsics.width),
        gaussians=fitted.scaled(unit),
        rendered=rendered,
        truth=truth,
    )


def _load(backend: str) -> tuple[str, ModuleType]:
    """The name and the module of a backend. UserError where it is not there."""
    if backend not in BACKENDS:
        raise unknown("backend of view synthesis", backend, BACKENDS)
    if backend != "numba":
        from wfm_sim.evals.consistency import gaussians_cuda

        reason = gaussians_cuda.unavailable()
        if not reason:
            return "gsplat", gaussians_cuda
        if backend == "gsplat":
            raise UserError(reason)
    try:
        from wfm_sim.evals.consistency import gaussians_numba
    except ImportError as error:
        raise UserError(
            f"view synthesis on the CPU needs numba ({error}); install it with pip install 'wfm-sim[consistency]'"
        ) from error
    except RuntimeError as error:  # numba found no folder where it may write
        raise UserError(f"numba cannot keep what it compiles ({error}); NUMBA_CACHE_DIR names a folder") from error
    gaussians_numba.compile_kernels()
    return "numba", gaussians_numba


def _scaled(
    frames: NDArray[np.uint8], masks: NDArray[np.bool_] | None, intrinsics: Intrinsics
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None, Intrinsics]:
    """Scaled down to about 160 x 120 pixels, the sides in proportion; a mask's pixel is set where any of it is."""
    height, width = frames.shape[1:3]
    factor = (PIXELS / (height * width)) ** 0.5
    if factor >= 1:
        return frames, masks, intrinsics
    size = (max(round(height * factor), 1), max(round(width * factor), 1))

    def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[return-value]

    if masks is not None:
        masks = np.stack([shrink(mask.astype(np.uint8) * 255) > 0 for mask in masks])
    return np.stack([shrink(frame) for frame in frames]), masks, intrinsics.resized(size)


def _score(
    truth: NDArray[np.uint8], rendered: NDArray[np.uint8], hidden: NDArray[np.bool_], index: NDArray[np.int64]
) -> tuple[tuple[HeldOut, ...], str]:
    """Every held-out view, and why LPIPS is not scored."""
    counted = ~hidden
    if not counted.any(axis=(1, 2)).all():
        raise UserError("a held-out frame is masked all over: nothing of it can be scored")
    shown = np.where(hidden[..., None], truth, rendered)
    error = np.square(truth.astype(np.float64) - shown).mean(-1).sum((1, 2)) / counted.sum((1, 2))
    decibel = 10 * np.log10(PEAK**2 / np.maximum(error, PEAK**2 / 10 ** (IDENTICAL_DB / 10)))
    lpips = load_lpips()
    distances = [None] * len(truth) if isinstance(lpips, str) else lpips(truth, shown).tolist()
    rows = zip(index.tolist(), decibel.tolist(), ssim(truth, shown).tolist(), distances, strict=True)
    return tuple(HeldOut(*row) for row in rows), lpips if isinstance(lpips, str) else ""


def _check(
    frames: NDArray[np.uint8],
    poses: NDArray[np.float64],
    points: NDArray[np.float64],
    colours: NDArray[np.uint8],
    intrinsics: Intrinsics,
    every: int,
    iterations: int,
    masks: NDArray[np.bool_] | None,
) -> NDArray[np.float64]:
    """The poses, checked. UserError for whatever does not fit."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UserError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    if len(frames) < MIN_FRAMES:
        raise UserError(f"view synthesis needs at least {MIN_FRAMES} frames with known cameras, got {len(frames)}")
    if min(frames.shape[1:3]) < MIN_SIDE:
        raise UserError(f"frames of {frames.shape[2]}x{frames.shape[1]} pixels are too small, {MIN_SIDE} are the least")
    if len(poses) != len(frames):
        raise UserError(f"{len(poses)} poses for {len(frames)} frames")
    if (intrinsics.height, intrinsics.width) != frames.shape[1:3]:
        raise UserError(
            f"intrinsics are for {intrinsics.width}x{intrinsics.height} pixels, "
            f"the frames have {frames.shape[2]}x{frames.shape[1]}"
        )
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise UserError(f"points are {list(points.shape)}, expected finite numbers [P, 3]")
    if colours.shape != points.shape or colours.dtype != np.uint8:
        raise UserError(f"colours are {colours.dtype} {list(colours.shape)}, expected uint8 {list(points.shape)}")
    if every < 2:
        raise UserError(f"every {every}th frame held out: expected 2 or more, or no frame would be left to fit")
    if iterations < 1:
        raise UserError(f"{iterations} iterations: expected at least 1")
    if masks is not None and (masks.shape != frames.shape[:3] or masks.dtype != np.bool_):
        raise UserError(f"masks are {masks.dtype} {list(masks.shape)}, expected bool {list(frames.shape[:3])}")
    return check_pose(poses, "poses")
