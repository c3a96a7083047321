"""`make_env` does for LeRobot's evaluation what its rollout asks of a vector environment, call by call."""

import importlib.util
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from env_worlds import world_kwargs
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from standin import StandInJudge, StandInModel

from wfm_sim.envs.hub import HubConfig, make_env, read_config
from wfm_sim.envs.tabletop import TabletopEnv
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.errors import UserError

BOTH = "tabletop,tabletop_twin"
STEPS = 6


def settings(**more):
    """Both suites, the learned one over the stand-in: rows succeed at clock 3 + seed % 4 + 1, unless truncated."""
    return {**world_kwargs("stand-in"), "suites": BOTH, "task": "push", "max_episode_steps": STEPS, **more}


@pytest.fixture(params=["tabletop", "tabletop_twin"])
def suite(request) -> str:
    return request.param


@pytest.fixture
def hub():
    """hub(suite, n_envs, **cfg): the one vector environment of this suite's push task."""
    made = []

    def _hub(suite: str, n_envs: int = 3, use_async_envs: bool = False, **cfg) -> VectorEnv:
        (env,) = make_env(n_envs, use_async_envs, settings(suites=suite, **cfg))[suite].values()
        made.append(env)
        return env

    yield _hub
    for env in made:
        env.close()


def policy_input(observation: dict) -> dict:
    """What LeRobot feeds a policy with, and what it insists on: uint8 [B, H, W, 3] images, float32 states."""
    images = observation["pixels"]
    images = images if isinstance(images, dict) else {"": images}
    fed = {}
    for camera, image in images.items():
        tensor = torch.from_numpy(image)
        rows, height, width, channels = tensor.shape
        assert tensor.dtype == torch.uint8 and channels == 3 < min(height, width) and rows > 0
        name = f"observation.images.{camera}" if camera else "observation.image"
        fed[name] = tensor.permute(0, 3, 1, 2).float() / 255
    fed["observation.state"] = torch.from_numpy(observation["agent_pos"]).float()
    return fed


def lerobot_rollout(env: VectorEnv, seeds: list[int], act, announce: bool = True) -> dict:
    """One batch of episodes as LeRobot 0.6's evaluation runs and counts it, in our words.

    Rows are stepped until all have ended once. An episode's reward and success are collected up to and including the
    step *after* its first end, which is why that step must not belong to another episode.
    """
    observation, _ = env.reset(seed=seeds, options={"lerobot_new_rollout": True} if announce else None)
    videos, rewards, successes, dones = [_rendered(env)], [], [], []
    limit = env.call("_max_episode_steps")[0]
    assert env.get_attr("task") == ("push",) * env.num_envs
    done = np.zeros(env.num_envs, dtype=bool)
    for step in range(limit):
        fed = policy_input(observation)
        fed["task"] = list(env.call("task_description"))
        assert len(fed["task"]) == env.num_envs and all(words.startswith("push the ") for words in fed["task"])
        action = torch.from_numpy(act(fed, step)).numpy()
        assert action.ndim == 2
        observation, reward, terminated, truncated, info = env.step(action)
        videos.append(_rendered(env))
        successes.append(info.get("final_info", info)["is_success"].tolist())
        rewards.append(torch.from_numpy(reward))
        done = terminated | truncated | done
        dones.append(done | (step + 1 == limit))
        if dones[-1].all():
            break
    reward, success, done = torch.stack(rewards, 1), torch.tensor(successes).T, torch.tensor(np.stack(dones, 1))
    ends = done.int().argmax(1)
    counted = torch.arange(done.shape[1])[None] <= ends[:, None] + 1
    return {
        "reward": (reward * counted).sum(1).tolist(),
        "success": (success & counted).any(1).tolist(),
        "length": (ends + 1).tolist(),
        "video": np.stack(videos, axis=1),
        "fps": env.unwrapped.metadata["render_fps"],
    }


def _rendered(env: VectorEnv) -> np.ndarray:
    frames = [one.render() for one in env.envs] if isinstance(env, SyncVectorEnv) else env.call("render")
    return np.stack(frames)


def actions_of(seed: int):
    """act(fed, step): the same action for a row whatever the batch, float32 [B, 7]."""
    plan = np.random.default_rng(seed).uniform(-0.05, 0.05, (STEPS, 7)).astype(np.float32)
    return lambda fed, step: np.repeat(plan[step][None], len(fed["task"]), axis=0)


@cache
def plain(suite: str):
    if suite == "tabletop":
        return TabletopEnv(task="push", max_episode_steps=STEPS, **world_kwargs("stand-in"))
    return TabletopMuJoCoEnv(task="push", max_episode_steps=STEPS)


