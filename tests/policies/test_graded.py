"""Experts with graded flaws: names are read, sizes mean what they say, and flawless ones are the old experts."""

import sys
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW
from wfm_sim.errors import UserError
from wfm_sim.policies.graded import RANGES, Flaws, GradedExpert, expert_name, parse_expert
from wfm_sim.policies.scripted import ScriptedExpert

sys.path.insert(0, str(Path(__file__).parent))
from dead_reckoning import batched_info, dead_reckon

SEEDS = list(range(8))  # hold all three tasks
AMOUNTS = {
    "noise": 0.2,
    "offset": 0.03,
    "wrong_height": 0.02,
    "late": 4.0,
    "early": 2.0,
    "slow": 0.5,
    "wrong_object": 1.0,
    "never_close": 1.0,
}


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("expert-noise0.3", ScriptedExpert(0.3)),
        ("expert-wrong_object1", ScriptedExpert(flaw="wrong_object")),
        ("expert-noise0.1-never_close1", ScriptedExpert(0.1, flaw="never_close")),
        ("expert-noise0.1-early_open", ScriptedExpert(0.1, flaw="early_open")),
        ("expert-flawed", ScriptedExpert(flaw="random")),
        ("expert-noise0.4-slow1", ScriptedExpert(0.4)),
        ("expert-late0-early0-offset0", ScriptedExpert()),
    ],
)
def test_names_that_mean_the_old_experts(name: str, same: ScriptedExpert) -> None:
    np.testing.assert_array_equal(dead_reckon(parse_expert(name), SEEDS, 28)[0], dead_reckon(same, SEEDS, 28)[0])


def test_every_flaw_has_a_test_here() -> None:
    assert AMOUNTS.keys() == RANGES.keys()


@pytest.mark.parametrize("flaw", AMOUNTS)
def test_each_flaw_changes_the_actions_and_is_deterministic(flaw: str) -> None:
    name = f"expert-{flaw}{AMOUNTS[flaw]:g}"
    policy = parse_expert(name)
    assert policy.name == name and parse_expert(policy.name).name == name
    actions, _ = dead_reckon(policy, SEEDS, 28)
    assert (actions >= ACTION_LOW).all() and (actions <= ACTION_HIGH).all() and actions.dtype == np.float32
    flawless, _ = dead_reckon(ScriptedExpert(), SEEDS, 28)
    assert (np.abs(actions - flawless).max(axis=(0, 2)) > 0.004).all()
    np.testing.assert_array_equal(actions, dead_reckon(parse_expert(name), SEEDS, 28)[0])
    alone, _ = dead_reckon(parse_expert(name), SEEDS[3:4], 28)
    np.testing.assert_array_equal(actions[:, 3], alone[:, 0])


def test_flaws_go_together_in_any_order() -> None:
    one, other = parse_expert("expert-noise0.1-late3-slow0.8"), parse_expert("expert-slow.80-late3-noise0.1")
    assert one.name == other.name == "expert-noise0.1-late3-slow0.8"
    np.testing.assert_array_equal(dead_reckon(one, SEEDS, 20)[0], dead_reckon(other, SEEDS, 20)[0])


def lowest(name: str, task: str) -> np.ndarray:
    """Poses [B, 7] where the gripper is lowest."""
    _, poses = dead_reckon(parse_expert(name), SEEDS, 32, task)
    return poses[poses[:, :, 2].argmin(axis=0), np.arange(len(SEEDS))]


def test_offset_and_height_have_the_size_they_say() -> None:
    target = batched_info(SEEDS, "pick")["layout"]["target"]
    for name, aside, up in (
        ("expert", 0.0, 0.0),
        ("expert-offset0.02", 0.02, 0.0),
        ("expert-wrong_height0.03", 0, 0.03),
    ):
        pose = lowest(name, "pick")
        np.testing.assert_allclose(np.hypot(*(pose - np.pad(target, ((0, 0), (0, 3))))[:, :2].T), aside, atol=0.006)
        np.testing.assert_allclose(pose[:, 2], np.maximum(target[:, 2] + up, 0.022), atol=0.006)


def closing(name: str, task: str = "pick") -> tuple[np.ndarray, np.ndarray]:
    """First step at which each row's gripper is closed, and how often it is."""
    closed = dead_reckon(parse_expert(name), SEEDS, 40, task)[0][:, :, 6] < 0.5
    return closed.argmax(axis=0), closed.sum(axis=0)


def test_late_delays_the_grasp_by_as_many_steps() -> None:
    begins, _ = closing("expert")
    np.testing.assert_array_equal(closing("expert-late3")[0], begins + 3)
    by = closing("expert-late2.5")[0] - begins
    assert set(by) == {2, 3}


def test_early_shortens_the_hold_more_and_more() -> None:
    for task in ("place", "push"):
        held = []
        for early in (0, 1, 2, 4):
            actions, poses = dead_reckon(parse_expert(f"expert-early{early}"), SEEDS, 40, task)
            closed = np.append(actions[:, :, 6] < 0.5, np.zeros((1, len(SEEDS)), bool), axis=0)
            goal = batched_info(SEEDS, task)["layout"]["goal"]
            last = len(closed) - 1 - closed[::-1].argmax(axis=0)
            held.append(np.linalg.norm(poses[last, np.arange(len(SEEDS)), :2] - goal[:, :2], axis=1).mean())
        assert held == sorted(held) and held[-1] > held[0] + 0.03, (task, held)


def test_slow_takes_longer_in_proportion() -> None:
    fast, slow = closing("expert")[0], closing("expert-slow0.5")[0]
    assert np.all(np.abs(slow - 2 * fast) <= 4) and np.all(slow > fast + 2)


@pytest.mark.parametrize("flaw", ["wrong_object", "never_close"])
def test_probabilities_are_met_and_nested(flaw: str) -> None:
    seeds = list(range(200))
    flawless, _ = dead_reckon(ScriptedExpert(), seeds[:1], 8, "pick", scene=0)
    changed = {}
    for p in (0.2, 0.5):
        actions, _ = dead_reckon(parse_expert(f"expert-{flaw}{p}"), seeds, 8, "pick", scene=0)
        changed[p] = (actions != flawless).any(axis=(0, 2))
        assert abs(changed[p].mean() - p) < 0.1
    assert (changed[0.2] <= changed[0.5]).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("expert-nois0.3", "did you mean 'noise0.3'"),
        ("expert-ofset", "did you mean 'offset'"),
        ("expert-late", "'late' needs an amount, 0 to 32 steps"),
        ("expert-offset3", "offset must be 0 to 0.2 metres, not 3"),
        ("expert-slow0", "slow must be 0.05 to 1"),
        ("expert-late1-late2", "'late' twice"),
        ("expert-offset-late1", "goes with noise alone"),
        ("expert-", "unknown flaw ''"),
        ("expert-noise-0.3", "'noise' needs an amount"),
        ("exper-noise0.3", "unknown policy"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_expert(name)


def test_bad_amounts() -> None:
    with pytest.raises(UserError, match="wrong_object"):
        Flaws(wrong_object=float("nan"))
    assert expert_name(Flaws()) == "expert" and GradedExpert(Flaws(late=2)).name == "expert-late2"
