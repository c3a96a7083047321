"""Success rates of one policy, and the difference of two, with intervals that hold for few episodes and at 0 and 100 %.

One rate: Wilson's score interval, or Jeffreys' (Brown, Cai & DasGupta 2001). Two policies on common seeds: the exact
McNemar test and Tango's score interval (1998) of the difference; the unit is the pair of episodes. Two policies on
episodes of their own: Boschloo's exact test and Newcombe's hybrid score interval (1998); the unit is the episode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.evals.estimate import CONFIDENCE, Estimate, as_scores, not_finite

PAIR, EPISODE = "pair of episodes on a common seed", "episode"


def wilson(successes: float, n: float) -> Estimate:
    """A proportion with its Wilson score interval (Wilson 1927), which behaves at 0, at n and for small n."""
    return _proportion(successes, n, "wilson")


def jeffreys(successes: float, n: float) -> Estimate:
    """A proportion with its Jeffreys interval: equal-tailed, prior Beta(1/2, 1/2), closed at 0 and at n.

    A little shorter than Wilson's, which is the default here; both cover 95 % on average over rates, and at a fixed
    rate and n between about 90 and 98 %, because a count can only take whole values (Brown, Cai & DasGupta 2001).
    """
    return _proportion(successes, n, "jeffreys")


def _proportion(successes: float, n: float, method: str) -> Estimate:
    if not (math.isfinite(successes) and math.isfinite(n)):
        return Estimate.none(f"{successes} successes of {n} trials is not a count")
    if n == 0:
        return Estimate.none("no trials")
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    from statsmodels.stats.proportion import proportion_confint

    low, high = (float(v) for v in proportion_confint(successes, n, alpha=1 - CONFIDENCE, method=method))
    if successes == 0:
        low = 0.0
    if successes == n:
        high = 1.0
    return Estimate(float(successes / n), low, high, int(n))


@dataclass(frozen=True)
class Comparison:
    """Success of policy A less that of policy B.

    Attributes:
        a, b: Both success rates with their own (Wilson) intervals.
        difference: a - b in [-1, 1]; its interval, not the overlap of the other two, says whether they differ.
        p_value: Of the exact test of 'equally good', two-sided; None when unscored.
        only_a, only_b: Pairs in which one of the two succeeded; 0 for episodes of their own.
        unit: What `difference.n` counts.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    p_value: float | None
    only_a: int
    only_b: int
    unit: str


def compare_paired(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Two policies on common seeds: 0/1 outcomes [N], [N], row i of both the same task and seed.

    The p-value is McNemar's exact one, the interval Tango's: {d: |score(d)| <= 1.96}. The test is the more careful of
    the two (it is exact, so below its level), so an interval may leave out 0 where p is a little above 0.05.
    """
    first, second = as_scores(a), as_scores(b)
    if first.size != second.size:
        raise ValueError(f"pairs must match: {first.size} and {second.size} outcomes")
    reason = _unfit(first, second)
    if reason:
        return _unscored(reason, first.size, PAIR)
    n, only_a, only_b = first.size, int((first > second).sum()), int((second > first).sum())
    low, high = tango_interval(only_a, only_b, n)
    return Comparison(
        a=wilson(first.sum(), n),
        b=wilson(second.sum(), n),
        difference=Estimate((only_a - only_b) / n, low, high, n),
        p_value=mcnemar_exact(only_a, only_b),
        only_a=only_a,
        only_b=only_b,
        unit=PAIR,
    )


def compare_unpaired(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Two policies on episodes of their own: 0/1 outcomes [N], [M], all independent."""
    first, second = as_scores(a), as_scores(b)
    reason = _unfit(first, second)
    if reason:
        return _unscored(reason, min(first.size, second.size), EPISODE)
    from scipy.stats import boschloo_exact

    x, y = wilson(first.sum(), first.size), wilson(second.sum(), second.size)
    if x.value == y.value and x.value in (0.0, 1.0):
        p = 1.0
    else:
        table = [[first.sum(), second.sum()], [first.size - first.sum(), second.size - second.sum()]]
        p = min(float(boschloo_exact(np.array(table, dtype=int)).pvalue), 1.0)
    return Comparison(x, y, newcombe_interval(x, y), p, 0, 0, EPISODE)


def _unfit(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    if not a.size or not b.size:
        return "no episodes"
    reason = not_finite(a, b)
    if not reason and not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("success rates are compared on outcomes that are 0 or 1")
    return reason


def _unscored(reason: str, n: int, unit: str) -> Comparison:
    nothing = Estimate.none(reason, n)
    return Comparison(nothing, nothing, nothing, None, 0, 0, unit)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value of 'either is as likely to be the only one to succeed': binomial on the discordant."""
    from scipy.special import bdtr

    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a != only_b else 1.0


def newcombe_interval(a: Estimate, b: Estimate) -> Estimate:
    """a - b of two independent proportions with Wilson intervals (Newcombe 1998, hybrid score, his method 10)."""
    if a.value is None or a.low is None or a.high is None or b.value is None or b.low is None or b.high is None:
        return Estimate.none(a.unscored or b.unscored or "no interval", min(a.n, b.n))
    d = a.value - b.value
    low = d - math.hypot(a.value - a.low, b.high - b.value)
    high = d + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(d, low, high, a.n + b.n)


def tango_interval(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """Score interval of a difference of paired proportions (Tango 1998), by bisection.

    Args:
        only_a, only_b: Pairs in which only A, or only B, succeeded.
        n: All pairs, at least 1.
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + CONFIDENCE) / 2))
    estimate = (only_a - only_b) / n

    def score(d: float) -> float:
        linear = (2 * n - only_a + only_b) * d - only_a - only_b
        root = math.sqrt(max(linear**2 + 8 * n * only_b * d * (1 - d), 0.0))
        q = (root - linear) / (4 * n)  # the share of 'only B' that is likeliest if the difference is d
        variance = n * (2 * q + d * (1 - d))
        gap = only_a - only_b - n * d
        return gap / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, gap) if gap else 0.0

    def bound(sign: int) -> float:
        edge = float(sign)
        if estimate == edge or sign * score(edge) > -z:
            return edge
        inside = estimate
        for _ in range(60):  # bisection: the score is infinite at the edge where brentq would stumble
            middle = (inside + edge) / 2
            inside, edge = (middle, edge) if sign * score(middle) > -z else (inside, middle)
        return inside

    return bound(-1), bound(1)
