"""Two worlds compared over policies: correlation, MMRV and gap, by hand and on SIMPLER's published tables."""

import numpy as np
import pytest

from wfm_sim.evals import statistics as st

# Success rates of Li et al. (2024), 'Evaluating Real-World Robot Manipulation Policies in Simulation', as published
# with SimplerEnv (visual matching): RT-2-X, RT-1 converged, RT-1 at 15 %, RT-1-X, RT-1 at the beginning, Octo-base;
# for WidowX RT-1-X, Octo-base, Octo-small. The last two numbers are r and MMRV recomputed from the same tables
# with their own code, to three digits.
# ruff: noqa: E501
SIMPLER = {
    "pick coke can": ([0.787, 0.857, 0.710, 0.567, 0.027, 0.170], [0.907, 0.853, 0.920, 0.760, 0.133, 0.293], 0.975, 0.031),
    "move near": ([0.779, 0.442, 0.354, 0.317, 0.050, 0.042], [0.733, 0.633, 0.583, 0.450, 0.017, 0.350], 0.856, 0.111),
    "open drawer": ([0.157, 0.601, 0.463, 0.296, 0.000, 0.009], [0.333, 0.815, 0.704, 0.519, 0.000, 0.148], 0.983, 0.000),
    "close drawer": ([0.343, 0.861, 0.667, 0.891, 0.278, 0.444], [0.630, 0.926, 0.889, 0.741, 0.000, 0.519], 0.771, 0.123),
    "apple": ([0.037, 0.065, 0.130, 0.213, 0.000, 0.000], [0.074, 0.185, 0.185, 0.407, 0.000, 0.000], 0.969, 0.000),
    "spoon": ([0.000, 0.125, 0.472], [0.000, 0.333, 0.417], 0.827, None),
    "carrot": ([0.042, 0.083, 0.097], [0.000, 0.250, 0.083], 0.571, None),
    "stack": ([0.000, 0.000, 0.042], [0.000, 0.000, 0.125], 1.0, None),
    "eggplant": ([0.000, 0.431, 0.569], [0.000, 0.250, 0.400], 0.989, None),
}  # fmt: skip


@pytest.mark.parametrize("task", SIMPLER)
def test_simpler_tables(task: str) -> None:
    simulated, real, r, violation = SIMPLER[task]
    assert st.correlate(simulated, real, "pearson") == pytest.approx(r, abs=6e-4)
    if violation is not None:
        assert st.rank_violation(simulated, real) == pytest.approx(violation, abs=6e-4)


def test_simpler_means_over_google_robot_tasks() -> None:
    google = [v for v in SIMPLER.values() if v[3] is not None]
    r = [st.correlate(simulated, real, "pearson") for simulated, real, _, _ in google]
    violations = [st.rank_violation(simulated, real) for simulated, real, _, _ in google]
    assert (np.mean(r), np.mean(violations)) == pytest.approx((0.911, 0.053), abs=6e-4)


def test_rank_violation_by_hand() -> None:
    assert st.rank_violation([0.1, 0.5, 0.9], [0.0, 0.4, 1.0]) == 0.0
    assert st.rank_violation([0.1, 0.9, 0.5], [0.0, 0.4, 1.0]) == pytest.approx((0 + 0.6 + 0.6) / 3)
    # the model turns the order round: every policy's worst is the policy farthest away
    assert st.rank_violation([3, 2, 1], [0.0, 0.4, 1.0]) == pytest.approx((1.0 + 0.6 + 1.0) / 3)
    # the model ties what truly differs: the lower one counts as violated (eq. 2 is not symmetric in ties)
    assert st.rank_violation([0.5, 0.5], [0.2, 0.6]) == pytest.approx(0.4 / 2)
    assert st.rank_violation([1], [1]) is None and st.rank_violation([0, np.nan], [0, 1]) is None
    with pytest.raises(ValueError, match="2 policies in one world, 1"):
        st.rank_violation([1, 2], [1])


def test_fisher_z_of_published_correlations() -> None:
    for r, n, low, high in [(0.989, 8, 0.938, 0.998), (0.88, 8, 0.46, 0.98), (0.78, 10, 0.30, 0.95)]:
        found = st.fisher_z(r, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-3)
    assert (st.fisher_z(0.9, 3).low, st.fisher_z(0.9, 3).high) == (-1.0, 1.0)
    assert st.fisher_z(1.0, 8) == st.Estimate(1.0, 1.0, 1.0, 8)
    assert st.fisher_z(None, 8).unscored and st.fisher_z(float("nan"), 8).unscored


def bernoulli(rng: np.random.Generator, rates: np.ndarray, n: int) -> list[np.ndarray]:
    return [rng.random(n) < rate for rate in rates]


