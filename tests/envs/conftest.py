"""Environments over every world (env_worlds.py) and of every learned id, closed after the test."""

import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not: for env_worlds and standin
from env_worlds import LEARNED, world_kwargs

import wfm_sim  # noqa: F401 - registers the environments

torch.set_num_threads(1)


@pytest.fixture(params=["stand-in", "shipped"])
def world(request) -> dict:
    return world_kwargs(request.param)


@pytest.fixture(params=LEARNED)
def env_id(request) -> str:
    return request.param


@pytest.fixture
def make_env():
    """make_env(id, **kwargs), or with num_envs=B the native vector form."""
    made = []

    def _make(env_id: str, num_envs: int | None = None, **kwargs):
        kwargs = {"task": "push", **kwargs}
        env = gym.make(env_id, **kwargs) if num_envs is None else gym.make_vec(env_id, num_envs=num_envs, **kwargs)
        made.append(env)
        return env

    yield _make
    for env in made:
        env.close()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """A data set of two short episodes of the twin."""
    from wfm_sim.training.collect import CollectConfig, collect

    root = tmp_path_factory.mktemp("recorded")
    collect(root, 2, CollectConfig(seed=3, steps=6), workers=1)
    return root
