"""Is policy A better than policy B? A test that may be looked at after every episode and stopped at any time.

Episodes come in pairs: one of A, one of B, best on a common seed. Pairs in which both do the same say nothing of who is
better; among the others A wins with probability theta, and 'equally good' means theta = 1/2. For a theta above 1/2 the
likelihood ratio against 1/2 is a non-negative supermartingale under every theta <= 1/2, and so is its average over a
prior on (1/2, 1): a bet that grows if A is better. By Ville's inequality it ever reaches 2 / alpha with probability at
most alpha / 2 if A is not better, however often one looks (Ramdas, Grünwald, Vovk & Shafer 2023). The same bet is laid
on B; alpha / 2 + alpha / 2 = alpha.

Policies that ran on episodes of their own are paired in the order in which they ran: the test stays valid, and near
equality nothing is lost, for the difference of wins has the variance of the difference of two independent rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.evals.estimate import as_scores, not_finite

Decision = Literal["A better", "B better", "go on"]
MOST = 1_000_000  # pairs beyond which 'how many more' is answered with None


@dataclass(frozen=True)
class Verdict:
    """Where a sequential comparison stands.

    Attributes:
        decision: 'A better' and 'B better' are final: later pairs do not take them back.
        n: Pairs looked at; at a decision, those that it took.
        wins, losses: Of these, pairs in which only A, or only B, succeeded.
        p_value: Anytime-valid and two-sided; <= alpha exactly when a decision was made.
        more: About how many more pairs a decision takes if the two go on as so far; 0 at a decision, None where they
            look alike (or no pair has told them apart yet), so that no number can be given.
        unscored: Why nothing can be said; empty when something can.
    """

    decision: Decision
    n: int
    wins: int
    losses: int
    p_value: float
    more: int | None
    alpha: float
    unscored: str = ""

    def sentence(self) -> str:
        """'A better after 63 pairs (21 : 4, p = 0.011)'."""
        if self.unscored:
            return f"unscored ({self.unscored})"
        score = f"{self.wins} : {self.losses}, p = {self.p_value:.2g}"
        if self.decision != "go on":
            return f"{self.decision} after {self.n} pairs ({score})"
        more = "no difference in sight" if self.more is None else f"about {self.more} more pairs needed"
        return f"go on after {self.n} pairs ({score}): {more}"


def log_evidence(wins: ArrayLike, losses: ArrayLike) -> NDArray[np.float64]:
    """Log of the bet on 'A better' after so many wins and losses: theta uniform on (1/2, 1) against theta = 1/2.

    log( 2 * integral from 1/2 to 1 of theta^wins (1 - theta)^losses d theta ) + (wins + losses) log 2. Counts may be
    fractions. For the bet on B swap the two.
    """
    from scipy.special import betaincc, betaln

    w, lo = np.asarray(wins, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    with np.errstate(divide="ignore"):  # a hopeless bet: log 0
        upper = np.log(betaincc(1 + w, 1 + lo, 0.5))
    return (w + lo + 1) * math.log(2) + betaln(1 + w, 1 + lo) + upper


def pairs_needed(wins: float, losses: float, n: int, alpha: float = 0.05) -> int | None:
    """About how many more pairs reach a decision if wins and losses go on as in the first n; None: over MOST."""
    target = math.log(2 / alpha)
    win, lose = max(wins, losses), min(wins, losses)
    if n == 0 or win == lose:
        return None

    def reached(more: int) -> bool:
        grown = 1 + more / n
        return bool(log_evidence(win * grown, lose * grown) >= target)

    if reached(0):
        return 0
    if not reached(MOST):
        return None
    low, high = 0, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@dataclass
class SequentialTest:
    """Feed it pairs as they end and stop when it says so.

    test = SequentialTest(); verdict = test.add(True, False); verdict.decision
    """

    alpha: float = 0.05
    n: int = 0
    wins: int = 0
    losses: int = 0
    _best: float = field(default=-math.inf, repr=False)  # largest log evidence of either side so far
    _final: Verdict | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check(self.alpha)

    def add(self, a: bool, b: bool) -> Verdict:
        """One more pair: did A succeed, did B? A pair with a value that is not 0 or 1 raises ValueError."""
        if a not in (0, 1) or b not in (0, 1):
            raise ValueError(f"outcomes are 0 or 1, not {a} and {b}")
        if self._final is not None:
            return self._final
        self.n, self.wins, self.losses = self.n + 1, self.wins + int(a > b), self.losses + int(b > a)
        return self.verdict()

    def verdict(self) -> Verdict:
        """Where it stands now."""
        if self._final is not None:
            return self._final
        for_a, for_b = float(log_evidence(self.wins, self.losses)), float(log_evidence(self.losses, self.wins))
        self._best = max(self._best, for_a, for_b)
        p = min(1.0, 2 * math.exp(-self._best))
        if self._best < math.log(2 / self.alpha):
            more = pairs_needed(self.wins, self.losses, self.n, self.alpha)
            return Verdict("go on", self.n, self.wins, self.losses, p, more, self.alpha)
        decision: Decision = "A better" if for_a > for_b else "B better"
        self._final = Verdict(decision, self.n, self.wins, self.losses, p, 0, self.alpha)
        return self._final


def sequential_test(a: ArrayLike, b: ArrayLike, *, alpha: float = 0.05) -> Verdict:
    """A against B on 0/1 outcomes [N], [M] in the order in which they ran; the verdict after the last pair, or earlier.

    Row i of both makes a pair (a common seed, or just the i-th episode of either); what the longer side has beyond the
    shorter waits for its partner and is not used. The first decision stands.
    """
    _check(alpha)
    first, second = as_scores(a), as_scores(b)
    n = min(first.size, second.size)
    first, second = first[:n], second[:n]
    reason = "no pair of episodes" if n == 0 else not_finite(first, second)
    if reason:
        return Verdict("go on", n, 0, 0, 1.0, None, alpha, reason)
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise ValueError("the sequential test takes outcomes that are 0 or 1")
    stop = int(first_decision((first > second)[None], (second > first)[None], alpha)[0])
    used = n if stop < 0 else stop
    test = SequentialTest(alpha)
    wins, losses = np.cumsum(first > second)[:used], np.cumsum(second > first)[:used]
    test.n, test.wins, test.losses = used, int(wins[-1]), int(losses[-1])
    test._best = float(np.maximum(log_evidence(wins, losses), log_evidence(losses, wins)).max())
    return test.verdict()


def first_decision(wins: ArrayLike, losses: ArrayLike, alpha: float = 0.05) -> NDArray[np.int64]:
    """Of whole runs at once: after how many pairs each is decided, [R]; -1 for never.

    Args:
        wins, losses: bool [R, N], pair by pair.
    """
    w, lo = (np.cumsum(np.asarray(v, dtype=bool), axis=1) for v in (wins, losses))
    size = int(max(w.max(initial=0), lo.max(initial=0))) + 1
    table = log_evidence(np.arange(size)[:, None], np.arange(size)[None, :])  # every (wins, losses) once
    crossed = np.maximum(table[w, lo], table[lo, w]) >= math.log(2 / alpha)
    return np.where(crossed.any(1), crossed.argmax(1) + 1, -1)


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")
