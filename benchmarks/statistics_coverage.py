"""Do the intervals of wfm_sim.evals.statistics hold what they say? Synthetic experiments with a known truth.

    python benchmarks/statistics_coverage.py                       # 2,000 experiments per line, about ten minutes
    python benchmarks/statistics_coverage.py --experiments 200 --only gap

One line per interval and situation: how often the 95 % interval held the truth (wanted: 93 to 97 %), how often it lay
above and below it, its mean width. Then the test that may be stopped at any time: false alarms, wrong directions, how
many pairs a decision takes. tests/evals/test_statistics_coverage.py runs a few lines of it.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from wfm_sim.evals import statistics as st
from wfm_sim.evals.sequential import first_decision
from wfm_sim.evals.success_gap import rank_violation

Rng = np.random.Generator
Outcomes = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """One line: draws an experiment and returns the truth with the estimates that should hold it."""

    name: str
    draw: Callable[[Rng], tuple[float, st.Estimate]]
    note: str = ""


@dataclass(frozen=True)
class Coverage:
    """Shares of `n` scored experiments."""

    n: int
    unscored: int
    held: float
    above: float
    below: float
    width: float


def coverage(case: Case, experiments: int, seed: int) -> Coverage:
    """Run a case; every case has random numbers of its own, whatever else runs."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    rows = []
    for _ in range(experiments):
        truth, found = case.draw(rng)
        if found.low is not None and found.high is not None:
            rows.append((found.low > truth + 1e-9, found.high < truth - 1e-9, found.high - found.low))
    above, below, width = (float(v) for v in np.mean(rows, axis=0))
    return Coverage(len(rows), experiments - len(rows), 1 - above - below, above, below, width)


# Rates ----------------------------------------------------------------------------------------------------------------


def one_rate(interval: Callable[[int, int], st.Estimate], n: int, rate: float | None) -> Callable:
    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        p = rng.uniform(0.02, 0.98) if rate is None else rate
        return p, interval(int(rng.binomial(n, p)), n)

    return draw


def two_worlds(rng: Rng, x: Sequence[float], y: Sequence[float], n: int, shared: float) -> tuple[Outcomes, Outcomes]:
    """0/1 outcomes [n] per policy in two worlds; with probability `shared` a scene is equally hard in both."""
    scene = rng.random((len(x), n))
    other = np.where(rng.random(scene.shape) < shared, scene, rng.random(scene.shape))
    first, second = scene < np.asarray(x)[:, None], other < np.asarray(y)[:, None]
    return list(first.astype(float)), list(second.astype(float))


def difference(n: int, a: float, b: float, shared: float, paired: bool = True) -> Callable:
    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        (x,), (y,) = two_worlds(rng, [a], [b], n, shared)
        if paired:
            return a - b, st.compare_paired(x, y).difference
        return a - b, st.newcombe_interval(st.wilson(x.sum(), n), st.wilson(y.sum(), n))

    return draw


def judged(n: int, examples: int, sensitivity: float, specificity: float, rate: float | None) -> Callable:
    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        p = rng.uniform(0.02, 0.98) if rate is None else rate
        positives = int(rng.binomial(n, p * sensitivity + (1 - p) * (1 - specificity)))
        tp, tn = (int(rng.binomial(examples, v)) for v in (sensitivity, specificity))
        return p, st.rogan_gladen(positives, n, (tp, examples - tp), (tn, examples - tn))

    return draw


def uncorrected(n: int, sensitivity: float, specificity: float) -> Callable:
    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        p = rng.uniform(0.02, 0.98)
        return p, st.wilson(int(rng.binomial(n, p * sensitivity + (1 - p) * (1 - specificity))), n)

    return draw


# Means ----------------------------------------------------------------------------------------------------------------


def mean_of(sample: Callable[[Rng], NDArray[np.float64]], truth: float) -> Callable:
    return lambda rng: (truth, st.bootstrap_mean(sample(rng), seed=int(rng.integers(2**31)), resamples=1000))


def clustered(clusters: int) -> Callable:
    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        values = [rng.normal(rng.normal(), 1, rng.integers(2, 9)) for _ in range(clusters)]
        return 0.0, st.cluster_bootstrap(values, seed=int(rng.integers(2**31)), resamples=1000)

    return draw


# Two worlds -----------------------------------------------------------------------------------------------------------


