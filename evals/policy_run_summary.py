"""From the records of an evaluation run to its numbers: success per policy and task, corrected for the judge's error,
with and without the episodes that the model is not to be trusted in, and how well the model stands in for the twin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import Any

from wfm_sim.evals.comparison_summary import ALL, Comparison, summarise, summary_lines
from wfm_sim.evals.jobs import MODEL, TWIN, Job, Outcome
from wfm_sim.evals.judge_error import rogan_gladen
from wfm_sim.evals.statistics import Estimate, wilson

NO_TWIN = "run without the physics twin"
NO_CONFUSION = "the judge's confusion matrix on episodes is not known; `wfm-sim eval judge --write` counts it"
NO_TRUST = "the world model says no trust"


@dataclass(frozen=True)
class JudgeErrors:
    """The judge's verdicts on episodes whose truth was known, counted: its confusion matrix, and that of each task
    where tasks were counted apart."""

    tp: int
    fn: int
    tn: int
    fp: int
    tasks: Mapping[str, JudgeErrors] = field(default_factory=dict)

    @classmethod
    def of(cls, judge: Any) -> JudgeErrors | None:
        """As the judge's own file says it (`judge.quality["confusion"]`), else None."""
        return cls._read((getattr(judge, "quality", None) or {}).get("confusion"))

    @classmethod
    def _read(cls, counts: Any) -> JudgeErrors | None:
        if not isinstance(counts, Mapping) or not {"tp", "fn", "tn", "fp"} <= set(counts):
            return None
        tasks = counts.get("tasks")
        found = {k: cls._read(v) for k, v in tasks.items()} if isinstance(tasks, Mapping) else {}
        own = {task: errors for task, errors in found.items() if errors is not None}
        tp, fn, tn, fp = (int(counts[name]) for name in ("tp", "fn", "tn", "fp"))
        return cls(tp, fn, tn, fp, own)

    def correct(self, found: Estimate) -> Estimate:
        """A share of episodes judged a success -> the share that is one, with the uncertainty of both."""
        if found.value is None:
            return found
        return rogan_gladen(round(found.value * found.n), found.n, (self.tp, self.fn), (self.tn, self.fp))

    def correct_tasks(self, found: Mapping[str, Estimate]) -> Estimate:
        """The same over episodes of several tasks, each task with its own matrix where all of them have one.

        Tasks are then put together by their numbers of episodes, and their intervals, which are independent, by the
        variances that they stand for (MOVER, Zou & Donner 2008).
        """
        scored = {task: e for task, e in found.items() if e.value is not None}
        total = sum(e.n for e in scored.values())
        if not total:
            return Estimate.none("no episode is left")
        if not set(scored) <= set(self.tasks):
            judged = sum(round((e.value or 0.0) * e.n) for e in scored.values())
            return self.correct(wilson(judged, total))
        parts = {task: self.tasks[task].correct(e) for task, e in scored.items()}
        for task, part in parts.items():
            if part.value is None or part.low is None or part.high is None:
                return Estimate.none(f"{task}: {part.unscored}", total) if len(parts) > 1 else part
        rows = [(scored[t].n / total, p.value or 0.0, p.low or 0.0, p.high or 0.0) for t, p in parts.items()]
        value = sum(share * v for share, v, _, _ in rows)
        low = value - hypot(*(share * (v - lower) for share, v, lower, _ in rows))
        high = value + hypot(*(share * (upper - v) for share, v, _, upper in rows))
        return Estimate(value, max(low, 0.0), min(high, 1.0), total)


@dataclass(frozen=True)
class PolicyRow:
    """One policy on one task, or on all.

    Attributes:
        imagined: Share of imagined episodes judged a success.
        corrected: The same without the judge's error (Rogan and Gladen 1978), each task with its own confusion matrix
            where the judge's file has one.
        twin: True success on the same scenes.
        left_out: Imagined episodes that are not trusted; None where no trust is recorded.
        trusted: Like `imagined`, over the rest.
        trusted_twin: Like `twin`, over the scenes of `trusted`.
    """

    policy: str
    task: str
    imagined: Estimate
    corrected: Estimate
    twin: Estimate
    left_out: int | None
    trusted: Estimate
    trusted_twin: Estimate

    @property
    def gap(self) -> float | None:
        """Imagined success less true success, both over all episodes."""
        if self.imagined.value is None or self.twin.value is None:
            return None
        return self.imagined.value - self.twin.value

    def to_json(self) -> dict[str, Any]:
        fields = {k: v.to_json() if isinstance(v, Estimate) else v for k, v in vars(self).items()}
        return {**fields, "gap": self.gap}


