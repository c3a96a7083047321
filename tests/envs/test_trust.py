"""Trust carried by the environments: through forks, autoresets, chunks and snapshots; and which one is taken."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from env_worlds import LEARNED
from gymnasium.vector import AutoresetMode
from standin import StandInJudge, StandInModel, StandInState

from wfm_sim import trust as trust_module
from wfm_sim.envs import worlds
from wfm_sim.envs.core import Rules, Start, World, advance, begin, select
from wfm_sim.envs.worlds import make_world
from wfm_sim.errors import UserError
from wfm_sim.trust import Trust, TrustConfig, TrustNetwork, TrustState, save_trust
from wfm_sim.weights import weights_hash

KEYS = ("trust", "trust_horizon", "trust_lowest")


@dataclass
class StandInTrust:
    """Trust falls by a hundredth per step and by the gripper's way; 0.3 at step 2 only."""

    def start(self, frames, poses):
        one = np.ones(len(frames))
        none = np.zeros((len(frames), 1), np.float32)
        return TrustState(frames, frames, none, none, none, one, one, one)

    def step(self, state, frames, actions, poses):
        memory = state.memory + 1
        clock = memory[:, 0].astype(float)
        now = np.where(clock == 2, 0.3, 1 - 0.01 * clock - np.abs(actions[:, 0]))
        none = state.first_hues
        return TrustState(state.first, frames, none, none, memory, now, now / 2, np.minimum(state.lowest, now))


def kwargs(**more):
    return {"world_model": StandInModel(), "judge": StandInJudge(), "trust": StandInTrust(), "task": "push", **more}


def action(x=0.0):
    return np.array([x, 0, 0, 0, 0, 0, 1], np.float32)


@pytest.mark.parametrize("env_id", LEARNED)
def test_info_says_trust_at_every_step(env_id):
    env = gym.make(env_id, **kwargs())
    _, info = env.reset(seed=3)
    assert [info[k] for k in KEYS] == [1.0, 1.0, 1.0]
    told = [env.step(action(0.02))[4] for _ in range(3)]
    assert [round(i["trust"], 4) for i in told] == [0.97, 0.3, 0.95]
    assert [round(i["trust_lowest"], 4) for i in told] == [0.97, 0.3, 0.3]
    assert all(type(i["trust"]) is float and i["trust_horizon"] == i["trust"] / 2 for i in told)
    env.close()


def test_a_fork_and_a_snapshot_remember():
    env = gym.make(LEARNED[0], **kwargs(terminate_on_success=False)).unwrapped
    env.reset(seed=0)
    env.step(action())
    snapshot = env.snapshot()
    first = [env.step(action(0.01))[4]["trust"] for _ in range(3)]
    env.restore(snapshot)
    assert [env.step(action(0.01))[4]["trust"] for _ in range(3)] == first
    envs = gym.make_vec(LEARNED[0], num_envs=3, **kwargs(terminate_on_success=False)).unwrapped
    envs.reset(seed=0)
    envs.restore(snapshot, [0, 2])
    infos = envs.step(np.stack([action(0.01), action(), action(0.05)]))[4]
    assert infos["trust"].round(4).tolist() == [0.3, 0.99, 0.3] and infos["_trust"].all()
    env.close()
    envs.close()


def test_a_chunk_ends_where_the_episode_ends():
    env = gym.make(LEARNED[0], **kwargs()).unwrapped
    env.reset(seed=0)  # success from clock 3 on, twice: ends at step 4
    info = env.step_chunk(np.stack([action()] * 8))[4]
    assert info["steps"] == 4 and info["trust"] == pytest.approx(0.96) and info["trust_lowest"] == 0.3
    env.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_autoreset_begins_trust_anew(mode):
    envs = gym.make_vec(LEARNED[0], num_envs=3, autoreset_mode=mode, **kwargs(max_episode_steps=6)).unwrapped
    envs.reset(seed=0)  # rows succeed at clocks 4, 5, 6
    actions = np.stack([action()] * 3)
    for step in range(1, 5):
        infos = envs.step(actions)[4]
        if step < 4:
            assert infos["trust"] == pytest.approx([0.3 if step == 2 else 1 - 0.01 * step] * 3)
    if mode is AutoresetMode.SAME_STEP:
        assert infos["trust"] == pytest.approx([1.0, 0.96, 0.96])
        assert infos["final_info"]["trust"][0] == pytest.approx(0.96)
        assert infos["final_info"]["trust_lowest"][0] == 0.3 and infos["trust_lowest"][0] == 1
    else:
        assert infos["trust"] == pytest.approx([0.96] * 3)
        if mode is AutoresetMode.NEXT_STEP:
            assert envs.step(actions)[4]["trust"] == pytest.approx([1.0, 0.95, 0.95])
        else:
            infos = envs.reset(options={"reset_mask": np.array([True, False, False])})[1]
            assert infos["trust"][0] == 1 and infos["_trust"].tolist() == [True, False, False]
            assert envs.step(actions)[4]["trust"] == pytest.approx([0.99, 0.95, 0.95])
    envs.close()


