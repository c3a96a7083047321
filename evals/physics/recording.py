"""A recording for the rerun viewer: the bodies of the truth in 3D, every camera with its picture, and the predictions.

Entities: /world/<scene>/<body> (shapes and pose), /world/<scene>/cameras/<view> (pinhole with the true picture),
/prediction/<view>, /episode (captions). Timelines: frame_index (over the whole recording), timestamp (seconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics import Scene, Shape, scene_from_dict
from wfm_sim.data.physics import PhysicsEpisode
from wfm_sim.evals.rerun_log import rerun_module

CONE_SIDES = 24


@dataclass(frozen=True)
class Recorded:
    """One episode: its truth and what was predicted of it, uint8 [V, T, H, W, 3] each; `context` frames were given."""

    episode: PhysicsEpisode
    truth: NDArray[np.uint8]
    clips: NDArray[np.uint8]
    context: int


def write_recording(path: Path, episodes: Sequence[Recorded], *, name: str) -> None:
    """Write the episodes one after another into one .rrd.

    Raises:
        UserError: rerun-sdk is not installed.
    """
    rr = rerun_module()
    recording = rr.RecordingStream("wfm_sim_physics", recording_id=f"physics-{name}")
    recording.save(str(path), default_blueprint=_blueprint(max(len(e.truth) for e in episodes)))
    recording.send_recording_name(f"physics: {name}")
    recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    first = 0
    for entry in episodes:
        _log_episode(rr, recording, entry, first)
        first += entry.clips.shape[1]
    recording.flush()
    recording.disconnect()


def _blueprint(views: int) -> Any:
    import rerun.blueprint as rrb

    pictures = [
        rrb.Spatial2DView(origin=f"prediction/{view}", name=f"prediction, view {view}") for view in range(views)
    ]
    truth = [rrb.Spatial2DView(origin=f"truth/{view}", name=f"truth, view {view}") for view in range(views)]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial3DView(origin="world", name="truth in 3D"),
                rrb.TextLogView(origin="episode", name="episodes"),
                row_shares=[5, 1],
            ),
            rrb.Vertical(rrb.Grid(*truth), rrb.Grid(*pictures)),
            column_shares=[1, 1],
        ),
        rrb.TimePanel(timeline="frame_index", state="collapsed"),
        collapse_panels=True,
    )


def _log_episode(rr: ModuleType, recording: Any, entry: Recorded, first: int) -> None:
    episode = entry.episode
    scene, poses = scene_from_dict(episode.about["scene"]), episode.poses()
    root = f"world/{episode.scene}_{episode.index:05d}"
    for t in range(entry.clips.shape[1]):
        recording.set_time("frame_index", sequence=first + t)
        recording.set_time("timestamp", duration=(first + t) / episode.fps)
        if t == 0:
            recording.log("world", rr.Clear(recursive=True))  # what the episode before has left
            recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP)
            recording.log("episode", rr.TextLog(f"{episode.scene} {episode.index}: {entry.context} frames given"))
            _log_bodies(rr, recording, scene, root)
            for view in range(len(entry.truth)):
                _log_camera(rr, recording, episode, view, root)
        for i, body in enumerate(poses.names):
            w, x, y, z = poses.quaternions[t, i]
            turn = rr.Quaternion(xyzw=[x, y, z, w])
            recording.log(f"{root}/{body}", rr.Transform3D(translation=poses.positions[t, i], quaternion=turn))
        for view in range(len(entry.truth)):
            true, made = (rr.Image(clips[view, t]).compress(jpeg_quality=90) for clips in (entry.truth, entry.clips))
            recording.log(f"truth/{view}", true)
            recording.log(f"prediction/{view}", made)


def _log_camera(rr: ModuleType, recording: Any, episode: PhysicsEpisode, view: int, root: str) -> None:
    camera, (height, width) = episode.camera(view), episode.size
    to_world = np.linalg.inv(camera.world_to_camera)
    path = f"{root}/cameras/{view}"
    recording.log(path, rr.Transform3D(translation=to_world[:3, 3], mat3x3=to_world[:3, :3]))
    recording.log(
        path,
        rr.Pinhole(image_from_camera=camera.intrinsics, resolution=[width, height], camera_xyz=rr.ViewCoordinates.RDF),
    )


def _log_bodies(rr: ModuleType, recording: Any, scene: Scene, root: str) -> None:
    colours = {m.name: [round(255 * c) for c in m.rgb] for m in scene.materials}
    for body in scene.bodies:
        w, x, y, z = body.quaternion
        recording.log(
            f"{root}/{body.name}",
            rr.Transform3D(translation=body.position, quaternion=rr.Quaternion(xyzw=[x, y, z, w])),
        )
        for i, shape in enumerate(body.shapes):
            recording.log(f"{root}/{body.name}/{i}", _solid(rr, shape, colours[shape.material]))
            w, x, y, z = shape.quaternion
            recording.log(
                f"{root}/{body.name}/{i}",
                rr.Transform3D(translation=shape.position, quaternion=rr.Quaternion(xyzw=[x, y, z, w])),
            )


def _solid(rr: ModuleType, shape: Shape, colour: list[int]) -> Any:
    """A shape as rerun's archetype, in the shape's own frame."""
    size, fill = shape.size, rr.components.FillMode.Solid
    if shape.kind == "box":
        return rr.Boxes3D(half_sizes=[size], colors=[colour], fill_mode=fill)
    if shape.kind == "sphere":
        return rr.Ellipsoids3D(half_sizes=[[size[0]] * 3], colors=[colour], fill_mode=fill)
    if shape.kind == "cylinder":
        return rr.Cylinders3D(radii=[size[0]], lengths=[2 * size[1]], colors=[colour], fill_mode=fill)
    if shape.kind == "capsule":  # rerun's begins at the origin
        lower = [[0.0, 0.0, -size[1]]]
        return rr.Capsules3D(
            radii=[size[0]], lengths=[2 * size[1]], translations=lower, colors=[colour], fill_mode=fill
        )
    if shape.kind == "cone":
        return _cone(rr, size[0], size[1], colour)
    half = [min(size[0], 3.0), min(size[1], 3.0), 0.001]  # a plane reaches far: a part of it will do
    return rr.Boxes3D(half_sizes=[half], colors=[[*colour, 160]], fill_mode=fill)


def _cone(rr: ModuleType, radius: float, half: float, colour: list[int]) -> Any:
    angles = np.arange(CONE_SIDES) * 2 * np.pi / CONE_SIDES
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full(CONE_SIDES, -half)], axis=1)
    points = np.concatenate([ring, [[0, 0, half], [0, 0, -half]]])
    following = np.roll(np.arange(CONE_SIDES), -1)
    sides = [(i, j, CONE_SIDES) for i, j in zip(range(CONE_SIDES), following, strict=True)]
    base = [(j, i, CONE_SIDES + 1) for i, j in zip(range(CONE_SIDES), following, strict=True)]
    return rr.Mesh3D(vertex_positions=points, triangle_indices=[*sides, *base], albedo_factor=colour)