@dataclass(frozen=True)
class RunSummary:
    """See the module.

    Attributes:
        rows: Policy x task, in the order of the tasks.
        policies: Policies over all tasks.
        threshold: An episode whose trust fell below it is left out.
        comparison: Of both worlds, over all episodes; None without the twin.
        trusted: The same over the trusted episodes; None without the twin or without trust.
    """

    rows: list[PolicyRow]
    policies: list[PolicyRow]
    threshold: float
    comparison: Comparison | None
    trusted: Comparison | None

    @property
    def left_out(self) -> int | None:
        """Untrusted episodes in all; None where no trust is recorded."""
        counts = [row.left_out for row in self.policies if row.left_out is not None]
        return sum(counts) if counts else None

    def to_json(self) -> dict[str, Any]:
        agreement = {} if self.comparison is None else self.comparison.to_json()
        abstention: dict[str, Any] = {"unscored": NO_TRUST}
        if self.left_out is not None:
            abstention = {"threshold": self.threshold, "left_out": self.left_out}
            if self.trusted is not None:
                abstention["agreement"] = self.trusted.to_json()
        return {
            **agreement,  # first, for what reads the summary of a demo
            "rows": [row.to_json() for row in self.rows],
            "over_tasks": [row.to_json() for row in self.policies],
            "agreement": agreement or {"unscored": NO_TWIN},
            "abstention": abstention,
        }


def summarise_run(
    outcomes: Sequence[Outcome],
    jobs: Sequence[Job],
    *,
    twin: bool = True,
    errors: JudgeErrors | None = None,
    threshold: float = 0.5,
    seed: int = 0,
) -> RunSummary:
    """The numbers of a finished run.

    Args:
        outcomes: Of all jobs, in any order.
        jobs: In the order of the tables.
        twin: Whether the jobs ran in the twin too.
        errors: The judge's confusion matrix, where it is known.
        threshold: Of trust, in [0, 1]: an episode counts as trusted while no step of it was below.
        seed: Of the bootstraps.
    """
    by = {(o.world, o.job): o for o in outcomes}
    ordered = [by[world, job] for world in (MODEL, TWIN) for job in jobs if (world, job) in by]
    minimum = {o.job: min(o.trust) for o in ordered if o.world == MODEL and o.trust}
    untrusted = {job for job, trust in minimum.items() if trust < threshold}
    tasks, policies = (list(dict.fromkeys(getattr(j, name) for j in jobs)) for name in ("task", "policy"))

    def row(policy: str, task: str) -> PolicyRow:
        mine = [j for j in jobs if j.policy == policy and task in (ALL, j.task)]
        kept = [j for j in mine if j not in untrusted]
        imagined = _share(by, MODEL, mine)
        by_task = {t: _share(by, MODEL, [j for j in mine if j.task == t]) for t in dict.fromkeys(j.task for j in mine)}
        recorded = any(j in minimum for j in mine)
        return PolicyRow(
            policy=policy,
            task=task,
            imagined=imagined,
            corrected=Estimate.none(NO_CONFUSION, imagined.n) if errors is None else errors.correct_tasks(by_task),
            twin=_share(by, TWIN, mine) if twin else Estimate.none(NO_TWIN),
            left_out=len(mine) - len(kept) if recorded else None,
            trusted=_share(by, MODEL, kept) if recorded else Estimate.none(NO_TRUST),
            trusted_twin=_share(by, TWIN, kept) if recorded and twin else Estimate.none(NO_TRUST if twin else NO_TWIN),
        )

    return RunSummary(
        rows=[row(policy, task) for task in tasks for policy in policies],
        policies=[row(policy, ALL) for policy in policies],
        threshold=threshold,
        comparison=summarise(ordered, seed=seed) if twin else None,
        trusted=summarise([o for o in ordered if o.job not in untrusted], seed=seed) if twin and minimum else None,
    )


def lines(summary: RunSummary) -> list[str]:
    """The sentences under the table."""
    found = [f"against the physics twin: unscored ({NO_TWIN})"]
    if summary.comparison is not None:
        found = summary_lines(summary.comparison)
    reasons = {row.corrected.unscored for row in summary.policies if row.corrected.value is None}
    found += [f"corrected for the judge's error: unscored ({reason})" for reason in sorted(reasons)]
    if summary.left_out is None:
        return [*found, f"abstention: unscored ({NO_TRUST})"]
    episodes = sum(row.imagined.n for row in summary.policies)
    share = wilson(summary.left_out, episodes).format(1, 100, "%")
    found.append(
        f"left out, because their trust fell below {summary.threshold:g}: {summary.left_out} of {episodes} "
        f"imagined episodes, {share}"
    )
    if summary.trusted is not None and summary.trusted.cells:
        found += [f"of the trusted episodes alone: {line}" for line in summary_lines(summary.trusted)]
    return found


def _share(by: Mapping[tuple[str, Job], Outcome], world: str, jobs: Collection[Job]) -> Estimate:
    ended = [by[world, job].success for job in jobs if (world, job) in by]
    return wilson(sum(ended), len(ended)) if ended else Estimate.none("no episode is left")
