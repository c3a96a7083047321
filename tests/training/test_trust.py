"""Rollouts for trust, their labels, and its training, on a few episodes of the twin and a model that stands still."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, UNITS, Workspace, apply_action
from wfm_sim.errors import UserError
from wfm_sim.policies.exploiter import Scene, Shooting, exploit, random_chunks
from wfm_sim.training.collect import CollectConfig, collect
from wfm_sim.training.trust import TrustRecipe, TrustTask, measure, predict, targets, train_trust
from wfm_sim.training.trust_exploits import ExploitPlan, exploits
from wfm_sim.training.trust_rollouts import RolloutPlan, Rollouts, record, roll_out
from wfm_sim.trust import TrustConfig, TrustNetwork, load_trust
from wfm_sim.world_model import WorldModelSpec

torch.set_num_threads(1)


@dataclass(frozen=True)
class State:
    frames: np.ndarray
    clock: np.ndarray

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, rows):
        return State(self.frames[rows], self.clock[rows])


class Still:
    """Repeats the first frame, brighter by the action's first number: right until something moves."""

    calls = 0
    spec = WorldModelSpec("still", (64, 64), 5.0, "action", tuple(ACTION_LOW.tolist()), tuple(ACTION_HIGH.tolist()),
                          UNITS, 1, 1, (3, 64, 64))  # fmt: skip

    def start(self, frames, *, seeds=None):
        assert len(seeds) == len(frames)
        return State(frames[:, -1], np.zeros(len(frames)))

    def step(self, state, condition):
        assert condition.shape == (len(state), 1, 7) and condition.dtype == np.float32
        Still.calls += 1
        frames = np.clip(state.frames + 40.0 * condition[:, 0, 0, None, None, None], 0, 255).astype(np.uint8)
        return State(frames, state.clock + 1), frames[:, None]


@dataclass(frozen=True)
class DoubtfulState(State):
    @property
    def doubts(self):
        return np.stack([0.01 * self.clock, np.where(self.clock > 0, 0.01, 0.0)], axis=1)

    def __getitem__(self, rows):
        return DoubtfulState(self.frames[rows], self.clock[rows])


class Doubtful(Still):
    """Doubts a centimetre more at every step."""

    spec = replace(Still.spec, name="doubtful")

    def start(self, frames, *, seeds=None):
        return DoubtfulState(**vars(super().start(frames, seeds=seeds)))

    def step(self, state, condition):
        state, frames = super().step(state, condition)
        return DoubtfulState(**vars(state)), frames


class DoubtfulPairs(Doubtful):
    """Two frames at a time."""

    spec = replace(Doubtful.spec, frames_per_step=2)

    def step(self, state, condition):
        state, frames = super().step(state, condition[:, :1])
        return state, np.repeat(frames, 2, axis=1)


class Brightness:
    """A judge that likes bright frames."""

    def __call__(self, frames, first_frames, tasks, colours):
        assert len(frames) == len(first_frames) == len(tasks) == len(colours)
        value = frames.mean(axis=(1, 2, 3)) / 255
        return value, value


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("collected")
    collect(root, 5, CollectConfig(seed=5, steps=12))
    collect(root, 2, CollectConfig(seed=5, steps=12, split="val"))
    return root


def made(rows, steps=8, seed=0, lengths=None):
    """Rollouts in which a bright frame is a diverged one."""
    rng = np.random.default_rng(seed)
    out = rng.random((rows, steps + 1)) < 0.4
    out[:, 0] = False
    frames = rng.integers(0, 60, (rows, steps + 1, 64, 64, 3), dtype=np.uint8)
    frames[out] += 150
    actions = rng.uniform(-0.05, 0.05, (rows, steps, 7)).astype(np.float32)
    poses = rng.uniform(0, 0.3, (rows, steps + 1, 7)).astype(np.float32)
    error = np.where(out, 9.0, 1.0).astype(np.float32)
    doubts = rng.uniform(0, 0.05, (rows, steps + 1, 2)).astype(np.float32)
    lengths = np.full(rows, steps) if lengths is None else np.array(lengths)
    return Rollouts(frames, actions, poses, error, doubts, lengths)


