"""Recordings of cameras for the rerun viewer: a reconstructed scene with its paths, or the walk of an environment.

Entities: /world (seen from the first camera: x right, y down, z forward), /world/points, /world/splats,
/world/recovered and /world/commanded (path, and a pinhole per frame), /world/camera (where the camera is now, with its
frame), /frame, /error/rotation (degrees), /error/position, /error/<name> (any other number per frame), /about.
Timelines: frame_index, timestamp (seconds). View with `rerun FILE.rrd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.camera import Intrinsics, check_pose, inverse, relative_to_first
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency.gaussians import Gaussians
from wfm_sim.evals.consistency.poses import rotation_angles
from wfm_sim.evals.consistency.similarity import Similarity
from wfm_sim.evals.rerun_log import rerun_module

if TYPE_CHECKING:
    from wfm_sim.evals.consistency.sfm import Reconstruction

RECOVERED, COMMANDED, NOW = (40, 120, 255), (255, 140, 0), (30, 170, 60)
JPEG_QUALITY = 90
_FRUSTUM = 0.06  # depth of the drawn pinholes, as a share of the scene's extent


def record_scene(
    path: Path | str,
    frames: NDArray[np.uint8],
    reconstruction: Reconstruction,
    commanded: NDArray[np.float64] | None = None,
    gaussians: Gaussians | None = None,
    *,
    errors: Mapping[str, ArrayLike] | None = None,
    fps: float = 10.0,
) -> Path:
    """Write what SfM found of a clip; the file appears whole or not at all.

    Args:
        path: Of the .rrd.
        frames: uint8 [T, H, W, 3], the whole clip.
        reconstruction: In any frame and scale.
        commanded: float64 [T, 4, 4], camera to world, where the camera was told to be; the reconstruction is then drawn
            in that scale and place (see `display_alignment`).
        gaussians: Fitted by `synthesise`, in the reconstruction's frame.
        errors: Further numbers [T] per frame, NaN where there is none, e.g. {"sampson": ...}.
        fps: Frames per second.

    Raises:
        UserError: shapes that do not fit, or rerun-sdk is not installed.
    """
    _check_frames(frames)
    index, poses, points = reconstruction.frame_index, reconstruction.poses, reconstruction.points
    series = {name: _series(name, values, len(frames)) for name, values in (errors or {}).items()}
    if len(index) == 0 or index.max() >= len(frames):
        raise UserError(f"the reconstruction knows frames {index.tolist()}, the clip has {len(frames)}")
    similarity = None
    if commanded is not None:
        commanded = check_pose(commanded, "commanded poses")
        if len(commanded) != len(frames):
            raise UserError(f"{len(commanded)} commanded poses for {len(frames)} frames")
        similarity = display_alignment(poses, commanded[index])
        if similarity is not None:
            poses, points = similarity.poses(poses), similarity(points)
            if gaussians is not None:
                gaussians = gaussians.moved(similarity.scale, similarity.rotation, similarity.translation)
            series |= _pose_errors(poses, commanded, index)
    home = inverse(poses[0] if commanded is None or similarity is None else commanded[0])
    paths = {"recovered": _Path(index, home @ poses, RECOVERED)}
    if commanded is not None and similarity is not None:
        paths["commanded"] = _Path(np.arange(len(frames)), home @ commanded, COMMANDED)
    scene = _Scene(points @ home[:3, :3].T + home[:3, 3], reconstruction.colours, gaussians, home)
    about = f"{len(index)} of {len(frames)} frames registered, {len(points)} points"
    if commanded is not None:
        about += "; in the commanded path's scale" if similarity else "; not comparable with the commanded path"
    return _write(Path(path), frames, paths, reconstruction.intrinsics, scene, series, about, fps)


def record_camera_path(
    path: Path | str,
    frames: NDArray[np.uint8],
    poses: NDArray[np.float64],
    intrinsics: Intrinsics,
    *,
    errors: Mapping[str, ArrayLike] | None = None,
    fps: float = 10.0,
    about: str = "",
) -> Path:
    """Write a walk with known cameras: the path in 3D, a pinhole per frame, and the frame in the pinhole of now.

    Args:
        path: Of the .rrd.
        frames: uint8 [T, H, W, 3], what the camera sees.
        poses: float64 [T, 4, 4], camera to world, OpenCV axes: `info["camera_pose"]` of every step.
        intrinsics: Of the frames.
        errors: Numbers [T] per frame to draw as lines, e.g. {"trust": ...}.
        about: One line that says what it is.

    Raises:
        UserError: shapes that do not fit, or rerun-sdk is not installed.
    """
    _check_frames(frames)
    poses = check_pose(poses, "camera poses")
    if len(poses) != len(frames):
        raise UserError(f"{len(poses)} camera poses for {len(frames)} frames")
    series = {name: _series(name, values, len(frames)) for name, values in (errors or {}).items()}
    walked = {"commanded": _Path(np.arange(len(frames)), inverse(poses[0]) @ poses, COMMANDED)}
    return _write(Path(path), frames, walked, intrinsics, None, series, about or f"{len(frames)} frames", fps)


def display_alignment(found: NDArray[np.float64], true: NDArray[np.float64]) -> Similarity | None:
    """The similarity that lays poses [R, 4, 4] on others: its rotation from the cameras', the rest from positions.

    Umeyama's rotation is arbitrary about a straight path, which would draw a scene upside down; this one is not. None
    where the positions say nothing of the scale (a camera that stays where it is).
    """
    # the rotation nearest to all R_true R_found^T in the Frobenius norm
    u, _, vt = np.linalg.svd(np.einsum("nij,nkj->ik", true[:, :3, :3], found[:, :3, :3]))
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    a, b = found[:, :3, 3] @ rotation.T, true[:, :3, 3]
    mean_a, mean_b = a.mean(0), b.mean(0)
    spread = float(((a - mean_a) ** 2).sum())
    scale = float(((a - mean_a) * (b - mean_b)).sum()) / spread if spread > 1e-24 else 0.0
    return Similarity(scale, rotation, mean_b - scale * mean_a) if scale > 1e-9 else None


@dataclass(frozen=True)
class _Path:
    """Where a camera was: frames int [R], poses float64 [R, 4, 4] seen from the first camera, colour."""

    index: NDArray[np.int64]
    poses: NDArray[np.float64]
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class _Scene:
    """Points [P, 3] seen from the first camera, their colours; Gaussians in their own frame; world to that camera."""

    points: NDArray[np.float64]
    colours: NDArray[np.uint8]
    gaussians: Gaussians | None
    home: NDArray[np.float64]


def _pose_errors(
    poses: NDArray[np.float64], commanded: NDArray[np.float64], index: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Rotation (degrees, relative to the first registered frame as in the score) and position, NaN if unregistered."""
    true = commanded[index]
    rotation, position = np.full(len(commanded), np.nan), np.full(len(commanded), np.nan)
    rotation[index] = rotation_angles(relative_to_first(poses)[:, :3, :3], relative_to_first(true)[:, :3, :3])
    position[index] = np.linalg.norm(poses[:, :3, 3] - true[:, :3, 3], axis=1)
    return {"rotation": rotation, "position": position}


