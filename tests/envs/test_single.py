"""One imagined episode: starts, steps, chunks, snapshots, errors, video."""

import gymnasium as gym
import numpy as np
import pytest
from env_worlds import world_kwargs
from standin import StandInJudge, StandInModel

from wfm_sim.actions import ACTION_HIGH, apply_action
from wfm_sim.assets.tabletop import WORKSPACE
from wfm_sim.errors import UserError

TABLETOP, ACTION_WORLD = "wfm_sim/Tabletop-v0", "wfm_sim/ActionWorld-v0"


def random_actions(env, n, seed=0):
    env.action_space.seed(seed)
    return np.stack([env.action_space.sample() for _ in range(n)])


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_starts_as_the_twin_does(env_id, world, make_env):
    env, twin = make_env(env_id, **world), make_env("wfm_sim/TabletopMuJoCo-v0")
    for seed in (0, 7, None):  # the unseeded reset after seed 7 draws the same scene in both
        obs, info = env.reset(seed=seed)
        expected, twin_info = twin.reset(seed=seed)
        assert equal(obs, expected)
        for key in ("task", "target_colour", "instruction", "scene_seed"):
            assert info[key] == twin_info[key]
        assert info["layout"]["task"] == twin_info["layout"]["task"]
        for key in ("target", "goal", "start"):
            assert np.array_equal(info["layout"][key], twin_info["layout"][key])
        assert info["is_success"] is False
        assert env.unwrapped.task_description == info["instruction"]


def test_a_reset_can_ask_for_another_task(world, make_env):
    env = make_env(TABLETOP, **world)
    _, push = env.reset(seed=3)
    _, place = env.reset(seed=3, options={"task": "place"})
    assert (push["task"], place["task"]) == ("push", "place")
    assert "plate" in place["instruction"]


def test_pose_is_dead_reckoned(world, make_env):
    env = make_env(TABLETOP, **world, terminate_on_success=False)
    obs, _ = env.reset(seed=1)
    pose = obs["agent_pos"].astype(np.float64)
    for action in random_actions(env, 6):
        obs, *_ = env.step(action)
        pose = apply_action(pose, action, WORKSPACE)
        np.testing.assert_allclose(obs["agent_pos"], pose, atol=1e-5)


def test_actions_drive_the_frames_and_are_clipped(world, make_env):
    env = make_env(TABLETOP, **world)
    frames = {}
    for name, action in (("up", ACTION_HIGH), ("beyond", ACTION_HIGH * 10), ("down", -ACTION_HIGH)):
        env.reset(seed=0)
        for _ in range(2):
            frames[name] = env.step(action)[0]["pixels"]
    assert np.array_equal(frames["up"], frames["beyond"])
    assert not np.array_equal(frames["up"], frames["down"])


def test_success_needs_two_frames_and_ends_the_episode(make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"))
    env.reset(seed=5)  # judged a success from clock 3 + 5 % 4 = 4 on
    previous = 0.0
    for clock in range(1, 6):
        _, reward, terminated, truncated, info = env.step(np.zeros(7, np.float32))
        success = clock == 5
        progress = 1.0 if success else clock / 10
        assert (terminated, truncated, info["is_success"]) == (success, False, success)
        assert info["progress"] == progress
        assert reward == pytest.approx(progress - previous + success)
        previous = progress
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(7, np.float32))


