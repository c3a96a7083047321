import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals import comparison_summary as cs
from wfm_sim.evals import policy_comparison as pc


@pytest.fixture
def compare(way_model: Any, way_judge: Any) -> Callable[..., tuple[list[pc.Outcome], pc.Speed]]:
    return partial(pc.compare, world_model=way_model, judge=way_judge)


def test_both_worlds_run_every_job_whatever_the_batch(compare: Any, tmp_path: Path) -> None:
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


def test_twin_in_another_process_gives_the_same(compare: Any) -> None:
    jobs = pc.plan(["random"], ["push"], 2, seed=3)
    here, _ = compare(jobs, num_envs=2, workers=0)
    there, _ = compare(jobs, num_envs=2, workers=1)
    assert [o.to_json() for o in here] == [o.to_json() for o in there]


def test_bad_names_and_counts(compare: Any) -> None:
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
