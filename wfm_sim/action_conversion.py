"""From one action contract to another, as small steps: plain units, canonical displacement, rate, and back.

convert(actions, named_contract("bridge-rlds"), CANONICAL, poses=states[:-1])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.action_contract import METRES, RADIANS, ROTATION_NUMBERS, ActionContract
from wfm_sim.actions import apply_action
from wfm_sim.errors import UserError

Array = NDArray[np.float64]
# Rates nearer to each other than this are the same: 4 and 5 Hz differ, 14.9 and 15 do not.
RATE_TOLERANCE = 0.05


def convert(
    actions: ArrayLike, source: ActionContract, target: ActionContract, poses: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Rewrite actions of one contract in another.

    Args:
        actions: [..., A] as `source` writes them; [..., N, A] in temporal order where the rates differ.
        source: What they are.
        target: What they are wanted as.
        poses: [..., >=6] canonical poses x, y, z [m], roll, pitch, yaw [rad] in the base frame that the actions start
            from, one per action. Needed where one contract is seen from the gripper and the other is not.

    Returns:
        float32 [..., A'] as `target` writes them; where the rates differ, N' = N / k or N * k actions (k whole; the
        rest of N beyond a multiple is left out).

    Raises:
        UserError: a wrong shape, poses needed and not given, rates without a whole ratio, or joints on one side only.
    """
    written = np.asarray(actions, dtype=np.float64)
    if written.ndim < 1 or written.shape[-1] != source.dim:
        raise UserError(
            f"actions have shape {list(written.shape)}, but {source.name!r} has {source.dim} numbers per action"
        )
    if source.is_joint or target.is_joint:
        return _convert_joints(written, source, target)
    leading, where = written.shape[:-1], None if poses is None else _check_poses(poses, written.shape[:-1])
    faster, slower = rate_ratio(source, target)
    translation, angles, opening = _read(written.reshape(-1, source.dim), source)
    same_basis = _basis(source) == _basis(target) and source.kind == target.kind == "delta"
    if same_basis and faster == slower == 1:
        return _write(translation, angles, opening, target).reshape(*leading, target.dim).astype(np.float32)
    if where is None and not (_is_canonical_basis(source) and _is_canonical_basis(target)):
        raise UserError(
            f"converting {source.name!r} ({source.summary()}) to {target.name!r} ({target.summary()}) needs poses"
        )
    flat = None if where is None else where.reshape(-1, 6)
    canonical = np.concatenate([*_to_canonical(translation, angles, source, flat), opening], axis=-1)
    canonical = canonical.reshape(*leading, 7)
    if faster != 1 or slower != 1:
        if canonical.ndim < 2:
            raise UserError("actions of another rate must be a sequence [..., N, A]")
        canonical, where = _resample(canonical, where, faster, slower)
    flat = None if where is None else where.reshape(-1, 6)
    rows = canonical.reshape(-1, 7)
    translation, angles = _from_canonical(rows[:, :3], rows[:, 3:6], target, flat)
    result = _write(translation, angles, rows[:, 6:], target)
    return result.reshape(*canonical.shape[:-1], target.dim).astype(np.float32)


def rate_ratio(source: ActionContract, target: ActionContract) -> tuple[int, int]:
    """(k, 1) when `source` is k times as fast as `target`, (1, k) when it is k times slower. UserError for no whole k.

    A ratio within RATE_TOLERANCE of a whole number counts as whole.
    """
    ratio = source.rate_hz / target.rate_hz
    for up in (True, False):
        value = ratio if up else 1 / ratio
        k = round(value)
        if k >= 1 and abs(value / k - 1) <= RATE_TOLERANCE:
            return (k, 1) if up else (1, k)
    raise UserError(
        f"{source.name!r} actions come at {source.rate_hz:g} Hz, {target.name!r} wants {target.rate_hz:g} Hz: neither "
        "is a multiple of the other, resample the recording first"
    )


