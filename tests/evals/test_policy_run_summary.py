import pytest

from wfm_sim.evals.jobs import Job, Outcome
from wfm_sim.evals.policy_report import markdown
from wfm_sim.evals.policy_run_clips import choose
from wfm_sim.evals.policy_run_summary import JudgeErrors, lines, summarise_run
from wfm_sim.evals.proportions import wilson

RATES = {"zero": (0, 0), "random": (1, 0), "noisy": (4, 6), "expert": (9, 10)}
JOBS = [Job(policy, "push", seed) for policy in RATES for seed in range(10)]


def outcomes(trust: dict[int, float] | None = None) -> list[Outcome]:
    """Per policy, the first so many scenes succeed; scenes in `trust` fall to it half way."""
    found = []
    for job in JOBS:
        for world, count in zip(("model", "twin"), RATES[job.policy], strict=True):
            said = None if trust is None or world == "twin" else (1.0, trust.get(job.seed, 0.9), 1.0)
            found.append(Outcome(world, job, job.seed < count, 3, 0.0, None, said))
    return found


def test_rates_and_agreement_with_the_twin() -> None:
    found = summarise_run(outcomes()[::-1], JOBS)  # the order of the records does not matter
    assert [(r.imagined.value, r.twin.value) for r in found.policies] == [(k / 10, t / 10) for k, t in RATES.values()]
    assert found.comparison is not None and found.comparison.gap.mean.value == pytest.approx(0.1)
    assert found.left_out is None and found.trusted is None
    assert any("abstention: unscored" in line for line in lines(found))
    assert "left out" not in markdown(found)
    assert markdown(found) == markdown(summarise_run(outcomes(), JOBS))


def test_untrusted_episodes_are_left_out_and_counted() -> None:
    found = summarise_run(outcomes({0: 0.2, 5: 0.49, 6: 0.5}), JOBS, threshold=0.5)
    assert [r.left_out for r in found.policies] == [2, 2, 2, 2] and found.left_out == 8
    noisy = found.policies[2]
    assert noisy.imagined.value == 0.4 and noisy.trusted.value == 3 / 8 and noisy.trusted_twin.value == 4 / 8
    assert found.trusted is not None and found.trusted.episodes.n == 32
    assert found.comparison is not None and found.comparison.episodes.n == 40
    assert "left out, because their trust fell below 0.5: 8 of 40" in "\n".join(lines(found))
    assert "| left out | trusted, % |" in markdown(found)
    everything = summarise_run(outcomes(dict.fromkeys(range(10), 0.1)), JOBS)
    assert everything.left_out == 40 and everything.policies[0].trusted.unscored == "no episode is left"
    markdown(everything)


def test_without_the_twin_there_is_no_truth() -> None:
    found = summarise_run([o for o in outcomes() if o.world == "model"], JOBS, twin=False)
    assert found.comparison is None and found.policies[3].imagined.value == 0.9
    assert found.policies[3].twin.unscored == "run without the physics twin"
    assert "gap" not in markdown(found)


class KnownJudge:
    quality = {"confusion": {"tp": 90, "fn": 10, "tn": 80, "fp": 20}}  # noqa: RUF012


def test_success_is_corrected_where_the_judges_errors_are_known() -> None:
    pytest.importorskip("wfm_sim.evals.judge_error")
    errors = JudgeErrors.of(KnownJudge())
    assert errors == JudgeErrors(90, 10, 80, 20)
    assert JudgeErrors.of(object()) is None and JudgeErrors.of(None) is None
    found = summarise_run(outcomes(), JOBS, errors=errors)
    # Rogan and Gladen 1978: (apparent + specificity - 1) / (sensitivity + specificity - 1), cut to [0, 1]
    wanted = [max(0.0, (k / 10 + 0.8 - 1) / (0.9 + 0.8 - 1)) for k, _ in RATES.values()]
    assert [r.corrected.value for r in found.policies] == pytest.approx(wanted)
    width = [r.corrected.high - r.corrected.low for r in found.policies]
    assert width[2] > found.policies[2].imagined.high - found.policies[2].imagined.low


def test_clips_show_disagreements_first_and_depend_on_no_order() -> None:
    chosen = choose(outcomes(), JOBS, 2)
    assert [(j.policy, j.seed) for j in chosen] == [
        ("zero", 0), ("zero", 1),  # nothing but failures
        ("random", 0), ("random", 1),  # a disagreement, a failure
        ("noisy", 4), ("noisy", 0),  # a disagreement, a success
        ("expert", 9), ("expert", 0),
    ]  # fmt: skip
    assert chosen == choose(outcomes()[::-1], JOBS, 2)
    assert choose(outcomes(), JOBS, 0) == []
    assert len(choose(outcomes(), JOBS, 99)) == len(JOBS)


def test_every_task_is_corrected_with_its_own_errors() -> None:
    own = {"push": {"tp": 90, "fn": 10, "tn": 80, "fp": 20}, "pick": {"tp": 60, "fn": 40, "tn": 95, "fp": 5}}
    total = {name: own["push"][name] + own["pick"][name] for name in own["push"]}
    known = {"confusion": {**total, "tasks": own, "rule": "two frames"}}
    errors = JudgeErrors.of(type("Judge", (), {"quality": known}))
    assert errors is not None and set(errors.tasks) == {"push", "pick"}
    jobs = [Job("noisy", task, seed) for task in ("push", "pick") for seed in range(100)]
    ended = [
        Outcome(world, job, job.seed < (41 if job.task == "push" else 27), 3, 0.0, None, None)
        for job in jobs
        for world in ("model", "twin")
    ]
    found = summarise_run(ended, jobs, errors=errors)
    push, pick, both = [r.corrected for r in (*found.rows, *found.policies)]
    assert push.value == pytest.approx((0.41 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert pick.value == pytest.approx((0.27 + 0.95 - 1) / (0.6 + 0.95 - 1))
    assert both.value == pytest.approx((push.value + pick.value) / 2) and both.n == 200
    for side in ("low", "high"):  # independent halves: half-widths add in squares
        widths = [getattr(e, side) - e.value for e in (push, pick)]
        assert abs(getattr(both, side) - both.value) == pytest.approx(0.5 * (widths[0] ** 2 + widths[1] ** 2) ** 0.5)
    # A task that was never counted apart takes the matrix of all.
    jobs = [Job("noisy", "place", seed) for seed in range(10)]
    ended = [Outcome(world, job, job.seed < 4, 3, 0.0, None, None) for job in jobs for world in ("model", "twin")]
    pooled = summarise_run(ended, jobs, errors=errors).rows[0].corrected
    assert pooled == errors.correct(wilson(4, 10))


def test_a_task_that_cannot_be_corrected_is_named() -> None:
    own = {"push": {"tp": 90, "fn": 10, "tn": 80, "fp": 20}, "pick": {"tp": 0, "fn": 0, "tn": 9, "fp": 0}}
    known = {"confusion": {"tp": 90, "fn": 10, "tn": 89, "fp": 20, "tasks": own}}
    errors = JudgeErrors.of(type("Judge", (), {"quality": known}))
    assert errors is not None
    found = errors.correct_tasks({"push": wilson(5, 10), "pick": wilson(5, 10)})
    assert found.value is None and found.unscored.startswith("pick: ")
