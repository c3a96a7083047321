"""The native vector form: row i is the single environment of seed s + i, in all three autoreset modes."""

import gymnasium as gym
import numpy as np
import pytest
from env_worlds import world_kwargs
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from standin import StandInModel

from wfm_sim.errors import UserError

TABLETOP = "wfm_sim/Tabletop-v0"
MODES = list(AutoresetMode)


def close_frames(a, b, world):
    """Rows of the stand-in do not depend on their batch at all, those of a network do within a rounding step."""
    assert a.shape == b.shape and a.dtype == b.dtype
    distance = np.abs(a.astype(int) - b.astype(int)).max()
    assert distance <= (0 if isinstance(world.get("world_model"), StandInModel) else 1), distance


def same_tree(a, b, path="infos"):
    """Equal in keys, dtypes, shapes and values, through dictionaries and object arrays."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same_tree(a[key], b[key], f"{path}[{key!r}]")
    else:
        assert isinstance(a, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape, path
        if a.dtype == object and any(isinstance(item, dict) for item in a):
            for x, y in zip(a, b, strict=True):
                assert (x is None) == (y is None), path
                if x is not None:
                    same_tree(x, y, path)
        else:
            assert np.array_equal(a, b), (path, a, b)


@pytest.mark.parametrize("mode", MODES)
def test_is_gymnasiums_own_vector(env_id, mode, make_env):
    """Observations, rewards, ends, infos, masks: all that SyncVectorEnv over single environments returns."""
    kwargs = {**world_kwargs("stand-in"), "task": "any", "max_episode_steps": 5}
    native = make_env(env_id, num_envs=5, autoreset_mode=mode, **kwargs)
    entry = f"wfm_sim.envs.{'tabletop:TabletopEnv' if env_id == TABLETOP else 'action_world:ActionWorldEnv'}"
    creator = gym.envs.registration.load_env_creator(entry)
    sync = gym.vector.SyncVectorEnv([lambda: creator(**kwargs)] * 5, autoreset_mode=mode)
    for results in zip(native.reset(seed=10), sync.reset(seed=10), strict=True):
        same_tree(*results)
    assert native.single_observation_space == sync.single_observation_space
    assert native.observation_space == sync.observation_space and native.action_space == sync.action_space
    assert native.metadata["autoreset_mode"] is mode
    native.action_space.seed(0)
    ended = 0
    for _ in range(17):
        actions = native.action_space.sample()
        (obs, rewards, terminated, truncated, infos), expected = native.step(actions), sync.step(actions)
        same_tree(obs, expected[0])
        same_tree(infos, expected[4])
        assert np.array_equal(rewards, expected[1]) and rewards.dtype == np.float64
        assert np.array_equal(terminated, expected[2]) and terminated.dtype == bool
        assert np.array_equal(truncated, expected[3]) and truncated.dtype == bool
        done = terminated | truncated
        ended += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            with pytest.raises(AssertionError, match="reset_mask"):
                native.step(actions)
            same_tree(native.reset(options={"reset_mask": done})[1], sync.reset(options={"reset_mask": done.copy()})[1])
    assert ended >= 10
    sync.close()


def test_row_is_the_single_environment(env_id, world, make_env):
    envs = make_env(env_id, num_envs=3, max_episode_steps=6, terminate_on_success=False, **world)
    envs.action_space.seed(1)
    actions = np.stack([envs.action_space.sample() for _ in range(10)])
    obs, infos = envs.reset(seed=20)
    rows = [obs["pixels"]] + [envs.step(action)[0]["pixels"] for action in actions]  # with one autoreset inside
    for row in range(3):
        env = make_env(env_id, **world, terminate_on_success=False)
        obs, info = env.reset(seed=20 + row)
        assert infos["instruction"][row] == info["instruction"] and infos["scene_seed"][row] == 20 + row
        expected = [obs["pixels"]] + [env.step(action)[0]["pixels"] for action in actions[:6, row]]
        expected += [env.reset()[0]["pixels"]] + [env.step(action)[0]["pixels"] for action in actions[7:, row]]
        for t, frame in enumerate(expected):
            close_frames(rows[t][row], frame, world)


def test_a_list_of_seeds(make_env):
    envs = make_env(TABLETOP, num_envs=3, **world_kwargs("stand-in"))
    listed, _ = envs.reset(seed=[7, 3, 7])
    ranged, _ = envs.reset(seed=7)
    assert np.array_equal(listed["pixels"][0], listed["pixels"][2])
    assert np.array_equal(listed["pixels"][0], ranged["pixels"][0])
    assert not np.array_equal(listed["pixels"][1], ranged["pixels"][1])
    with pytest.raises(UserError, match="must have num_envs=3 entries, not 2"):
        envs.reset(seed=[1, 2])


def test_one_model_call_per_step(env_id, make_env):
    envs = make_env(env_id, num_envs=16, **world_kwargs("stand-in"), terminate_on_success=False)
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(envs.action_space.sample())
    assert envs.unwrapped.world.model.step_rows == [16] * 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_only_ended_rows_are_reset(mode, make_env):
    envs = make_env(TABLETOP, num_envs=4, autoreset_mode=mode, **world_kwargs("stand-in"))
    envs.reset(seed=0)  # row i ends at step 4 + i
    zeros = np.zeros((4, 7), np.float32)
    for step in range(1, 5):
        _, _, terminated, _, infos = envs.step(zeros)
        assert terminated.tolist() == [step == 4, False, False, False]
    before = envs.snapshot().episodes
    if mode is AutoresetMode.SAME_STEP:
        assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == [True, False, False, False]
        assert infos["final_info"]["is_success"].tolist() == [True, False, False, False]
        assert infos["is_success"].tolist() == [False] * 4
        assert before.steps.tolist() == [0, 4, 4, 4]
        return
    assert before.steps.tolist() == [4] * 4
    _, rewards, terminated, _, infos = envs.step(zeros)
    assert envs.snapshot().episodes.steps.tolist() == [0, 5, 5, 5]
    assert rewards[0] == 0 and not terminated[0] and infos["scene_seed"][0] != 0
    assert envs.unwrapped.world.model.step_rows[-1] == 3  # the row that was reset took no step


def test_reset_mask_keeps_the_other_rows(make_env):
    envs = make_env(TABLETOP, num_envs=3, autoreset_mode="Disabled", **world_kwargs("stand-in"))
    envs.reset(seed=0)
    stepped, *_ = envs.step(envs.action_space.sample())
    mask = np.array([False, True, False])
    options = {"reset_mask": mask, "task": "pick"}
    obs, infos = envs.reset(seed=50, options=options)
    assert options["reset_mask"] is mask  # the caller's dictionary is left alone
    assert np.array_equal(obs["pixels"][[0, 2]], stepped["pixels"][[0, 2]])
    assert infos["_scene_seed"].tolist() == mask.tolist() and infos["scene_seed"][1] == 51
    assert envs.call("task_description")[1].startswith("pick up")
    assert envs.snapshot().episodes.steps.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "mask", [[True, False, False], np.ones(3), np.ones(2, bool), np.zeros(3, bool), np.ones((3, 1), bool)]
)
def test_bad_masks(mask, make_env):
    envs = make_env(TABLETOP, num_envs=3, **world_kwargs("stand-in"))
    with pytest.raises(UserError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_options_per_row(make_env):
    envs = make_env(TABLETOP, num_envs=2, **world_kwargs("stand-in"))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    obs, _ = envs.reset(options={"image": images})
    assert np.array_equal(obs["pixels"], images)
    obs, _ = envs.reset(options={"image": images[0]})
    assert np.array_equal(obs["pixels"], images[[0, 0]])
    with pytest.raises(UserError, match="names 1 rows, but there are 2"):
        envs.reset(options={"image": images[:1]})


@pytest.mark.parametrize("mode", MODES)
def test_chunks(mode, make_env):
    kwargs = {"autoreset_mode": mode, **world_kwargs("stand-in")}
    envs = make_env(TABLETOP, num_envs=3, **kwargs)
    envs.action_space.seed(0)
    actions = np.stack([envs.action_space.sample() for _ in range(5)], axis=1)  # [B, n, 7]
    envs.reset(seed=0)  # row i ends at step 4 + i
    obs, rewards, terminated, truncated, infos = envs.unwrapped.step_chunk(actions)
    assert obs["pixels"].shape == (3, 5, 64, 64, 3) and obs["agent_pos"].shape == (3, 5, 7)
    assert rewards.shape == terminated.shape == truncated.shape == (3, 5)
    assert terminated.tolist() == [[False] * 3 + [True] * 2, [False] * 4 + [True], [False] * 5]
    assert infos["steps"].tolist() == [4, 5, 5]
    single = make_env(TABLETOP, **world_kwargs("stand-in"))
    for row in range(3):
        single.reset(seed=row)
        expected, expected_rewards, *_ = single.unwrapped.step_chunk(actions[row])
        assert np.array_equal(rewards[row], expected_rewards)
        last = [4, 5, 6][row] if mode is AutoresetMode.SAME_STEP else 6
        upto = min(last, 5) - (last == 5)  # in SAME_STEP the very last entry of a row that ended is its reset
        assert np.array_equal(obs["pixels"][row, :upto], expected["pixels"][:upto])
        fresh, _ = single.reset()
        if mode is AutoresetMode.SAME_STEP and row < 2:
            assert np.array_equal(obs["pixels"][row, -1], fresh["pixels"])
            assert np.array_equal(infos["final_obs"][row]["pixels"], expected["pixels"][-1])
            assert infos["final_info"]["steps"][row] == [4, 5][row]
        if mode is AutoresetMode.NEXT_STEP and row < 2:
            fork = envs.snapshot()
            later, later_rewards, later_ended, _, _ = envs.unwrapped.step_chunk(actions)
            assert all(np.array_equal(frame, fresh["pixels"]) for frame in later["pixels"][row])
            assert not later_rewards[row].any() and not later_ended[row].any()
            envs.restore(fork)
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(AssertionError, match=r"rows \[0, 1\] have ended"):
            envs.unwrapped.step_chunk(actions)


def test_models_of_several_frames_per_step(make_env):
    envs = make_env(
        TABLETOP, num_envs=2, **{**world_kwargs("stand-in"), "world_model": StandInModel(frames_per_step=4)}
    )
    assert envs.action_space.shape == (2, 4, 7)
    envs.reset(seed=0)
    with pytest.raises(UserError, match=r"shape \[2, 4, 7\]"):
        envs.step(np.zeros((2, 7), np.float32))
    obs, rewards, *_ = envs.unwrapped.step_chunk(np.zeros((2, 4, 7), np.float32))
    assert obs["pixels"].shape[:2] == (2, 4)
    envs.reset(seed=0)
    last, reward, *_, infos = envs.step(np.zeros((2, 4, 7), np.float32))
    assert np.array_equal(infos["frames"], obs["pixels"]) and np.array_equal(last["pixels"], obs["pixels"][:, -1])
    assert np.allclose(reward, rewards.sum(axis=1))


def test_fork_and_replay_are_bit_identical(env_id, world, make_env):
    envs = make_env(env_id, num_envs=3, max_episode_steps=5, **world)
    envs.reset(seed=0)
    envs.action_space.seed(2)
    actions = [envs.action_space.sample() for _ in range(9)]
    for action in actions[:2]:
        envs.step(action)
    fork = envs.unwrapped.snapshot()
    first = [envs.step(action) for action in actions[2:]]  # through an end and an autoreset
    assert any(result[3].any() or result[2].any() for result in first)
    envs.unwrapped.restore(fork)
    for result, action in zip(first, actions[2:], strict=True):
        again = envs.step(action)
        same_tree(again[0], result[0])
        same_tree(again[4], result[4])
        assert all(np.array_equal(again[i], result[i]) for i in (1, 2, 3))


def test_one_row_forked_into_many(world, make_env):
    envs = make_env(TABLETOP, num_envs=4, **world)
    envs.reset(seed=0)
    envs.step(np.zeros((4, 7), np.float32))
    kept = envs.render_mode, envs.snapshot([3]).episodes.frames
    obs = envs.restore(envs.snapshot([1]), rows=[0, 1, 2])
    assert np.array_equal(obs["pixels"][0], obs["pixels"][2]) and np.array_equal(obs["pixels"][3], kept[1][0])
    actions = np.zeros((4, 7), np.float32)
    actions[2, 0] = 0.05
    obs, *_ = envs.step(actions)
    close_frames(obs["pixels"][0], obs["pixels"][1], world)
    assert not np.array_equal(obs["pixels"][0], obs["pixels"][2])
    with pytest.raises(UserError, match="1 or of 3 rows"):
        envs.restore(envs.snapshot([0, 1]), rows=[0, 1, 2])


def test_bad_input(make_env):
    envs = make_env(TABLETOP, num_envs=2, **world_kwargs("stand-in"))
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros((2, 7), np.float32))
    envs.reset(seed=0)
    for actions, message in (
        (np.zeros(7), r"a batch of actions must have shape \[2, 7\].*not \[7\]"),
        (np.zeros((3, 7)), r"not \[3, 7\]"),
        (np.full((2, 7), np.nan), r"entry \[0, 0\] is nan"),
    ):
        with pytest.raises(UserError, match=message):
            envs.step(actions)
    with pytest.raises(UserError, match=r"shape \[2, n, 7\]"):
        envs.unwrapped.step_chunk(np.zeros((2, 7)))
    with pytest.raises(UserError, match="unknown autoreset mode 'SameSetp'; did you mean 'SameStep'"):
        make_env(TABLETOP, num_envs=2, autoreset_mode="SameSetp", **world_kwargs("stand-in"))
    with pytest.raises(UserError, match="num_envs must be at least 1"):
        make_env(TABLETOP, num_envs=0, **world_kwargs("stand-in"))


def test_render_spaces_and_attributes(make_env):
    envs = make_env(TABLETOP, num_envs=2, render_mode="rgb_array", **world_kwargs("stand-in"))
    obs, _ = envs.reset(seed=0)
    assert np.array_equal(np.stack(envs.render()), obs["pixels"])
    assert envs.observation_space.contains(obs)
    assert envs.observation_space == batch_space(envs.single_observation_space, 2)
    assert envs.call("_max_episode_steps") == (32, 32)
    assert all("push the" in text for text in envs.get_attr("task_description"))