def _convert_joints(written: Array, source: ActionContract, target: ActionContract) -> NDArray[np.float32]:
    if source.kind != target.kind or source.joints != target.joints:
        raise UserError(
            f"{source.name!r} is {source.summary()} and {target.name!r} is {target.summary()}: between joints and "
            "poses, or between robots, only the robot's own kinematics can convert"
        )
    if rate_ratio(source, target) != (1, 1):
        raise UserError(f"joints at {source.rate_hz:g} Hz are not resampled to {target.rate_hz:g} Hz here")
    plain = written if source.normalisation is None else source.normalisation.undo(written)
    plain = plain / (RADIANS[source.rotation_unit] ** -1 * source.rotation_scale)
    plain = plain * (RADIANS[target.rotation_unit] ** -1 * target.rotation_scale)
    return (plain if target.normalisation is None else target.normalisation.apply(plain)).astype(np.float32)


def _check_poses(poses: ArrayLike, leading: tuple[int, ...]) -> Array:
    array = np.asarray(poses, dtype=np.float64)
    if array.shape[:-1] != leading or array.ndim < 1 or array.shape[-1] < 6:
        raise UserError(f"poses have shape {list(array.shape)}, expected {[*leading, '>=6']}: one per action")
    return array[..., :6]


def _basis(contract: ActionContract) -> tuple[object, ...]:
    """Contracts of equal basis hold the same displacement, in other numbers at most."""
    tool = contract.tool_rpy if contract.frame == "gripper" or contract.rotation_rule == "difference" else (0.0,) * 3
    return contract.frame, contract.rotation_rule, tool


def _is_canonical_basis(contract: ActionContract) -> bool:
    """Whether no pose is needed to make it canonical."""
    return contract.kind == "delta" and contract.frame == "gripper"


def _read(written: Array, contract: ActionContract) -> tuple[Array, Array, Array]:
    """Numbers [N, A] -> translation [N, 3] m, rpy angles [N, 3] rad (in the contract's own basis), opening [N, 1]."""
    plain = written if contract.normalisation is None else contract.normalisation.undo(written)
    translation = plain[:, :3] * METRES[contract.translation_unit] / contract.translation_scale
    angles = _rpy(plain[:, 3:-1], contract)
    span = contract.gripper_open - contract.gripper_closed
    return translation, angles, (plain[:, -1:] - contract.gripper_closed) / span


def _write(translation: Array, angles: Array, opening: Array, contract: ActionContract) -> Array:
    """The inverse of `_read`."""
    span = contract.gripper_open - contract.gripper_closed
    columns = (
        translation / METRES[contract.translation_unit] * contract.translation_scale,
        _from_rpy(angles, contract),
        contract.gripper_closed + opening * span,
    )
    plain = np.concatenate(columns, axis=-1)
    return plain if contract.normalisation is None else contract.normalisation.apply(plain)


def _rpy(numbers: Array, contract: ActionContract) -> Array:
    """A contract's rotation numbers [N, 3 or 4 or 6] as rpy angles [N, 3] in radians."""
    form = contract.rotation
    if ROTATION_NUMBERS[form] == 3:
        numbers = numbers * RADIANS[contract.rotation_unit] / contract.rotation_scale
    if form == "rpy":
        return numbers
    if form == "ypr":
        return numbers[:, ::-1]
    if form == "rotvec":
        return Rotation.from_rotvec(numbers).as_euler("xyz")
    if form == "rot6d":
        first = numbers[:, :3] / np.linalg.norm(numbers[:, :3], axis=1, keepdims=True)
        second = numbers[:, 3:] - (first * numbers[:, 3:]).sum(1, keepdims=True) * first
        second = second / np.linalg.norm(second, axis=1, keepdims=True)
        return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=-1)).as_euler("xyz")
    return Rotation.from_quat(numbers, scalar_first=form == "quat_wxyz").as_euler("xyz")


def _from_rpy(angles: Array, contract: ActionContract) -> Array:
    """The inverse of `_rpy`."""
    form = contract.rotation
    if form in ("rpy", "ypr"):
        numbers = angles if form == "rpy" else angles[:, ::-1]
    else:
        rotation = Rotation.from_euler("xyz", angles)
        if form == "rot6d":
            return np.asarray(rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6))
        if form != "rotvec":
            return np.asarray(rotation.as_quat(canonical=True, scalar_first=form == "quat_wxyz"))
        numbers = rotation.as_rotvec()
    return np.asarray(numbers / RADIANS[contract.rotation_unit] * contract.rotation_scale)


