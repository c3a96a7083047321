"""Conversions between action conventions, against hand-computed rotations and each other."""

import numpy as np
import pytest

from wfm_sim.actions import (
    CANONICAL,
    COSMOS_BRIDGE,
    RLDS_BRIDGE,
    WORLDGYM,
    ActionConvention,
    Workspace,
    actions_from_states,
    apply_action,
    convert,
    dead_reckoning,
    executed_action,
)
from wfm_sim.errors import UserError

CONVENTIONS = (CANONICAL, COSMOS_BRIDGE, RLDS_BRIDGE, WORLDGYM)


def random_states(rng: np.random.Generator, count: int) -> np.ndarray:
    low, high = [0.2, -0.1, 0.0, -0.5, -0.5, -3.0, 0.0], [0.4, 0.1, 0.2, 0.5, 0.5, 3.0, 1.0]
    return rng.uniform(low, high, (count, 7))


@pytest.mark.parametrize("src", CONVENTIONS, ids=lambda c: c.name)
@pytest.mark.parametrize("dst", CONVENTIONS, ids=lambda c: c.name)
def test_there_and_back_again(src: ActionConvention, dst: ActionConvention, rng: np.random.Generator) -> None:
    states = random_states(rng, 50)
    canonical = rng.uniform([-0.05] * 3 + [-0.25] * 3 + [0.0], [0.05] * 3 + [0.25] * 3 + [1.0], (50, 7))
    written = convert(canonical, CANONICAL, src, states)
    back = convert(convert(written, src, dst, states), dst, CANONICAL, states)
    np.testing.assert_allclose(back, canonical, atol=2e-6)


def test_a_quarter_turn_by_hand() -> None:
    """A gripper turned by +90 degrees about z: its own x points along the base's y."""
    state = [[0.3, 0.0, 0.1, 0.0, 0.0, np.pi / 2, 1.0]]
    base = [[0.0, 0.02, -0.01, 0.0, 0.0, 0.1, 0.0]]
    gripper = convert(base, RLDS_BRIDGE, CANONICAL, state)
    np.testing.assert_allclose(gripper, [[0.02, 0.0, -0.01, 0.0, 0.0, 0.1, 0.0]], atol=1e-7)
    np.testing.assert_allclose(convert(gripper, CANONICAL, RLDS_BRIDGE, state), base, atol=1e-7)


def test_turning_across_pi_stays_small() -> None:
    state = [[0.3, 0.0, 0.1, 0.0, 0.0, 3.1, 1.0]]
    turned = convert([[0.0] * 5 + [0.1, 1.0]], CANONICAL, RLDS_BRIDGE, state)
    np.testing.assert_allclose(turned[0, 5], 0.1, atol=1e-6)


def test_scales_and_gripper_senses_by_hand() -> None:
    action = [0.01, -0.02, 0.0, 0.1, 0.0, -0.05, 1.0]
    np.testing.assert_allclose(convert(action, CANONICAL, COSMOS_BRIDGE), [0.2, -0.4, 0, 2, 0, -1, 0], atol=1e-6)
    level = np.zeros(7)
    np.testing.assert_allclose(
        convert(action, CANONICAL, WORLDGYM, level)[[0, 1, 6]], [0.01 * 35, -0.02 * 35, -1.0], atol=1e-6
    )
    for convention, opened, closed in (
        (CANONICAL, 1, 0),
        (COSMOS_BRIDGE, 0, 1),
        (WORLDGYM, -1, 1),
        (RLDS_BRIDGE, 1, 0),
    ):
        for stored, opening in ((opened, 1.0), (closed, 0.0)):
            assert convert([0.0] * 6 + [stored], convention, CANONICAL, level)[6] == opening


