"""Episodes that begin at a recorded frame."""

import numpy as np
import pytest
from env_worlds import world_kwargs

from wfm_sim.data import open_dataset
from wfm_sim.errors import UserError

TABLETOP, ACTION_WORLD = "wfm_sim/Tabletop-v0", "wfm_sim/ActionWorld-v0"


def test_begins_at_the_recorded_frame(env_id, world, recorded, make_env):
    env = make_env(env_id, **world, dataset=recorded)
    for index, t in ((0, 0), (1, 4)):
        episode = open_dataset(recorded)[index]
        obs, info = env.reset(seed=0, options={"episode": index, "frame": t})
        assert np.array_equal(obs["pixels"], episode.frames[t])
        np.testing.assert_allclose(obs["agent_pos"], np.float32(episode.extras["agent_pos"][t]), atol=1e-5)
        assert (info["episode"], info["frame"]) == (index, t)
        assert info["instruction"] == episode.instruction == env.unwrapped.task_description
        assert (info["task"], info["target_colour"]) == (episode.extras["task"], episode.extras["target_colour"])
        assert ("layout" in info) == (t == 0)  # later the blocks lie elsewhere
        env.step(episode.actions[t])


def test_the_layout_is_the_twins(recorded, make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"), dataset=recorded, task="any")
    _, info = env.reset(options={"episode": 0})
    obs, scene = env.reset(seed=info["scene_seed"], options={"task": info["task"]})
    assert scene["layout"].keys() == info["layout"].keys() and scene["layout"]["task"] == info["layout"]["task"]
    for name in ("target", "goal", "start"):
        assert info["layout"][name].dtype == np.float32
        np.testing.assert_allclose(info["layout"][name], scene["layout"][name], atol=1e-5)
    recorded_frame = open_dataset(recorded)[0].frames[0].astype(int)
    assert np.abs(obs["pixels"] - recorded_frame).mean() < 3  # the same scene, but for the video's compression


def test_the_judge_sees_the_episodes_first_frame(recorded, make_env):
    seen = []

    def judge(frames, first_frames, tasks, colours):
        seen.append((frames.copy(), first_frames.copy()))
        return np.zeros(len(frames)), np.zeros(len(frames))

    env = make_env(TABLETOP, **{**world_kwargs("stand-in"), "judge": judge}, dataset=recorded)
    env.reset(options={"episode": 0, "frame": 3})
    frames = open_dataset(recorded)[0].frames
    assert np.array_equal(seen[-1][0][0], frames[3]) and np.array_equal(seen[-1][1][0], frames[0])
    env.step(np.zeros(7, np.float32))
    assert np.array_equal(seen[-1][1][0], frames[0])


def test_action_world_draws_an_episode_by_the_seed(recorded, make_env):
    env = make_env(ACTION_WORLD, **world_kwargs("stand-in"), dataset=recorded, task=None)
    drawn = [env.reset(seed=seed)[1]["episode"] for seed in range(6)]
    assert drawn == [env.reset(seed=seed)[1]["episode"] for seed in range(6)] and set(drawn) == {0, 1}


def test_rows_begin_where_they_are_told(recorded, make_env):
    envs = make_env(ACTION_WORLD, num_envs=3, **world_kwargs("stand-in"), dataset=recorded)
    options = {"episode": [0, 1, 1], "frame": np.array([2, 0, 5])}
    obs, infos = envs.reset(seed=0, options=options)
    dataset = open_dataset(recorded)
    for row in range(3):
        assert np.array_equal(obs["pixels"][row], dataset[options["episode"][row]].frames[options["frame"][row]])
    assert infos["frame"].tolist() == [2, 0, 5] and infos["_layout"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episode": 2}, r"options\['episode'\] must be 0..1, not 2"),
        ({"episode": -1}, "must be 0..1, not -1"),
        ({"episode": "first"}, "must be an integer, not 'first'"),
        ({"episode": 0, "frame": 7}, r"options\['frame'\] must be 0..6, not 7"),
        ({"episode": 0, "image": np.zeros((64, 64, 3), np.uint8)}, "exclude each other"),
    ],
)
def test_bad_options(options, message, recorded, make_env):
    env = make_env(TABLETOP, **world_kwargs("stand-in"), dataset=recorded)
    with pytest.raises(UserError, match=message):
        env.reset(options=options)