def test_truncation_and_no_termination(make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"), terminate_on_success=False)
    env.reset(seed=0)
    ends = [env.step(np.zeros(7, np.float32))[2:4] for _ in range(32)]
    assert ends == [(False, False)] * 31 + [(False, True)]


def test_chunk_is_the_single_steps(world, make_env):
    env = make_env(TABLETOP, **world, terminate_on_success=False)
    actions = random_actions(env, 6)
    env.reset(seed=2)
    singles = [env.step(action) for action in actions]
    env.reset(seed=2)
    obs, rewards, terminated, truncated, info = env.unwrapped.step_chunk(actions)
    assert obs["pixels"].shape == (6, 64, 64, 3) and obs["agent_pos"].shape == (6, 7)
    for t, single in enumerate(singles):
        assert equal({key: value[t] for key, value in obs.items()}, single[0])
        assert (rewards[t], terminated[t], truncated[t]) == single[1:4]
    assert info == {**singles[-1][4], "steps": 6, "layout": info["layout"]}


def test_chunk_stops_where_the_episode_ends(make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"))
    env.reset(seed=0)  # succeeds on frames 3 and 4: ends at step 4
    obs, rewards, terminated, truncated, info = env.unwrapped.step_chunk(random_actions(env, 7))
    assert terminated.tolist() == [False] * 3 + [True] * 4 and not truncated.any()
    assert info["steps"] == 4 and rewards[3] > 1 and not rewards[4:].any()
    for value in obs.values():
        assert all(np.array_equal(value[3], later) for later in value[4:])
    assert env.unwrapped.world.model.step_rows == [1] * 4  # nothing was imagined past the end
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step_chunk(random_actions(env, 1))


def test_models_of_several_frames_per_step_take_chunks(make_env):
    kwargs = {"world_model": StandInModel(frames_per_step=4), "judge": StandInJudge()}
    env = make_env(TABLETOP, **kwargs, terminate_on_success=False)
    assert env.action_space.shape == (4, 7)
    env.reset(seed=0)
    chunks = random_actions(env, 2)
    actions = chunks.reshape(8, 7)
    with pytest.raises(UserError, match=r"shape \[4, 7\]"):
        env.step(actions[0])
    with pytest.raises(UserError, match="multiple of 4, not 6"):
        env.unwrapped.step_chunk(actions[:6])
    obs, rewards, *_ = env.unwrapped.step_chunk(actions)
    assert env.unwrapped.world.model.step_rows == [1, 1]
    one = make_env(TABLETOP, **world_kwargs("stand-in"), terminate_on_success=False)
    one.reset(seed=0)
    assert equal(obs, one.unwrapped.step_chunk(actions)[0])
    env.reset(seed=0)
    for k, chunk in enumerate(chunks):  # a chunk is also one action
        last, reward, _, _, info = env.step(chunk)
        span = slice(4 * k, 4 * k + 4)
        assert np.array_equal(info["frames"], obs["pixels"][span]) and info["steps"] == 4
        assert all(np.array_equal(last[key], obs[key][4 * k + 3]) for key in obs)
        assert reward == pytest.approx(rewards[span].sum())


def test_fork_and_replay_are_bit_identical(env_id, world, make_env):
    env = make_env(env_id, **world, terminate_on_success=False)
    env.reset(seed=4)
    actions = random_actions(env, 8)
    for action in actions[:3]:
        env.step(action)
    fork = env.unwrapped.snapshot()
    first = [env.step(action) for action in actions[3:]]
    first_reset = env.reset()
    for _ in range(2):  # a snapshot can be restored again and again
        here = env.unwrapped.restore(fork)
        assert not np.array_equal(here["pixels"], first[0][0]["pixels"])
        again = [env.step(action) for action in actions[3:]]
        for a, b in zip(first, again, strict=True):
            assert equal(a[0], b[0]) and a[1:4] == b[1:4]
        assert equal(env.reset()[0], first_reset[0])  # the draws that follow are the same too
    other = make_env(env_id, **{**world, "world_model": env.unwrapped.world.model}, terminate_on_success=False)
    other.reset(seed=9)
    other.unwrapped.restore(fork)
    assert equal(other.step(actions[3])[0], first[0][0])


def test_returned_frames_are_the_callers(make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"))
    obs, info = env.reset(seed=0)
    fork = env.unwrapped.snapshot()
    obs["pixels"][:] = 0
    info["layout"]["target"][:] = 0
    again = env.unwrapped.restore(fork)
    assert again["pixels"].any() and env.step(np.zeros(7))[4]["layout"]["target"].any()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.full(7, np.nan), r"an action must be finite, but entry \[0\] is nan; expected \[7\]"),
        (np.array([0, 0, np.inf, 0, 0, 0, 0]), r"entry \[2\] is inf"),
        (np.zeros(6), r"an action must have shape \[7\].*not \[6\]"),
        (np.zeros((1, 7)), r"not \[1, 7\]"),
        ("left", "an action must be numbers"),
        (None, "an action must"),
    ],
)
def test_bad_actions(env_id, action, message, make_env):
    env = make_env(env_id, **world_kwargs("stand-in"))
    env.reset(seed=0)
    before = env.unwrapped.snapshot()
    with pytest.raises(UserError, match=message):
        env.step(action)
    assert env.unwrapped.snapshot().episodes is before.episodes  # the world did not move