def policies(rng: Rng, rho: float, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True rates of k policies in two worlds: uniform on 3 to 97 %, ranks tied by a Gaussian copula."""
    u = ndtr(rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=k))
    return 0.03 + 0.94 * u[:, 0], 0.03 + 0.94 * u[:, 1]


def correlated(kind: st.CorrelationKind, rho: float, k: int, n: int, shared: float, naive: bool = False) -> Callable:
    truth = 6 / math.pi * math.asin(rho / 2)  # Pearson's of uniform margins and Spearman's alike

    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        x, y = two_worlds(rng, *policies(rng, rho, k), n, shared)
        if naive:
            return truth, percentiles(rng, x, y)
        return truth, st.correlation(x, y, kind, seed=int(rng.integers(2**31)), resamples=400)

    return draw


def percentiles(rng: Rng, x: Outcomes, y: Outcomes) -> st.Estimate:
    """The naive interval, for comparison: policies and episodes resampled, percentiles of Pearson's r."""
    n, rows = x[0].size, rng.integers(len(x), size=(400, len(x)))
    a, b = (rng.binomial(n, np.array([v.mean() for v in side])[rows]) for side in (x, y))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    low, high = np.percentile((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)), [2.5, 97.5])
    return st.Estimate(0.0, float(low), float(high))


def gaps(cells: int, n: int, spread: float, shared: float, violation: bool = False) -> Callable:
    """Cells whose rates in the model are off by normal errors of standard deviation `spread`."""

    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        y = rng.uniform(0.03, 0.97, cells)
        x = np.clip(y + spread * rng.standard_normal(cells), 0, 1)
        model, truth = two_worlds(rng, x, y, n, shared)
        seed = int(rng.integers(2**31))
        if violation:
            value = rank_violation(x, y)
            assert value is not None
            return value, st.mmrv(model, truth, seed=seed, resamples=300)
        return float(np.abs(x - y).mean()), st.mean_gap(model, truth, seed=seed, resamples=400).mean

    return draw


def ranks_of(rates: Sequence[float], n: int, shared: float) -> Callable:
    """Held: the true ranks of all policies lie in their allowed ranks (ties: any rank of the tied)."""

    def draw(rng: Rng) -> tuple[float, st.Estimate]:
        scene = rng.random(n)
        outcomes = {}
        for i, rate in enumerate(rates):
            own = np.where(rng.random(n) < shared, scene, rng.random(n))
            outcomes[str(i)] = own < rate
        found = st.rank_policies(outcomes)
        right = all(
            found.ranks[str(i)][0] <= 1 + sum(r > rate for r in rates)
            and found.ranks[str(i)][1] >= len(rates) - sum(r < rate for r in rates)
            for i, rate in enumerate(rates)
        )
        width = float(np.mean([high - low for low, high in found.ranks.values()]))
        return 0.0, st.Estimate(0.0, 0.0 if right else 1.0, width if right else 1.0 + width)

    return draw


DISCRETE = "a count takes whole values: coverage at one fixed rate swings about 95 %"
NEAR = "near 1 the upper bound is mostly 1, so only the lower one can miss"
EDGE = "the truth lies at the end of the scale, so only one side can miss"

