"""Correlation, over policies, of success in two worlds: the measured value and an interval for the true one.

Two things blur a correlation of success rates: only a few policies were drawn from all that could have been, and every
rate rests on a few episodes. The second does not only widen, it lowers: at 100 episodes a true r of 0.99 is measured as
about 0.97. Resampling policies and episodes and taking percentiles lowers once more, so that such an interval misses a
true r of 0.98 a quarter of the time (benchmarks/statistics_coverage.py). The interval here is a two-level parametric
bootstrap, inverted: for a candidate correlation draw new policies, and for each of them new episodes in both worlds;
the interval holds the candidates under which the measured value is not among the 2.5 % lowest or highest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.evals.estimate import CONFIDENCE, Estimate, as_scores, not_finite

CorrelationKind = Literal["spearman", "pearson"]
SIMULATIONS = 1000
LARGEST_Z = 3.8  # Fisher's z of a correlation of 0.999, the largest candidate short of 1


def correlate(x: ArrayLike, y: ArrayLike, kind: CorrelationKind) -> float | None:
    """Spearman's rank or Pearson's correlation of [N], [N].

    None where it is undefined: N < 2, a constant side, or values that are not finite.
    """
    from scipy.stats import pearsonr, spearmanr

    a, b = as_scores(x), as_scores(y)
    if a.size != b.size:
        raise ValueError(f"pairs must match: {a.size} and {b.size} values")
    if a.size < 2 or not_finite(a, b) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float((spearmanr if kind == "spearman" else pearsonr)(a, b).statistic)
    return value if np.isfinite(value) else None


def fisher_z(r: float | None, n: int) -> Estimate:
    """A Pearson correlation r over n policies with Fisher's z interval (1921), to set beside published numbers.

    It treats the measured rates as exact, so it is for the correlation as measured with that many episodes.
    """
    if r is None or not math.isfinite(r):
        return Estimate.none("no correlation", n)
    if not -1 <= r <= 1:
        raise ValueError(f"a correlation lies in [-1, 1], not at {r}")
    if n < 4:
        return Estimate(r, -1.0, 1.0, n)
    from scipy.special import ndtri

    centre = math.atanh(r) if abs(r) < 1 else math.copysign(math.inf, r)
    half = float(ndtri((1 + CONFIDENCE) / 2)) / math.sqrt(n - 3)
    return Estimate(r, math.tanh(centre - half), math.tanh(centre + half), n)


def correlation(
    x: Sequence[ArrayLike],
    y: Sequence[ArrayLike],
    kind: CorrelationKind = "spearman",
    *,
    seed: int = 0,
    resamples: int = SIMULATIONS,
) -> Estimate:
    """The correlation, over policies, of their mean scores in two worlds; the policy is the unit.

    The value is the measured correlation. The interval is for the correlation of the *true* means, over the policies
    from which these were drawn (see the head of this module); it assumes that their ranks follow a Gaussian copula and
    takes the spread of either world's true means from the data. Where a policy has as many episodes in both worlds,
    row i of both is taken to be the same task and seed, and what the two outcomes share is carried along. With fewer
    than four policies nothing is known of the interval, which is then [-1, 1].

    Args:
        x: One array of episode scores per policy, e.g. in the model.
        y: The same policies, e.g. in the physics twin.
        resamples: Simulated experiments per candidate.
    """
    first, second = [as_scores(v) for v in x], [as_scores(v) for v in y]
    n = len(first)
    if n != len(second):
        raise ValueError(f"{n} policies in one world, {len(second)} in the other")
    if n < 3:
        return Estimate.none(f"a correlation needs at least 3 policies, there are {n}", n)
    if not all(v.size for v in (*first, *second)):
        return Estimate.none("a policy has no episodes in one of the two worlds", n)
    reason = not_finite(*first, *second)
    if reason:
        return Estimate.none(reason, n)
    value = correlate([v.mean() for v in first], [v.mean() for v in second], kind)
    if value is None:
        return Estimate.none("all policies score the same in one of the two worlds", n)
    if n < 4:
        return Estimate(value, -1.0, 1.0, n)
    low, high = _Inversion(_World.of(first), _World.of(second), _shared(first, second), kind, seed, resamples).solve(
        value
    )
    return Estimate(value, min(low, value), max(high, value), n)


@dataclass(frozen=True)
class _World:
    """What is needed to draw new policies and episodes of one world."""

    places: NDArray[np.float64]  # [n + 2] in [0, 1]
    means: NDArray[np.float64]  # [n + 2] quantiles of the true means at those places
    noise: NDArray[np.float64]  # [n + 2] standard error of a policy's mean at those places
    grid: float  # step between possible means: 1 / episodes for 0/1 outcomes, else 0

    @classmethod
    def of(cls, scores: Sequence[NDArray[np.float64]]) -> _World:
        means = np.array([v.mean() for v in scores])
        noise = np.array([v.std(ddof=1) / math.sqrt(v.size) if v.size > 1 else 0.0 for v in scores])
        binary = all(np.isin(v, (0, 1)).all() for v in scores)
        if binary:  # a rate of 0 or 1 is not known without error: one success and one failure are added
            rate = np.array([(v.sum() + 1) / (v.size + 2) for v in scores])
            noise = np.sqrt(rate * (1 - rate) / np.array([v.size for v in scores]))
        # measured means spread more than true ones, by the noise
        share = max(1 - float(np.mean(noise**2)) / float(means.var(ddof=1)), 0.0)
        true = means.mean() + (means - means.mean()) * math.sqrt(share)
        order = np.argsort(true, kind="stable")
        true, noise = true[order], noise[order]
        ends = true[0] - (true[1] - true[0]) / 2, true[-1] + (true[-1] - true[-2]) / 2
        low, high = (0.0, 1.0) if binary else (-math.inf, math.inf)
        places = np.concatenate([[0.0], (np.arange(len(true)) + 0.5) / len(true), [1.0]])
        quantiles = np.clip(np.concatenate([[ends[0]], true, [ends[1]]]), low, high)
        grid = 1 / float(np.median([v.size for v in scores])) if binary else 0.0
        return cls(places, quantiles, np.concatenate([noise[:1], noise, noise[-1:]]), grid)

    def true(self, normal: NDArray[np.float64]) -> NDArray[np.float64]:
        """True means of policies at standard normal scores."""
        from scipy.special import ndtr

        return np.interp(ndtr(normal), self.places, self.means)

    def measured(self, true: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means over episodes, given true means and standard normal noise."""
        if not self.grid:
            return true + np.interp(true, self.means, self.noise) * normal
        rate = np.clip(true + np.sqrt(true * (1 - true) * self.grid) * normal, 0, 1)
        return np.round(rate / self.grid) * self.grid


