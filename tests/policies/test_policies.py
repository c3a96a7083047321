"""Scripted, random and zero policies: the contract, the rows' independence, and what flaws and noise do."""

from typing import Any

import numpy as np
import pytest

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, apply_action
from wfm_sim.assets import tabletop
from wfm_sim.assets.tabletop import WORKSPACE, layout_of, sample_scene
from wfm_sim.errors import UserError
from wfm_sim.policies.base import Policy, batch_of_one
from wfm_sim.policies.scripted import FLAWS, TASKS, ScriptedExpert
from wfm_sim.policies.simple import WANDER, RandomPolicy, ZeroPolicy

POLICIES = [
    ZeroPolicy,
    RandomPolicy,
    ScriptedExpert,
    lambda: ScriptedExpert(0.3),
    lambda: ScriptedExpert(flaw="random"),
]


def batched_info(seeds: list[int]) -> dict[str, Any]:
    layouts = [layout_of(sample_scene(seed)) for seed in seeds]
    return {"layout": {key: np.stack([layout[key] for layout in layouts]) for key in layouts[0]}}


def dead_reckon(policy: Policy, seeds: list[int], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions [steps, B, 7] and commanded poses [steps + 1, B, 7], without any physics."""
    info = batched_info(seeds)
    policy.reset(info, seeds)
    poses, actions = [info["layout"]["start"].astype(np.float64)], []
    for _ in range(steps):
        actions.append(policy.act({"agent_pos": poses[-1].astype(np.float32)}))
        poses.append(apply_action(poses[-1], actions[-1], WORKSPACE))
    return np.stack(actions), np.stack(poses)


@pytest.mark.parametrize("make", POLICIES)
def test_contract_and_rows_are_independent(make: Any) -> None:
    assert isinstance(make(), Policy)
    together, _ = dead_reckon(make(), [3, 4, 5], 20)
    assert together.shape == (20, 3, 7) and together.dtype == np.float32
    assert (together >= ACTION_LOW).all() and (together <= ACTION_HIGH).all()
    for row, seed in enumerate([3, 4, 5]):
        alone, _ = dead_reckon(make(), [seed], 20)
        np.testing.assert_array_equal(alone[:, 0], together[:, row])


def test_mask_restarts_only_the_chosen_rows() -> None:
    info, poses = batched_info([1, 2]), batched_info([1, 2])["layout"]["start"]
    policy, kept = RandomPolicy(), RandomPolicy()
    for each in (policy, kept):
        each.reset(info, [1, 2])
        first = each.act({"agent_pos": poses})
    policy.reset(info, [1, 2], mask=np.array([False, True]))
    masked, going_on = policy.act({"agent_pos": poses}), kept.act({"agent_pos": poses})
    np.testing.assert_array_equal(masked[0], going_on[0])
    np.testing.assert_array_equal(masked[1], first[1])
    assert (masked[1] != going_on[1]).any()


def test_zero_keeps_the_gripper() -> None:
    action = ZeroPolicy().act({"agent_pos": np.array([[0.3, 0, 0.1, 0, 0, 0.1, 0.0]])})
    np.testing.assert_array_equal(action, np.zeros((1, 7)))


def test_random_wanders_over_the_table_within_the_workspace() -> None:
    assert (np.array(WANDER.low) >= WORKSPACE.low).all() and (np.array(WANDER.high) <= WORKSPACE.high).all()
    actions, poses = dead_reckon(RandomPolicy(), list(range(10)), 32)
    low, high = poses[..., :3].min(axis=(0, 1)), poses[..., :3].max(axis=(0, 1))
    assert (high - low)[:2].min() > 0.15 and low[2] < 0.03
    before, after = actions[:-1, :, :2].ravel(), actions[1:, :, :2].ravel()
    assert np.corrcoef(before, after)[0, 1] > 0.4


def test_expert_shares_its_tasks_with_the_scene() -> None:
    assert TASKS == tabletop.TASKS


@pytest.mark.parametrize("flaw", sorted(FLAWS))
def test_every_flaw_changes_the_plan(flaw: str) -> None:
    # Seeds 0..5 hold all three tasks.
    seeds = list(range(6))
    flawless, _ = dead_reckon(ScriptedExpert(), seeds, 24)
    flawed, _ = dead_reckon(ScriptedExpert(flaw=flaw), seeds, 24)
    changed = np.abs(flawed - flawless).max(axis=(0, 2)) > 0.01
    assert changed.all()


def test_noise_has_the_size_it_says() -> None:
    exact, noisy = ScriptedExpert(), ScriptedExpert(noise=0.1)
    seeds = list(range(300))
    info = batched_info([0] * 300)
    # Half-way through nothing: the first action from the start pose, the same for all rows but for the noise.
    exact.reset(info, seeds), noisy.reset(info, seeds)
    observation = {"agent_pos": info["layout"]["start"]}
    difference = (noisy.act(observation) - exact.act(observation))[:, [0, 1, 3, 4]]
    np.testing.assert_allclose(difference.std(axis=0), 0.1 * ACTION_HIGH[[0, 1, 3, 4]], rtol=0.25)


def test_batch_of_one() -> None:
    batch = batch_of_one({"a": 3, "b": {"c": np.zeros(4)}, "d": "text"})
    assert batch["a"].shape == (1,) and batch["b"]["c"].shape == (1, 4) and batch["d"][0] == "text"


def test_bad_input() -> None:
    with pytest.raises(UserError, match="did you mean 'never_close'"):
        ScriptedExpert(flaw="never_clos")
    with pytest.raises(UserError, match="noise"):
        ScriptedExpert(noise=-1)
    with pytest.raises(UserError, match="reset"):
        ScriptedExpert().act({"agent_pos": np.zeros((1, 7))})