def _write(
    path: Path,
    frames: NDArray[np.uint8],
    paths: Mapping[str, _Path],
    intrinsics: Intrinsics,
    scene: _Scene | None,
    series: Mapping[str, NDArray[np.float64]],
    about: str,
    fps: float,
) -> Path:
    rr = rerun_module()
    if not fps > 0:
        raise UserError(f"{fps} frames per second: expected more than 0")
    extent = _extent(paths, scene)
    size = _FRUSTUM * extent
    splats = scene is not None and scene.gaussians is not None
    recording = rr.RecordingStream("wfm_sim_camera", recording_id=f"camera-{path.stem}")
    with atomic_path(path) as partial:
        recording.save(str(partial), default_blueprint=_blueprint(splats, sorted(series), extent))
        recording.send_recording_name(path.stem)
        recording.log("world", rr.ViewCoordinates.RDF, static=True)
        recording.log("about", rr.TextDocument(about), static=True)
        if scene is not None:
            _log_scene(rr, recording, scene, 0.08 * size)
        for name, walked in paths.items():
            _log_path(rr, recording, name, walked, intrinsics, size)
        for name in series:
            recording.log(f"error/{name}", rr.SeriesLines(names=[name]), static=True)
        _log_frames(rr, recording, frames, next(iter(paths.values())), intrinsics, size, series, fps)
        recording.flush()
        recording.disconnect()
    return path


def _blueprint(splats: bool, series: list[str], extent: float) -> Any:
    import rerun.blueprint as rrb

    # over the first camera's shoulder
    position, target = np.multiply([(0.2, -0.3, -0.4), (0.0, 0.0, 1.0)], extent)
    eye = rrb.EyeControls3D(position=position, look_target=target, eye_up=(0, -1, 0), kind=rrb.Eye3DKind.Orbital)
    shown = {"cameras": ["$origin/**", "- $origin/splats"]}
    if splats:
        shown["splats"] = ["$origin/splats", "$origin/camera/**"]
    views = [
        rrb.Spatial3DView(origin="world", contents=contents, name=name, eye_controls=eye, line_grid=False)
        for name, contents in shown.items()
    ]
    side: list[Any] = [rrb.Spatial2DView(origin="frame", name="frame")]
    side += [rrb.TimeSeriesView(origin=f"error/{name}", name=name) for name in series]
    side.append(rrb.TextDocumentView(origin="about", name="about"))
    shares = [3] + [1] * len(series) + [0.5]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(*views), rrb.Vertical(*side, row_shares=shares), column_shares=[2, 1]
        ),
        rrb.TimePanel(timeline="frame_index", state="collapsed"),
        collapse_panels=True,
    )  # fmt: skip