def test_actions_from_states_are_what_apply_action_undoes(rng: np.random.Generator) -> None:
    states = random_states(rng, 30)
    actions = actions_from_states(states)
    led = apply_action(states[:-1], actions)
    np.testing.assert_allclose(led[:, :3], states[1:, :3], atol=1e-6)
    turn = np.abs(led[:, 3:6] - states[1:, 3:6])
    np.testing.assert_allclose(np.minimum(turn, 2 * np.pi - turn), 0, atol=1e-5)
    np.testing.assert_allclose(led[:, 6], states[1:, 6], atol=1e-6)
    commands = np.ones(29)
    assert (actions_from_states(states, gripper=commands)[:, 6] == 1).all()
    assert actions_from_states(states[:1]).shape == (0, 7)


def test_the_cosmos_training_formula(rng: np.random.Generator) -> None:
    """a[:3] = R_k-1^T (p_k - p_k-1), R = Rz(yaw) Ry(pitch) Rx(roll), times 20, the gripper 1 = closed at k."""

    def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
        cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
        rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        return rz @ ry @ rx

    states = random_states(rng, 8)
    actions = convert(actions_from_states(states), CANONICAL, COSMOS_BRIDGE)
    for k in range(1, 8):
        before = rotation(*states[k - 1, 3:6])
        np.testing.assert_allclose(actions[k - 1, :3], 20 * before.T @ (states[k, :3] - states[k - 1, :3]), atol=1e-5)
        turned = rotation(*(actions[k - 1, 3:6] / 20))
        np.testing.assert_allclose(turned, before.T @ rotation(*states[k, 3:6]), atol=1e-5)
        np.testing.assert_allclose(actions[k - 1, 6], 1 - states[k, 6], atol=1e-6)


def test_what_cannot_be_converted_is_refused() -> None:
    actions = np.zeros((4, 7))
    with pytest.raises(UserError, match="needs states"):
        convert(actions, RLDS_BRIDGE, CANONICAL)
    with pytest.raises(UserError, match="one pose per action"):
        convert(actions, RLDS_BRIDGE, CANONICAL, np.zeros((5, 7)))
    with pytest.raises(UserError, match="expected"):
        convert(np.zeros((4, 6)), CANONICAL, COSMOS_BRIDGE)
    slow = ActionConvention("slow", "gripper", 1.0, 1.0, "1=open", 4.0)
    with pytest.raises(UserError, match="resample"):
        convert(actions, slow, CANONICAL)


def test_dead_reckoning_is_the_way_between_the_poses(rng: np.random.Generator) -> None:
    """From any pose: going along the reckoned pose leads where the actions lead one by one."""
    pose = random_states(rng, 4)
    actions = rng.uniform([-0.05] * 3 + [-0.25] * 3 + [0.0], [0.05] * 3 + [0.25] * 3 + [1.0], (4, 6, 7))
    reckoned = dead_reckoning(actions)
    assert reckoned.shape == (4, 7, 7) and not reckoned[:, 0].any()
    step_by_step = pose
    for k in range(6):
        step_by_step = apply_action(step_by_step, actions[:, k])
        assert np.allclose(apply_action(pose, reckoned[:, k + 1]), step_by_step, atol=1e-9)


def test_executed_actions_lead_where_the_clipped_command_leads(rng: np.random.Generator) -> None:
    workspace = Workspace(low=(0.2, -0.1, 0.0, -0.5, -0.5, -3.0), high=(0.4, 0.1, 0.2, 0.5, 0.5, 3.0))
    pose = random_states(rng, 200)
    action = rng.uniform([-0.05] * 3 + [-0.25] * 3 + [0.0], [0.05] * 3 + [0.25] * 3 + [1.0], (200, 7)).astype(
        np.float32
    )
    executed, leads_to = executed_action(pose, action, workspace)
    held = apply_action(pose, action, workspace)
    assert np.array_equal(leads_to, held)
    assert np.allclose(apply_action(pose, executed), held, atol=1e-6)
    free = np.isclose(held, apply_action(pose, action)).all(axis=1)
    assert 0 < free.sum() < 200 and np.array_equal(executed[free], action[free])
    assert np.abs(executed[~free] - action[~free]).max() > 1e-3
