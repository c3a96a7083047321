"""Statistics that every eval shares, under one roof: import from here.

Plain numpy in, `Estimate` out: a number with its 95 % interval, or 'unscored' with its reason. Bootstraps and counts of
agreement are defined here; rates and their differences in proportions.py, the judge's error in judge_error.py, two
worlds compared in policy_correlation.py and success_gap.py, stopping early in sequential.py, many policies at once in
multiple.py. Intervals by statsmodels and scipy where they have them, everything random seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.evals.estimate import CONFIDENCE, RESAMPLES, Estimate, as_scores, not_finite, percentile_interval
from wfm_sim.evals.judge_error import rogan_gladen
from wfm_sim.evals.multiple import Ranking, compact_letters, holm, rank_policies
from wfm_sim.evals.policy_correlation import CorrelationKind, correlate, correlation, fisher_z
from wfm_sim.evals.proportions import (
    Comparison,
    compare_paired,
    compare_unpaired,
    jeffreys,
    mcnemar_exact,
    newcombe_interval,
    tango_interval,
    wilson,
)
from wfm_sim.evals.sequential import SequentialTest, Verdict, pairs_needed, sequential_test
from wfm_sim.evals.success_gap import Gap, mean_gap, mmrv, rank_violation

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "Agreement",
    "Comparison",
    "CorrelationKind",
    "Estimate",
    "Gap",
    "Ranking",
    "SequentialTest",
    "Verdict",
    "agreement",
    "bootstrap_mean",
    "cluster_bootstrap",
    "cluster_proportion",
    "compact_letters",
    "compare_paired",
    "compare_unpaired",
    "correlate",
    "correlation",
    "fisher_z",
    "holm",
    "jeffreys",
    "mcnemar_exact",
    "mean_gap",
    "mmrv",
    "newcombe_interval",
    "paired_bootstrap",
    "pairs_needed",
    "rank_policies",
    "rank_violation",
    "rogan_gladen",
    "sequential_test",
    "tango_interval",
    "wilson",
]


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of independent values [N] with its BCa bootstrap interval (Efron 1987).

    A bootstrap of few values is too narrow, as a normal interval is against Student's t; the level is raised by as much
    (Hesterberg 2015, 'expanded percentiles'). Unscored where a value is not finite: leave out what could not be scored,
    and say how many.
    """
    data = as_scores(values)
    if data.size == 0:
        return Estimate.none("no values")
    reason = not_finite(data)
    if reason:
        return Estimate.none(reason, data.size)
    mean = float(data.mean())
    if data.size == 1:
        return Estimate(mean, n=1)
    if np.ptp(data) == 0:
        return Estimate(mean, mean, mean, data.size)
    from scipy.special import ndtr, stdtrit
    from scipy.stats import bootstrap

    n = data.size
    level = 2 * float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + CONFIDENCE) / 2))) - 1
    level = min(level, 1 - 2 / resamples)  # no farther out than the resamples reach
    found = bootstrap((data,), np.mean, confidence_level=level, n_resamples=resamples, rng=seed, batch=500)
    low, high = found.confidence_interval
    return Estimate(mean, float(low), float(high), data.size)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """mean(a - b) of pairs [N], [N] (same episode under two models); pairs are resampled together."""
    first, second = as_scores(a), as_scores(b)
    if first.shape != second.shape:
        raise ValueError(f"pairs must match: {first.size} and {second.size} values")
    return bootstrap_mean(first - second, seed=seed, resamples=resamples)


def cluster_bootstrap(
    clusters: Sequence[ArrayLike],
    statistic: Callable[[NDArray[np.float64]], float] = np.mean,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic of pooled values whose independent unit is the cluster (the objects and frames of one episode).

    Args:
        clusters: One array of values per episode; empty ones are episodes where nothing could be scored.
        statistic: Of all values pooled, [N] -> number, e.g. np.mean or np.median.

    Returns:
        The statistic with its percentile interval over resampled clusters; n counts the clusters with values.
    """
    groups = [g for g in map(as_scores, clusters) if g.size]
    if not groups:
        return Estimate.none("no values")
    reason = not_finite(*groups)
    if reason:
        return Estimate.none(reason, len(groups))
    value = float(statistic(np.concatenate(groups)))
    if len(groups) == 1:
        return Estimate(value, n=1)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(groups), size=(resamples, len(groups)))
    if statistic is np.mean:  # the common case without a Python loop: a ratio of sums
        sums, counts = np.array([g.sum() for g in groups]), np.array([g.size for g in groups])
        samples = sums[draws].sum(1) / counts[draws].sum(1)
    else:
        samples = np.array([statistic(np.concatenate([groups[i] for i in row])) for row in draws])
    return Estimate(value, *percentile_interval(samples), n=len(groups))


def cluster_proportion(clusters: Sequence[ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """`cluster_bootstrap` of the mean of 0/1 values; where all agree, Wilson's interval with one trial per cluster."""
    found = cluster_bootstrap(clusters, seed=seed, resamples=resamples)
    if found.value in (0.0, 1.0):
        return wilson(round(found.value) * found.n, found.n)
    return found


@dataclass(frozen=True)
class Agreement:
    """Counts of a binary judgement against the truth."""

    both: int
    only_judged: int
    only_true: int
    neither: int
    left_out: int = 0  # pairs without a judgement or without a truth

    @property
    def n(self) -> int:
        return self.both + self.only_judged + self.only_true + self.neither

    @property
    def sensitivity_counts(self) -> tuple[int, int]:
        """(true positives, false negatives), as `rogan_gladen` takes them."""
        return self.both, self.only_true

    @property
    def specificity_counts(self) -> tuple[int, int]:
        """(true negatives, false positives)."""
        return self.neither, self.only_judged

    def rates(self) -> dict[str, Estimate]:
        """agreement, recall, false_alarms (share of true failures judged a success), precision, true_rate; Wilson."""
        b, j, t, n = self.both, self.only_judged, self.only_true, self.neither
        return {
            "agreement": wilson(b + n, self.n),
            "recall": wilson(b, b + t) if b + t else Estimate.none("no true success"),
            "false_alarms": wilson(j, j + n) if j + n else Estimate.none("no true failure"),
            "precision": wilson(b, b + j) if b + j else Estimate.none("nothing judged a success"),
            "true_rate": wilson(b + t, self.n),
        }


def agreement(judged: ArrayLike, truth: ArrayLike) -> Agreement:
    """Confusion counts of two arrays [N] of booleans; NaN is 'not judged' or 'not known' and is left out."""
    x, y = as_scores(judged), as_scores(truth)
    if x.shape != y.shape:
        raise ValueError(f"{x.size} judgements for {y.size} truths")
    known = np.isfinite(x) & np.isfinite(y)
    a, b = x[known] != 0, y[known] != 0
    counts = (int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))
    return Agreement(*counts, left_out=int((~known).sum()))
