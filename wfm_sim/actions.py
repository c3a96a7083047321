"""Robot actions: one canonical convention, every other converted to it here and nowhere else.

Canonical (what environments take, episodes hold and `WorldModel.step` receives): 7 numbers at 5 Hz,
    [dx, dy, dz] metres and [droll, dpitch, dyaw] radians, the displacement of the gripper expressed in the *previous
    gripper frame* (R = Rz(yaw) Ry(pitch) Rx(roll)), and the gripper command, 1 = open .. 0 = closed.
As in BridgeData V2, roll = pitch = 0 is the gripper pointing straight down, so that x is forward, y left and z up of a
gripper turned by yaw about the vertical.

A pose (`agent_pos`) is 7 numbers: x, y, z [m] in the robot's base frame, roll, pitch, yaw [rad], gripper (1 = open).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

ACTION_DIM = 7
RATE_HZ = 5.0
UNITS = ("m", "m", "m", "rad", "rad", "rad", "1=open")
# Bridge's own clipping: 0.05 m and 0.25 rad per step at 5 Hz.
ACTION_LOW = np.array([-0.05] * 3 + [-0.25] * 3 + [0.0], dtype=np.float32)
ACTION_HIGH = np.array([0.05] * 3 + [0.25] * 3 + [1.0], dtype=np.float32)


@dataclass(frozen=True)
class Workspace:
    """Bounds that the commanded gripper pose is clipped to: metres and radians in the base frame."""

    low: tuple[float, float, float, float, float, float]
    high: tuple[float, float, float, float, float, float]


def apply_action(pose: ArrayLike, action: ArrayLike, workspace: Workspace | None = None) -> NDArray[np.float64]:
    """The pose commanded by one canonical action: p' = p + R(rpy) dp, R' = R(rpy) R(drpy), gripper as commanded.

    Args:
        pose: [..., 7], see the module docstring.
        action: [..., 7], canonical.
        workspace: Where the commanded pose is clipped to, if anywhere.

    Returns:
        float64 [..., 7].
    """
    pose = np.asarray(pose, dtype=np.float64)
    action = np.asarray(action, dtype=np.float64)
    flat_pose, flat_action = pose.reshape(-1, 7), action.reshape(-1, 7)
    rotation = Rotation.from_euler("xyz", flat_pose[:, 3:6])
    moved = np.empty_like(flat_pose)
    moved[:, :3] = flat_pose[:, :3] + rotation.apply(flat_action[:, :3])
    moved[:, 3:6] = (rotation * Rotation.from_euler("xyz", flat_action[:, 3:6])).as_euler("xyz")
    moved[:, 6] = flat_action[:, 6]
    if workspace is not None:
        moved[:, :6] = np.clip(moved[:, :6], workspace.low, workspace.high)
    return moved.reshape(pose.shape)