@cache
def alone(suite: str, seed: int, plan: int) -> tuple[float, bool, int]:
    """Reward, success and length of one episode in the plain environment, with actions_of(plan)."""
    env, act = plain(suite), actions_of(plan)
    env.reset(seed=seed)
    total, ended, steps, info = 0.0, False, 0, {}
    while not ended:
        _, reward, terminated, truncated, info = env.step(act({"task": [""]}, steps)[0])
        total, ended, steps = total + reward, terminated or truncated, steps + 1
    return total, info["is_success"], steps


@pytest.mark.parametrize("announce", [True, False])
def test_a_rollout_counts_exactly_its_own_episodes(suite, announce, hub):
    act = actions_of(0)
    env = hub(suite, 3)
    for seeds in ([4, 5, 7], [7, 4, 5]):  # a second batch starts afresh
        counted = lerobot_rollout(env, seeds, act, announce)
        expected = [alone(suite, seed, 0) for seed in seeds]
        np.testing.assert_allclose(counted["reward"], [one[0] for one in expected], atol=1e-6)
        assert counted["success"] == [one[1] for one in expected]
        assert counted["length"] == [one[2] for one in expected]
        assert counted["video"].shape == (3, max(counted["length"]) + 1, 64, 64, 3)
        assert counted["video"].dtype == np.uint8 and counted["fps"] == 5
    if suite == "tabletop":  # or nothing above was put to the test: early and late ends, with and without success
        assert sorted(counted["length"]) == [4, 5, 6] and sum(counted["success"]) == 2


def test_the_mode_of_lerobots_own_vectors_works_too(suite, hub):
    env = hub(suite, 2, autoreset_mode="SameStep")
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    counted = lerobot_rollout(env, [4, 7], actions_of(0), announce=False)
    assert counted["success"] == [alone(suite, seed, 0)[1] for seed in (4, 7)]


def test_rows_that_ended_stand_still_and_cost_nothing(hub):
    env = hub("tabletop", 4)
    model = env.world.model
    act = actions_of(0)
    env.reset(seed=[4, 5, 6, 7], options={"lerobot_new_rollout": True})
    model.step_rows.clear()
    seen = [env.step(act({"task": [""] * 4}, step)) for step in range(STEPS)]
    assert model.step_rows == [4, 4, 4, 4, 3, 2]  # row 4 ends after 4 steps, row 5 after 5, and so on
    last = seen[3][0]["pixels"][0]
    for obs, reward, terminated, truncated, info in seen[4:]:
        assert np.array_equal(obs["pixels"][0], last) and reward[0] == 0
        assert terminated[0] and not truncated[0] and info["is_success"][0]
    env.step(act({"task": [""] * 4}, 0))
    assert model.step_rows == [4, 4, 4, 4, 3, 2], "all have ended: nothing is imagined"


def test_any_other_reset_brings_gymnasiums_autoreset_back(suite, hub):
    env = hub(suite, 2)
    env.reset(seed=[6, 7], options={"lerobot_new_rollout": True})
    obs, _ = env.reset(seed=[6, 7])
    act = actions_of(0)
    for step in range(STEPS):
        _, _, terminated, truncated, _ = env.step(act({"task": [""] * 2}, step))
    assert (terminated | truncated).all()
    fresh, reward, terminated, truncated, _ = env.step(act({"task": [""] * 2}, 0))
    assert not reward.any() and not (terminated | truncated).any()
    assert not np.array_equal(fresh["pixels"], obs["pixels"]), "another scene"
    _, _, terminated, truncated, _ = env.step(act({"task": [""] * 2}, 0))
    assert not (terminated | truncated).any()


def test_seeds_are_scenes_in_both_suites(hub):
    learned, twin = hub("tabletop", 2), hub("tabletop_twin", 2)
    first, _ = learned.reset(seed=[11, 12])
    other, _ = twin.reset(seed=[11, 12])
    assert np.array_equal(first["pixels"], other["pixels"])
    assert learned.call("task_description") == twin.call("task_description")


def test_a_camera_has_its_name(suite, hub):
    env = hub(suite, 1, camera="front")
    obs, _ = env.reset(seed=[1], options={"lerobot_new_rollout": True})
    for _ in range(2):
        assert set(policy_input(obs)) == {"observation.images.front", "observation.state"}
        assert env.observation_space.contains(obs)
        obs = env.step(env.action_space.sample())[0]


def test_rows_of_the_twin_can_have_their_own_processes(hub):
    act = actions_of(2)
    sync = lerobot_rollout(hub("tabletop_twin", 2), [4, 5], act)
    own = lerobot_rollout(hub("tabletop_twin", 2, use_async_envs=True), [4, 5], act)
    np.testing.assert_allclose(own["reward"], sync["reward"], atol=1e-9)
    assert np.array_equal(own["video"], sync["video"])


