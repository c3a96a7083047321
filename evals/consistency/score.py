"""The 3D consistency of one clip.

    score = score_clip(frames, intrinsics=intrinsics, commanded=poses)
    score.pose_success, score.sampson_median, score.rotation_error_mean, score.reconstruction.points

Bit-identical for the same frames and settings (CPU seconds apart).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, check_pose
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency.matches import CONTRAST, detect
from wfm_sim.evals.consistency.parallax import measure
from wfm_sim.evals.consistency.poses import compare, path_length
from wfm_sim.evals.consistency.sampson import sampson
from wfm_sim.evals.consistency.sfm import Reconstruction, SfmResult, SfmSettings, feature_scale, reconstruct
from wfm_sim.evals.consistency.verdict import judge

if TYPE_CHECKING:
    from wfm_sim.evals.consistency.gaussians import Gaussians


@dataclass(frozen=True)
class ConsistencySettings:
    """What decides a score.

    Attributes:
        sfm: Of the reconstruction; its limits of size and number hold for all features.
        contrast: SIFT's threshold for the Sampson error and the test of parallax; pycolmap has its own.
        strides: Sampson error of pairs (t, t + stride); the first is the headline's.
        synthesis: Fit the reconstruction to 7 of 8 views and score the others.
        iterations: Of that fit.
        seed: Of every random draw.
    """

    sfm: SfmSettings = field(default_factory=SfmSettings)
    contrast: float = CONTRAST
    strides: tuple[int, ...] = (1,)
    synthesis: bool = True
    iterations: int = 600
    seed: int = 0


@dataclass(frozen=True)
class ClipScore:
    """All that is measured of one clip; None is 'not measured'. Pixels are the frame's unless said otherwise.

    Attributes:
        frames, size: T and (height, width).
        applicable, counted, pose_success, pose_success_loose, coverage, score, reason: See verdict.py.
        crashed: SfM aborted, or took too long.
        sampson_median, sampson_mean, sampson_capped, inlier_ratio, pair_coverage, cuts: See sampson.py; errors in
            pixels of a canvas of 960 x 540.
        sampson_wide: The same of the other strides.
        motion, parallax: Shares of the frame's diagonal, see parallax.py.
        registered: Frames in the largest model.
        models, mapper, points, reprojection, triangulation_angle: Of SfM; degrees.
        incremental_registered, mapper_disagreement: The cross-check; degrees.
        focal: Of the model, in pixels.
        rotation_error_mean, rotation_error_sum: Degrees, against the commanded path.
        translation_error, ate: Shares of that path's length, which is `path_length`.
        psnr, ssim, lpips: Of held-out views, `psnr` in dB; with the backend, or why there are none.
        seconds: CPU seconds of each part.
        reconstruction, gaussians: Cameras and points, and what was fitted to the views; not in the record.
    """

    frames: int
    size: tuple[int, int]
    applicable: bool
    counted: bool
    pose_success: bool
    pose_success_loose: bool
    coverage: float
    score: float
    reason: str
    crashed: bool
    sampson_median: float | None
    sampson_mean: float | None
    sampson_capped: float
    inlier_ratio: float | None
    pair_coverage: float
    cuts: tuple[tuple[int, int], ...]
    sampson_wide: Mapping[str, Mapping[str, Any]]
    motion: float
    parallax: float
    registered: int = 0
    models: tuple[int, ...] = ()
    mapper: str = ""
    points: int = 0
    reprojection: float | None = None
    triangulation_angle: float | None = None
    incremental_registered: int | None = None
    mapper_disagreement: float | None = None
    focal: float | None = None
    rotation_error_mean: float | None = None
    rotation_error_sum: float | None = None
    translation_error: float | None = None
    ate: float | None = None
    path_length: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    lpips_reason: str = ""
    synthesis_backend: str = ""
    synthesis_reason: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    reconstruction: Reconstruction | None = None
    gaussians: Gaussians | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary of all but the scene."""
        left_out = ("reconstruction", "gaussians")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}


