"""How far success rates in two worlds lie apart: mean |gap| and mean maximum rank violation, with intervals.

Both are averages of absolute values, so noise alone makes them positive, and a percentile bootstrap, which adds noise
to noise, would never allow for two equal worlds. The intervals are parametric bootstraps, inverted: the measured gaps
are scaled by s = 0 (equal worlds) and upwards, the episodes' noise is added again, and the interval holds the means of
the scaled gaps under which the measured mean is not among the 2.5 % lowest or highest. The policies and tasks are the
ones at hand; the unit is the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.evals.estimate import CONFIDENCE, RESAMPLES, Estimate, as_scores, not_finite, percentile_interval
from wfm_sim.evals.proportions import wilson


@dataclass(frozen=True)
class Gap:
    """Mean |success in the model - success in the truth| over cells, and what sampling alone would show."""

    mean: Estimate
    from_sampling: float | None  # expected mean |gap| if both worlds had the same success rates


def mean_gap(
    model: Sequence[ArrayLike], truth: Sequence[ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES
) -> Gap:
    """Of cells (policy x task) of 0/1 outcomes [N_cell] each, with common seeds: row i of both is the same episode.

    The value is the measured mean; the interval is for the mean |gap| of the true rates of these cells and is stretched
    to hold the value. |gap| is never negative, so a handful of episodes shows a gap between equal worlds too:
    `from_sampling` is its expectation, each world drawing from the pooled rate, independently.
    """
    a, b, reason = _cells(model, truth)
    if reason:
        return Gap(Estimate.none(reason), None)
    rng = np.random.default_rng(seed)
    gaps = np.array([x.mean() - y.mean() for x, y in zip(a, b, strict=True)])
    noise = np.stack([_noise(x, y, resamples, rng)[2] for x, y in zip(a, b, strict=True)], 1)
    value = float(np.abs(gaps).mean())
    low, high = _invert(value, lambda s: np.abs(s * gaps + noise).mean(1), lambda s: s * value)
    if value == 0:  # nothing to scale; a rate can differ by no more than the share of episodes that do
        high = wilson(sum(int((x != y).sum()) for x, y in zip(a, b, strict=True)), sum(v.size for v in a)).high or 0.0
    if _binary(*a, *b):
        high = min(high, 1.0)
    chance = np.zeros(resamples)
    for x, y in zip(a, b, strict=True):
        rate = min(max((x.mean() + y.mean()) / 2, 0.0), 1.0)
        first, second = rng.binomial(x.size, rate, (2, resamples))
        chance += np.abs(first - second) / x.size / len(a)
    episodes = sum(v.size for v in a)
    return Gap(Estimate(value, min(low, value), max(high, value), episodes), float(chance.mean()))


def rank_violation(model: ArrayLike, truth: ArrayLike) -> float | None:
    """Mean maximum rank violation of policies [N], [N] (MMRV, SIMPLER, Li et al. 2024, eq. 2); 0 is best.

    For each policy, the largest true gap to a policy that the model ranks the other way round; averaged. None for
    fewer than two policies, or values that are not finite.
    """
    m, t = as_scores(model), as_scores(truth)
    if m.size != t.size:
        raise ValueError(f"{m.size} policies in one world, {t.size} in the other")
    if m.size < 2 or not_finite(m, t):
        return None
    return float(_violations(m[None], t[None])[0])


def mmrv(model: Sequence[ArrayLike], truth: Sequence[ArrayLike], *, seed: int = 0, resamples: int = 1000) -> Estimate:
    """`rank_violation` of policies' mean outcomes, with an interval for that of the true rates of these policies.

    Args:
        model: 0/1 outcomes [N_policy] of each policy in the model.
        truth: The same policies, row i on the same task and seed.

    Returns:
        The measured value; n counts the policies. The interval is stretched to hold the value. Unscored where all
        policies score the same in the truth.
    """
    a, b, reason = _cells(model, truth)
    if reason:
        return Estimate.none(reason, len(a))
    if len(a) < 2:
        return Estimate.none("a ranking needs at least 2 policies", len(a))
    rng = np.random.default_rng(seed)
    m, t = np.array([v.mean() for v in a]), np.array([v.mean() for v in b])
    if np.ptp(t) == 0:
        return Estimate.none("all policies score the same in the truth: there is no order to keep", len(a))
    e, f, _ = (
        np.stack(v, 1) for v in zip(*[_noise(x, y, resamples, rng) for x, y in zip(a, b, strict=True)], strict=True)
    )
    value = float(_violations(m[None], t[None])[0])

    def measured(s: float) -> NDArray[np.float64]:
        return _violations(t + s * (m - t) + e, t + f)

    def true(s: float) -> float:
        return float(_violations((t + s * (m - t))[None], t[None])[0])

    low, high = _invert(value, measured, true)
    # A larger s does not raise MMRV once the order is turned round, and then says nothing of how large the gaps are:
    # the errors at the scale that explains the value best, taken off it, must lie inside too.
    best = min(np.linspace(0, 2, 21), key=lambda s: abs(float(np.median(measured(s))) - value))
    least, most = percentile_interval(measured(best) - true(best))
    low, high = min(low, max(value - most, 0.0)), max(high, value - least)
    if value == 0:  # nothing to scale; as far off as another draw of the same episodes would be
        high = max(high, percentile_interval(measured(1.0))[1])
    if _binary(*a, *b):
        high = min(high, 1.0)
    return Estimate(value, min(low, value), max(high, value), len(a))


def _violations(m: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """MMRV [R] of model and true rates [R, N]."""
    m, t = np.round(m, 9), np.round(t, 9)  # equal rates must stay equal after arithmetic
    gap = np.abs(t[:, :, None] - t[:, None, :])
    swapped = (m[:, :, None] < m[:, None, :]) != (t[:, :, None] < t[:, None, :])
    return (gap * swapped).max(2).mean(1)


def _cells(
    model: Sequence[ArrayLike], truth: Sequence[ArrayLike]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], str]:
    """Outcomes of both worlds and why they cannot be scored, if so."""
    a, b = [as_scores(v) for v in model], [as_scores(v) for v in truth]
    if [v.shape for v in a] != [v.shape for v in b]:
        raise ValueError("the two worlds must hold the same episodes")
    if not a or any(v.size == 0 for v in a):
        return a, b, "no episodes"
    return a, b, not_finite(*a, *b)


def _binary(*outcomes: NDArray[np.float64]) -> bool:
    return all(bool(np.isin(v, (0, 1)).all()) for v in outcomes)


def _noise(
    x: NDArray[np.float64], y: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Errors [R] of a cell's mean in either world and of their difference: pairs of episodes drawn with replacement."""
    if _binary(x, y):  # the four kinds of pairs are counted, not drawn singly
        kinds = np.array([(x * y).sum(), (x * (1 - y)).sum(), ((1 - x) * y).sum(), ((1 - x) * (1 - y)).sum()])
        if (kinds > 0).sum() == 1:  # all alike so far is not alike for ever: half a pair of each kind more
            kinds += 0.5
        shares = kinds / kinds.sum()
        both, only_x, only_y, _ = rng.multinomial(x.size, shares, resamples).T
        e, f = (both + only_x) / x.size - shares[:2].sum(), (both + only_y) / x.size - shares[[0, 2]].sum()
    else:
        rows = rng.integers(x.size, size=(resamples, x.size))
        e, f = x[rows].mean(1) - x.mean(), y[rows].mean(1) - y.mean()
    return e, f, e - f


