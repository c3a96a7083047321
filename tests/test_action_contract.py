"""Action contracts: their JSON, their conversions there and back, against hand-computed cases and wfm_sim.actions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim import actions as conventions
from wfm_sim.action_contract import (
    CANONICAL,
    CONTRACTS,
    ActionContract,
    contract_of,
    load_contract,
    normalised,
    save_contract,
    stored_contract,
)
from wfm_sim.action_conversion import compose, convert, split
from wfm_sim.actions import apply_action
from wfm_sim.errors import UserError

CARTESIAN = [contract for contract in CONTRACTS.values() if not contract.is_joint]
MORE = [
    replace(CANONICAL, name="mm and degrees", translation_unit="mm", rotation_unit="deg"),
    replace(CANONICAL, name="reversed angles", rotation="ypr", rotation_scale=-1.0),
    replace(CANONICAL, name="quaternion", rotation="quat_wxyz"),
    replace(CANONICAL, name="rot6d", rotation="rot6d", frame="base"),
    normalised(CANONICAL, "mean_std", [0.01] * 7, [0.02] * 6 + [0.0]),
]


def some_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    low, high = [0.2, -0.1, 0.0, -0.5, -0.5, -3.0], [0.4, 0.1, 0.2, 0.5, 0.5, 3.0]
    return rng.uniform(low, high, (count, 6))


def some_actions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform([-0.05] * 3 + [-0.25] * 3 + [0.0], [0.05] * 3 + [0.25] * 3 + [1.0], (*shape, 7))


@pytest.mark.parametrize("contract", CARTESIAN + MORE, ids=lambda c: c.name)
def test_there_and_back_again(contract: ActionContract, rng: np.random.Generator) -> None:
    given, poses = some_actions(rng, 40), some_poses(rng, 40)
    contract = replace(contract, rate_hz=5.0)
    written = convert(given, CANONICAL, contract, poses)
    assert written.shape == (40, contract.dim)
    np.testing.assert_allclose(convert(written, contract, CANONICAL, poses), given, atol=3e-6)


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("irasim-x20", conventions.COSMOS_BRIDGE),
        ("bridge-rlds", conventions.RLDS_BRIDGE),
        ("worldgym", conventions.WORLDGYM),
    ],
)
def test_the_readers_conventions_are_the_same(
    name: str, old: conventions.ActionConvention, rng: np.random.Generator
) -> None:
    given, poses = some_actions(rng, 30), some_poses(rng, 30)
    ours = convert(given, CANONICAL, CONTRACTS[name], poses)
    np.testing.assert_allclose(ours, conventions.convert(given, conventions.CANONICAL, old, poses), atol=2e-5)


def test_an_absolute_pose_is_where_the_action_leads(rng: np.random.Generator) -> None:
    given, poses = some_actions(rng, 20), some_poses(rng, 20)
    written = convert(given, CANONICAL, replace(CANONICAL, name="pose", kind="absolute"), poses)
    led = apply_action(np.concatenate([poses, np.zeros((20, 1))], axis=1), given)
    np.testing.assert_allclose(written, led, atol=1e-6)


def test_libero_by_hand() -> None:
    """robosuite: 1 is 0.05 m in the base frame; the hand's z axis points down, the gripper is -1 when open."""
    pose = [0.3, 0.0, 0.1, 0.0, 0.0, np.pi / 2]
    libero = replace(CONTRACTS["libero"], rate_hz=5.0)
    action = convert([0.0, 1.0, 0.0, 0.0, 0.0, 0.2, -1.0], libero, CANONICAL, pose)
    np.testing.assert_allclose(action, [0.05, 0, 0, 0, 0, 0.1, 1.0], atol=1e-6)


def test_base_frame_rotations_compose_from_the_left() -> None:
    pose = [0.3, 0.0, 0.1, 0.0, 0.0, np.pi / 2]
    base = replace(CANONICAL, name="base", frame="base")
    # A turn about the base's x axis is one about minus y of a gripper that stands at +90 degrees.
    action = convert([0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 1.0], base, CANONICAL, pose)
    np.testing.assert_allclose(action[3:6], [0.0, -0.2, 0.0], atol=1e-6)


def test_three_actions_of_15_hz_are_one_of_5_hz(rng: np.random.Generator) -> None:
    fast = replace(CANONICAL, name="fast", rate_hz=15.0)
    given = some_actions(rng, 2, 12)
    slow = convert(given, fast, CANONICAL)
    assert slow.shape == (2, 4, 7)
    pose = np.array([0.3, 0.0, 0.1, 0.1, -0.1, 0.4, 1.0])
    one_by_one, together = pose, pose
    for action in given[0]:
        one_by_one = apply_action(one_by_one, action)
    for action in slow[0]:
        together = apply_action(together, action)
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    assert convert(some_actions(rng, 14), fast, CANONICAL).shape == (4, 7)  # the rest of 14 makes no whole step