def _log_scene(rr: ModuleType, recording: Any, scene: _Scene, radius: float) -> None:
    recording.log("world/points", rr.Points3D(scene.points, colors=scene.colours, radii=radius), static=True)
    if scene.gaussians is None:
        return
    seen = scene.gaussians.moved(1.0, scene.home[:3, :3], scene.home[:3, 3])
    alpha = np.concatenate([seen.colours, seen.opacities[:, None]], axis=1)
    rgba = np.round(255 * alpha).astype(np.uint8)
    quaternions = np.roll(seen.quaternions, -1, axis=1)  # w x y z -> x y z w
    if hasattr(rr, "GaussianSplats3D"):
        drawn = rr.GaussianSplats3D(seen.means, scales=seen.scales, quaternions=quaternions, colors=rgba)
    else:  # before rerun 0.41
        fill = rr.components.FillMode.Solid
        drawn = rr.Ellipsoids3D(
            centers=seen.means, half_sizes=seen.scales, quaternions=quaternions, colors=rgba, fill_mode=fill
        )
    recording.log("world/splats", drawn, static=True)


def _log_path(rr: ModuleType, recording: Any, name: str, walked: _Path, intrinsics: Intrinsics, size: float) -> None:
    positions = walked.poses[:, :3, 3]
    if len(positions) > 1:
        line = rr.LineStrips3D([positions], colors=[walked.colour], radii=0.02 * size)
        recording.log(f"world/{name}/path", line, static=True)
    for frame, pose in zip(walked.index.tolist(), walked.poses, strict=True):
        entity = f"world/{name}/cameras/{frame:04d}"
        _log_pinhole(rr, recording, entity, pose, intrinsics, 0.5 * size, walked.colour, static=True)


def _log_frames(
    rr: ModuleType,
    recording: Any,
    frames: NDArray[np.uint8],
    walked: _Path,
    intrinsics: Intrinsics,
    size: float,
    series: Mapping[str, NDArray[np.float64]],
    fps: float,
) -> None:
    """The moving camera with its frame; where the camera of a frame is unknown, none is drawn."""
    pose_of = dict(zip(walked.index.tolist(), walked.poses, strict=True))
    for t, frame in enumerate(frames):
        recording.set_time("frame_index", sequence=t)
        recording.set_time("timestamp", duration=t / fps)
        image = rr.Image(frame).compress(jpeg_quality=JPEG_QUALITY)
        recording.log("frame", image)
        if t in pose_of:
            _log_pinhole(rr, recording, "world/camera", pose_of[t], intrinsics, size, NOW, static=False)
            recording.log("world/camera", image)
        else:
            recording.log("world/camera", rr.Clear(recursive=True))
        for name, values in series.items():
            if np.isfinite(values[t]):
                recording.log(f"error/{name}", rr.Scalars(float(values[t])))


def _log_pinhole(
    rr: ModuleType, recording: Any, entity: str, pose: NDArray[np.float64], k: Intrinsics, depth: float,
    colour: tuple[int, int, int], *, static: bool,
) -> None:  # fmt: skip
    recording.log(entity, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]), static=static)
    pinhole = rr.Pinhole(
        image_from_camera=k.matrix, resolution=[k.width, k.height], camera_xyz=rr.ViewCoordinates.RDF,
        image_plane_distance=depth, color=colour,
    )  # fmt: skip
    recording.log(entity, pinhole, static=static)


def _extent(paths: Mapping[str, _Path], scene: _Scene | None) -> float:
    """How far the scene reaches from the first camera; without points, how far the path does."""
    if scene is not None and len(scene.points):
        return float(np.median(np.linalg.norm(scene.points, axis=1)))
    positions = np.concatenate([walked.poses[:, :3, 3] for walked in paths.values()])
    reach = float(np.linalg.norm(positions - positions[0], axis=1).max())
    return 3 * reach if reach > 0 else 1.0


def _check_frames(frames: NDArray[np.uint8]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T >= 1, H, W, 3]")


def _series(name: str, values: ArrayLike, frames: int) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    if found.shape != (frames,):
        raise UserError(f"'{name}' is {list(found.shape)}, expected a number per frame, [{frames}]")
    return found
