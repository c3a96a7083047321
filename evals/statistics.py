"""Statistics that every eval shares: an estimate is a number with its 95 % interval, or 'unscored' with its reason.

Plain numpy in, `Estimate` out; Wilson intervals by statsmodels, correlations by scipy, every bootstrap seeded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its two-sided 95 % interval, or the reason why there is none.

    Attributes:
        value: The point estimate; None when unscored.
        low, high: Bounds of the interval; None where no interval can be given.
        n: How many independent units (episodes, policies) it rests on.
        unscored: Why there is no value; empty when there is one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unscored: str = ""

    @classmethod
    def none(cls, reason: str, n: int = 0) -> Estimate:
        """An 'unscored' estimate with its reason."""
        return cls(None, n=n, unscored=reason)

    def format(self, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
        """'1.23 [1.10, 1.36] px', or 'unscored (reason)'."""
        if self.value is None:
            return f"unscored ({self.unscored})"
        text = f"{self.value * scale:.{digits}f}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"
        return f"{text} {unit}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; 'unscored' is present only when it says something."""
        fields = asdict(self)
        if not self.unscored:
            del fields["unscored"]
        return fields


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with its Wilson score interval (Wilson 1927), which behaves at 0, at n and for small n."""
    if n == 0:
        return Estimate.none("no trials")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(low), float(high), n)


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of independent finite values [N] with its BCa bootstrap interval (Efron 1987)."""
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        return Estimate.none("no values")
    if not np.isfinite(data).all():
        raise ValueError("bootstrap_mean takes finite values; leave out what could not be scored")
    mean = float(data.mean())
    if data.size == 1:
        return Estimate(mean, n=1)
    if np.ptp(data) == 0:
        return Estimate(mean, mean, mean, data.size)
    from scipy.stats import bootstrap

    found = bootstrap((data,), np.mean, confidence_level=CONFIDENCE, n_resamples=resamples, rng=seed, batch=500)
    low, high = found.confidence_interval
    return Estimate(mean, float(low), float(high), data.size)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """mean(a - b) of pairs [N], [N] (same episode under two models); pairs are resampled together."""
    first, second = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
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
    groups = [np.asarray(c, dtype=np.float64).ravel() for c in clusters]
    groups = [g for g in groups if g.size]
    if not groups:
        return Estimate.none("no values")
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
    return Estimate(value, *_percentile_interval(samples), n=len(groups))