def _to_canonical(translation: Array, angles: Array, contract: ActionContract, poses: Array | None) -> list[Array]:
    """A displacement in the contract's basis, or its absolute pose -> canonical [N, 3] and [N, 3]."""
    tool = Rotation.from_euler("xyz", contract.tool_rpy)
    turn = Rotation.from_euler("xyz", angles)
    if contract.kind == "delta" and contract.frame == "gripper":
        return [tool.apply(translation), (tool * turn * tool.inv()).as_euler("xyz")]
    assert poses is not None
    here = Rotation.from_euler("xyz", poses[:, 3:6])
    if contract.kind == "absolute":
        there = turn * tool.inv()
        return [here.inv().apply(translation - poses[:, :3]), (here.inv() * there).as_euler("xyz")]
    if contract.rotation_rule == "difference":
        there = Rotation.from_euler("xyz", (here * tool).as_euler("xyz") + angles) * tool.inv()
    else:
        there = turn * here
    return [here.inv().apply(translation), (here.inv() * there).as_euler("xyz")]


def _from_canonical(translation: Array, angles: Array, contract: ActionContract, poses: Array | None) -> list[Array]:
    """The inverse of `_to_canonical`."""
    tool = Rotation.from_euler("xyz", contract.tool_rpy)
    turn = Rotation.from_euler("xyz", angles)
    if contract.kind == "delta" and contract.frame == "gripper":
        return [tool.inv().apply(translation), (tool.inv() * turn * tool).as_euler("xyz")]
    assert poses is not None
    here = Rotation.from_euler("xyz", poses[:, 3:6])
    there = here * turn
    if contract.kind == "absolute":
        return [poses[:, :3] + here.apply(translation), (there * tool).as_euler("xyz")]
    if contract.rotation_rule == "difference":
        turned = (there * tool).as_euler("xyz") - (here * tool).as_euler("xyz")
        return [here.apply(translation), (turned + np.pi) % (2 * np.pi) - np.pi]
    return [here.apply(translation), (there * here.inv()).as_euler("xyz")]


def _resample(canonical: Array, poses: Array | None, faster: int, slower: int) -> tuple[Array, Array | None]:
    """Canonical actions [..., N, 7], and the poses they start from, at another rate.

    k in one: the poses that successive actions lead to, composed; the last gripper command. One in k: equal parts of
    the straight line and of the rotation, with the same gripper command.
    """
    count = canonical.shape[-2] // faster * faster
    canonical = canonical[..., :count, :]
    if faster > 1:
        grouped = canonical.reshape(*canonical.shape[:-2], -1, faster, 7)
        return compose(grouped), None if poses is None else poses[..., :count:faster, :]
    parts = np.repeat(split(canonical, slower), slower, axis=-2)
    if poses is None:
        return parts, None
    starts = np.repeat(poses, slower, axis=-2)
    here = np.concatenate([starts, np.zeros((*starts.shape[:-1], 1))], axis=-1)
    for step in range(1, slower):
        later = np.arange(here.shape[-2]) % slower >= step
        here[..., later, :] = apply_action(here[..., later, :], parts[..., later, :])
    return parts, here[..., :6]


def compose(actions: ArrayLike) -> Array:
    """Canonical actions [..., k, 7] one after the other as a single one [..., 7]; the gripper as commanded last."""
    sequence = np.asarray(actions, dtype=np.float64)
    pose = np.zeros((*sequence.shape[:-2], 7))
    for step in range(sequence.shape[-2]):
        pose = apply_action(pose, sequence[..., step, :])
    return pose


def split(actions: ArrayLike, parts: int) -> Array:
    """The canonical action [..., 7] that has to be taken `parts` times for each given one (straight, at even speed)."""
    whole = np.asarray(actions, dtype=np.float64)
    flat = whole.reshape(-1, 7)
    turn = Rotation.from_euler("xyz", flat[:, 3:6]).as_rotvec()
    part = Rotation.from_rotvec(turn / parts)
    # Each part moves in a frame that has turned since: take the first part's direction so that their sum is the whole.
    total, frame = np.zeros((len(flat), 3, 3)), Rotation.identity(len(flat))
    for _ in range(parts):
        total += frame.as_matrix()
        frame = frame * part
    translation = np.linalg.solve(total, flat[:, :3, None])[..., 0]
    result = np.concatenate([translation, part.as_euler("xyz"), flat[:, 6:]], axis=-1)
    return result.reshape(whole.shape)