def test_suites_and_tasks():
    envs = make_env(1, cfg=settings(task=["place", "push"]))
    assert {suite: list(group) for suite, group in envs.items()} == {"tabletop": [2, 0], "tabletop_twin": [2, 0]}
    assert envs["tabletop"][0].world.model is envs["tabletop"][2].world.model
    for group in envs.values():
        for task_id, env in group.items():
            env.reset(seed=[0])
            assert env.get_attr("task") == (("push", "pick", "place")[task_id],)
            with pytest.raises(AttributeError):
                env.get_attr("no_such_thing")
            env.close()


def test_the_template_of_a_hub_repository(root: Path, monkeypatch):
    spec = importlib.util.spec_from_file_location("hub_env_you_tabletop", root / "docs" / "envhub" / "env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OFFER", settings(**module.OFFER))
    envs = module.make_env(n_envs=2, use_async_envs=False)  # as for a hub id
    assert list(envs) == ["tabletop"] and list(envs["tabletop"]) == [0, 1, 2]

    class EnvConfig:  # as with a config of LeRobot's, which has fields that are none of ours
        task, fps, features, world_model, judge = "pick", 30, {}, StandInModel(), None

    assert list(module.make_env(n_envs=1, use_async_envs=False, cfg=EnvConfig())["tabletop"]) == [1]


def test_the_environment_type_of_lerobot_eval(root: Path, monkeypatch):
    """The plug-in over stand-ins for the few names it takes from LeRobot."""

    class EnvConfig:
        known: ClassVar[dict] = {}

        @classmethod
        def register_subclass(cls, name):
            return lambda plugin: cls.known.setdefault(name, plugin)

    names = {
        "lerobot.configs": {"FeatureType": SimpleNamespace(ACTION="a", STATE="s", VISUAL="v"), "PolicyFeature": dict},
        "lerobot.envs.configs": {"EnvConfig": EnvConfig},
        "lerobot.utils.constants": {
            "ACTION": "action",
            "OBS_IMAGE": "observation.image",
            "OBS_IMAGES": "observation.images",
            "OBS_STATE": "observation.state",
        },
    }
    for module, content in names.items():
        stand_in = ModuleType(module)
        vars(stand_in).update(content)
        monkeypatch.setitem(sys.modules, module, stand_in)
    folder = root / "docs" / "envhub" / "lerobot_env_wfm_sim"
    spec = importlib.util.spec_from_file_location("lerobot_env_wfm_sim", folder / "lerobot_env_wfm_sim.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec.loader.exec_module(module)

    plugin = EnvConfig.known["wfm_sim"]
    ours = {field.name for field in fields(HubConfig)}
    assert read_config(plugin()) == HubConfig(task="push,pick,place")
    assert {field.name for field in fields(plugin)} - ours == {"fps", "features", "features_map"}
    config = plugin(task="place", camera="front", world_model=StandInModel(), judge=StandInJudge(), suites=BOTH)
    assert set(config.features) == set(config.features_map) == {"action", "agent_pos", "pixels/front"}
    envs = config.create_envs(n_envs=1)
    for suite in ("tabletop", "tabletop_twin"):
        obs, _ = envs[suite][2].reset(seed=[0])
        fed = policy_input(obs)
        assert set(fed) == set(config.features_map.values()) - {"action"}
        assert (*fed["observation.images.front"].shape[2:], 3) == config.features["pixels/front"]["shape"]
        assert fed["observation.state"].shape[1:] == config.features["agent_pos"]["shape"]
        assert envs[suite][2].single_action_space.shape == config.features["action"]["shape"]
        envs[suite][2].close()


def test_the_shipped_model_is_the_default():
    world_kwargs("shipped")
    assert read_config(None) == HubConfig()
    ((task_id, env),) = make_env(cfg={"task": "pick"})["tabletop"].items()
    env.reset(seed=[0], options={"lerobot_new_rollout": True})
    assert task_id == 1 and env.world.model.spec.name == "nano-tabletop" and env.num_envs == 1
    assert env.step(env.action_space.sample())[0]["pixels"].shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("n_envs", "cfg", "message"),
    [
        (0, None, "n_envs must be a whole number from 1 up, not 0"),
        (2.0, None, "n_envs must be a whole number from 1 up, not 2.0"),
        (1, {"suite": "tabletop"}, "unknown field of cfg 'suite'; did you mean 'suites'?"),
        (1, {"suites": "tabletop_twins"}, "unknown suite 'tabletop_twins'; did you mean 'tabletop_twin'?"),
        (1, {"task": "pusch"}, "unknown task 'pusch'; did you mean 'push'?"),
        (1, {"task": " , "}, "name at least one task: push, pick, place"),
        (1, {"autoreset_mode": "same-step"}, "unknown autoreset mode 'same-step'; did you mean 'SameStep'?"),
        (1, {"world_model": "nano-tabeltop"}, "unknown world model 'nano-tabeltop'; did you mean 'nano-tabletop'?"),
    ],
)
def test_bad_input(n_envs, cfg, message):
    with pytest.raises(UserError) as error:
        make_env(n_envs, cfg=cfg)
    assert str(error.value) == message