CASES = [
    Case("Wilson, 100 episodes, rates 2 to 98 %", one_rate(st.wilson, 100, None)),
    Case("Jeffreys, 100 episodes, rates 2 to 98 %", one_rate(st.jeffreys, 100, None)),
    Case("Wilson, 20 episodes, rates 2 to 98 %", one_rate(st.wilson, 20, None)),
    Case("Jeffreys, 20 episodes, rates 2 to 98 %", one_rate(st.jeffreys, 20, None)),
    Case("Wilson, 100 episodes, rate 50 %", one_rate(st.wilson, 100, 0.5), DISCRETE),
    Case("Wilson, 100 episodes, rate 95 %", one_rate(st.wilson, 100, 0.95), DISCRETE),
    Case("Jeffreys, 100 episodes, rate 95 %", one_rate(st.jeffreys, 100, 0.95), DISCRETE),
    Case("paired difference (Tango), 100 pairs, 80 and 70 %, shared scenes", difference(100, 0.8, 0.7, 0.6)),
    Case("paired difference (Tango), 100 pairs, 50 and 50 %, shared scenes", difference(100, 0.5, 0.5, 0.6)),
    Case("paired difference (Tango), 50 pairs, 95 and 85 %", difference(50, 0.95, 0.85, 0.0)),
    Case("unpaired difference (Newcombe), 100 each, 80 and 70 %", difference(100, 0.8, 0.7, 0.0, paired=False)),
    Case("judge corrected, 100 episodes, .97/.97 on 200 each", judged(100, 200, 0.97, 0.97, None)),
    Case("judge corrected, 100 episodes, .90/.85 on 50 each", judged(100, 50, 0.90, 0.85, None)),
    Case("judge corrected, 300 episodes, .95/.98 on 100 each", judged(300, 100, 0.95, 0.98, None)),
    Case("judge corrected, rate 50 %, .85/.80 on 100 each", judged(100, 100, 0.85, 0.80, 0.5)),
    Case("judge corrected, rate 2 %, .97/.97 on 200 each", judged(100, 200, 0.97, 0.97, 0.02), EDGE),
    Case("[not used] judge's error ignored (Wilson), .90/.85", uncorrected(100, 0.90, 0.85), "why it is corrected"),
    Case("mean (BCa), 40 normal values", mean_of(lambda rng: rng.normal(2, 1, 40), 2.0)),
    Case("mean (BCa), 60 exponential values", mean_of(lambda rng: rng.exponential(size=60), 1.0)),
    Case("mean over clusters, 40 episodes", clustered(40)),
    Case("Pearson, 12 policies, 100 episodes, true r .89", correlated("pearson", 0.9, 12, 100, 0.0)),
    Case(
        "Pearson, 12 policies, 100 episodes, true r .98, common seeds", correlated("pearson", 0.98, 12, 100, 0.7), NEAR
    ),
    Case("Pearson, 10 policies, 50 episodes, true r .58", correlated("pearson", 0.6, 10, 50, 0.0)),
    Case("Spearman, 12 policies, 100 episodes, true rho .89", correlated("spearman", 0.9, 12, 100, 0.0)),
    Case(
        "Spearman, 12 policies, 100 episodes, true rho .98, common seeds",
        correlated("spearman", 0.98, 12, 100, 0.7),
        NEAR,
    ),
    Case("[not used] Pearson by percentiles, true r .98", correlated("pearson", 0.98, 12, 100, 0.0, True), "why not"),
    Case("mean |gap|, 12 cells, 100 episodes, gaps of 10 points", gaps(12, 100, 0.125, 0.6)),
    Case("mean |gap|, 36 cells, 100 episodes, gaps of 5 points", gaps(36, 100, 0.06, 0.6)),
    Case("mean |gap|, 36 cells, 100 episodes, equal worlds", gaps(36, 100, 0.0, 0.6), EDGE),
    Case("MMRV, 12 policies, 100 episodes, gaps of 20 points", gaps(12, 100, 0.25, 0.6, violation=True)),
    Case("MMRV, 12 policies, 100 episodes, gaps of 8 points", gaps(12, 100, 0.1, 0.6, violation=True)),
    Case("MMRV, 12 policies, 100 episodes, equal worlds", gaps(12, 100, 0.0, 0.6, violation=True), EDGE),
    Case(
        "ranks of 8 policies at once, 100 pairs",
        ranks_of([0.95, 0.9, 0.8, 0.8, 0.6, 0.4, 0.2, 0.2], 100, 0.5),
        "exact tests and Holm: more than 95 % by nature; width is ranks allowed beyond one",
    ),
]


# The sequential test --------------------------------------------------------------------------------------------------


def streams(rng: Rng, runs: int, a: NDArray, b: NDArray, shared: float) -> tuple[NDArray, NDArray]:
    """Wins and losses bool [runs, N] of policies with rates a, b [N] (they may drift)."""
    scene = rng.random((runs, a.size), dtype=np.float32)
    other = np.where(rng.random(scene.shape) < shared, scene, rng.random(scene.shape, dtype=np.float32))
    x, y = scene < a, other < b
    return x & ~y, y & ~x


def peeking(wins: NDArray, losses: NDArray, alpha: float) -> float:
    """False alarms of the exact test for a fixed number of episodes, if one looks after every tenth pair."""
    from scipy.special import bdtr

    w, lo = (np.cumsum(v, axis=1)[:, 9::10] for v in (wins, losses))
    p = 2 * bdtr(np.minimum(w, lo), w + lo, 0.5)
    return float((p <= alpha).any(1).mean())


def constant(rate: float, pairs: int) -> NDArray:
    return np.full(pairs, rate, np.float32)