def test_none_says_nothing():
    env = gym.make(LEARNED[0], **kwargs(trust=None))
    assert not [k for k in env.reset(seed=0)[1] if k.startswith("trust")]
    env.close()


class DoubtfulState(StandInState):
    @property
    def doubts(self):
        return np.stack([0.01 * self.clocks, 0.001 * self.seeds], axis=1)

    def __getitem__(self, rows):
        return DoubtfulState(**vars(super().__getitem__(rows)))


class Doubtful(StandInModel):
    """A stand-in that doubts a centimetre more per frame."""

    def start(self, frames, *, seeds=None):
        return DoubtfulState(**vars(super().start(frames, seeds=seeds)))

    def step(self, state, condition):
        state, frames = super().step(state, condition)
        return DoubtfulState(**vars(state)), frames


class Listening(StandInTrust):
    """Keeps what it is told of the model's doubts."""

    def __init__(self):
        self.told = []

    def start(self, frames, poses, doubts=None):
        self.told.append(doubts)
        return super().start(frames, poses)

    def step(self, state, frames, actions, poses, doubts=None):
        self.told.append(doubts)
        return super().step(state, frames, actions, poses)


@pytest.mark.parametrize(("model", "inner"), [(Doubtful(), 1), (Doubtful(frames_per_step=2), 2)])
def test_trust_is_told_the_new_states_doubts(model, inner):
    trust = Listening()
    world = World(model, None, Rules(8), trust)
    starts = [Start(np.zeros((64, 64, 3), np.uint8), np.zeros(7), seed) for seed in (3, 5)]
    episodes, _ = advance(world, begin(world, starts), np.zeros((2, 4, 7), np.float32))
    clocks = [0, 1, 2, 3, 4] if inner == 1 else [0, 2, 2, 4, 4]
    assert np.stack(trust.told) == pytest.approx(np.array([[[0.01 * c, 0.003], [0.01 * c, 0.005]] for c in clocks]))
    assert trust.told[0].dtype == np.float64
    advance(world, select(episodes, [1]), np.zeros((1, inner, 7), np.float32))  # a fork
    assert trust.told[-1] == pytest.approx(np.array([[0.01 * (4 + inner), 0.005]]))


def test_trust_is_told_no_doubts_by_a_model_without():
    trust = Listening()
    env = gym.make(LEARNED[0], **kwargs(trust=trust))
    env.reset(seed=0)
    env.step(action())
    assert trust.told == [None, None]
    env.close()


class Weighed(StandInModel, torch.nn.Module):
    """A stand-in with weights, so that it can be told from another."""

    def __init__(self, value):
        torch.nn.Module.__init__(self)
        StandInModel.__init__(self)
        self.weight = torch.nn.Parameter(torch.full((1,), float(value)))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A trust that was calibrated for Weighed(1), as if it were shipped."""
    about = {"name": "stand-in", "hash": weights_hash(Weighed(1))}
    torch.manual_seed(0)
    network = TrustNetwork(TrustConfig(widths=(8, 8, 8), embedding=8, read=8, hidden=8))
    path = tmp_path / "stand-in-trust.safetensors"
    save_trust(path, Trust(network, None, {}, about))
    monkeypatch.setattr(trust_module, "shipped", lambda: {"stand-in-trust": path})
    return path


def test_auto_takes_the_trust_of_these_weights_alone(shipped):
    rules = Rules(8)
    world = make_world(Weighed(1), None, rules)
    assert isinstance(world.trust, Trust) and world.trust_notice == ""
    other = make_world(Weighed(2), None, rules)
    assert other.trust is None and "other weights" in other.trust_notice
    assert make_world(StandInModel(units=("m", "m")), None, rules).trust is None
    asked = make_world(Weighed(2), None, rules, trust=shipped)
    assert isinstance(asked.trust, Trust) and "calibrated for 'stand-in'" in asked.trust_notice
    assert make_world(Weighed(1), None, rules, trust="stand-in-trust").trust_notice == ""
    assert worlds.DEFAULT_TRUST == "auto"
    with pytest.raises(UserError, match="wfm-sim train trust"):
        make_world(Weighed(1), None, rules, trust="nonsense")
    with pytest.raises(UserError, match="robot actions"):
        make_world(StandInModel(units=("m", "m")), None, rules, trust=shipped)


def test_the_notice_reaches_info(shipped):
    env = gym.make(LEARNED[1], **kwargs(world_model=Weighed(2), trust="auto"))
    info = env.reset(seed=0)[1]
    assert "trust" not in info and "other weights" in info["trust_notice"]
    env.close()
    env = gym.make(LEARNED[1], **kwargs(world_model=Weighed(1), trust="auto"))
    env.reset(seed=0)
    info = env.step(action())[4]
    assert 0 <= info["trust"] <= 1 and "trust_notice" not in info
    env.close()