def _invert(
    value: float, measured: Callable[[float], NDArray[np.float64]], true: Callable[[float], float]
) -> tuple[float, float]:
    """Smallest and largest true(s) over the scales s at which `value` is not in a 2.5 % tail of measured(s)."""
    tail = (1 - CONFIDENCE) / 2
    scales = np.concatenate([np.linspace(0, 2, 41), np.linspace(2.25, 4, 8)])
    plausible = np.empty(len(scales))
    for i, s in enumerate(scales):
        samples = measured(float(s))
        tie = float((np.abs(samples - value) <= 1e-9).mean()) / 2
        above, below = float((samples > value + 1e-9).mean()) + tie, float((samples < value - 1e-9).mean()) + tie
        plausible[i] = min(above, below) - tail
    inside = np.flatnonzero(plausible > 0)
    if not inside.size:
        return true(1.0), true(1.0)
    first, last = int(inside[0]), int(inside[-1])
    kept = [float(s) for s in scales[inside]]
    for out, edge in ((first - 1, first), (last + 1, last)):  # where it crosses the level, between two scales
        if 0 <= out < len(scales):
            share = plausible[edge] / (plausible[edge] - plausible[out])
            kept.append(float(scales[edge] + share * (scales[out] - scales[edge])))
    found = [true(s) for s in kept]
    return min(found), max(found)