def cluster_proportion(clusters: Sequence[ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """`cluster_bootstrap` of the mean of 0/1 values; where all agree, Wilson's interval with one trial per cluster."""
    found = cluster_bootstrap(clusters, seed=seed, resamples=resamples)
    if found.value in (0.0, 1.0):
        return wilson(round(found.value) * found.n, found.n)
    return found


CorrelationKind = Literal["spearman", "pearson"]


def correlate(x: ArrayLike, y: ArrayLike, kind: CorrelationKind) -> float | None:
    """Spearman's rank or Pearson's correlation of [N], [N]; None where it is undefined (N < 2 or a constant side)."""
    from scipy.stats import pearsonr, spearmanr

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float((spearmanr if kind == "spearman" else pearsonr)(a, b).statistic)
    return value if np.isfinite(value) else None


def correlation(
    x: Sequence[ArrayLike],
    y: Sequence[ArrayLike],
    kind: CorrelationKind = "spearman",
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The correlation, over policies, of their mean scores in two worlds.

    The interval resamples policies and, inside each resampled policy, its episodes in either world, so it carries both
    the few policies and the few episodes; a resample with fewer than three different policies, or whose correlation is
    undefined, does not count. With fewer than four policies nothing is known of the interval, which is then [-1, 1].

    Args:
        x: One array of episode scores per policy, e.g. in the model.
        y: The same policies, e.g. in the physics twin.
    """
    first = [np.asarray(v, dtype=np.float64).ravel() for v in x]
    second = [np.asarray(v, dtype=np.float64).ravel() for v in y]
    n = len(first)
    if n != len(second):
        raise ValueError(f"{n} policies in one world, {len(second)} in the other")
    if n < 3:
        return Estimate.none(f"a correlation needs at least 3 policies, there are {n}", n)
    value = correlate([v.mean() for v in first], [v.mean() for v in second], kind)
    if value is None:
        return Estimate.none("all policies score the same in one of the two worlds", n)
    if n < 4:
        return Estimate(value, -1.0, 1.0, n)
    rng = np.random.default_rng(seed)
    draws = rng.integers(n, size=(3 * resamples, n))
    draws = draws[[len(set(row)) >= 3 for row in draws.tolist()]]
    a, b = _resampled_means(first, draws, rng), _resampled_means(second, draws, rng)
    if kind == "spearman":
        from scipy.stats import rankdata

        a, b = rankdata(a, axis=1), rankdata(b, axis=1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    scale = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    defined = scale > 1e-12
    samples = ((a * b).sum(1)[defined] / scale[defined])[:resamples]
    if len(samples) < resamples // 2:
        return Estimate(value, -1.0, 1.0, n)
    low, high = _percentile_interval(samples)
    return Estimate(value, min(low, value), max(high, value), n)


def _resampled_means(
    scores: Sequence[NDArray[np.float64]], draws: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means [R, n] of episodes redrawn with replacement, of the policies that `draws` [R, n] names."""
    means = np.empty(draws.shape)
    for index, values in enumerate(scores):
        where = draws == index
        means[where] = values[rng.integers(values.size, size=(int(where.sum()), values.size))].mean(1)
    return means


@dataclass(frozen=True)
class Gap:
    """Mean |success in the model - success in the truth| over cells, and what sampling alone would show."""

    mean: Estimate
    from_sampling: float | None  # expected mean |gap| if both worlds had the same success rates


def mean_gap(
    model: Sequence[ArrayLike], truth: Sequence[ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES
) -> Gap:
    """Of cells (policy x task) of 0/1 outcomes [N_cell] each, with common seeds: row i of both is the same episode.

    The interval resamples episodes within cells, in pairs. |gap| is never negative, so a handful of episodes shows a
    gap between equal worlds too: `from_sampling` is its expectation, each world drawing from the pooled rate.
    """
    a, b = [np.asarray(v, dtype=np.float64) for v in model], [np.asarray(v, dtype=np.float64) for v in truth]
    if [v.shape for v in a] != [v.shape for v in b]:
        raise ValueError("the two worlds must hold the same episodes")
    if not a or any(v.size == 0 for v in a):
        return Gap(Estimate.none("no episodes"), None)
    value = float(np.mean([abs(x.mean() - y.mean()) for x, y in zip(a, b, strict=True)]))
    rng = np.random.default_rng(seed)
    samples, chance = np.zeros(resamples), np.zeros(resamples)
    for x, y in zip(a, b, strict=True):
        rows = rng.integers(x.size, size=(resamples, x.size))
        samples += np.abs((x - y)[rows].mean(1)) / len(a)
        rate = (x.mean() + y.mean()) / 2
        chance += (
            np.abs(rng.binomial(x.size, rate, resamples) - rng.binomial(x.size, rate, resamples)) / x.size / len(a)
        )
    low, high = _percentile_interval(samples)
    return Gap(Estimate(value, min(low, value), max(high, value), sum(v.size for v in a)), float(chance.mean()))


def rank_violation(model: ArrayLike, truth: ArrayLike) -> float | None:
    """Mean maximum rank violation of policies [N], [N] (MMRV, SIMPLER, Li et al. 2024, eq. 2); 0 is best.

    For each policy, the largest true gap to a policy that the model ranks the other way round; averaged.
    """
    m, t = np.asarray(model, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if m.size < 2:
        return None
    gap = np.abs(t[:, None] - t[None, :])
    swapped = (m[:, None] < m[None, :]) != (t[:, None] < t[None, :])
    return float((gap * swapped).max(1).mean())


@dataclass(frozen=True)
class Agreement:
    """Counts of a binary judgement against the truth."""

    both: int
    only_judged: int
    only_true: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.only_judged + self.only_true + self.neither

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
    """Confusion counts of two boolean arrays [N]."""
    a, b = np.asarray(judged, dtype=bool).ravel(), np.asarray(truth, dtype=bool).ravel()
    if a.shape != b.shape:
        raise ValueError(f"{a.size} judgements for {b.size} truths")
    return Agreement(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))


def _percentile_interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)