def score_clip(
    frames: NDArray[np.uint8],
    *,
    intrinsics: Intrinsics | None = None,
    commanded: NDArray[np.float64] | None = None,
    masks: NDArray[np.bool_] | None = None,
    settings: ConsistencySettings | None = None,
) -> ClipScore:
    """Score one clip.

    Args:
        frames: uint8 [T >= 2, H, W, 3], RGB, undistorted, in order.
        intrinsics: Of these frames, where known: errors are then sharper (an unknown focal length gives way to a warp).
        commanded: float64 [T, 4, 4], camera to world, OpenCV axes: where the camera was told to be, or is known to be.
        masks: bool [T, H, W], True on things that move.
        settings: See ConsistencySettings.

    Raises:
        UserError: shapes or types that do not fit.
    """
    settings = settings or ConsistencySettings()
    commanded = _check(frames, intrinsics, commanded, masks)
    clock = _Clock()
    size = (frames.shape[1], frames.shape[2])
    scale = feature_scale(size, settings.sfm)
    most = settings.sfm.max_features
    features = detect(frames, masks, max_features=most, scale=scale, contrast=settings.contrast)
    by_stride = {s: sampson(features, size, stride=s, seed=settings.seed) for s in settings.strides if s < len(frames)}
    pairs = by_stride[settings.strides[0]]
    clock.end("sampson")
    parallax = measure(features, frames, intrinsics, seed=settings.seed)
    clock.end("parallax")
    sfm = None if parallax.reason else reconstruct(frames, intrinsics, masks, settings.sfm)
    clock.end("sfm", sum((sfm.seconds if sfm else {}).values()))
    moved = None if commanded is None else _extent(commanded)
    verdict = judge(len(frames), parallax, pairs, sfm, moved)
    wide = {str(s): {"median": p.median, "mean": p.mean, "capped": p.capped, "inlier_ratio": p.inlier_ratio,
                     "coverage": p.coverage}
            for s, p in by_stride.items() if s != settings.strides[0]}  # fmt: skip
    found = _of_sfm(sfm, commanded)
    if settings.synthesis and found.get("reconstruction") is not None:
        found |= _synthesis(frames, masks, found["reconstruction"], settings)
        clock.end("synthesis")
    elif settings.synthesis:
        found["synthesis_reason"] = "no reconstruction"
    else:
        found["synthesis_reason"] = "not asked for"
    return ClipScore(
        frames=len(frames),
        size=size,
        applicable=verdict.applicable,
        counted=verdict.counted,
        pose_success=verdict.success,
        pose_success_loose=verdict.loose,
        coverage=verdict.coverage,
        score=verdict.score,
        reason=verdict.reason,
        sampson_median=pairs.median,
        sampson_mean=pairs.mean,
        sampson_capped=pairs.capped,
        inlier_ratio=pairs.inlier_ratio,
        pair_coverage=pairs.coverage,
        cuts=pairs.cuts,
        sampson_wide=wide,
        motion=parallax.motion,
        parallax=parallax.parallax,
        seconds=clock.spent,
        **found,
    )


def _of_sfm(sfm: SfmResult | None, commanded: NDArray[np.float64] | None) -> dict[str, Any]:
    if sfm is None:
        return {"crashed": False}
    found: dict[str, Any] = {
        "crashed": sfm.crashed,
        "models": sfm.models,
        "mapper": sfm.mapper,
        "reprojection": sfm.reprojection,
        "triangulation_angle": sfm.triangulation_angle,
        "incremental_registered": sfm.incremental_registered,
        "mapper_disagreement": sfm.disagreement,
    }
    model = sfm.reconstruction
    if model is None:
        return found
    found |= {"registered": len(model.frame_index), "points": len(model.points), "focal": model.intrinsics.fx}
    errors = None if commanded is None else compare(model.poses, model.frame_index, commanded)
    if commanded is not None and errors is not None:
        found |= {
            "rotation_error_mean": errors.rotation_mean,
            "rotation_error_sum": errors.rotation_sum,
            "translation_error": errors.translation,
            "ate": errors.ate,
            "path_length": path_length(commanded),
        }
        model = model.with_alignment(errors.aligned)
    return {**found, "reconstruction": model}


def _synthesis(
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_] | None,
    model: Reconstruction,
    settings: ConsistencySettings,
) -> dict[str, Any]:
    from wfm_sim.evals.consistency.synthesis import synthesise

    index = model.frame_index
    try:
        found = synthesise(
            frames[index], model.poses, model.points, model.colours, model.intrinsics, iterations=settings.iterations,
            seed=settings.seed, masks=None if masks is None else masks[index],
        )  # fmt: skip
    except UserError as error:  # too few points or views
        return {"synthesis_reason": str(error)}
    return {
        "psnr": found.psnr,
        "ssim": found.ssim,
        "lpips": found.lpips,
        "lpips_reason": found.lpips_reason,
        "synthesis_backend": found.backend,
        "gaussians": found.gaussians,
    }


def _check(
    frames: NDArray[np.uint8],
    intrinsics: Intrinsics | None,
    commanded: NDArray[np.float64] | None,
    masks: NDArray[np.bool_] | None,
) -> NDArray[np.float64] | None:
    """The commanded poses, checked. UserError for whatever does not fit."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UserError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    if len(frames) < 2:
        raise UserError(f"{len(frames)} frame{'s' * (len(frames) != 1)}: 3D consistency needs at least two")
    if min(frames.shape[1:3]) < 16:
        raise UserError(f"frames of {frames.shape[2]}x{frames.shape[1]} pixels are too small, 16 are the least")
    if intrinsics is not None and (intrinsics.height, intrinsics.width) != frames.shape[1:3]:
        raise UserError(
            f"intrinsics are for {intrinsics.width}x{intrinsics.height} pixels, "
            f"the frames have {frames.shape[2]}x{frames.shape[1]}"
        )
    if masks is not None and (masks.shape != frames.shape[:3] or masks.dtype != np.bool_):
        raise UserError(f"masks are {masks.dtype} {list(masks.shape)}, expected bool {list(frames.shape[:3])}")
    if commanded is None:
        return None
    if len(commanded) != len(frames):
        raise UserError(f"{len(commanded)} commanded poses for {len(frames)} frames")
    return check_pose(commanded, "commanded poses")


def _extent(c2w: NDArray[np.float64]) -> float:
    positions = c2w[:, :3, 3]
    return float(np.linalg.norm(positions - positions[0], axis=1).max())


class _Clock:
    """CPU seconds of this process, part by part."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.process_time()

    def end(self, part: str, more: float = 0.0) -> None:
        """The part that ends here; `more` was spent in subprocesses."""
        now = time.process_time()
        self.spent[part] = round(now - self._last + more, 3)
        self._last = now