def test_bad_chunks(make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"))
    env.reset(seed=0)
    for chunk in (np.zeros(7), np.zeros((0, 7)), np.zeros((3, 6))):
        with pytest.raises(UserError, match=r"shape \[n, 7\]"):
            env.unwrapped.step_chunk(chunk)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"imgae": 1}, "unknown reset option 'imgae'; did you mean 'image'"),
        ({"image": np.zeros((64, 64, 3))}, "uint8.*not float64"),
        ({"image": np.zeros((64, 64), np.uint8)}, r"\[H, W, 3\], not uint8 \[64, 64\]"),
        ({"episode": 0}, "made with dataset=path"),
        ({"image": np.zeros((64, 64, 3), np.uint8), "task": "psuh"}, "unknown task 'psuh'; did you mean 'push'"),
        ({"image": np.zeros((64, 64, 3), np.uint8), "agent_pos": [0, 0]}, "7 finite numbers"),
        ({"task": "psuh"}, "unknown task 'psuh'; did you mean 'push'"),
    ],
)
def test_bad_reset_options(env_id, options, message, make_env):
    env = make_env(env_id, **world_kwargs("stand-in"))
    with pytest.raises(UserError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "psuh"}, "unknown task 'psuh'; did you mean 'push'"),
        ({"world_model": "nano-tabeltop"}, "unknown world model 'nano-tabeltop'"),
        ({"world_model": StandInModel(condition="camera")}, "driven by actions is needed"),
        ({"judge": "no/such/judge.safetensors"}, "no judge at"),
        ({"dataset": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_bad_arguments(env_id, kwargs, message, make_env):
    with pytest.raises(UserError, match=message):
        make_env(env_id, **{**world_kwargs("stand-in"), **kwargs})


def test_start_from_an_image(env_id, world, make_env):
    env = make_env(env_id, **world)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    obs, info = env.reset(seed=0, options={"image": image, "target_colour": "red"})
    assert np.array_equal(obs["pixels"], image) and "notice" not in info and "layout" not in info
    assert info["instruction"] == "push the red block into the zone"
    large = np.repeat(np.repeat(image, 2, 0), 3, 1)
    obs, info = env.reset(seed=0, options={"image": large})
    assert np.array_equal(obs["pixels"], image)
    assert info["notice"] == "the image of 128x192 pixels was resized to 64x64"
    _, reward, terminated, _, info = env.step(env.action_space.sample())
    assert reward == 0 and not terminated and "progress" not in info  # no colour: nothing to judge


def test_action_world_without_a_judge(make_env):
    env = make_env(ACTION_WORLD, world_model=StandInModel(), task=None)
    env.reset(seed=0)
    results = [env.step(env.action_space.sample()) for _ in range(10)]
    assert not any(r[1] or r[2] or r[4]["is_success"] or "progress" in r[4] for r in results)


def test_action_world_of_another_robot(make_env):
    model = StandInModel(size=(32, 48), units=("m", "m"))
    env = make_env(ACTION_WORLD, world_model=model, task=None)
    assert env.action_space.shape == (2,) and env.observation_space["pixels"].shape == (32, 48, 3)
    with pytest.raises(UserError, match="nothing to start from"):
        env.unwrapped.reset(seed=0)
    env.reset(options={"image": np.zeros((32, 48, 3), np.uint8)})
    obs, *_ = env.step(np.zeros(2, np.float32))
    assert set(obs) == {"pixels"} and env.observation_space.contains(obs)
    with pytest.raises(UserError, match="is no model of the tabletop"):
        make_env(TABLETOP, world_model=model, judge=None)


def test_record_video(env_id, tmp_path, make_env):
    env = make_env(env_id, **world_kwargs("stand-in"), render_mode="rgb_array")
    env = gym.wrappers.RecordVideo(env, str(tmp_path), disable_logger=True)
    obs, _ = env.reset(seed=0)
    assert np.array_equal(env.render(), obs["pixels"]) and env.unwrapped.metadata["render_fps"] == 5
    for _ in range(4):
        env.step(env.action_space.sample())
    env.close()
    assert [path.stat().st_size > 500 for path in tmp_path.glob("*.mp4")] == [True]
