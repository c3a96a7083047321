import numpy as np
import pytest
from scipy.stats import norm

from wfm_sim.evals import statistics as st


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (57, 100)])
def test_wilson_is_the_formula(k: int, n: int) -> None:
    z, p = norm.ppf(0.975), k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = st.wilson(k, n)
    assert found.value == p
    assert (found.low, found.high) == pytest.approx((max(centre - half, 0), min(centre + half, 1)), abs=1e-9)


def test_wilson_known_value_and_no_trials() -> None:
    assert st.wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert st.wilson(0, 0).value is None and "no trials" in st.wilson(0, 0).unscored
    with pytest.raises(ValueError, match="5 successes of 4"):
        st.wilson(5, 4)


def test_bootstrap_mean_covers_and_is_seeded() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(120):
        found = st.bootstrap_mean(rng.normal(2.0, 1.0, 40), seed=trial, resamples=400)
        hits += found.low <= 2.0 <= found.high
    assert 0.87 <= hits / 120 <= 1.0
    data = rng.exponential(size=30)
    assert st.bootstrap_mean(data, seed=3) == st.bootstrap_mean(data, seed=3)


def test_bootstrap_mean_edges() -> None:
    assert st.bootstrap_mean([]).unscored
    assert st.bootstrap_mean([4.0]) == st.Estimate(4.0, n=1)
    assert st.bootstrap_mean([2.0, 2.0, 2.0]) == st.Estimate(2.0, 2.0, 2.0, 3)
    assert "1 of 2 values are not finite" in st.bootstrap_mean([1.0, np.nan]).unscored


def test_pairing_removes_what_pairs_share() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 10, 50)
    found = st.paired_bootstrap(shared + 1 + rng.normal(0, 0.1, 50), shared)
    assert 0.9 < found.low < found.value < found.high < 1.1
    with pytest.raises(ValueError, match="pairs must match"):
        st.paired_bootstrap([1], [1, 2])


def test_cluster_bootstrap_is_wider_than_pretending_independence() -> None:
    rng = np.random.default_rng(2)
    clusters = [np.full(20, centre) for centre in rng.normal(size=15)]
    wide, naive = st.cluster_bootstrap(clusters), st.bootstrap_mean(np.concatenate(clusters))
    assert wide.n == 15
    assert wide.high - wide.low > 3 * (naive.high - naive.low)
    # the shortcut for the mean is the general way
    assert st.cluster_bootstrap(clusters).low == pytest.approx(st.cluster_bootstrap(clusters, lambda v: v.mean()).low)
    assert st.cluster_bootstrap([[1, 2], [], [9]], np.median).value == 2.0
    assert st.cluster_bootstrap([[], []]).unscored


def test_a_proportion_of_nothing_still_has_an_interval() -> None:
    assert st.cluster_proportion([[0, 0], [0], [0, 0, 0]]) == st.wilson(0, 3)
    assert st.cluster_proportion([[1], [1]]) == st.wilson(2, 2)
    mixed = [[0, 1], [0], [1, 1, 0]]
    assert st.cluster_proportion(mixed) == st.cluster_bootstrap(mixed)


def test_mean_gap_and_the_gap_of_equal_worlds() -> None:
    gap = st.mean_gap([[1, 1, 0, 0], [0, 0]], [[1, 0, 0, 0], [0, 0]])
    assert gap.mean.value == pytest.approx((0.25 + 0) / 2)
    assert gap.mean.low <= gap.mean.value <= gap.mean.high
    rng = np.random.default_rng(0)
    rates = np.linspace(0.1, 0.9, 60)
    equal = st.mean_gap([rng.random(20) < r for r in rates], [rng.random(20) < r for r in rates])
    assert equal.mean.value == pytest.approx(equal.from_sampling, abs=0.03) and equal.from_sampling > 0.05
    assert st.mean_gap([], []).mean.unscored
    with pytest.raises(ValueError, match="same episodes"):
        st.mean_gap([[1]], [[1, 0]])


def test_correlation_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    assert st.correlate(x, y, "spearman") == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert st.correlate([0, 1, 2], [0, 1, 4], "pearson") == pytest.approx(4 / np.sqrt(2 * 26 / 3), abs=1e-9)
    assert st.correlate([1, 1, 1], [0, 1, 2], "pearson") is None


def test_correlation_interval_knows_how_little_it_knows() -> None:
    rng = np.random.default_rng(0)
    rates = np.linspace(0.05, 0.95, 15)
    many = [rng.random(200) < r for r in rates], [rng.random(200) < r for r in rates]
    few = [v[:10] for v in many[0][::3]], [v[:10] for v in many[1][::3]]
    sure, unsure = st.correlation(*many, resamples=300), st.correlation(*few, resamples=300)
    assert sure.value > 0.95 and sure.low > 0.85
    assert unsure.low < sure.low
    three = st.correlation(*[[[0.0], [0.5], [1.0]]] * 2)
    assert (three.value, three.low, three.high) == (pytest.approx(1.0), -1.0, 1.0)
    assert "at least 3" in st.correlation([[1]], [[1]]).unscored
    assert "score the same" in st.correlation([[0], [0], [0]], [[0], [1], [2]]).unscored


def test_rank_violation() -> None:
    assert st.rank_violation([0.1, 0.5, 0.9], [0.0, 0.4, 1.0]) == 0.0
    assert st.rank_violation([0.1, 0.9, 0.5], [0.0, 0.4, 1.0]) == pytest.approx((0 + 0.6 + 0.6) / 3)


def test_agreement_counts_and_rates() -> None:
    counts = st.agreement([1, 1, 0, 0, 1], [1, 0, 1, 0, 1])
    assert counts == st.Agreement(2, 1, 1, 1)
    rates = counts.rates()
    assert rates["agreement"].value == pytest.approx(0.6)
    assert rates["recall"].value == pytest.approx(2 / 3)
    assert rates["false_alarms"].value == pytest.approx(0.5)
    assert st.agreement([0], [0]).rates()["recall"].unscored == "no true success"


def test_estimate_text_and_json() -> None:
    assert st.Estimate(0.5, 0.25, 0.75, 4).format(0, 100, "%") == "50 [25, 75] %"
    assert st.Estimate.none("nothing moved").format() == "unscored (nothing moved)"
    assert "unscored" not in st.Estimate(1.0).to_json()