def sequential(runs: int, pairs: int, alpha: float, seed: int) -> bool:
    """Print the tables; True if no false-alarm rate is above alpha by more than chance."""
    time_of = np.arange(pairs) / pairs
    drift = (0.2 + 0.6 * time_of).astype(np.float32)
    nulls = {
        "both 50 %": (constant(0.5, pairs), constant(0.5, pairs), 0.0),
        "both 5 %": (constant(0.05, pairs), constant(0.05, pairs), 0.0),
        "both 90 %, shared scenes": (constant(0.9, pairs), constant(0.9, pairs), 0.7),
        "both 50 %, shared scenes": (constant(0.5, pairs), constant(0.5, pairs), 0.9),
        "both drift 20 to 80 %": (drift, drift, 0.0),
    }
    print(
        f"\nTest that may be stopped at any time, alpha {alpha}: {runs} runs of {pairs} pairs, a look after every pair"
    )
    print(f"{'equally good policies':<34}{'false alarms':>14}{'[not used] exact test at every 10th pair':>44}")
    fine = True
    for name, (a, b, shared) in nulls.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        wins, losses = streams(rng, runs, a, b, shared)
        rate = float((first_decision(wins, losses, alpha) > 0).mean())
        fine &= rate <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
        print(f"{name:<34}{100 * rate:>12.1f} %{100 * peeking(wins, losses, alpha):>42.1f} %")
    print(
        f"\n{'A better than B':<34}{'decided':>9}{'wrongly':>9}{'pairs, median':>15}{'[quarter, three quarters]':>27}"
    )
    for a, b, shared in [(0.9, 0.5, 0.0), (0.9, 0.8, 0.0), (0.9, 0.8, 0.7), (0.55, 0.45, 0.0), (0.52, 0.5, 0.0)]:
        name = f"{100 * a:.0f} and {100 * b:.0f} %" + (", shared scenes" if shared else "")
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        wins, losses = streams(rng, runs, constant(a, pairs), constant(b, pairs), shared)
        stop = first_decision(wins, losses, alpha)
        done = stop > 0
        behind = np.cumsum(wins, 1)[np.arange(runs), stop - 1] < np.cumsum(losses, 1)[np.arange(runs), stop - 1]
        wrong = float((done & behind).mean())
        fine &= wrong <= alpha / 2 + 3 * math.sqrt(alpha / 2 / runs)
        quarters = np.percentile(stop[done], [25, 50, 75]) if done.any() else [math.nan] * 3
        spread = f"[{quarters[0]:.0f}, {quarters[2]:.0f}]"
        print(f"{name:<34}{100 * done.mean():>7.1f} %{100 * wrong:>7.2f} %{quarters[1]:>15.0f}{spread:>27}")
    forecast(runs, pairs, alpha, seed)
    return fine


def forecast(runs: int, pairs: int, alpha: float, seed: int) -> None:
    """How good is 'about n more': asked at 50 pairs, 90 against 75 %."""
    rng = np.random.default_rng([seed, 7])
    wins, losses = streams(rng, runs, constant(0.9, pairs), constant(0.75, pairs), 0.0)
    stop = first_decision(wins, losses, alpha)
    ratios, asked, silent = [], 0, 0
    for w, lo, s in zip(wins, losses, stop, strict=True):
        if s > 50:
            asked += 1
            more = st.pairs_needed(int(w[:50].sum()), int(lo[:50].sum()), 50, alpha)
            if more is None:
                silent += 1
            else:
                ratios.append(more / (s - 50))
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    print(
        f"\n'about n more' asked at pair 50 of 90 against 75 % ({asked} runs undecided by then): forecast over what it "
        f"took {middle:.2f} (median), {low:.2f} to {high:.2f} (10 to 90 %); 'no difference in sight' {silent} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000, help="per line")
    parser.add_argument("--pairs", type=int, default=1000, help="longest run of the sequential test")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only lines whose name holds one of these, comma between")
    options = parser.parse_args()
    wanted = options.only.lower().split(",")
    print(f"{options.experiments} experiments per line, seed {options.seed}; wanted: 93 to 97 %")
    print(f"{'':<68}{'held':>8}{'above':>8}{'below':>8}{'width':>8}{'unscored':>10}{'s':>6}")
    for case in CASES:
        if not any(word in case.name.lower() for word in wanted):
            continue
        start = time.process_time()
        found = coverage(case, options.experiments, options.seed)
        outside = "" if 0.93 <= found.held <= 0.97 else "  !" if not case.note else ""
        print(
            f"{case.name:<68}{100 * found.held:>6.1f} %{100 * found.above:>6.1f} %{100 * found.below:>6.1f} %"
            f"{found.width:>8.3f}{found.unscored:>10}{time.process_time() - start:>6.0f}{outside}"
            + (f"  ({case.note})" if case.note else ""),
            flush=True,
        )
    if any(word in "sequential" for word in wanted):
        fine = sequential(options.experiments, options.pairs, options.alpha, options.seed)
        print(f"\nfalse alarms and wrong directions: {'within alpha' if fine else 'ABOVE ALPHA'}")


if __name__ == "__main__":
    main()
