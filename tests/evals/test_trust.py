"""The eval of trust: its numbers on made-up records whose truth is known, and the whole of it on stand-ins."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from wfm_sim.errors import UserError
from wfm_sim.evals import trust_run
from wfm_sim.evals.submission import Trust as SubmissionTrust
from wfm_sim.evals.submission import TrustBin
from wfm_sim.evals.trust import trust_along
from wfm_sim.evals.trust_summary import abstention, collapse, exploitation, summarise
from wfm_sim.tolerance import TOLERANCE
from wfm_sim.trust import Trust, TrustConfig, TrustNetwork, TrustState

T = 12


def record(rng: np.random.Generator, honest: bool = True, **more: Any) -> dict[str, Any]:
    """An episode that collapses at a random step; its trust is the true probability, or noise."""
    at = int(rng.integers(2, 2 * T))
    out = np.arange(T + 1) >= at
    said = np.where(out, rng.uniform(0, 0.4, T + 1), rng.uniform(0.6, 1, T + 1)) if honest else rng.random(T + 1)
    soon = np.array([out[t + 1 : t + 6].any() for t in range(T + 1)])
    ahead = np.where(soon, 0.1, 0.9) if honest else rng.random(T + 1)
    made = {"kind": "held-out", "seed": 1, "policy": "p", "task": "push", "trust": [1.0, *said[1:]]}
    made |= {"horizon": ahead.tolist(), "diverged": out.tolist(), "success": True, "judged": bool(at > T)}
    return {**made, **more}


def test_good_trust_ranks_and_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    good = summarise([record(rng) for _ in range(60)])
    head = good["headline"]
    assert head["auroc_now"]["value"] == 1 and head["auroc_ahead"]["value"] == 1
    assert head["auroc_ahead_not_yet"]["value"] == 1 and good["gates"]["auroc_ahead"]["met"]
    assert head["ece_ahead"]["value"] == pytest.approx(0.1, abs=0.02)
    noise = summarise([record(rng, honest=False) for _ in range(60)])
    assert 0.4 < noise["headline"]["auroc_now"]["value"] < 0.6 and not noise["gates"]["auroc_ahead"]["met"]
    low, high = (noise["headline"]["auroc_now"][k] for k in ("low", "high"))
    assert low < noise["headline"]["auroc_now"]["value"] < high
    json.dumps(good)


def test_calibrated_trust_has_little_error_and_bins_for_the_leaderboard() -> None:
    rng = np.random.default_rng(0)
    records = []
    for _ in range(150):
        p = rng.random(T + 1)
        records.append({**record(rng), "trust": p.tolist(), "diverged": (rng.random(T + 1) > p).tolist()})
    found = summarise(records)
    assert found["headline"]["ece_now"]["value"] < 0.04 and found["gates"]["ece_now"]["met"]
    bins = found["reliability"]["now"]
    assert sum(b["n"] for b in bins) == 150 * T
    for b in bins:
        assert b["observed"]["low"] <= b["observed"]["value"] <= b["observed"]["high"]
        assert b["low"] <= b["predicted"] <= b["high"]
    from wfm_sim.evals.statistics import Estimate

    SubmissionTrust(
        tuple(TrustBin(b["low"], b["high"], b["predicted"], Estimate(**b["observed"])) for b in bins), "within"
    )


def test_collapse_is_the_last_time_that_a_rollout_goes_wrong() -> None:
    def of(*out: int) -> dict[str, Any]:
        return {"diverged": [bool(x) for x in out]}

    records = [of(0, 1, 0, 1, 1), of(0, 0, 0, 0, 1), of(0, 1, 1, 1, 1), of(0, 1, 1, 1, 0)]
    found = collapse(records)  # at 3, at 4, at 1, and not (censored at 4)
    assert [p["step"] for p in found["survival"]] == [0, 1, 3, 4]
    assert [p["survival"] for p in found["survival"]] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert found["median"] == 3 and found["censored"] == 0.25
    assert collapse([of(0, 0, 0), of(0, 1, 0)])["median"] is None


def test_abstaining_leaves_out_what_is_not_trusted() -> None:
    rng = np.random.default_rng(1)
    wrong = [record(rng, trust=[1.0, 0.2, 0.9], judged=True, success=False) for _ in range(4)]
    right = [record(rng, trust=[1.0, 0.8, 0.9], judged=True, success=True) for _ in range(6)]
    table = {row["threshold"]: row for row in abstention(wrong + right)}
    assert table[0.0]["kept"] == 10 and table[0.0]["agreement"]["value"] == 0.6
    assert table[0.5]["left_out"] == pytest.approx(0.4) and table[0.5]["agreement"]["value"] == 1
    assert table[0.5]["agreement_left_out"]["value"] == 0
    assert table[0.9]["kept"] == 0 and table[0.9]["agreement"]["value"] is None


def test_the_exploiter_is_caught_or_not() -> None:
    rng = np.random.default_rng(2)
    caught = [record(rng, kind="exploit", trust=[1.0, 0.1], judged=True, success=False, diverged=[False, True])] * 3
    missed = [record(rng, kind="exploit", trust=[1.0, 0.9], judged=True, success=False, diverged=[False, True])]
    true = [record(rng, kind="exploit", trust=[1.0, 0.9], judged=True, success=True, diverged=[False, False])] * 2
    found = exploitation(caught + missed + true, [record(rng)])
    assert found["imagined_success"]["value"] == 1 and found["true_success"]["value"] == pytest.approx(1 / 3)
    assert found["untrusted"]["value"] == 0.5 and found["false_successes"] == 4
    assert found["false_successes_untrusted"]["value"] == 0.75


def test_a_rollouts_trust_is_that_of_its_frames_and_doubts() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"widths": (8, 8, 8), "embedding": 8, "read": 8, "hidden": 8}
    plain, doubtful = (Trust(TrustNetwork(TrustConfig(**sizes, doubts=d))) for d in (False, True))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 4, 64, 64, 3), dtype=np.uint8)
    actions, poses = rng.uniform(0, 0.05, (2, 3, 7)).astype(np.float32), rng.uniform(0, 0.3, (2, 4, 7))
    none, some = np.zeros((2, 4, 2), np.float32), rng.uniform(0, 0.05, (2, 4, 2)).astype(np.float32)
    told = trust_along(doubtful, frames, actions, poses, some)["trust"]
    assert told.shape == (2, 4) and (told[:, 0] == 1).all()
    assert (told[:, 1:] != trust_along(doubtful, frames, actions, poses, none)["trust"][:, 1:]).all()
    aside = trust_along(plain, frames, actions, poses, some)["trust"]
    assert np.array_equal(aside, trust_along(plain, frames, actions, poses, none)["trust"])


class FrozenModel:
    """Repeats the first frame."""

    def __init__(self) -> None:
        from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, UNITS
        from wfm_sim.world_model import WorldModelSpec

        low, high = tuple(ACTION_LOW.tolist()), tuple(ACTION_HIGH.tolist())
        self.spec = WorldModelSpec("frozen", (64, 64), 5.0, "action", low, high, UNITS, 1, 1, (3, 64, 64))
        self.steps = 0

    def start(self, frames: Any, *, seeds: Any = None) -> Any:
        rows = len(frames)
        none = np.zeros((rows, 1))
        return TrustState(frames[:, -1], frames[:, -1], none, none, none, none, none, none)

    def step(self, state: Any, condition: Any) -> Any:
        self.steps += 1
        return state, state.first[:, None]


def test_main_end_to_end_resumes_and_prints(tmp_path: Any) -> None:
    torch.manual_seed(0)
    network = TrustNetwork(TrustConfig(widths=(8, 8, 8), embedding=8, read=8, hidden=8))
    trust = Trust(network, None, TOLERANCE.to_json(), {"name": "other"})
    model = FrozenModel()

    def judge(frames: Any, first: Any, tasks: Any, colours: Any) -> Any:
        return np.full(len(frames), 0.9), np.linspace(0, 1, len(frames))

    options: dict[str, Any] = {"trust": trust, "judge": judge, "episodes": 2, "exploits": 1, "candidates": 2}
    options |= {"steps": 8, "out": tmp_path / "out", "cache": tmp_path / "cache"}
    with Console(record=True, width=200) as console:
        summary = trust_run.main(model, console=console, **options)
    text = console.export_text()
    for words in ("AUROC", "steps to collapse", "best of 2 against the judge", "calibrated for other weights"):
        assert words in text
    assert summary["exploit"]["imagined_success"]["value"] == 1 and summary["episodes"] == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "records.jsonl", "records.key", "summary.json", "table.md", "reliability.png"}  # fmt: skip
    steps, lines = model.steps, (tmp_path / "out" / "records.jsonl").read_text()
    assert steps == 16 and lines.count("\n") == 3
    (tmp_path / "out" / "records.jsonl").write_text(lines[: len(lines) // 2])  # killed in the middle of a line
    again = trust_run.main(model, console=Console(quiet=True), **options)
    assert model.steps > steps and again["headline"] == summary["headline"]
    assert sorted((tmp_path / "out" / "records.jsonl").read_text().splitlines()) == sorted(lines.splitlines())


def test_bad_input_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="episodes"):
        trust_run.main(FrozenModel(), episodes=0, out=tmp_path)
    with pytest.raises(UserError, match="wfm-sim train trust"):
        trust_run.main(FrozenModel(), out=tmp_path)
