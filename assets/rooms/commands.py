"""Paths as a joystick makes them: one command is held for a while, then another; straight lines and turns on the spot.

A walk (paths.py) always has parallax, which is what structure from motion needs; a model that is to be steered must
also have seen what a person with a joystick does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.rooms.paths import walk
from wfm_sim.assets.rooms.room import Room
from wfm_sim.camera import move

Array = NDArray[np.float64]
CLEARANCE = 0.2  # metres
NEAREST = 0.5  # metres: no command leads to a view of nothing but a wall
MAX_PITCH, MAX_ROLL = np.radians(35), np.radians(10)
HOLD = (3, 9)  # frames
STEP = (0.03, 0.15)  # metres or radians per frame
# Translation x, y, z and rotation x, y, z, in the camera's axes, each as often as it stands here.
COMMANDS = tuple(
    np.array(c, np.float64)
    for c in (
        (0, 0, 1, 0, 0, 0),
        (0, 0, 1, 0, 0, 0),
        (0, 0, -1, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (-1, 0, 0, 0, 0, 0),
        (0, 1, 0, 0, 0, 0),
        (0, -1, 0, 0, 0, 0),
        (0, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, -1, 0),
        (0, 0, 0, 1, 0, 0),
        (0, 0, 0, -1, 0, 0),
        (0, 0, 1, 0, 0.6, 0),
        (0, 0, 1, 0, -0.6, 0),
        (1, 0, 0, 0, -0.6, 0),
        (-1, 0, 0, 0, 0.6, 0),
    )
)


def joystick_path(room: Room, seed: int, frames: int = 33) -> Array:
    """A path, float64 [T, 4, 4]: camera to world, OpenCV axes; it begins where `walk` of this seed does.

    Each step is `wfm_sim.camera.move` by one of COMMANDS times a size within STEP. It never enters furniture, and stays
    where it is when nothing else is left.
    """
    pose = walk(room, seed, frames=2)[0]
    rng = np.random.default_rng([int(seed), int(room.seed), 6003])
    poses = [pose]
    while len(poses) < frames:
        for index in rng.permutation(len(COMMANDS)):
            command = COMMANDS[index] * rng.uniform(*STEP)
            if allowed(room, move(poses[-1], command)):
                break
        else:
            poses.append(poses[-1].copy())
            continue
        for _ in range(int(rng.integers(*HOLD))):
            ahead = move(poses[-1], command)
            if not allowed(room, ahead):
                break
            poses.append(ahead)
    return np.stack(poses[:frames])


def allowed(room: Room, pose: Array) -> bool:
    """Whether a camera may be there: clear of everything, about upright, and not with its nose to a wall."""
    position, forward, right = pose[:3, 3], pose[:3, 2], pose[:3, 0]
    upright = abs(forward[2]) < np.sin(MAX_PITCH) and abs(right[2]) < np.sin(MAX_ROLL)
    clear = 0.5 < position[2] < room.size[2] - 0.35 and room.clearance(position)[0] > CLEARANCE
    return bool(upright and clear and room.distance_along(position, forward)[0] > NEAREST)
