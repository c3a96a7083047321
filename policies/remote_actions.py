"""From what a policy server answers to canonical actions: the check of a chunk, and its conversion.

    contract = load_contract("bridge-rlds")                      # wfm_sim/action_contract.py
    chunk = read_chunk(reply, "actions", contract)               # float64 [N, 7], N actions to execute one by one
    group = per_step(contract)                                   # so many of them make one step
    actions = canonical_actions(contract, chunk[:group], pose)   # float32 [steps, 7], wfm_sim/actions.py

Nothing about an array of 7 numbers tells its frame, units or gripper sign, and a wrong guess looks like a bad policy.
So a contract is always named: by the user, or by a server that says what it sends.
"""

from __future__ import annotations

from dataclasses import replace
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.action_contract import CANONICAL, ActionContract, named_contract
from wfm_sim.action_conversion import convert, rate_ratio, split
from wfm_sim.actions import RATE_HZ, actions_from_states, apply_action
from wfm_sim.errors import UserError

MAX_CHUNK = 1000  # actions; a longer one is a mistake of shape
MAX_NUMBER = 1e6  # no unit in use needs more

# DROID's robot_ik_solver: fractions of 0.075 m and 0.15 rad per step of 15 Hz, in the base frame; the gripper is a
# position. (DROID also shortens vectors longer than 1, which policies do not send.)
DROID_VELOCITY = ActionContract(
    "droid-velocity",
    frame="base",
    translation_scale=1 / 0.075,
    rotation_scale=1 / 0.15,
    gripper_open=0.0,
    gripper_closed=1.0,
    rate_hz=15.0,
    note="DROID's cartesian_velocity",
)
# RoboArena's action_space -> contract. The joint spaces have none: they need the arm's kinematics.
ROBOARENA_SPACES = {
    "joint_position": None,
    "joint_velocity": None,
    "cartesian_position": named_contract("droid-pose"),
    "cartesian_velocity": DROID_VELOCITY,
}


def check_contract(contract: ActionContract) -> ActionContract:
    """`contract`, if its actions can be made canonical one at a time.

    Raises:
        UserError: it is of joints, or of a rate that is neither a multiple nor a fraction of RATE_HZ.
    """
    if contract.is_joint:
        raise UserError(
            f"{contract.name!r} actions ({contract.summary()}) can be turned into ours by the arm's kinematics only; "
            "serve a Cartesian action space"
        )
    rate_ratio(contract, CANONICAL)
    return contract


def per_step(contract: ActionContract) -> int:
    """How many of the server's actions are executed together: those that one step takes, or 1."""
    return rate_ratio(contract, CANONICAL)[0]


def droid_pose(pose: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """DROID's cartesian_position float32 [6] and gripper_position [1] (1 = closed) of an `agent_pos` [7]."""
    pose = np.asarray(pose, dtype=np.float64)
    turned = (Rotation.from_euler("xyz", pose[3:6]) * Rotation.from_euler("x", pi)).as_euler("xyz")
    position = np.concatenate([pose[:3], turned]).astype(np.float32)
    return position, np.clip(1.0 - pose[6:7], 0.0, 1.0).astype(np.float32)


def read_chunk(reply: Any, key: str, contract: ActionContract) -> NDArray[np.float64]:
    """The actions of a reply.

    Args:
        reply: What `unpack` gave: a map with `key`, or (older RoboArena servers) the array itself.
        key: Where the actions are, 'actions' in openpi.
        contract: What they should be.

    Returns:
        float64 [N, contract.dim], N >= 1.

    Raises:
        UserError: no such key, no array of numbers, another shape, or numbers not finite or beyond MAX_NUMBER.
    """
    if isinstance(reply, dict):
        if key not in reply:
            others = ", ".join(repr(other)[:40] for other in list(reply)[:8])
            raise UserError(f"the reply has no {key!r}; it has {others or 'nothing'}")
        reply = reply[key]
    if isinstance(reply, list):
        try:
            reply = np.array(reply)
        except ValueError as error:
            raise UserError(f"{key!r} is a list that is no array: {error}") from error
    if not isinstance(reply, np.ndarray) or reply.dtype.kind not in "iuf":
        given = f"an array of dtype {reply.dtype}" if isinstance(reply, np.ndarray) else f"a {type(reply).__name__}"
        raise UserError(f"{key!r} is {given}; expected an array of numbers [N, {contract.dim}]")
    if reply.ndim != 2 or reply.shape[1] != contract.dim or not 1 <= len(reply) <= MAX_CHUNK:
        raise UserError(
            f"{key!r} has shape {list(reply.shape)}; expected [N, {contract.dim}] with N in 1..{MAX_CHUNK} "
            f"({contract.name!r} actions)"
        )
    chunk = reply.astype(np.float64)
    if not np.isfinite(chunk).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(chunk))[0])
        raise UserError(f"{key!r} has numbers that are not finite, first {chunk[row, column]} at [{row}, {column}]")
    if np.abs(chunk).max() > MAX_NUMBER:
        raise UserError(f"{key!r} has numbers as large as {np.abs(chunk).max():g}, which no action has")
    return chunk


def canonical_actions(contract: ActionContract, rows: NDArray[np.float64], pose: NDArray[Any]) -> NDArray[np.float32]:
    """The canonical actions, one per step, that do what `rows` do one after the other.

    Args:
        contract: What the rows are.
        rows: [per_step(contract), contract.dim], as sent.
        pose: [7], the commanded pose (`agent_pos`) that they start from.

    Returns:
        float32 [steps, 7]: one step, or several where the server's rate is lower than the environment's. Not clipped:
        environments do that, and what checks actions wants to see them as they are.

    Raises:
        UserError: the numbers are finite as sent but not as converted, or name no rotation.
    """
    try:
        with np.errstate(all="ignore"):
            action = _one_step(replace(contract, rate_hz=RATE_HZ), rows, np.asarray(pose, dtype=np.float64))
    except ValueError as error:  # scipy: no rotation
        raise UserError(f"{contract.name!r} actions {rows.tolist()} are no movement: {error}") from error
    if not np.isfinite(action).all():
        raise UserError(f"{contract.name!r} actions {rows.tolist()} are beyond all bounds")
    steps = rate_ratio(contract, CANONICAL)[1]
    whole = action if steps == 1 else split(action, steps)
    return np.repeat(whole[None].astype(np.float32), steps, axis=0)


def _one_step(contract: ActionContract, rows: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float32]:
    """The single canonical action that leads where the rows lead, the last gripper command kept."""
    action, reached = convert(rows[0], contract, CANONICAL, poses=start), start
    if len(rows) == 1:
        return action
    for row in rows[1:]:
        reached = apply_action(reached, action)
        action = convert(row, contract, CANONICAL, poses=reached)
    return actions_from_states([start, apply_action(reached, action)], [action[6]])[0]
