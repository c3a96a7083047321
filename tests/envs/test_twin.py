"""The physics twin: determinism, the action convention, tasks, views, snapshots and bad input."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, apply_action
from wfm_sim.assets.tabletop import PALETTE, TASKS, WORKSPACE
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.errors import UserError
from wfm_sim.policies.base import batch_of_one
from wfm_sim.policies.scripted import ScriptedExpert


@pytest.fixture(scope="module")
def env() -> Any:
    env = TabletopMuJoCoEnv(terminate_on_success=False)
    yield env
    env.close()


def rollout(env: Any, seed: int, steps: int = 8) -> np.ndarray:
    """The frames of an episode of random actions that touches things: uint8 [steps + 1, H, W, 3]."""
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    frames = [observation["pixels"]]
    for _ in range(steps):
        action = rng.uniform(ACTION_LOW, ACTION_HIGH).astype(np.float32)
        action[2] = -0.03
        frames.append(env.step(action)[0]["pixels"])
    return np.stack(frames)


def test_check_env() -> None:
    check_env(gym.make("wfm_sim/TabletopMuJoCo-v0", render_mode="rgb_array").unwrapped)


def test_same_seed_and_actions_give_the_same_frames_after_other_episodes_and_in_another_env(env: Any) -> None:
    first = rollout(env, 5)
    rollout(env, 6)
    np.testing.assert_array_equal(rollout(env, 5), first)
    other = TabletopMuJoCoEnv()
    np.testing.assert_array_equal(rollout(other, 5), first)
    other.close()
    assert (first[0] != first[-1]).any() and (rollout(env, 6)[0] != first[0]).any()


def test_reset_without_seed_continues_the_generator_and_reports_the_scene_it_drew(env: Any) -> None:
    env.reset(seed=1)
    first, info = env.reset()
    assert info["scene_seed"] != 1
    again, _ = env.reset(seed=info["scene_seed"])
    np.testing.assert_array_equal(first["pixels"], again["pixels"])


@pytest.mark.parametrize("axis", range(6))
def test_actions_move_the_gripper_as_commanded_in_its_own_frame(env: Any, axis: int) -> None:
    observation, info = env.reset(seed=2)
    pose = observation["agent_pos"].astype(np.float64)
    assert abs(pose[5]) > 0.02  # turned, so that the gripper's frame is not the base's
    action = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    action[axis] = 0.04 * (-1 if axis == 2 else 1)
    for _ in range(2):
        pose = apply_action(pose, action, WORKSPACE)
        observation, *_, info = env.step(action)
    np.testing.assert_allclose(observation["agent_pos"], pose, atol=1e-5)
    np.testing.assert_allclose(info["measured_pose"][:3], pose[:3], atol=0.003)
    np.testing.assert_allclose(info["measured_pose"][3:6], pose[3:6], atol=0.02)
    assert info["measured_pose"][6] > 0.95


def test_gripper_one_is_open_and_zero_is_closed(env: Any) -> None:
    env.reset(seed=2)
    for command in (0.0, 1.0):
        for _ in range(2):
            *_, info = env.step(np.array([0, 0, 0, 0, 0, 0, command], np.float32))
        assert abs(info["measured_pose"][6] - command) < 0.05


def test_gripper_moves_to_the_right_in_the_frame_when_its_y_says_so(env: Any) -> None:
    # The camera looks back at the robot, so the base's +y (left of the robot) is to the right of the picture.
    observation, _ = env.reset(seed=2)
    columns = []
    for _ in range(4):
        dark = observation["pixels"][8:40].max(axis=-1) < 40
        columns.append(float(np.nonzero(dark)[1].mean()))
        observation, *_ = env.step(np.array([0, 0.03, 0, 0, 0, 0, 1], np.float32))
    assert columns[-1] > columns[0] + 3


@pytest.mark.parametrize("task", TASKS)
def test_experts_succeed_and_the_reward_adds_up(task: str) -> None:
    env = TabletopMuJoCoEnv(task=task)
    expert, successes, lengths = ScriptedExpert(), 0, []
    for seed in range(100, 108):
        observation, info = env.reset(seed=seed)
        assert info["instruction"] == env.task_description and info["target_colour"] in info["instruction"]
        start, total, done, steps = info["progress"], 0.0, False, 0
        expert.reset(batch_of_one(info), [seed])
        while not done:
            observation, reward, terminated, truncated, info = env.step(expert.act(batch_of_one(observation))[0])
            total, steps, done = total + reward, steps + 1, terminated or truncated
            assert 0.0 <= info["progress"] <= 1.0
        assert total == pytest.approx(info["progress"] - start + info["is_success"])
        successes += info["is_success"]
        lengths.append(steps)
    env.close()
    assert successes >= 6
    assert np.median(lengths) <= 20


def test_standing_still_is_no_success_and_is_truncated(env: Any) -> None:
    for task in TASKS:
        _, info = env.reset(seed=9, options={"task": task})
        assert info["task"] == task
        for step in range(1, 33):
            _, _, terminated, truncated, info = env.step(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
            assert not terminated and not info["is_success"]
            assert truncated == (step >= 32)


def test_object_views_agree_with_the_rendered_colours(env: Any) -> None:
    names, table = list(PALETTE), np.array(list(PALETTE.values()))
    seen = 0
    for seed in range(12):
        observation, _ = env.reset(seed=seed)
        views = env.object_views()
        assert [view.colour for view in views] == [block.colour for block in env.scene.blocks]
        for view in views:
            if view.visible_area < 30:
                continue
            x, y = round(view.centroid[0]), round(view.centroid[1])
            pixel = observation["pixels"][y, x].astype(float)
            # Lighting changes brightness, not hue: compare directions.
            nearest = names[int(np.argmax(table @ pixel / np.linalg.norm(table, axis=1)))]
            assert nearest == view.colour, (seed, view, pixel)
            seen += 1
    assert seen >= 20


def test_a_block_that_is_moved_moves_in_its_view(env: Any) -> None:
    observation, info = env.reset(seed=4, options={"task": "push"})
    before = env.object_views()[0]
    expert = ScriptedExpert()
    expert.reset(batch_of_one(info), [4])
    for _ in range(16):
        observation, *_ = env.step(expert.act(batch_of_one(observation))[0])
    after = env.object_views()[0]
    assert np.hypot(*np.subtract(after.centroid, before.centroid)) > 5
    assert np.hypot(*np.subtract(after.position, before.position)[:2]) > 0.05


def test_restore_replays_to_the_bit_also_after_another_scene(env: Any) -> None:
    rollout(env, 3, steps=6)
    moment = env.snapshot()
    rng = np.random.default_rng(0)
    actions = rng.uniform(ACTION_LOW, ACTION_HIGH, (5, 7)).astype(np.float32)
    first = [env.step(action) for action in actions]
    env.reset(seed=99)
    env.restore(moment)
    for action, (observation, reward, *_) in zip(actions, first, strict=True):
        again, reward_again, *_ = env.step(action)
        np.testing.assert_array_equal(again["pixels"], observation["pixels"])
        assert reward_again == reward


def test_render_and_frame_sizes() -> None:
    env = TabletopMuJoCoEnv(image_size=96, render_mode="rgb_array", render_size=240)
    observation, _ = env.reset(seed=0)
    assert observation["pixels"].shape == (96, 96, 3)
    big = env.render()
    assert big is not None and big.shape == (240, 240, 3)
    np.testing.assert_array_equal(env.reset(seed=0)[0]["pixels"], observation["pixels"])
    env.close()


def test_bad_input() -> None:
    with pytest.raises(UserError, match="did you mean 'place'"):
        TabletopMuJoCoEnv(task="plaec")
    with pytest.raises(UserError, match="image_size must be 64"):
        TabletopMuJoCoEnv(image_size=32)
    with pytest.raises(UserError, match="render_mode"):
        TabletopMuJoCoEnv(render_mode="human")
    env = TabletopMuJoCoEnv()
    with pytest.raises(UserError, match="reset"):
        env.step(np.zeros(7))
    env.reset(seed=0)
    with pytest.raises(UserError, match="finite"):
        env.step(np.array([0, 0, np.nan, 0, 0, 0, 1]))
    with pytest.raises(UserError, match="shape"):
        env.step(np.zeros(6))
    with pytest.raises(UserError, match="numbers"):
        env.step("left")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown task"):
        env.reset(seed=0, options={"task": "juggle"})
    env.close()


def test_an_episode_without_frames_is_the_same_episode(env: Any) -> None:
    policy, told = ScriptedExpert(noise=0.2), []
    assert not policy.uses_pixels
    for draws in (True, False):
        observation, info = env.reset(seed=11, options={"task": "push", "pixels": draws})
        policy.reset(batch_of_one(info), [11])
        rows = []
        for _ in range(12):
            action = policy.act(batch_of_one(observation))[0]
            observation, reward, _, _, info = env.step(action)
            rows.append([*action, reward, info["progress"], *info["measured_pose"]])
        told.append(rows)
        assert observation["pixels"].any() == draws
    assert told[0] == told[1]
    assert env.reset(seed=11)[0]["pixels"].any()
