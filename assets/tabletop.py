"""The tabletop: its geometry, its tasks, and the scene that a seed stands for. Numpy only; no physics engine.

Base frame: the robot stands at the origin, x points away from it over the table, y to its left, z up, and the table top
is z = 0. Metres and radians throughout.

    scene = sample_scene(seed=0, task="push")     # TabletopScene: the same for every task but for `task` itself
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import Workspace
from wfm_sim.errors import UserError, unknown

TASKS = ("push", "pick", "place")
INSTRUCTIONS = {
    "push": "push the {colour} block into the zone",
    "pick": "pick up the {colour} block",
    "place": "put the {colour} block on the plate",
}

# Where the commanded gripper pose may go. At the lowest z the fingertips hang 1 cm above the table.
WORKSPACE = Workspace(low=(0.16, -0.15, 0.022, -0.3, -0.3, -0.8), high=(0.42, 0.15, 0.16, 0.3, 0.3, 0.8))
START_LOW = np.array([0.23, -0.06, 0.115, 0.0, 0.0, -0.2, 1.0])
START_HIGH = np.array([0.32, 0.06, 0.145, 0.0, 0.0, 0.2, 1.0])

BLOCK_HALF = 0.021  # half the edge of a block
BLOCK_MASS = 0.05  # kg
MAX_BLOCKS = 3
PLATE_RADIUS = 0.052
PLATE_HEIGHT = 0.004
ZONE_HALF = 0.047  # half the edge of the target zone, a square patch on the table
ZONE_REACH = 0.035  # a block is in the zone when its centre is within this of the zone's centre, along both edges
LIFT_HEIGHT = 0.05  # a block this far above the table counts as picked up

# Colour name -> RGB in 0..1: saturated hues far from each other and from every wood tone, the plate and the zone.
PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.09, 0.09),
    "green": (0.10, 0.58, 0.16),
    "blue": (0.10, 0.24, 0.85),
    "yellow": (0.98, 0.85, 0.08),
    "purple": (0.47, 0.12, 0.62),
    "cyan": (0.12, 0.78, 0.86),
}
PLATE_RGB = (0.93, 0.92, 0.88)
ZONE_RGB = (0.95, 0.55, 0.70)
WOOD_TONES = ((0.80, 0.62, 0.43), (0.70, 0.48, 0.31), (0.58, 0.40, 0.27), (0.76, 0.66, 0.53), (0.64, 0.53, 0.44))
WOOD_TEXTURES = 4  # procedural textures, see tabletop_sim.wood_texture

# The camera stands before the robot and to its left and looks back at the table, so that the arm comes in from the far
# side and hides as little as possible.
CAMERA_TARGET = np.array([0.268, 0.0, 0.032])
CAMERA_AZIMUTH, CAMERA_ELEVATION = np.deg2rad(28.0), np.deg2rad(47.0)
CAMERA_DISTANCE, CAMERA_FOVY = 0.66, 36.5  # metres, degrees
CAMERA_JITTER_M, CAMERA_JITTER_RAD = 0.015, np.deg2rad(1.5)

# Where things may lie (block, plate and zone centres), and how far apart their centres must be.
LAYOUT_LOW, LAYOUT_HIGH = np.array([0.195, -0.125]), np.array([0.385, 0.125])
PUSH_RANGE = (0.085, 0.19)  # distance from the target block to the zone's centre
# Cosine of the smallest angle between the push and the camera's line of sight. A block that is pushed straight away
# from the camera would be hidden behind the gripper, and no model could tell from the frames where it is.
PUSH_AWAY_MAX = 0.5
PUSH_STANDOFF = 0.055  # room behind the target block for the gripper that pushes it


@dataclass(frozen=True)
class Block:
    """A cube on the table: centre `xy` [m], `yaw` [rad], and its colour by name and as RGB in 0..1."""

    colour: str
    rgb: tuple[float, float, float]
    xy: tuple[float, float]
    yaw: float


@dataclass(frozen=True)
class TabletopScene:
    """All that varies from seed to seed. `blocks[0]` is the target; the others are distractors.

    Lengths in metres, angles in radians, colours in 0..1. `camera_position` and `camera_axes` (the image's right and
    up, one after the other) are in the base frame; `start` is a pose as in wfm_sim/actions.py.
    """

    seed: int
    task: str
    blocks: tuple[Block, ...]
    plate_xy: tuple[float, float]
    plate_rgb: tuple[float, float, float]
    zone_xy: tuple[float, float]
    zone_rgb: tuple[float, float, float]
    start: tuple[float, ...]
    wood_texture: int
    wood_rgb: tuple[float, float, float]
    wood_offset: tuple[float, float]
    floor_rgb: tuple[float, float, float]
    light_direction: tuple[float, float, float]
    light_diffuse: float
    light_ambient: float
    camera_position: tuple[float, float, float]
    camera_axes: tuple[float, ...]

    @property
    def instruction(self) -> str:
        """The task in words, e.g. 'push the red block into the zone'."""
        return INSTRUCTIONS[self.task].format(colour=self.blocks[0].colour)


def layout_of(scene: TabletopScene) -> dict[str, Any]:
    """What a policy may know at reset, the `layout` of every tabletop environment's info.

    task: index into TASKS. target, distractor: float32 [4], x, y, z, yaw of the target and of the first other block.
    goal: float32 [3], the zone's centre, or the plate's on its upper face, or the point to lift the block to.
    start: float32 [7], the first commanded pose.
    """
    target, distractor = (np.array([*block.xy, BLOCK_HALF, block.yaw], np.float32) for block in scene.blocks[:2])
    goals = {
        "push": (*scene.zone_xy, 0.0),
        "pick": (*scene.blocks[0].xy, BLOCK_HALF + LIFT_HEIGHT),
        "place": (*scene.plate_xy, PLATE_HEIGHT),
    }
    return {
        "task": TASKS.index(scene.task),
        "target": target,
        "distractor": distractor,
        "goal": np.array(goals[scene.task], np.float32),
        "start": np.array(scene.start, np.float32),
    }


def check_task(task: str) -> None:
    """Raise UserError unless `task` is one of TASKS or 'any'."""
    if task not in (*TASKS, "any"):
        raise unknown("task", task, (*TASKS, "any"))


def sample_scene(seed: int, task: str = "any") -> TabletopScene:
    """The scene of a seed.

    Args:
        seed: A non-negative integer. It fixes everything, and independently of `task`: the tasks of one seed share one
            table, one layout and one target block.
        task: 'push', 'pick', 'place', or 'any' (the seed draws one of them).

    Raises:
        UserError: unknown task, or a negative seed.
    """
    check_task(task)
    if seed < 0:
        raise UserError(f"the seed of a scene must be a non-negative integer, not {seed}")
    # Separate streams, so that a change to the look leaves every layout as it was.
    look, layout, choice = (np.random.default_rng([seed, stream]) for stream in range(3))
    names = [str(name) for name in look.permutation(list(PALETTE))]
    count = int(layout.integers(2, MAX_BLOCKS + 1))
    places, zone, plate = _sample_layout(layout, count)
    blocks = tuple(
        Block(name, _jitter(look, PALETTE[name], 0.04), _floats(place), float(layout.uniform(-0.6, 0.6)))
        for name, place in zip(names, places, strict=False)
    )
    drawn = TASKS[int(choice.integers(len(TASKS)))]
    tilt, turn = look.uniform(0.25, 0.75), look.uniform(-np.pi, np.pi)
    camera_position, camera_axes = _sample_camera(look)
    return TabletopScene(
        seed=int(seed),
        task=drawn if task == "any" else task,
        blocks=blocks,
        plate_xy=_floats(plate),
        plate_rgb=_jitter(look, PLATE_RGB, 0.03),
        zone_xy=_floats(zone),
        zone_rgb=_jitter(look, ZONE_RGB, 0.03),
        start=_floats(layout.uniform(START_LOW, START_HIGH)),
        wood_texture=int(look.integers(WOOD_TEXTURES)),
        wood_rgb=_jitter(look, WOOD_TONES[int(look.integers(len(WOOD_TONES)))], 0.03),
        wood_offset=_floats(look.uniform(0.0, 1.0, 2)),
        floor_rgb=_jitter(look, (0.28, 0.33, 0.42), 0.06),
        light_direction=(float(-tilt * np.cos(turn)), float(-tilt * np.sin(turn)), -1.0),
        light_diffuse=float(look.uniform(0.5, 0.7)),
        light_ambient=float(look.uniform(0.38, 0.5)),
        camera_position=camera_position,
        camera_axes=camera_axes,
    )


def _sample_layout(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Block centres [count, 2] (the target first), zone centre [2] and plate centre [2], by rejection.

    Everything is kept apart, and the corridor along which the target is pushed into the zone is kept free.
    """
    away = -np.array([np.cos(CAMERA_AZIMUTH), np.sin(CAMERA_AZIMUTH)])
    for attempt in range(20_000):
        # Nearly always accepted within a few hundred draws; the margins shrink so that none can run for ever.
        slack = 0.95 ** (attempt // 2000)
        points = rng.uniform(LAYOUT_LOW, LAYOUT_HIGH, (count + 2, 2))
        blocks, zone, plate = points[:count], points[count], points[count + 1]
        target = blocks[0]
        distance = float(np.hypot(*(zone - target)))
        if not PUSH_RANGE[0] <= distance <= PUSH_RANGE[1]:
            continue
        if (zone - target) @ away > PUSH_AWAY_MAX * distance:
            continue
        behind = target - (zone - target) / distance * PUSH_STANDOFF
        obstacles = [*blocks[1:], plate]
        margins = [0.062] * (count - 1) + [PLATE_RADIUS + 0.030]
        if (
            np.hypot(*(zone - plate)) > (ZONE_HALF * 1.2 + PLATE_RADIUS) * slack
            and all(np.hypot(*(block - plate)) > (PLATE_RADIUS + 0.032) * slack for block in blocks)
            and all(np.hypot(*(block - zone)) > 0.075 * slack for block in blocks[1:])
            and all(np.hypot(*(block - target)) > 0.090 * slack for block in blocks[1:])
            and (count < 3 or np.hypot(*(blocks[1] - blocks[2])) > 0.072 * slack)
            and all(_segment_distance(p, behind, zone) > m * slack for p, m in zip(obstacles, margins, strict=True))
            and np.all(behind > np.array(WORKSPACE.low[:2]) + 0.002)
            and np.all(behind < np.array(WORKSPACE.high[:2]) - 0.002)
        ):
            return blocks, zone, plate
    raise RuntimeError("no free layout found")  # pragma: no cover - the margins would have shrunk to 0.6 by then


def _segment_distance(point: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Distance from `point` to the segment from `a` to `b`, all [2]."""
    along = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
    return float(np.hypot(*(point - a - along * (b - a))))


def _sample_camera(rng: np.random.Generator) -> tuple[tuple[float, float, float], tuple[float, ...]]:
    """Camera position [3] and image axes [6] (right, up), jittered in position and in direction."""
    out = np.array(
        [
            np.cos(CAMERA_ELEVATION) * np.cos(CAMERA_AZIMUTH),
            np.cos(CAMERA_ELEVATION) * np.sin(CAMERA_AZIMUTH),
            np.sin(CAMERA_ELEVATION),
        ]
    )
    position = CAMERA_TARGET + CAMERA_DISTANCE * out + rng.uniform(-CAMERA_JITTER_M, CAMERA_JITTER_M, 3)
    aside = CAMERA_DISTANCE * np.tan(rng.uniform(-CAMERA_JITTER_RAD, CAMERA_JITTER_RAD, 3))
    back = position - CAMERA_TARGET - aside
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    return _floats(position), _floats(np.concatenate([right, up]))


def _jitter(rng: np.random.Generator, rgb: tuple[float, float, float], amount: float) -> tuple[float, float, float]:
    return _floats(np.clip(np.array(rgb) + rng.uniform(-amount, amount, 3), 0.0, 1.0))


def _floats(values: NDArray[np.float64]) -> Any:
    """A tuple of as many floats as there are values (a length that no type can follow)."""
    return tuple(float(value) for value in values)
