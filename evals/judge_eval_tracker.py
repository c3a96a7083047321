"""Does a frame show success? What the object tracker and the camera's geometry say, without any learned judge.

The tracker (wfm_sim/object_tracking.py) finds the target block in the frame. The scene's camera, which is known, turns
the block's pixel into a place: on the table for a push, on the plate for a place, in the plane of the gripper for a
pick. What pixels do not say, whether the gripper holds the block, is taken from the commanded pose. On true frames this
answer can be compared with the physics state; `judge_eval` prints how well it does there, next to every use of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.tabletop import (
    BLOCK_HALF,
    CAMERA_FOVY,
    LIFT_HEIGHT,
    PALETTE,
    PLATE_HEIGHT,
    PLATE_RADIUS,
    ZONE_REACH,
    TabletopScene,
    sample_scene,
)
from wfm_sim.evals.heldout import HeldOut
from wfm_sim.evals.object_tracking import Appearance, Located, appearances, locate_all

Floats = NDArray[np.float64]

OPEN = 0.5  # a commanded opening above this holds nothing
IN_HAND = 0.035  # metres between the block, seen in the plane of the gripper, and the gripper: it may be held
SEEN_LOWER = 0.004  # metres: fingers hide the upper part of a block that is held, so that it seems to hang lower


def target_look(episode: HeldOut) -> Appearance | None:
    """What the target looks like, from the episode's true first frame; None where it cannot be seen there."""
    paints = [None if c not in PALETTE else np.array(PALETTE[c]) * 255 for c in episode.colours]
    objects = [(float(x), float(y), float(area)) for x, y, area in episode.objects[0]]
    return appearances(episode.frames[0], objects, paints)[episode.colours.index(episode.target_colour)]


def shows_success(
    frames: NDArray[np.uint8], episode: HeldOut, look: Appearance | None, scene: TabletopScene | None = None
) -> NDArray[np.bool_]:
    """Whether each frame of an episode shows its task done.

    Args:
        frames: uint8 [T + 1, H, W, 3], true or imagined, of the episode's commanded poses.
        episode: Whose poses and task they go with.
        look: From `target_look`.
        scene: Of the episode; None: sampled from its seed.

    Returns:
        bool [T + 1]; False where the block is not found.
    """
    scene = scene or sample_scene(episode.seed, episode.task)
    if look is None:
        return np.zeros(len(frames), dtype=bool)
    found = [locate_all(frame, [look])[0] for frame in frames]
    return np.array([_done(at, pose, scene, frames.shape[1]) for at, pose in zip(found, episode.poses, strict=True)])


def _done(at: Located | None, pose: Sequence[float] | NDArray[np.float32], scene: TabletopScene, size: int) -> bool:
    if at is None:
        return False
    ray = ray_of(scene, at.x, at.y, size)
    camera = np.array(scene.camera_position)
    if scene.task == "push":
        block = on_height(camera, ray, BLOCK_HALF)
        return bool(np.all(np.abs(block[:2] - scene.zone_xy) < ZONE_REACH))
    if scene.task == "place":
        block = on_height(camera, ray, PLATE_HEIGHT + BLOCK_HALF)
        return bool(np.hypot(*(block[:2] - scene.plate_xy)) < PLATE_RADIUS and pose[6] > OPEN)
    gripper = np.array(pose[:3], dtype=np.float64)
    block = beside(camera, ray, gripper)
    in_hand = np.linalg.norm(block - gripper) < IN_HAND and pose[6] <= OPEN
    return bool(in_hand and block[2] >= BLOCK_HALF + LIFT_HEIGHT - SEEN_LOWER)


def ray_of(scene: TabletopScene, x: float, y: float, size: int) -> Floats:
    """Direction [3], in the base frame, in which the camera sees a pixel of a square frame (top-left pixel: 0, 0)."""
    right, up = np.array(scene.camera_axes[:3]), np.array(scene.camera_axes[3:])
    focal = size / 2 / np.tan(np.deg2rad(CAMERA_FOVY) / 2)
    middle = (size - 1) / 2
    return np.asarray(right * (x - middle) / focal - up * (y - middle) / focal - np.cross(right, up))


def pixel_of(scene: TabletopScene, point: Sequence[float] | Floats, size: int) -> tuple[float, float]:
    """Where the camera sees a point [3] of the base frame: x, y in pixels. The inverse of `ray_of`."""
    right, up = np.array(scene.camera_axes[:3]), np.array(scene.camera_axes[3:])
    focal = size / 2 / np.tan(np.deg2rad(CAMERA_FOVY) / 2)
    away = np.asarray(point, dtype=np.float64) - scene.camera_position
    depth = -float(away @ np.cross(right, up))
    middle = (size - 1) / 2
    return middle + focal * float(away @ right) / depth, middle - focal * float(away @ up) / depth


def on_height(camera: Floats, ray: Floats, z: float) -> Floats:
    """Where a ray from the camera meets the horizontal plane at height z, [3]."""
    return np.asarray(camera + ray * (z - camera[2]) / ray[2])


def beside(camera: Floats, ray: Floats, point: Floats) -> Floats:
    """Where a ray from the camera meets the upright plane through `point` that faces the camera, [3]."""
    normal = np.array([*(point[:2] - camera[:2]), 0.0])
    return np.asarray(camera + ray * ((point - camera) @ normal) / (ray @ normal))
