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
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.errors import UserError

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
    moved = moved.reshape(pose.shape)
    return moved if workspace is None else _clip(moved, workspace)


def executed_action(
    pose: ArrayLike, action: ArrayLike, workspace: Workspace
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The canonical action that leads where `action` leads once the commanded pose has been clipped to `workspace`.

    World models are trained and driven with executed actions: at the edge of the workspace a command that changes
    nothing must not be taken for a movement.

    Args:
        pose: [..., 7], where it starts.
        action: [..., 7], canonical.
        workspace: The bounds.

    Returns:
        float32 [..., 7], `action` itself, to the bit, in rows where nothing is clipped; and the pose it leads to,
        float64 [..., 7].
    """
    pose, action = np.asarray(pose, dtype=np.float64), np.asarray(action)
    free = apply_action(pose, action)
    held = _clip(free, workspace)
    here, there = pose.reshape(-1, 7), held.reshape(-1, 7)
    translation, rotation = _base_to_gripper(there[:, :3] - here[:, :3], there[:, 3:6] - here[:, 3:6], here)
    instead = np.concatenate([translation, rotation, there[:, 6:]], axis=-1).reshape(action.shape)
    clipped = (np.abs(free - held) > 1e-9).any(axis=-1, keepdims=True)
    return np.where(clipped, instead, action).astype(np.float32), held


def _clip(pose: NDArray[np.float64], workspace: Workspace) -> NDArray[np.float64]:
    return np.concatenate((np.clip(pose[..., :6], workspace.low, workspace.high), pose[..., 6:]), axis=-1)


def dead_reckoning(actions: ArrayLike) -> NDArray[np.float64]:
    """Gripper poses commanded by successive canonical actions, seen from the gripper frame they began in.

    Args:
        actions: [..., N, 7], canonical.

    Returns:
        float64 [..., N + 1, 7], the first all zeros.
    """
    actions = np.asarray(actions, dtype=np.float64)
    poses = [np.zeros((*actions.shape[:-2], ACTION_DIM))]
    for k in range(actions.shape[-2]):
        poses.append(apply_action(poses[-1], actions[..., k, :]))
    return np.stack(poses, axis=-2)


@dataclass(frozen=True)
class ActionConvention:
    """How somebody writes a 7-dim end-effector action down.

    Attributes:
        name: For error messages.
        frame: 'gripper': the displacement seen from the previous gripper frame, R_t^T (p_t+1 - p_t) and
            euler(R_t^T R_t+1). 'base': the difference of the pose's own numbers, p_t+1 - p_t and rpy_t+1 - rpy_t.
        translation_scale: Stored number = metres * translation_scale.
        rotation_scale: Stored number = radians * rotation_scale.
        gripper: '1=open' (0 = closed), '1=closed' (0 = open) or '-1=open' (+1 = closed).
        rate_hz: Actions per second.
    """

    name: str
    frame: Literal["gripper", "base"]
    translation_scale: float
    rotation_scale: float
    gripper: Literal["1=open", "1=closed", "-1=open"]
    rate_hz: float


CANONICAL = ActionConvention("canonical", "gripper", 1.0, 1.0, "1=open", RATE_HZ)
# Cosmos Predict2/2.5 and IRASim on Bridge: all but the gripper times 20, the gripper as measured at the next frame.
COSMOS_BRIDGE = ActionConvention("Cosmos Bridge", "gripper", 20.0, 20.0, "1=closed", 5.0)
# WorldGym: Bridge's clipping range +-0.05 m, +-0.25 rad mapped to +-1.75, +-1.4.
WORLDGYM = ActionConvention("WorldGym", "base", 1.75 / 0.05, 1.4 / 0.25, "-1=open", 5.0)
# The RLDS/TFDS bridge_dataset.
RLDS_BRIDGE = ActionConvention("RLDS Bridge", "base", 1.0, 1.0, "1=open", 5.0)

# Stored gripper = offset + slope * (1 = open .. 0 = closed).
_GRIPPER = {"1=open": (0.0, 1.0), "1=closed": (1.0, -1.0), "-1=open": (1.0, -2.0)}


def convert(
    actions: ArrayLike, src: ActionConvention, dst: ActionConvention, states: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Rewrite actions from one convention in another.

    Args:
        actions: [..., 7] in convention `src`.
        src: What they are written in.
        dst: What they are wanted in.
        states: [..., >=6] poses (x, y, z, roll, pitch, yaw) that the actions start from. Needed only between a
            gripper-frame and a base-frame convention.

    Returns:
        float32 [..., 7] in convention `dst`.

    Raises:
        UserError: wrong shape, different rates, or `states` needed and not given or of another length.
    """
    written = np.asarray(actions, dtype=np.float64)
    if written.ndim < 1 or written.shape[-1] != ACTION_DIM:
        raise UserError(f"actions have shape {list(written.shape)}, expected [..., {ACTION_DIM}]")
    if src.rate_hz != dst.rate_hz:
        raise UserError(
            f"{src.name} actions come at {src.rate_hz} Hz, {dst.name} wants {dst.rate_hz} Hz: resample first"
        )
    flat = written.reshape(-1, ACTION_DIM)
    translation, rotation = flat[:, :3] / src.translation_scale, flat[:, 3:6] / src.rotation_scale
    if src.frame != dst.frame:
        pose = _starting_poses(states, written.shape[:-1], src, dst)
        if dst.frame == "gripper":
            translation, rotation = _base_to_gripper(translation, rotation, pose)
        else:
            translation, rotation = _gripper_to_base(translation, rotation, pose)
    offset, slope = _GRIPPER[src.gripper]
    opening = (flat[:, 6:] - offset) / slope
    offset, slope = _GRIPPER[dst.gripper]
    columns = (translation * dst.translation_scale, rotation * dst.rotation_scale, offset + slope * opening)
    return np.concatenate(columns, axis=-1).reshape(written.shape).astype(np.float32)


def actions_from_states(states: ArrayLike, gripper: ArrayLike | None = None) -> NDArray[np.float32]:
    """Canonical actions that lead from each pose to the next, as Cosmos and IRASim derive them from Bridge states.

    Args:
        states: [T, 7] poses with gripper (1 = open), T >= 1.
        gripper: [T-1] gripper commands, 1 = open. None takes the gripper of the pose arrived at.

    Returns:
        float32 [T-1, 7].
    """
    poses = np.asarray(states, dtype=np.float64)
    here, there = poses[:-1], poses[1:]
    command = there[:, 6] if gripper is None else np.asarray(gripper, dtype=np.float64)
    translation, rotation = _base_to_gripper(there[:, :3] - here[:, :3], there[:, 3:6] - here[:, 3:6], here)
    opening = np.clip(command, 0.0, 1.0)[:, None]
    return np.concatenate([translation, rotation, opening], axis=-1).astype(np.float32)


def _starting_poses(
    states: ArrayLike | None, leading: tuple[int, ...], src: ActionConvention, dst: ActionConvention
) -> NDArray[np.float64]:
    if states is None:
        raise UserError(
            f"converting {src.name} actions ({src.frame} frame) to {dst.name} ({dst.frame} frame) needs states"
        )
    poses = np.asarray(states, dtype=np.float64)
    if poses.shape[:-1] != leading or poses.shape[-1] < 6:
        raise UserError(f"states have shape {list(poses.shape)}, expected {[*leading, '>=6']}: one pose per action")
    return poses.reshape(-1, poses.shape[-1])


def _base_to_gripper(
    translation: NDArray[np.float64], rotation: NDArray[np.float64], pose: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    here = Rotation.from_euler("xyz", pose[:, 3:6])
    there = Rotation.from_euler("xyz", pose[:, 3:6] + rotation)
    return here.inv().apply(translation), (here.inv() * there).as_euler("xyz")


def _gripper_to_base(
    translation: NDArray[np.float64], rotation: NDArray[np.float64], pose: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    here = Rotation.from_euler("xyz", pose[:, 3:6])
    there = (here * Rotation.from_euler("xyz", rotation)).as_euler("xyz")
    turned = there - pose[:, 3:6]
    return here.apply(translation), (turned + np.pi) % (2 * np.pi) - np.pi