def _shared(first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]]) -> float:
    """Correlation, inside policies, of the outcomes of the same episode in two worlds; 0 where they are not paired."""
    if any(a.size != b.size for a, b in zip(first, second, strict=True)):
        return 0.0
    a, b = (np.concatenate([v - v.mean() for v in side]) for side in (first, second))
    scale = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


class _Inversion:
    """Finds the correlations under which a measured one is not surprising; all draws are made once."""

    def __init__(self, x: _World, y: _World, shared: float, kind: CorrelationKind, seed: int, simulations: int) -> None:
        rng = np.random.default_rng(seed)
        n = len(x.places) - 2
        self.policy, self.other, e, f = rng.standard_normal((4, simulations, n))
        self.y, self.kind, self.noise = y, kind, shared * e + math.sqrt(max(1 - shared**2, 0.0)) * f
        self.true_x = x.true(self.policy)
        self.measured_x = self._ranked(x.measured(self.true_x, e))

    def solve(self, value: float) -> tuple[float, float]:
        """The interval for a measured correlation."""
        tail = (1 - CONFIDENCE) / 2
        low, high = self._candidate(value, tail), self._candidate(value, 1 - tail)
        # at the end of the scale nothing speaks against a perfect correlation
        return (
            -1.0 if low < -LARGEST_Z + 0.01 else self._population(math.tanh(low)),
            1.0 if high > LARGEST_Z - 0.01 else self._population(math.tanh(high)),
        )

    def _candidate(self, value: float, level: float) -> float:
        """Fisher's z of the copula at which measured values exceed `value` with probability `level`: bisection."""
        low, high = -LARGEST_Z, LARGEST_Z
        for _ in range(12):
            middle = (low + high) / 2
            found = self._measured(math.tanh(middle))
            above = (found > value + 1e-9).mean() + (np.abs(found - value) <= 1e-9).mean() / 2  # mid-p for ties
            low, high = (middle, high) if above < level else (low, middle)
        return (low + high) / 2

    def _true_y(self, rho: float) -> NDArray[np.float64]:
        return self.y.true(rho * self.policy + math.sqrt(1 - rho**2) * self.other)

    def _measured(self, rho: float) -> NDArray[np.float64]:
        """Measured correlations [R] of simulated experiments; undefined ones left out."""
        a, b = self.measured_x, self._ranked(self.y.measured(self._true_y(rho), self.noise))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        scale = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
        defined = scale > 1e-12
        return (a * b).sum(1)[defined] / scale[defined]

    def _population(self, rho: float) -> float:
        """The correlation of true means of all policies, as `rho` is that of their normal scores."""
        if self.kind == "spearman":
            return 6 / math.pi * math.asin(rho / 2)
        found = correlate(self.true_x, self._true_y(rho), "pearson")
        return rho if found is None else found

    def _ranked(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kind == "pearson":
            return values
        from scipy.stats import rankdata

        return rankdata(np.round(values, 9), axis=1)