def test_recorded_episodes_are_imagined_compared_and_kept(data, tmp_path):
    plan = RolloutPlan(5, steps=10, batch=3)
    Still.calls = 0
    rollouts = record(Still(), [data], plan, tmp_path)
    assert rollouts.frames.shape == (5, 11, 64, 64, 3) and rollouts.actions.shape == (5, 10, 7)
    assert Still.calls == 20 and len(list(tmp_path.iterdir())) == 2
    assert rollouts.error[:, 0].max() < 2 and (rollouts.error > 5).any()
    # driven by what was executed: the poses follow from the actions
    pose = rollouts.poses[:, 0].astype(float)
    for t in range(10):
        pose = apply_action(pose, rollouts.actions[:, t])
        assert pose[:, :6] == pytest.approx(rollouts.poses[:, t + 1, :6], abs=1e-4)
    again = record(Still(), [data], plan, tmp_path)
    assert Still.calls == 20 and np.array_equal(again.frames, rollouts.frames)
    record(Still(), [data], replace(plan, steps=9), tmp_path)
    assert Still.calls > 20


def test_rollouts_keep_the_models_own_doubts(data, tmp_path):
    plan = RolloutPlan(2, steps=5)
    found = record(Doubtful(), [data], plan, tmp_path)
    assert found.doubts.shape == (2, 6, 2) and found.doubts.dtype == np.float32
    assert found.doubts[1] == pytest.approx(np.array([[0.01 * t, 0.01 * (t > 0)] for t in range(6)]))
    assert np.array_equal(record(Doubtful(), [data], plan, tmp_path).doubts, found.doubts)
    without = record(Still(), [data], plan, tmp_path)
    assert without.doubts.shape == (2, 6, 2) and not without.doubts.any()
    frames, doubts = roll_out(DoubtfulPairs(), found.frames[:, 0], found.actions, [0, 1])
    assert frames.shape[:2] == (2, 6) and doubts[0, :, 0] == pytest.approx([0, 0.01, 0.01, 0.02, 0.02, 0.03])
    shots = exploits(Doubtful(), Brightness(), [data], ExploitPlan(1, Shooting(4, 3, 2, 2)), tmp_path)
    assert shots.doubts[..., 0] == pytest.approx(0.01 * np.minimum(np.arange(5), shots.lengths[:, None]))


def test_exploits_please_the_judge_and_are_compared_with_the_twin(data, tmp_path):
    plan = ExploitPlan(1, Shooting(steps=4, candidates=3, chunk=2, keep=2))
    found = exploits(Still(), Brightness(), [data], plan, tmp_path)
    assert len(found) == 3 and found.lengths.tolist() == [4, 2, 4]
    assert found.valid.sum(axis=1).tolist() == [5, 3, 5]
    assert found.error[:, 0].max() < 2
    assert np.array_equal(exploits(Still(), Brightness(), [data], plan, tmp_path).frames, found.frames)


WORKSPACE = Workspace((0.1, -0.2, 0.0, -3.0, -3.0, -3.0), (0.5, 0.2, 0.3, 3.0, 3.0, 3.0))


def test_the_exploiter_takes_what_the_judge_likes_best():
    pose = np.array([0.3, 0.0, 0.1, 0.0, 0.0, 0.3, 1.0])
    scene = Scene(7, np.full((64, 64, 3), 100, np.uint8), pose, "push", "red")
    many, few = (
        exploit(Still(), Brightness(), scene, WORKSPACE, Shooting(steps=8, candidates=n, chunk=4)) for n in (20, 1)
    )
    assert len(many) == 1 and many[0].frames.shape == (9, 64, 64, 3)
    assert many[0].frames[-1].mean() > few[0].frames[-1].mean()
    assert many[0].score == pytest.approx(2 * many[0].frames[-1].mean() / 255)
    same = exploit(Still(), Brightness(), scene, WORKSPACE, Shooting(steps=8, candidates=20, chunk=4))
    assert np.array_equal(same[0].actions, many[0].actions)
    with pytest.raises(UserError, match="at most candidates"):
        exploit(Still(), Brightness(), scene, WORKSPACE, Shooting(candidates=2, keep=3))


def test_candidates_stay_in_the_box_and_go_where_they_head():
    pose = np.array([0.3, 0.0, 0.1, 0.0, 0.0, 0.9, 1.0])
    actions, poses = random_chunks(pose, 8, 30, WORKSPACE, np.random.default_rng(0))
    assert actions.shape == (30, 8, 7) and poses.shape == (30, 8, 7)
    assert (actions >= ACTION_LOW - 1e-6).all() and (actions <= ACTION_HIGH + 1e-6).all()
    assert poses[:, -1, 2].mean() < 0.1 and np.ptp(poses[:, -1, 1]) > 0.1
    assert set(np.unique(actions[..., 6])) == {0.0, 1.0}


