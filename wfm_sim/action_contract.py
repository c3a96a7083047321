"""What the numbers of a robot action mean, written down: frame, kind, units, rotation, gripper, rate, normalisation.

    contract = named_contract("bridge-rlds")            # or load_contract("my_robot.json")
    contract_of(model), contract_of(dataset)            # what they take, and what their episodes hold
    convert(actions, contract, CANONICAL, poses)        # wfm_sim/action_conversion.py

Most failures of a policy in somebody else's simulator are a silent disagreement about one of these fields.
`wfm-sim check-actions` looks for it in the actions themselves.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.actions import RATE_HZ, UNITS
from wfm_sim.errors import UserError, unknown

Kind = Literal["delta", "absolute", "joint_position", "joint_velocity"]
Frame = Literal["gripper", "base"]
RotationForm = Literal["rpy", "ypr", "rotvec", "quat_xyzw", "quat_wxyz", "rot6d"]
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
RADIANS = {"rad": 1.0, "deg": math.pi / 180}
ROTATION_NUMBERS = {"rpy": 3, "ypr": 3, "rotvec": 3, "quat_xyzw": 4, "quat_wxyz": 4, "rot6d": 6}


@dataclass(frozen=True)
class Normalisation:
    """How written numbers were squeezed; the last step of writing, the first of reading.

    Attributes:
        kind: 'bounds': n = 2 (v - low) / (high - low) - 1, where first = low and second = high. 'mean_std':
            n = (v - mean) / std.
        first: One number per dimension: low or mean.
        second: High or std. A dimension where low = high, or std = 0, is left as it is.
    """

    kind: Literal["bounds", "mean_std"]
    first: tuple[float, ...]
    second: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in ("bounds", "mean_std"):
            raise unknown("normalisation", self.kind, ("bounds", "mean_std"))
        for name in ("first", "second"):
            object.__setattr__(self, name, _numbers(getattr(self, name), f"normalisation {name}"))
        if len(self.first) != len(self.second):
            raise UserError(f"a normalisation of {len(self.first)} and {len(self.second)} numbers; as many are needed")

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., A] in plain units -> normalised."""
        shift, scale = self._affine()
        return (values - shift) / scale

    def undo(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., A] normalised -> plain units."""
        shift, scale = self._affine()
        return values * scale + shift

    def _affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        first, second = np.array(self.first), np.array(self.second)
        if self.kind == "bounds":
            shift, scale = (first + second) / 2, (second - first) / 2
        else:
            shift, scale = first, second
        plain = scale == 0
        return np.where(plain, 0.0, shift), np.where(plain, 1.0, scale)


@dataclass(frozen=True)
class ActionContract:
    """How somebody writes a robot action down: translation, rotation, gripper, in this order; or joints.

    Attributes:
        name: For messages.
        kind: 'delta': a displacement. 'absolute': the pose to go to, in the base frame. 'joint_position' and
            'joint_velocity': one number per joint and no Cartesian meaning without the robot's kinematics.
        frame: Of a delta. 'gripper': seen from the previous gripper frame, R_t^T (p_t+1 - p_t) and R_t^T R_t+1.
            'base': p_t+1 - p_t and R_t+1 R_t^T.
        rotation_rule: 'compose', as above; 'difference' (base frame only): rpy_t+1 - rpy_t, number by number.
        translation_unit: 'm', 'cm' or 'mm'.
        translation_scale: Written number = translation in that unit * scale.
        rotation: Three angles 'rpy' (R = Rz(yaw) Ry(pitch) Rx(roll)), the same in the order 'ypr', 'rotvec' (axis times
            angle), a quaternion 'quat_xyzw' or 'quat_wxyz', or 'rot6d' (the first two columns of R).
        rotation_unit: 'rad' or 'deg', of angles.
        rotation_scale: Written angle = angle in that unit * scale; negative where angles count the other way round.
        gripper_open, gripper_closed: The numbers that stand for an open and a closed gripper.
        rate_hz: Actions per second.
        tool_rpy: Orientation of its gripper frame seen from the canonical one (wfm_sim/actions.py), radians: (pi, 0, 0)
            where z points out of the hand.
        normalisation: Applied last; None for none.
        joints: Numbers per action of a joint contract, gripper included.
        note: Where this is from.
    """

    name: str
    kind: Kind = "delta"
    frame: Frame = "gripper"
    rotation_rule: Literal["compose", "difference"] = "compose"
    translation_unit: Literal["m", "cm", "mm"] = "m"
    translation_scale: float = 1.0
    rotation: RotationForm = "rpy"
    rotation_unit: Literal["rad", "deg"] = "rad"
    rotation_scale: float = 1.0
    gripper_open: float = 1.0
    gripper_closed: float = 0.0
    rate_hz: float = RATE_HZ
    tool_rpy: tuple[float, float, float] = (0.0, 0.0, 0.0)
    normalisation: Normalisation | None = None
    joints: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", get_args(Kind)),
            ("frame", get_args(Frame)),
            ("rotation_rule", ("compose", "difference")),
            ("translation_unit", tuple(METRES)),
            ("rotation_unit", tuple(RADIANS)),
            ("rotation", tuple(ROTATION_NUMBERS)),
        ):
            if getattr(self, name) not in known:
                raise unknown(f"{name} of an action contract", getattr(self, name), known)
        for name in ("translation_scale", "rotation_scale", "gripper_open", "gripper_closed", "rate_hz"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"{name} of an action contract must be a finite number, not {value!r}")
        if self.translation_scale <= 0 or self.rotation_scale == 0 or self.rate_hz <= 0:
            raise UserError(
                "translation_scale and rate_hz of an action contract must be positive, rotation_scale not 0"
            )
        if self.gripper_open == self.gripper_closed:
            raise UserError(
                f"gripper_open and gripper_closed of {self.name!r} are the same number {self.gripper_open:g}"
            )
        if self.rotation_rule == "difference" and (self.frame != "base" or self.rotation not in ("rpy", "ypr")):
            raise UserError("rotation_rule 'difference' is of the base frame's rpy or ypr angles only")
        if self.is_joint != (self.joints > 0):
            raise UserError(f"an action contract of kind {self.kind!r} with joints = {self.joints}")
        object.__setattr__(self, "tool_rpy", _numbers(self.tool_rpy, "tool_rpy"))
        if len(self.tool_rpy) != 3:
            raise UserError(f"tool_rpy must be three angles, not {len(self.tool_rpy)}")
        if self.normalisation is not None and len(self.normalisation.first) != self.dim:
            raise UserError(
                f"the normalisation of {self.name!r} has {len(self.normalisation.first)} numbers, "
                f"its actions {self.dim}"
            )

    @property
    def is_joint(self) -> bool:
        """Whether its numbers are joints."""
        return self.kind.startswith("joint")

    @property
    def dim(self) -> int:
        """Numbers per action."""
        return self.joints if self.is_joint else 4 + ROTATION_NUMBERS[self.rotation]

    def summary(self) -> str:
        """One line, e.g. 'gripper-frame deltas in m and rad (rpy), gripper 1 = open, 0 = closed, 5 Hz'."""
        if self.is_joint:
            return f"{self.joints} {self.kind.replace('_', ' ')} numbers, {self.rate_hz:g} Hz"
        what = f"{self.frame}-frame deltas" if self.kind == "delta" else "absolute poses"
        length = self.translation_unit + (f" x {self.translation_scale:g}" if self.translation_scale != 1 else "")
        angle = self.rotation_unit + (f" x {self.rotation_scale:g}" if self.rotation_scale != 1 else "")
        form = self.rotation + (" differences" if self.rotation_rule == "difference" else "")
        text = f"{what} in {length} and {angle} ({form}), gripper {self.gripper_open:g} = open, "
        text += f"{self.gripper_closed:g} = closed, {self.rate_hz:g} Hz"
        return text + (f", normalised ({self.normalisation.kind})" if self.normalisation else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ActionContract:
        """A contract of plain values; fields left out are canonical. UserError for what it cannot be."""
        if not isinstance(content, dict):
            raise UserError(f"an action contract must be a JSON object, not {type(content).__name__}")
        known = [field.name for field in fields(cls)]
        for key in content:
            if key not in known:
                raise unknown("field of an action contract", key, known)
        values = dict(content)
        values.setdefault("name", "unnamed")
        given = values.get("normalisation")
        if given is not None:
            if not isinstance(given, dict) or set(given) != {"kind", "first", "second"}:
                raise UserError("normalisation must be an object with 'kind', 'first' and 'second'")
            values["normalisation"] = Normalisation(**given)
        if not isinstance(values.get("joints", 0), int):
            raise UserError(f"joints must be a whole number, not {values['joints']!r}")
        return cls(**values)


def _numbers(values: Any, what: str) -> tuple[float, ...]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.full((1, 1), np.nan)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise UserError(f"{what} must be a list of finite numbers, not {values!r}")
    return tuple(float(value) for value in array)


def normalised(contract: ActionContract, kind: Literal["bounds", "mean_std"], *numbers: ArrayLike) -> ActionContract:
    """`contract` with its numbers normalised by (low, high) or (mean, std), each [A]."""
    first, second = (_numbers(values, "a normalisation") for values in numbers)
    return replace(contract, normalisation=Normalisation(kind, first, second))


CANONICAL = ActionContract("canonical", note="wfm_sim/actions.py; what environments and world models take")
_PI = math.pi
_LIBERO_LIMITS = (0.05,) * 3 + (0.5,) * 3

CONTRACTS: dict[str, ActionContract] = {
    contract.name: contract
    for contract in (
        CANONICAL,
        replace(CANONICAL, name="bridge-json", note="`action` of IRASim's Bridge annotations"),
        ActionContract(
            "irasim-x20",
            translation_scale=20.0,
            rotation_scale=20.0,
            gripper_open=0.0,
            gripper_closed=1.0,
            note="what IRASim and Cosmos Predict feed their networks: all but the gripper times 20",
        ),
        ActionContract(
            "bridge-rlds",
            frame="base",
            rotation_rule="difference",
            note="rail's bridge_dataset and OXE's bridge_orig",
        ),
        ActionContract(
            "worldgym",
            frame="base",
            rotation_rule="difference",
            translation_scale=1.75 / 0.05,
            rotation_scale=1.4 / 0.25,
            gripper_open=-1.0,
            gripper_closed=1.0,
            note="Bridge's clipping range mapped to +-1.75 and +-1.4",
        ),
        ActionContract(
            "libero",
            frame="base",
            rotation="rotvec",
            gripper_open=-1.0,
            gripper_closed=1.0,
            rate_hz=20.0,
            tool_rpy=(_PI, 0.0, 0.0),
            normalisation=Normalisation("bounds", (*(-x for x in _LIBERO_LIMITS), 0.0), (*_LIBERO_LIMITS, 0.0)),
            note="robosuite's OSC_POSE: 1 stands for 0.05 m and 0.5 rad",
        ),
        ActionContract(
            "openpi-droid",
            kind="joint_velocity",
            joints=8,
            gripper_open=0.0,
            gripper_closed=1.0,
            rate_hz=15.0,
            note="openpi's DROID policies: 7 joint velocities and the gripper",
        ),
        ActionContract(
            "droid-pose",
            kind="absolute",
            gripper_open=0.0,
            gripper_closed=1.0,
            rate_hz=15.0,
            tool_rpy=(_PI, 0.0, 0.0),
            note="DROID's cartesian_position: z out of the hand, roll = pi when it points down",
        ),
        ActionContract(
            "ctrl-world",
            kind="absolute",
            gripper_open=0.0,
            gripper_closed=1.0,
            rate_hz=4.0,
            tool_rpy=(_PI, 0.0, 0.0),
            note="Ctrl-World's `states`, before its p01/p99 normalisation",
        ),
    )
}


def named_contract(name: str) -> ActionContract:
    """One of CONTRACTS. UserError, with the nearest name, when there is none."""
    if name not in CONTRACTS:
        raise unknown("action contract", name, CONTRACTS)
    return CONTRACTS[name]


def load_contract(name_or_path: str | Path) -> ActionContract:
    """A contract by name, or from a JSON file (recognised by its ending)."""
    if str(name_or_path).endswith(".json"):
        from wfm_sim.data.files import read_json

        try:
            return ActionContract.from_json(read_json(name_or_path))
        except UserError as error:
            text = str(error)
            raise error if text.startswith(str(name_or_path)) else UserError(f"{name_or_path}: {text}") from None
    return named_contract(str(name_or_path))


def save_contract(contract: ActionContract, path: str | Path) -> None:
    """Write a contract as JSON, whole or not at all."""
    from wfm_sim.data.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(contract.to_json(), indent=2) + "\n", encoding="utf-8")


def contract_of(owner: Any) -> ActionContract:
    """The contract of a world model (what `step` takes), of a data set (what `Episode.actions` hold) or a policy.

    Every reader of ours turns actions into canonical ones, so a data set's contract is canonical whatever its files
    hold; `stored_contract` is about the files. A policy may say its own in an attribute `action_contract`.

    Raises:
        UserError: a model that is not driven by robot actions, or something that is none of these.
    """
    declared = getattr(owner, "action_contract", None)
    if isinstance(declared, ActionContract):
        return declared
    spec = getattr(owner, "spec", None)
    if spec is not None:
        if spec.condition != "action":
            raise UserError(f"{spec.name!r} is driven by {spec.condition!r}, not by robot actions: it has no contract")
        if tuple(spec.condition_units) == UNITS:
            # Published Bridge models carry the frame rate of their loader, 4; the recordings come at 5 Hz.
            rate = RATE_HZ if spec.name.startswith("predict") else float(spec.fps)
            return replace(CANONICAL, name=CANONICAL.name if rate == RATE_HZ else spec.name, rate_hz=rate)
        dim = len(spec.condition_low)
        return ActionContract(spec.name, kind="joint_position", joints=dim, rate_hz=float(spec.fps))
    if hasattr(owner, "ids") or callable(getattr(owner, "act", None)):
        return CANONICAL
    raise UserError(f"a world model, a data set or a policy has an action contract, {type(owner).__name__} has none")


def stored_contract(dataset: Any) -> ActionContract:
    """The contract of the numbers in a data set's files, before its reader has made them canonical."""
    by_reader = {
        "BridgeDataset": "bridge-json",
        "CtrlWorldDataset": "ctrl-world",
        "TFRecordBridge": "bridge-rlds",
        "UnpackedBridge": "bridge-rlds",
        "WorldGymDataset": "worldgym",
    }
    reader = type(dataset).__name__
    if reader not in by_reader:
        raise UserError(f"no stored contract is known of {reader}; readers with one: {', '.join(by_reader)}")
    return CONTRACTS[by_reader[reader]]
