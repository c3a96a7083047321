"""Ranking k policies when each is compared with every other: what can be said of all at once with 95 % confidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from wfm_sim.evals.estimate import CONFIDENCE, Estimate, as_scores, not_finite
from wfm_sim.evals.proportions import EPISODE, PAIR, Comparison, compare_paired, compare_unpaired, wilson


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (1979), in the order given; what is None or NaN is no test and stays None."""
    tests = [i for i, p in enumerate(p_values) if p is not None and math.isfinite(p)]
    adjusted: list[float | None] = [None] * len(p_values)
    if tests:
        from statsmodels.stats.multitest import multipletests

        for i, p in zip(tests, multipletests([p_values[i] for i in tests], method="holm")[1], strict=True):
            adjusted[i] = float(p)
    return adjusted


@dataclass(frozen=True)
class PairResult:
    """One pair of policies: its comparison, the p-value adjusted for all pairs, and who is better, if anyone."""

    a: str
    b: str
    comparison: Comparison
    p_adjusted: float | None
    better: str | None


@dataclass(frozen=True)
class Ranking:
    """k policies, best first, with what 95 % simultaneous confidence allows.

    Attributes:
        rates: Success of each scored policy with its own Wilson interval (not simultaneous), best first.
        ranks: (best, worst) rank that each may have; 1 is best. With probability >= 95 % all of them are right at once.
        letters: Compact letter display: two policies that share a letter were not told apart.
        pairs: Every pair, with Holm-adjusted p-values.
        unscored: Policies left out, with the reason.
        unit: What the comparisons count.
    """

    rates: dict[str, Estimate]
    ranks: dict[str, tuple[int, int]]
    letters: dict[str, str]
    pairs: list[PairResult]
    unscored: dict[str, str] = field(default_factory=dict)
    unit: str = PAIR

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries: one row per policy, one per pair."""
        rows = [
            {"policy": name, "success": rate.to_json(), "ranks": list(self.ranks[name]), "letters": self.letters[name]}
            for name, rate in self.rates.items()
        ]
        pairs = [
            {
                "a": p.a,
                "b": p.b,
                "difference": p.comparison.difference.to_json(),
                "p_value": p.comparison.p_value,
                "p_adjusted": p.p_adjusted,
                "better": p.better,
            }
            for p in self.pairs
        ]
        return {"unit": self.unit, "policies": rows, "pairs": pairs, "unscored": self.unscored}

    def lines(self) -> list[str]:
        """A table for the terminal."""
        width = max((len(name) for name in (*self.rates, *self.unscored)), default=0)
        rows = [
            f"{name:<{width}}  {rate.format(1, 100, '%'):<22}  rank {low}"
            + (f" to {high}" if high > low else "")
            + f"  {self.letters[name]}"
            for (name, rate), (low, high) in zip(self.rates.items(), self.ranks.values(), strict=True)
        ]
        return rows + [f"{name:<{width}}  unscored ({reason})" for name, reason in self.unscored.items()]


def rank_policies(outcomes: Mapping[str, ArrayLike], *, paired: bool = True) -> Ranking:
    """Which policies are better than which, all pairs tested at once (family-wise error <= 5 %).

    Each pair gets an exact test (McNemar on common seeds, Boschloo otherwise), Holm adjusts, and where the adjusted
    p-value is at most 5 % the one with the higher rate is better. A policy's ranks run from 1 + (how many are better)
    to k - (how many are worse) (Al Mohamad, Goeman & van Zwet 2022). Exact tests stay below their level, so the ranks
    hold with more than 95 %.

    Args:
        outcomes: 0/1 outcomes [N] of each policy; row i of all the same task and seed if `paired`.
        paired: False for episodes of their own, of any number.
    """
    scores = {name: as_scores(values) for name, values in outcomes.items()}
    unscored = {
        name: "no episodes" if not values.size else not_finite(values)
        for name, values in scores.items()
        if not values.size or not_finite(values)
    }
    usable = {name: values for name, values in scores.items() if name not in unscored}
    sizes = {values.size for values in usable.values()}
    if paired and len(sizes) > 1:
        raise ValueError(f"policies on common seeds have the same number of episodes, not {sorted(sizes)}")
    names = sorted(usable, key=lambda name: -usable[name].mean())
    compare = compare_paired if paired else compare_unpaired
    couples = list(itertools.combinations(names, 2))
    found = [compare(usable[a], usable[b]) for a, b in couples]
    pairs = []
    for (a, b), comparison, p in zip(couples, found, holm([c.p_value for c in found]), strict=True):
        told_apart = p is not None and p <= 1 - CONFIDENCE
        pairs.append(PairResult(a, b, comparison, p, a if told_apart else None))  # a is the one with the higher rate
    beaten = {(p.better, p.b) for p in pairs if p.better}
    ranks = {
        name: (1 + sum(b == name for _, b in beaten), len(names) - sum(a == name for a, _ in beaten)) for name in names
    }
    return Ranking(
        rates={name: wilson(usable[name].sum(), usable[name].size) for name in names},
        ranks=ranks,
        letters=compact_letters(names, [(p.a, p.b) for p in pairs if p.better]),
        pairs=pairs,
        unscored=unscored,
        unit=PAIR if paired else EPISODE,
    )


def compact_letters(names: Sequence[str], different: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two names share one exactly when they are not listed as `different` (Piepho 2004).

    Insert and absorb: start with one group of all; every different pair splits the groups that hold both; groups
    inside another are dropped.
    """
    groups = [frozenset(names)] if names else []
    for a, b in different:
        split = [g - {x} for g in groups if a in g and b in g for x in (a, b)]
        kept = [g for g in groups if not (a in g and b in g)]
        candidates = list(dict.fromkeys(kept + split))
        groups = [g for g in candidates if not any(g < other for other in candidates)]
    order = {name: i for i, name in enumerate(names)}
    groups.sort(key=lambda g: sorted(order[name] for name in g))
    return {name: "".join(_letter(i) for i, g in enumerate(groups) if name in g) for name in names}


def _letter(index: int) -> str:
    """a to z, then A to Z, then a1, b1, ..."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[index % 52] + (str(index // 52) if index >= 52 else "")
