"""Two policies on common seeds or not, stopping early, and many policies at once."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from wfm_sim.evals import statistics as st
from wfm_sim.evals.sequential import first_decision, log_evidence


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[int], list[int]]:
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return a, b


def test_paired_comparison_by_hand() -> None:
    found = st.compare_paired(*outcomes(50, 12, 2, 36))
    assert found.difference.value == pytest.approx(0.10)
    # 14 discordant pairs, at most 2 of one kind: 2 * (1 + 14 + 91) / 2^14
    assert found.p_value == pytest.approx(2 * 106 / 2**14) == pytest.approx(mcnemar([[50, 12], [2, 36]]).pvalue)
    assert (found.only_a, found.only_b, found.difference.n) == (12, 2, 100)
    assert "common seed" in found.unit
    assert found.a == st.wilson(62, 100) and found.b == st.wilson(52, 100)


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(12, 2, 100), (3, 3, 10), (1, 0, 44), (20, 5, 30)])
def test_tango_interval_is_where_the_score_is_1_96(only_a: int, only_b: int, n: int) -> None:
    def score(d: float) -> float:
        # the share q of 'only B' that is likeliest if the difference is d, on a fine grid instead of in closed form
        q = np.linspace(max(0, -d) + 1e-9, (1 - d) / 2 - 1e-9, 400_001)
        likelihood = only_a * np.log(q + d) + only_b * np.log(q) + (n - only_a - only_b) * np.log(1 - 2 * q - d)
        best = q[np.argmax(likelihood)]
        return (only_a - only_b - n * d) / np.sqrt(n * (2 * best + d - d * d))

    low, high = st.tango_interval(only_a, only_b, n)
    assert (score(low), score(high)) == pytest.approx((1.96, -1.96), abs=2e-3)


def test_tango_interval_at_the_edges() -> None:
    z2 = 1.959964**2
    assert st.tango_interval(0, 0, 50) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)), abs=1e-6)
    low, high = st.tango_interval(50, 0, 50)
    assert high == 1.0 and 0.8 < low < 0.9
    assert st.tango_interval(0, 50, 50) == pytest.approx((-high, -low))
    for n in (1, 2, 5):
        for a, b in itertools.product(range(n + 1), repeat=2):
            if a + b <= n:
                low, high = st.tango_interval(a, b, n)
                assert -1 <= low <= (a - b) / n <= high <= 1


def test_unpaired_comparison_is_newcombes_example() -> None:
    # Newcombe (1998), example (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339
    found = st.compare_unpaired([1] * 56 + [0] * 14, [1] * 48 + [0] * 32)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert found.p_value is not None and 0.004 < found.p_value < 0.011
    assert st.compare_unpaired([1, 1], [1, 1, 1]).p_value == 1.0


def test_comparison_of_what_cannot_be_compared() -> None:
    for compare in (st.compare_paired, st.compare_unpaired):
        assert compare([], []).difference.unscored == "no episodes"
        nan = compare([1, np.nan], [0, 1])
        assert "1 of 4 values are not finite" in nan.difference.unscored and nan.p_value is None
        with pytest.raises(ValueError, match="0 or 1"):
            compare([0.5], [1])
        same = compare([1] * 20, [1] * 20)
        assert same.p_value == 1.0 and same.difference.low < 0 < same.difference.high
    with pytest.raises(ValueError, match="pairs must match: 1 and 2"):
        st.compare_paired([1], [1, 0])


def test_evidence_is_the_integral_and_a_martingale() -> None:
    for w, lo in [(0, 0), (7, 2), (2, 7), (40, 38)]:
        integral = 2 * quad(lambda t, w=w, lo=lo: t**w * (1 - t) ** lo, 0.5, 1)[0]
        assert log_evidence(w, lo) == pytest.approx(np.log(integral) + (w + lo) * np.log(2), abs=1e-8)
    w, lo = np.meshgrid(np.arange(60), np.arange(60))
    now = np.exp(log_evidence(w, lo))
    won, lost = np.exp(log_evidence(w + 1, lo)), np.exp(log_evidence(w, lo + 1))
    np.testing.assert_allclose((won + lost) / 2, now, rtol=1e-8)  # a fair game at theta = 1/2
    assert (0.4 * won + 0.6 * lost <= now * (1 + 1e-9)).all()  # and a losing one where A is worse


def test_sequential_test_streams_and_replays_alike() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(400) < 0.85, rng.random(400) < 0.55
    whole, test = st.sequential_test(a, b), st.SequentialTest()
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        verdict = test.add(x, y)
        assert verdict == st.sequential_test(a[: i + 1], b[: i + 1])
        if verdict.decision != "go on":
            break
    assert whole == verdict == test.add(False, True)  # final
    assert whole.decision == "A better" and whole.p_value <= 0.05 and whole.more == 0 and whole.n < 200
    assert st.sequential_test(b, a).decision == "B better"
    assert "A better after" in whole.sentence()


def test_how_many_more() -> None:
    more = st.pairs_needed(12, 4, 40)
    grown = 1 + more / 40
    assert log_evidence(12 * grown, 4 * grown) >= np.log(2 / 0.05) > log_evidence(12 * grown * 0.98, 4 * grown * 0.98)
    assert st.pairs_needed(6, 4, 40) > more > st.pairs_needed(16, 4, 40)
    assert st.pairs_needed(5, 5, 40) is None and st.pairs_needed(0, 0, 0) is None
    assert st.pairs_needed(30, 2, 40) == 0
    assert "no difference in sight" in st.sequential_test([1, 1], [1, 1]).sentence()
    assert "more pairs needed" in st.sequential_test([1, 1, 0], [1, 0, 0]).sentence()


def test_sequential_test_of_nothing() -> None:
    assert st.sequential_test([], [1, 0]).unscored == "no pair of episodes"
    assert "not finite" in st.sequential_test([1, np.nan], [0, 0]).unscored
    assert st.sequential_test([1] * 5, [0] * 3).n == 3
    assert st.SequentialTest().verdict().decision == "go on"
    with pytest.raises(ValueError, match="0 or 1"):
        st.SequentialTest().add(2, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha"):
        st.sequential_test([1], [0], alpha=1.5)


@pytest.mark.parametrize(("rate", "shared"), [(0.5, 0.0), (0.9, 0.7), (0.05, 0.0)])
def test_false_alarms_under_optional_stopping(rate: float, shared: float) -> None:
    rng = np.random.default_rng(3)
    scene = rng.random((1000, 400))
    other = np.where(rng.random(scene.shape) < shared, scene, rng.random(scene.shape))
    a, b = scene < rate, other < rate
    decided = first_decision(a & ~b, b & ~a) > 0
    assert decided.mean() <= 0.05
    other = np.where(rng.random(scene.shape) < shared, scene, rng.random(scene.shape))
    better = first_decision(scene < 0.9, np.zeros_like(a)) > 0
    assert better.all()  # the same code does decide where there is something to decide


def test_holm() -> None:
    # by hand: .01*3, max(.02*2, .03), max(.04, .04)
    assert st.holm([0.01, 0.04, 0.02]) == pytest.approx([0.03, 0.04, 0.04])
    assert st.holm([0.01, None, float("nan"), 0.02]) == [pytest.approx(0.02), None, None, pytest.approx(0.02)]
    assert st.holm([]) == []
    p = [0.001, 0.2, 0.03, 0.9]
    assert st.holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_letters_share_one_exactly_where_not_different() -> None:
    assert st.compact_letters(["x", "y", "z"], [("x", "z")]) == {"x": "a", "y": "ab", "z": "b"}
    assert st.compact_letters(["x", "y"], []) == {"x": "a", "y": "a"}
    assert st.compact_letters([], []) == {}
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(7)]
    for _ in range(20):
        different = [pair for pair in itertools.combinations(names, 2) if rng.random() < 0.5]
        letters = st.compact_letters(names, different)
        for a, b in itertools.combinations(names, 2):
            assert bool(set(letters[a]) & set(letters[b])) == ((a, b) not in different)


def test_ranks_that_confidence_allows() -> None:
    rng = np.random.default_rng(0)
    rates = {"expert": 0.97, "good": 0.7, "alike": 0.68, "random": 0.02}
    found = st.rank_policies({name: rng.random(200) < rate for name, rate in rates.items()})
    assert list(found.rates)[:: len(rates) - 1] == ["expert", "random"]
    assert found.ranks == {"expert": (1, 1), "good": (2, 3), "alike": (2, 3), "random": (4, 4)}
    assert found.letters["good"] == found.letters["alike"] != found.letters["expert"]
    assert len(found.pairs) == 6 and all(p.p_adjusted >= p.comparison.p_value for p in found.pairs)
    assert "rank 2 to 3" in "\n".join(found.lines())
    assert [row["policy"] for row in found.to_json()["policies"]] == list(found.rates)


def test_ranks_of_few_and_broken_policies() -> None:
    found = st.rank_policies({"a": [1, 0, 1], "nan": [1, np.nan, 0], "none": []})
    assert found.ranks == {"a": (1, 1)} and found.pairs == []
    assert found.unscored == {"nan": "1 of 3 values are not finite", "none": "no episodes"}
    assert st.rank_policies({}).ranks == {}
    same = st.rank_policies({"a": [1, 1], "b": [1, 1], "c": [1, 1]})
    assert set(same.ranks.values()) == {(1, 3)} and set(same.letters.values()) == {"a"}
    with pytest.raises(ValueError, match="same number of episodes"):
        st.rank_policies({"a": [1, 0], "b": [1]})
    assert st.rank_policies({"a": [1] * 30, "b": [0] * 20}, paired=False).ranks == {"a": (1, 1), "b": (2, 2)}
