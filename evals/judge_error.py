"""Success rates corrected for the error of the judge that counted the successes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wfm_sim.evals.estimate import CONFIDENCE, Estimate
from wfm_sim.evals.proportions import wilson

Rate = float | tuple[int, int] | Estimate


@dataclass(frozen=True)
class _Measured:
    """A rate of the judge: right / trials; trials is infinite for a rate that is known."""

    value: float
    trials: float
    low: float
    high: float

    def shrunk(self) -> tuple[float, float]:
        """One right and one wrong example added: (rate, variance of the rate)."""
        if math.isinf(self.trials):
            return self.value, 0.0
        rate = (self.value * self.trials + 1) / (self.trials + 2)
        return rate, rate * (1 - rate) / (self.trials + 2)

    def __str__(self) -> str:
        if math.isinf(self.trials):
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] on {self.trials:.0f}"


def rogan_gladen(positives: float, n: float, sensitivity: Rate, specificity: Rate) -> Estimate:
    """The true success rate of n episodes of which the judge called `positives` a success (Rogan & Gladen 1978).

    value = (positives / n + specificity - 1) / (sensitivity + specificity - 1), cut to [0, 1]. The interval (Lang &
    Reiczigel 2014) carries both the binomial error of the n episodes and that of the examples on which the judge was
    measured. Cells that share a judge share its error: their intervals are each right, but not independent.

    Args:
        positives, n: Episodes judged a success, and all that were judged.
        sensitivity: Of true successes, how many the judge calls one: counts (tp, fn), an Estimate whose n is the
            number of true successes (`Agreement.rates()["recall"]`), or a number for a rate known without error.
        specificity: Of true failures, how many the judge calls one: counts (tn, fp), an Estimate or a number.

    Returns:
        The corrected rate in [0, 1]. Unscored without episodes, without examples of either kind, for a judge no
        better than chance, and when its examples are too few to say that it is (lower 95 % bound of
        sensitivity + specificity - 1 not above 0): then any rate would fit.
    """
    if not (math.isfinite(positives) and math.isfinite(n)):
        return Estimate.none(f"{positives} positives of {n} episodes is not a count")
    if n == 0:
        return Estimate.none("no episodes")
    if not 0 <= positives <= n:
        raise ValueError(f"{positives} positives of {n} episodes")
    se, sp = _measured(sensitivity, "success"), _measured(specificity, "failure")
    for rate in (se, sp):
        if isinstance(rate, str):
            return Estimate.none(rate, int(n))
    assert isinstance(se, _Measured) and isinstance(sp, _Measured)
    youden = se.value + sp.value - 1
    if youden <= 0:
        return Estimate.none(f"the judge is no better than chance: sensitivity {se}, specificity {sp}", int(n))
    if youden - math.hypot(se.value - se.low, sp.value - sp.low) <= 0:  # Newcombe's interval of a difference
        reason = f"too few examples to say that the judge beats chance: sensitivity {se}, specificity {sp}"
        return Estimate.none(reason, int(n))
    value = min(max((positives / n + sp.value - 1) / youden, 0.0), 1.0)
    low, high = _lang_reiczigel(positives, n, se, sp)
    return Estimate(value, min(low, value), max(high, value), int(n))


def _lang_reiczigel(positives: float, n: float, se: _Measured, sp: _Measured) -> tuple[float, float]:
    """Lang & Reiczigel (2014): a Wald interval about shrunken rates, moved towards the middle, in [0, 1]."""
    from scipy.special import ndtri

    z = float(ndtri((1 + CONFIDENCE) / 2))
    p = (positives + z**2 / 2) / (n + z**2)
    (s, s_variance), (c, c_variance) = se.shrunk(), sp.shrunk()
    youden = s + c - 1
    rate = min(max((p + c - 1) / youden, 0.0), 1.0)
    shift = 2 * z**2 * (rate * s_variance - (1 - rate) * c_variance)
    variance = p * (1 - p) / (n + z**2) + rate**2 * s_variance + (1 - rate) ** 2 * c_variance
    half = z * math.sqrt(variance) / youden
    return min(max(rate + shift - half, 0.0), 1.0), min(max(rate + shift + half, 0.0), 1.0)


def _measured(rate: Rate, kind: str) -> _Measured | str:
    """The judge's rate on examples of a kind, or why there is none."""
    if isinstance(rate, Estimate):
        if rate.value is None:
            return f"the judge was not measured on a true {kind}: {rate.unscored}"
        right = round(rate.value * rate.n)
        rate = (right, rate.n - right)
    if isinstance(rate, tuple):
        right, wrong = rate
        if not (math.isfinite(right) and math.isfinite(wrong)):
            return f"the judge's counts on true {kind} are not finite: {right} and {wrong}"
        if right < 0 or wrong < 0:
            raise ValueError(f"the judge's counts on a true {kind} are negative: {right} and {wrong}")
        found = wilson(right, right + wrong)
        if found.value is None or found.low is None or found.high is None:
            return f"the judge was never measured on a true {kind}"
        return _Measured(found.value, right + wrong, found.low, found.high)
    if not math.isfinite(rate):
        return f"the judge's rate on a true {kind} is not finite"
    if not 0 <= rate <= 1:
        raise ValueError(f"the judge's rate on a true {kind} is {rate}, which is not in [0, 1]")
    return _Measured(float(rate), math.inf, float(rate), float(rate))
