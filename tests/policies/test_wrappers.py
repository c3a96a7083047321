"""Converted: a policy written in any contract acts as the canonical one that it stands for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wfm_sim.action_contract import CANONICAL, CONTRACTS, ActionContract
from wfm_sim.actions import apply_action
from wfm_sim.assets.tabletop import WORKSPACE, layout_of, sample_scene
from wfm_sim.errors import UserError
from wfm_sim.policies.base import Policy
from wfm_sim.policies.scripted import ScriptedExpert
from wfm_sim.policies.wrappers import Converted

SEEDS = [3, 4, 5]


def rollout(policy: Policy, steps: int = 12, seeds: list[int] = SEEDS) -> tuple[np.ndarray, np.ndarray]:
    """Actions [steps, B, 7] and commanded poses [steps + 1, B, 7], without physics."""
    layouts = [layout_of(sample_scene(seed)) for seed in seeds]
    info: dict[str, Any] = {"layout": {key: np.stack([layout[key] for layout in layouts]) for key in layouts[0]}}
    policy.reset(info, seeds)
    poses, actions = [info["layout"]["start"].astype(np.float64)], []
    for _ in range(steps):
        actions.append(policy.act({"agent_pos": poses[-1].astype(np.float32)}))
        poses.append(apply_action(poses[-1], actions[-1], WORKSPACE))
    return np.stack(actions), np.stack(poses)


@pytest.mark.parametrize("name", ["irasim-x20", "bridge-rlds", "worldgym", "libero", "droid-pose"])
def test_written_in_a_contract_and_mended_it_is_itself(name: str) -> None:
    contract = replace(CONTRACTS[name], rate_hz=5.0)
    plain, _ = rollout(ScriptedExpert(0.1))
    mended, _ = rollout(Converted(Converted(ScriptedExpert(0.1), CANONICAL, contract), contract))
    np.testing.assert_allclose(mended, plain, atol=1e-4)


def fast(policy: Policy) -> Converted:
    """A policy that writes thirds of its displacements, as one of 15 Hz would."""
    return Converted(policy, CANONICAL, replace(CANONICAL, name="fast", rate_hz=15.0))


def test_a_slower_policy_is_spread_over_steps() -> None:
    written, poses = rollout(fast(ScriptedExpert()), steps=9)
    assert np.array_equal(written[0], written[2]) and not np.array_equal(written[2], written[3])
    plain, whole = rollout(ScriptedExpert(), steps=1)
    np.testing.assert_allclose(poses[3], whole[1], atol=1e-6)
    np.testing.assert_allclose(written[0, :, :6] * 3, plain[0, :, :6], atol=5e-3)


def test_a_faster_policy_is_asked_several_times() -> None:
    plain, _ = rollout(ScriptedExpert())
    mended, _ = rollout(Converted(fast(ScriptedExpert()), replace(CANONICAL, rate_hz=15.0)))
    np.testing.assert_allclose(mended, plain, atol=1e-5)


def test_rows_do_not_know_each_other() -> None:
    together, _ = rollout(fast(ScriptedExpert(0.2)))
    for row, seed in enumerate(SEEDS):
        alone, _ = rollout(fast(ScriptedExpert(0.2)), seeds=[seed])
        np.testing.assert_array_equal(alone[:, 0], together[:, row])


def test_what_cannot_be_mended_is_refused_at_once() -> None:
    joints = ActionContract("arm", kind="joint_position", joints=7)
    with pytest.raises(UserError, match="kinematics"):
        Converted(ScriptedExpert(), joints)
    with pytest.raises(UserError, match="resample"):
        Converted(ScriptedExpert(), replace(CANONICAL, rate_hz=7.0))
