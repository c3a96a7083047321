"""From the outcomes of a policy comparison to a table with intervals and the numbers that say how far to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.policy_comparison import MODEL, TWIN, Outcome
from wfm_sim.evals.statistics import Agreement, Estimate, Gap, agreement, correlation, mean_gap, mmrv, wilson

ALL = "all"


@dataclass(frozen=True)
class Cell:
    """One policy on one task (or on all): success in both worlds over the same scenes."""

    policy: str
    task: str
    model: Estimate
    twin: Estimate

    @property
    def gap(self) -> float | None:
        """Success in the model less success in the twin."""
        if self.model.value is None or self.twin.value is None:
            return None
        return self.model.value - self.twin.value


@dataclass(frozen=True)
class Comparison:
    """Cells per policy and task, per policy over all tasks, and the summary over policies."""

    cells: list[Cell]
    policies: list[Cell]
    gap: Gap
    rank_correlation: Estimate  # Spearman over policies, tasks pooled
    pearson: Estimate
    cell_rank_correlation: Estimate  # Spearman over policy x task
    mmrv: Estimate  # mean maximum rank violation over policies, tasks pooled
    episodes: Agreement  # does the same episode succeed in both worlds?

    def to_json(self) -> dict[str, Any]:
        def cell(c: Cell) -> dict[str, Any]:
            worlds = {"model": c.model.to_json(), "twin": c.twin.to_json()}
            return {"policy": c.policy, "task": c.task, **worlds, "gap": c.gap}

        return {
            "cells": [cell(c) for c in self.cells],
            "policies": [cell(c) for c in self.policies],
            "mean_gap": self.gap.mean.to_json(),
            "mean_gap_from_sampling": self.gap.from_sampling,
            "rank_correlation": self.rank_correlation.to_json(),
            "pearson": self.pearson.to_json(),
            "cell_rank_correlation": self.cell_rank_correlation.to_json(),
            "mean_maximum_rank_violation": self.mmrv.value,
            "mmrv": self.mmrv.to_json(),
            "episode_agreement": {k: v.to_json() for k, v in self.episodes.rates().items()},
        }


def summarise(outcomes: Sequence[Outcome], *, seed: int = 0) -> Comparison:
    """Outcomes of both worlds -> Comparison. Only episodes that ran in both count."""
    table: dict[str, dict[Any, bool]] = {MODEL: {}, TWIN: {}}
    for outcome in outcomes:
        table[outcome.world][outcome.job] = outcome.success
    jobs = [job for job in dict.fromkeys(o.job for o in outcomes) if job in table[MODEL] and job in table[TWIN]]
    policies, tasks = list(dict.fromkeys(j.policy for j in jobs)), list(dict.fromkeys(j.task for j in jobs))

    def scores(world: str, policy: str, task: str) -> NDArray[np.float64]:
        chosen = [table[world][j] for j in jobs if j.policy == policy and task in (ALL, j.task)]
        return np.array(chosen, dtype=np.float64)

    def cell(policy: str, task: str) -> Cell:
        model, twin = scores(MODEL, policy, task), scores(TWIN, policy, task)
        return Cell(policy, task, wilson(int(model.sum()), model.size), wilson(int(twin.sum()), twin.size))

    pairs = [(policy, task) for task in tasks for policy in policies]
    in_model, in_twin = [scores(MODEL, *p) for p in pairs], [scores(TWIN, *p) for p in pairs]
    pooled_model, pooled_twin = ([scores(w, p, ALL) for p in policies] for w in (MODEL, TWIN))
    return Comparison(
        cells=[cell(*p) for p in pairs],
        policies=[cell(p, ALL) for p in policies],
        gap=mean_gap(in_model, in_twin, seed=seed),
        rank_correlation=correlation(pooled_model, pooled_twin, "spearman", seed=seed),
        pearson=correlation(pooled_model, pooled_twin, "pearson", seed=seed),
        cell_rank_correlation=correlation(in_model, in_twin, "spearman", seed=seed),
        mmrv=mmrv(pooled_model, pooled_twin, seed=seed),
        episodes=agreement([table[MODEL][j] for j in jobs], [table[TWIN][j] for j in jobs]),
    )


def summary_lines(comparison: Comparison) -> list[str]:
    """The sentences under the table."""
    sampling = comparison.gap.from_sampling
    noise = f" (two equal worlds with independent episodes: {100 * sampling:.1f})" if sampling is not None else ""
    rates = comparison.episodes.rates()
    lines = [
        f"rank correlation over {len(comparison.policies)} policies (Spearman): {comparison.rank_correlation.format()}",
        f"rank correlation over policy x task: {comparison.cell_rank_correlation.format()}",
        f"linear correlation over policies (Pearson): {comparison.pearson.format()}",
        f"mean |imagined - true| success: {comparison.gap.mean.format(1, 100, 'points')}{noise}",
        f"same episode, same verdict: {rates['agreement'].format(1, 100, '%')}"
        f"; true successes imagined as such: {rates['recall'].format(1, 100, '%')}"
        f"; true failures imagined as successes: {rates['false_alarms'].format(1, 100, '%')}",
    ]
    return [*lines, f"mean maximum rank violation: {comparison.mmrv.format(1, 100, 'points')}"]
