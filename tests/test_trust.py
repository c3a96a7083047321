"""Trust: tolerance, calibration measures, the network's contract, and its files."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wfm_sim.errors import UserError
from wfm_sim.reliability import auroc, calibration_error, platt, reliability
from wfm_sim.tolerance import Tolerance, diverged
from wfm_sim.trust import Calibration, Trust, TrustConfig, TrustNetwork, TrustState, load_trust, motion, save_trust
from wfm_sim.weights import shipped, weights_hash

torch.set_num_threads(1)
CONFIG = TrustConfig(widths=(8, 16, 16), embedding=8, read=16, hidden=8)


def made(config):
    torch.manual_seed(0)
    network = TrustNetwork(config)
    for parameter in network.parameters():  # the zero-initialised ones too: every part must matter
        torch.nn.init.normal_(parameter, std=0.1)
    about = {"name": "some-model", "hash": "sha256:00"}
    return Trust(network, Calibration((0.5, 0.1), (0.7, -0.1)), Tolerance().to_json(), about, {"auroc_now": 0.9})


@pytest.fixture
def trust():
    return made(CONFIG)


def clip(rows, steps, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (rows, steps + 1, 64, 64, 3), dtype=np.uint8)
    actions = rng.uniform(-0.05, 0.05, (rows, steps, 7)).astype(np.float32)
    return frames, actions, rng.uniform(0, 0.3, (rows, steps + 1, 7))


def run(trust, frames, actions, poses, doubts=None):
    told = [None] * frames.shape[1] if doubts is None else np.moveaxis(doubts, 1, 0)
    state = trust.start(frames[:, 0], poses[:, 0], told[0])
    for t in range(actions.shape[1]):
        state = trust.step(state, frames[:, t + 1], actions[:, t], poses[:, t + 1], told[t + 1])
    return state


def test_given_frames_are_trusted_and_later_ones_in_proportion(trust):
    frames, actions, poses = clip(3, 2)
    state = trust.start(frames[:, 0], poses[:, 0])
    assert (state.trust == 1).all() and (state.lowest == 1).all() and ((state.horizon > 0) & (state.horizon < 1)).all()
    after = trust.step(state, frames[:, 1], actions[:, 0], poses[:, 1])
    assert ((after.trust > 0) & (after.trust < 1)).all() and (after.lowest == after.trust).all()
    assert len(after) == 3 and after.trust.dtype == np.float64
    assert (state.trust == 1).all()  # what it was given is left as it was


def test_rows_do_not_depend_on_their_batch_and_can_be_regrouped(trust):
    frames, actions, poses = clip(4, 3)
    together = run(trust, frames, actions, poses)
    for row in range(4):
        alone = run(trust, frames[[row]], actions[[row]], poses[[row]])
        assert alone.trust[0] == pytest.approx(together.trust[row], abs=1e-5)
        assert alone.horizon[0] == pytest.approx(together.horizon[row], abs=1e-5)
    again = TrustState.cat([together[[2]], together[np.array([True, False, False, False])], together[1:2]])
    assert np.array_equal(again.trust, together.trust[[2, 0, 1]])
    mixed = together.where(np.array([True, False, True, False]), together[[3, 2, 1, 0]])
    assert np.array_equal(mixed.lowest, together.lowest[[0, 2, 2, 0]])


def test_history_action_pose_and_first_frame_matter(trust):
    frames, actions, poses = clip(1, 3)
    told = run(trust, frames, actions, poses).trust[0]

    def other(at, values):
        changed = {"frames": frames.copy(), "actions": actions.copy(), "poses": poses.copy()}
        changed[at[0]][:, at[1]] = values
        return run(trust, *changed.values()).trust[0]

    assert told == run(trust, frames, actions, poses).trust[0]
    for at in (("frames", 0), ("frames", 1), ("frames", 3), ("actions", 0), ("actions", 2), ("poses", 3)):
        assert other(at, 77 if at[0] == "frames" else 0.2) != told, at


def test_doubts_are_left_aside_unless_asked_for(trust):
    frames, actions, poses = clip(2, 3)
    plain = run(trust, frames, actions, poses)
    told = run(trust, frames, actions, poses, np.full((2, 4, 2), 0.03))
    for name in ("trust", "horizon", "lowest", "memory"):
        assert np.array_equal(getattr(told, name), getattr(plain, name)), name
    assert motion(actions, poses[:, 1:]).shape == (2, 3, 14)


def test_doubts_matter_where_they_are_asked_for():
    trust, (frames, actions, poses) = made(replace(CONFIG, doubts=True)), clip(2, 3)
    none = np.zeros((2, 4, 2))
    plain = run(trust, frames, actions, poses, none).trust
    assert np.array_equal(plain, run(trust, frames, actions, poses).trust)
    for at in [(step, column) for step in range(4) for column in range(2)]:
        doubts = none.copy()
        doubts[(0, *at)] = 0.02
        told = run(trust, frames, actions, poses, doubts).trust
        assert told[0] != plain[0] and told[1] == plain[1], at


def test_doubts_are_numbers_of_size_one():
    usual = np.array([[0.0, 0.0], [5e-5, 5e-5], [0.01, 0.001], [0.2, 0.1], [1e9, np.inf]])
    told = motion(np.zeros((5, 7)), np.zeros((5, 7)), usual)
    assert told.shape == (5, 16) and told.dtype == torch.float32 and not told[:, :14].any()
    assert (told[:, 14:].abs() < 4).all() and (told[1:, 14:] > told[:-1, 14:]).all()
    assert told[2, 14:].tolist() == pytest.approx([0, 0], abs=0.01)


def test_lowest_remembers(trust):
    frames, actions, poses = clip(2, 6)
    state, seen = trust.start(frames[:, 0], poses[:, 0]), []
    for t in range(6):
        state = trust.step(state, frames[:, t + 1], actions[:, t], poses[:, t + 1])
        seen.append(state.trust)
        assert np.array_equal(state.lowest, np.min(seen, axis=0))


def test_files_keep_everything_and_stay_small(trust, tmp_path):
    save_trust(tmp_path / "t.safetensors", trust)
    again = load_trust(tmp_path / "t.safetensors")
    assert again.calibration == trust.calibration and again.config == CONFIG and again.quality == trust.quality
    assert again.world_model == trust.world_model and "5 px" in again.tolerance["meaning"]
    frames, actions, poses = clip(2, 2)
    assert run(again, frames, actions, poses).trust == pytest.approx(run(trust, frames, actions, poses).trust, abs=0.01)
    save_trust(tmp_path / "full.safetensors", Trust(TrustNetwork(TrustConfig())))
    assert (tmp_path / "full.safetensors").stat().st_size < 400_000


def test_files_say_whether_doubts_are_told(trust, tmp_path):
    doubtful = made(replace(CONFIG, doubts=True))
    save_trust(tmp_path / "new.safetensors", doubtful)
    again = load_trust(tmp_path / "new.safetensors")
    told = (*clip(2, 2), np.random.default_rng(1).uniform(0, 0.05, (2, 3, 2)))
    assert again.config.doubts and run(again, *told).trust == pytest.approx(run(doubtful, *told).trust, abs=0.01)
    # written before there were doubts
    save_trust(tmp_path / "t.safetensors", trust)
    with safe_open(tmp_path / "t.safetensors", framework="pt") as file:
        about, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads(about["config"])
    del config["doubts"]
    save_file(weights, tmp_path / "old.safetensors", about | {"config": json.dumps(config)})
    old = load_trust(tmp_path / "old.safetensors")
    assert old.config == CONFIG and not old.config.doubts
    assert np.array_equal(run(old, *told).trust, run(load_trust(tmp_path / "t.safetensors"), *told[:3]).trust)


def test_wrong_files_and_frames_are_refused(trust, tmp_path):
    with pytest.raises(UserError, match="wfm-sim train trust"):
        load_trust("no-such-trust")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"format": "other"})
    with pytest.raises(UserError, match="not a trust network"):
        load_trust(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="can be read"):
        load_trust(tmp_path / "y.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "z.safetensors", {"format": "wfm-sim trust 1", "config": "{}"})
    with pytest.raises(UserError, match="can be read"):
        load_trust(tmp_path / "z.safetensors")
    with pytest.raises(UserError, match="uint8"):
        trust.start(np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 7)))


def test_weights_are_told_apart_whatever_they_compute_in():
    torch.manual_seed(0)
    a = torch.nn.Linear(3, 2)
    here = weights_hash(a)
    assert here == weights_hash(a.bfloat16()) and here.startswith("sha256:")
    with torch.no_grad():
        a.bias += 1
    assert weights_hash(a) != here and weights_hash(object()) is None


# ------------------------------------------------------------------------------------------------------- tolerance

RED, BLUE, TABLE = (200, 30, 30), (30, 60, 210), (150, 130, 100)


def scene(*places):
    """64 px frame with a red block at the first place and a blue one at the second: 8 px squares by their corner."""
    frame = np.full((64, 64, 3), TABLE, np.uint8)
    for place, colour in zip(places, (RED, BLUE), strict=False):
        if place is not None:
            x, y = place
            frame[y : y + 8, x : x + 8] = colour
    return frame


def known(*places):
    return [(0, 0, 0) if p is None else (p[0] + 3.5, p[1] + 3.5, 64) for p in places]


def test_a_block_off_its_place_or_gone_is_diverged():
    first, moved = ((10, 10), (40, 40)), ((30, 10), (40, 40))
    truth = np.stack([scene(*first), scene(*moved), scene(*moved), scene(*moved), scene(*moved)])
    objects = np.array([known(*first), known(*moved), known(*moved), known(*moved), known(*moved)])
    imagined = np.stack(
        [scene(*first), scene((33, 12), (40, 40)), scene((38, 10), (40, 40)), scene(None, (40, 40)), scene(*first)]
    )
    assert diverged(truth, imagined, objects).tolist() == [False, False, True, True, True]
    wider = replace(Tolerance(), distance=10.0)
    assert diverged(truth, imagined, objects, tolerance=wider).tolist() == [False, False, False, True, True]


def test_a_ghost_of_a_block_is_diverged():
    places = ((10, 10), (40, 40))
    ghost = scene(*places)
    ghost[10:18, 10:18] = (0.3 * np.array(RED) + 0.7 * np.array(TABLE)).astype(np.uint8)
    truth = np.stack([scene(*places)] * 2)
    assert diverged(truth, np.stack([truth[0], ghost]), np.array([known(*places)] * 2)).tolist() == [False, True]


def test_what_the_truth_hides_or_the_tracker_cannot_see_is_not_asked_for():
    places = ((10, 10), (40, 40))
    truth = np.stack([scene(*places), scene(None, (40, 40)), scene(None, (40, 40))])
    hidden = np.array([known(*places), known(None, (40, 40)), known(*places)])  # the last: said to be there, not seen
    assert not diverged(truth, truth, hidden).any()
    assert not diverged(truth, np.stack([truth[0], truth[0], truth[1]]), hidden).any()


# ------------------------------------------------------------------------------------------------------- reliability


def test_auroc_counts_pairs_and_halves_ties():
    score, label = np.array([0.1, 0.4, 0.4, 0.8, 0.9]), np.array([0, 0, 1, 0, 1])
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label == 1] for n in score[label == 0]]
    assert auroc(score, label) == pytest.approx(np.mean(pairs))
    assert auroc(score, np.ones(5)) is None


def test_calibration_is_measured_and_mended():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    slope, offset = platt(logits, truth)
    assert slope == pytest.approx(0.5, abs=0.03) and offset == pytest.approx(-1, abs=0.06)
    raw, mended = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-(slope * logits + offset)))
    assert calibration_error(raw, truth) > 0.1 and calibration_error(mended, truth) < 0.02
    assert calibration_error([], []) is None
    only = platt(logits, np.ones(20_000))
    assert only[0] == 1.0 and np.isfinite(only[1]) and only[1] > 3


def test_bins_cover_all_without_overlap():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(1000), np.zeros(300), np.ones(200)])
    y = rng.random(1500) < p
    bins = reliability(p, y)
    assert sum(b.n for b in bins) == 1500 and bins[0].low == 0 and bins[-1].high == 1 and len(bins) <= 15
    for b in bins:
        assert b.low < b.high and b.low <= b.predicted <= b.high
    assert all(a.high <= b.low for a, b in pairwise(bins))
    assert calibration_error(p, y) < 0.06
    assert json.dumps([vars(b) for b in bins])
    assert [b.n for b in reliability(np.full(9, 0.5), np.ones(9))] == [9]


def test_the_shipped_trust_is_for_the_shipped_model() -> None:
    """Settings that a later version adds must not part the two: the environments would quietly say nothing of trust."""
    from wfm_sim.models import load

    if not {"nano-tabletop", "nano-tabletop-trust"} <= set(shipped()):
        pytest.skip("no shipped weights")
    assert load_trust("nano-tabletop-trust").world_model["hash"] == weights_hash(load("nano-tabletop"))
