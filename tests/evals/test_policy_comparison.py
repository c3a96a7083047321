import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, UNITS
from wfm_sim.errors import UserError
from wfm_sim.evals import comparison_summary as cs
from wfm_sim.evals import policy_comparison as pc
from wfm_sim.world_model import WorldModelSpec


@dataclass(frozen=True)
class State:
    frames: np.ndarray
    way: np.ndarray  # metres moved so far

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: Any) -> "State":
        return State(self.frames[rows], self.way[rows])

    @classmethod
    def cat(cls, states: Any) -> "State":
        return cls(np.concatenate([s.frames for s in states]), np.concatenate([s.way for s in states]))


class WayModel:
    """Repeats the first frame, but writes into its first pixel how many centimetres the gripper has been moved."""

    spec = WorldModelSpec(
        name="way",
        frame_size=(64, 64),
        fps=5.0,
        condition="action",
        condition_low=tuple(map(float, ACTION_LOW)),
        condition_high=tuple(map(float, ACTION_HIGH)),
        condition_units=UNITS,
        frames_per_step=1,
        context_frames=1,
        latent_shape=(3, 64, 64),
    )

    def start(self, frames: np.ndarray, *, seeds: Any = None) -> State:
        return State(frames[:, -1], np.zeros(len(frames)))

    def step(self, state: State, condition: np.ndarray) -> tuple[State, np.ndarray]:
        way = state.way + np.linalg.norm(condition[:, 0, :3], axis=1)
        frames = state.frames.copy()
        frames[:, 0, 0] = np.round(way * 100)[:, None]
        return replace(state, way=way), frames[:, None]


def way_judge(frames: Any, first_frames: Any, tasks: Any, colours: Any) -> tuple[np.ndarray, np.ndarray]:
    """A success after 10 cm: moving policies succeed, one that stands still does not."""
    way = np.where((frames == first_frames).all((1, 2, 3)), 0, frames[:, 0, 0, 0])
    return (way >= 10).astype(float), np.minimum(way / 10.0, 1)


def compare(jobs: Any, **options: Any) -> tuple[list[pc.Outcome], pc.Speed]:
    return pc.compare(jobs, world_model=WayModel(), judge=way_judge, **options)


def test_both_worlds_run_every_job_whatever_the_batch(tmp_path: Path) -> None:
    jobs = pc.plan(["zero", "expert"], ["push", "pick"], 2)
    path = tmp_path / "records.jsonl"
    outcomes, speed = compare(jobs, num_envs=3, workers=0, keep=jobs[:1], records_file=path)
    assert [o.job for o in outcomes] == jobs * 2
    assert [o.world for o in outcomes] == ["model"] * len(jobs) + ["twin"] * len(jobs)
    by = {(o.world, o.job.policy): [] for o in outcomes}
    for o in outcomes:
        by[o.world, o.job.policy].append(o.success)
    assert by["model", "zero"] == by["twin", "zero"] == [False] * 4
    assert by["model", "expert"] == by["twin", "expert"] == [True] * 4
    assert [o.job for o in outcomes if o.trace] == jobs[:1] * 2
    trace = outcomes[0].trace
    assert trace.frames.shape == (33, 64, 64, 3) and trace.actions.shape == (32, 7) and "block" in trace.instruction
    np.testing.assert_array_equal(trace.frames[0], next(o for o in outcomes if o.world == "twin").trace.frames[0])
    assert speed.frames > 0 and speed.fps > 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(map(json.dumps, lines)) == sorted(json.dumps(o.to_json()) for o in outcomes)
    alone, _ = compare(jobs, num_envs=1, workers=0)
    assert [o.to_json() for o in alone] == [o.to_json() for o in outcomes]


def test_twin_in_another_process_gives_the_same() -> None:
    jobs = pc.plan(["random"], ["push"], 2, seed=3)
    here, _ = compare(jobs, num_envs=2, workers=0)
    there, _ = compare(jobs, num_envs=2, workers=1)
    assert [o.to_json() for o in here] == [o.to_json() for o in there]


def test_bad_names_and_counts() -> None:
    with pytest.raises(UserError, match="did you mean 'expert'"):
        pc.plan(["expret"], ["push"], 1)
    with pytest.raises(UserError, match="at least 1"):
        pc.plan(["zero"], ["push"], 0)
    with pytest.raises(UserError, match="did you mean 'push'"):
        compare(pc.plan(["zero"], ["pushh"], 1), workers=0)


def outcome(world: str, policy: str, seed: int, success: bool) -> pc.Outcome:
    return pc.Outcome(world, pc.Job(policy, "push", seed), success, 10, float(success))


def test_summary_counts_and_correlates() -> None:
    rates = {"zero": (0, 0), "random": (1, 0), "noisy": (4, 6), "expert": (9, 10)}
    outcomes = [
        outcome(world, policy, seed, seed < k)
        for policy, ks in rates.items()
        for world, k in zip(("model", "twin"), ks, strict=True)
        for seed in range(10)
    ]
    found = cs.summarise(outcomes)
    assert [(c.model.value, c.twin.value) for c in found.policies] == [(k / 10, t / 10) for k, t in rates.values()]
    assert found.gap.mean.value == pytest.approx((0 + 0.1 + 0.2 + 0.1) / 4)
    assert 0.9 < found.rank_correlation.value <= 1
    assert found.episodes.n == 40 and found.episodes.rates()["agreement"].value == pytest.approx(36 / 40)
    assert json.loads(json.dumps(found.to_json()))["mean_gap"]["value"] == pytest.approx(0.1)
    assert any("Spearman" in line for line in cs.summary_lines(found))
    only_model = [o for o in outcomes if o.world == "model" or o.job.seed < 5]
    assert cs.summarise(only_model).episodes.n == 20  # episodes without a counterpart do not count