def test_few_episodes_lower_the_measured_correlation_but_not_the_upper_bound() -> None:
    rng = np.random.default_rng(1)
    rates = np.linspace(0.2, 0.8, 12)
    found = st.correlation(bernoulli(rng, rates, 25), bernoulli(rng, rates, 25), "pearson", resamples=300)
    assert found.value < 0.95 and found.high == 1.0  # the worlds are equal: the true r is 1
    assert st.fisher_z(found.value, 12).high < 0.99  # Fisher's z takes the measured rates for exact


def test_spearman_of_a_perfect_order_is_not_certain() -> None:
    rng = np.random.default_rng(0)
    x = [rng.random(500) < rate for rate in np.linspace(0.1, 0.9, 6)]
    found = st.correlation(x, x, "spearman", resamples=300)
    assert found.value == pytest.approx(1.0) and found.high == 1.0 and 0.3 < found.low < 0.95


def test_correlation_of_scores_that_are_not_binary() -> None:
    rng = np.random.default_rng(0)
    centres = np.linspace(0, 5, 9)
    x = [rng.normal(c, 1, 40) for c in centres]
    y = [rng.normal(2 * c, 1, 30) for c in centres]
    found = st.correlation(x, y, "pearson", resamples=300)
    assert 0.9 < found.low < found.value <= found.high <= 1


def test_degenerate_worlds_are_unscored() -> None:
    assert "not finite" in st.correlation([[0], [1], [np.nan]], [[0], [1], [1]]).unscored
    assert "no episodes" in st.correlation([[0], [1], []], [[0], [1], [1]]).unscored
    assert "score the same" in st.correlation([[1, 1]] * 5, [[0], [1], [0], [1], [1]]).unscored
    assert "not finite" in st.mean_gap([[1, np.nan]], [[1, 0]]).mean.unscored
    assert "not finite" in st.mmrv([[1], [np.nan]], [[1], [0]]).unscored
    assert st.mmrv([], []).unscored == "no episodes"
    assert "at least 2 policies" in st.mmrv([[1]], [[1]]).unscored
    assert st.correlate([0, np.nan, 1], [0, 1, 2], "pearson") is None
    assert "not finite" in st.cluster_bootstrap([[1, np.inf]]).unscored
    assert st.agreement([1, np.nan, 0], [1, 1, np.nan]) == st.Agreement(1, 0, 0, 0, left_out=2)


def test_all_successes_and_constant_worlds() -> None:
    ones = [[1] * 10] * 4
    same = st.mean_gap(ones, ones).mean
    assert (same.value, same.low, same.high) == (0.0, 0.0, st.wilson(0, 40).high)  # alike so far, not for ever
    assert "same in the truth" in st.mmrv(ones, ones).unscored
    zeros = [[0] * 10] * 4
    opposite = st.mean_gap(ones, zeros).mean
    assert opposite.value == opposite.high == 1.0 and 0.6 < opposite.low < 1.0
    one = st.mean_gap([[1]], [[0]]).mean
    assert one.low < 0.3 and one.high == 1.0
    two = st.mmrv([[1], [0]], [[1], [0]])
    assert two.value == two.low == 0.0 and two.high > 0.5


def test_mean_gap_allows_for_equal_worlds_and_sees_unequal_ones() -> None:
    rng = np.random.default_rng(2)
    rates = np.linspace(0.1, 0.9, 20)
    equal = st.mean_gap(bernoulli(rng, rates, 50), bernoulli(rng, rates, 50)).mean
    assert equal.value > 0.03 and equal.low < 0.02
    off = st.mean_gap(bernoulli(rng, rates, 400), bernoulli(rng, np.clip(rates - 0.1, 0, 1), 400)).mean
    assert 0.05 < off.low < off.value < off.high < 0.15


def test_mmrv_has_an_interval() -> None:
    rng = np.random.default_rng(4)
    rates = np.linspace(0.1, 0.9, 8)
    model, truth = bernoulli(rng, rates, 60), bernoulli(rng, rates, 60)
    equal = st.mmrv(model, truth)
    assert equal.value == st.rank_violation([v.mean() for v in model], [v.mean() for v in truth])
    assert equal.low == 0.0 and equal.n == 8 and equal == st.mmrv(model, truth)
    turned = st.mmrv(bernoulli(rng, rates[::-1], 200), bernoulli(rng, rates, 200))
    # turned round, rates .1 to .9: the farthest are .8, .69, .57, .46, .46, ... away
    assert turned.low < 8 / 70 * np.mean([7, 6, 5, 4, 4, 5, 6, 7]) < turned.high
    assert turned.low > 0.05 and turned.high < 0.8