def test_targets_look_ahead_and_stop_at_the_end():
    rollouts = replace(made(2, 6, lengths=[6, 4]), error=np.zeros((2, 7), np.float32))
    rollouts.error[0, 3] = np.inf
    rollouts.error[1, 2] = 4.0
    assert not targets(rollouts, 2, 3.0)[0][1, 2, 0]
    truth, known = targets(rollouts, 2, 5.0)
    assert truth[0, :, 0].tolist() == [True, True, True, False, True, True, True]
    assert truth[0, :5, 1].tolist() == [True, False, False, True, True]
    assert known[0].tolist() == [[False, True], *[[True, True]] * 4, [True, False], [True, False]]
    assert known[1, :, 0].tolist() == [False, True, True, True, True, False, False]
    assert known[1, :, 1].tolist() == [True, True, True, False, False, False, False]


def test_padding_repeats_the_end():
    short, long = made(2, 3), made(1, 5)
    both = Rollouts.cat([short, long])
    assert both.frames.shape[:2] == (3, 6) and both.actions.shape[:2] == (3, 5) and both.lengths.tolist() == [3, 3, 5]
    assert np.array_equal(both.poses[0, 5], short.poses[0, 3])


@pytest.mark.parametrize("doubts", [False, True])
def test_the_network_sees_a_rollout_as_the_environments_do(doubts):
    """Whole rollouts in training and step by step in use: the same numbers."""
    from wfm_sim.trust import Trust

    torch.manual_seed(0)
    network = TrustNetwork(TrustConfig(widths=(8, 8, 8), embedding=8, read=8, hidden=8, doubts=doubts)).eval()
    rollouts = made(2, 4)
    told = rollouts.doubts.astype(np.float64)
    logits = predict(network, rollouts)
    trust = Trust(network)
    state = trust.start(rollouts.frames[:, 0], rollouts.poses[:, 0], told[:, 0])
    assert state.horizon == pytest.approx(1 / (1 + np.exp(-logits[:, 0, 1])), abs=1e-5)
    for t in range(4):
        imagined = (rollouts.frames[:, t + 1], rollouts.actions[:, t], rollouts.poses[:, t + 1])
        state = trust.step(state, *imagined, told[:, t + 1])
        assert state.trust == pytest.approx(1 / (1 + np.exp(-logits[:, t + 1, 0])), abs=1e-5)


def test_it_learns_what_a_diverged_frame_looks_like(tmp_path):
    recipe = TrustRecipe(steps=40, batch=6, lr=3e-3)
    config = TrustConfig(widths=(8, 8, 8), embedding=8, read=16, hidden=8)
    torch.manual_seed(0)
    task = TrustTask(made(24), made(4, 5, seed=2), made(12, seed=1), recipe, {"name": "still"}, config=config)
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    for step in range(recipe.steps):
        loss, _ = task.loss(step, torch.Generator().manual_seed(step), 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    task.model.eval()
    found = task.sample(40, tmp_path)
    assert found["held_auroc_now"] > 0.9 and task.quality["episodes"] == 12
    perfect = np.repeat((task.held.error < 5).astype(float)[..., None], 2, axis=2)
    assert measure(perfect, task.held, 5, 5.0)["ece_now"] == 0


def test_train_trust_from_end_to_end(data, tmp_path):
    recipe = TrustRecipe(episodes=5, validation=2, scenes=0, steps=2, batch=2)
    path = train_trust(Still(), [data], tmp_path, recipe)
    trust = load_trust(path)
    assert trust.world_model == {"name": "still", "hash": None} and trust.tolerance["distance"] == 5.0
    assert trust.quality["training_episodes"] == 4 and trust.quality["episodes"] == 3 and trust.quality["steps"] == 2
    assert json.loads((tmp_path / "quality.json").read_text())["episodes"] == 3
    assert not trust.config.doubts
    assert load_trust(train_trust(Doubtful(), [data], tmp_path / "doubtful", recipe)).config.doubts

    class Another(Still):
        spec = replace(Still.spec, name="another")

    with pytest.raises(UserError, match="other weights"):
        train_trust(Another(), [data], tmp_path, recipe)
    with pytest.raises(UserError, match="at least 4"):
        train_trust(Still(), [data], tmp_path / "b", replace(recipe, episodes=1))
    with pytest.raises(UserError, match="at least one data set"):
        train_trust(Still(), [], tmp_path / "b", recipe)
