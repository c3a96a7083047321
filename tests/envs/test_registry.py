"""Every registered id passes Gymnasium's own checker, without a single warning."""

import warnings

import gymnasium as gym
import pytest
from env_worlds import LEARNED, world_kwargs
from gymnasium.utils.env_checker import check_env

IDS = sorted(env_id for env_id in gym.registry if env_id.startswith("wfm_sim/"))
CASES = [(env_id, name) for env_id in IDS for name in (("stand-in", "shipped") if env_id in LEARNED else ("",))]


def test_all_are_registered():
    assert {*LEARNED, "wfm_sim/TabletopMuJoCo-v0"} <= set(IDS)


@pytest.mark.parametrize(("env_id", "world"), CASES)
def test_checker(env_id, world):
    env = gym.make(env_id, render_mode="rgb_array", **(world_kwargs(world) if world else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("env_id", LEARNED)
def test_spaces_are_the_twins(env_id):
    twin, env = gym.make("wfm_sim/TabletopMuJoCo-v0"), gym.make(env_id, **world_kwargs("stand-in"))
    assert env.action_space == twin.action_space
    if env_id == "wfm_sim/Tabletop-v0":
        assert env.observation_space == twin.observation_space
    for one in (twin, env):
        one.close()