def test_splitting_is_undone_by_composing(rng: np.random.Generator) -> None:
    given = some_actions(rng, 50)
    np.testing.assert_allclose(compose(np.repeat(split(given, 4)[:, None], 4, axis=1)), given, atol=1e-9)
    fast = replace(CANONICAL, name="fast base", rate_hz=20.0, frame="base")
    poses = some_poses(rng, 1).repeat(6, axis=0)
    for k in range(5):
        poses[k + 1] = apply_action([*poses[k], 0.0], given[k])[:6]
    written = convert(given[:6], CANONICAL, fast, poses)
    assert written.shape == (24, 7)
    # Base-frame parts simply add up to where each action leads.
    led = np.concatenate([poses[1:], [apply_action([*poses[5], 0.0], given[5])[:6]]])
    np.testing.assert_allclose(written[:, :3].reshape(6, 4, 3).sum(1), led[:, :3] - poses[:, :3], atol=1e-6)


def test_rotation_forms_stand_for_the_same_turn(rng: np.random.Generator) -> None:
    angles = rng.uniform(-0.5, 0.5, (10, 3))
    given = np.concatenate([np.zeros((10, 3)), angles, np.ones((10, 1))], axis=1)
    turn = Rotation.from_euler("xyz", angles)
    expected = {
        "ypr": angles[:, ::-1],
        "rotvec": turn.as_rotvec(),
        "quat_xyzw": turn.as_quat(canonical=True),
        "rot6d": turn.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(10, 6),
    }
    for form, numbers in expected.items():
        contract = ActionContract.from_json({"name": form, "rotation": form})
        np.testing.assert_allclose(convert(given, CANONICAL, contract)[:, 3:-1], numbers, atol=1e-6)


@pytest.mark.parametrize("contract", [*CONTRACTS.values(), *MORE], ids=lambda c: c.name)
def test_json_there_and_back(contract: ActionContract, tmp_path: Path) -> None:
    save_contract(contract, tmp_path / "c.json")
    assert load_contract(tmp_path / "c.json") == contract
    assert json.loads((tmp_path / "c.json").read_text())["name"] == contract.name
    assert contract.summary()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"fram": "base"}, "did you mean 'frame'"),
        ({"frame": "bse"}, "did you mean 'base'"),
        ({"rotation": "rpyy"}, "rotation"),
        ({"rate_hz": 0}, "positive"),
        ({"rate_hz": "5"}, "finite number"),
        ({"gripper_open": 0}, "same number"),
        ({"kind": "joint_position"}, "joints"),
        ({"rotation_rule": "difference"}, "base frame"),
        ({"normalisation": {"kind": "bounds"}}, "'first'"),
        ({"normalisation": {"kind": "bounds", "first": [0], "second": [1]}}, "its actions 7"),
        ({"tool_rpy": [0, 0]}, "three angles"),
        ({"tool_rpy": "up"}, "finite numbers"),
    ],
)
def test_bad_contracts_are_refused(content: dict, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=wanted) as error:
        load_contract(path)
    assert "bad.json" in str(error.value)


def test_what_cannot_be_converted_is_refused(rng: np.random.Generator) -> None:
    given = some_actions(rng, 4)
    with pytest.raises(UserError, match="needs poses"):
        convert(given, CONTRACTS["bridge-rlds"], CANONICAL)
    with pytest.raises(UserError, match="one per action"):
        convert(given, CONTRACTS["bridge-rlds"], CANONICAL, np.zeros((5, 6)))
    with pytest.raises(UserError, match="7 numbers"):
        convert(given[:, :6], CANONICAL, CONTRACTS["irasim-x20"])
    with pytest.raises(UserError, match="resample"):
        convert(given, replace(CANONICAL, rate_hz=4.0), CANONICAL)
    with pytest.raises(UserError, match="kinematics"):
        convert(np.zeros((4, 8)), CONTRACTS["openpi-droid"], CANONICAL)
    with pytest.raises(UserError, match="did you mean 'irasim-x20'"):
        load_contract("irasim-x2")


def test_contracts_of_models_and_data(real_data: Path) -> None:
    from wfm_sim.data import open_dataset
    from wfm_sim.models import load

    assert contract_of(load("nano-tabletop")) == CANONICAL
    octo = open_dataset(real_data / "bridge_octo")
    assert contract_of(octo) == CANONICAL and stored_contract(octo).name == "bridge-rlds"
    assert stored_contract(open_dataset(real_data / "bridge_worldgym")).name == "worldgym"
    with pytest.raises(UserError, match="has none"):
        contract_of(3)
