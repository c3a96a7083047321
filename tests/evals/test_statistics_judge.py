"""Success rates corrected for the judge's error."""

import numpy as np
import pytest

from wfm_sim.evals import statistics as st


def test_the_correction_undoes_the_judge() -> None:
    # 40 % true successes seen by a judge of 90 / 80 %: .4 * .9 + .6 * .2 = 48 positives of 100
    found = st.rogan_gladen(48, 100, (90, 10), (80, 20))
    assert found.value == pytest.approx(0.4) and found.n == 100
    assert found.low < 0.4 < found.high
    assert st.rogan_gladen(48, 100, 0.9, 0.8).value == pytest.approx(0.4)


def test_a_perfect_judge_changes_nothing_but_the_interval_knows_its_examples() -> None:
    exact, few, many = (st.rogan_gladen(30, 100, s, s) for s in (1.0, (20, 0), (2000, 0)))
    plain = st.wilson(30, 100)
    assert (exact.value, few.value, plain.value) == pytest.approx((0.3, 0.3, 0.3))
    assert (exact.low, exact.high) == pytest.approx((plain.low, plain.high), abs=0.005)
    assert few.high - few.low > many.high - many.low > exact.high - exact.low - 1e-9


def test_judge_uncertainty_widens_as_the_delta_method_says() -> None:
    n, se, sp, m = 100_000, 0.9, 0.8, 200
    rate = 0.4
    found = st.rogan_gladen(round(n * (rate * se + (1 - rate) * (1 - sp))), n, (180, 20), (160, 40))
    spread = np.sqrt(rate**2 * se * (1 - se) / m + (1 - rate) ** 2 * sp * (1 - sp) / m) / (se + sp - 1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_cut_to_the_unit_interval() -> None:
    found = st.rogan_gladen(1, 100, (95, 5), (90, 10))  # fewer positives than false alarms alone would give
    assert found.value == found.low == 0.0 and 0 < found.high < 0.1
    found = st.rogan_gladen(100, 100, (95, 5), (90, 10))
    assert found.value == found.high == 1.0 and 0.9 < found.low < 1


def test_estimates_and_agreement_as_the_judges_record() -> None:
    judge = st.agreement([1] * 95 + [0] * 5 + [0] * 90 + [1] * 10, [1] * 100 + [0] * 100)
    assert judge.sensitivity_counts == (95, 5) and judge.specificity_counts == (90, 10)
    by_counts = st.rogan_gladen(40, 100, judge.sensitivity_counts, judge.specificity_counts)
    rates = judge.rates()
    false_alarms = rates["false_alarms"]
    specificity = st.Estimate(1 - false_alarms.value, n=false_alarms.n)
    assert st.rogan_gladen(40, 100, rates["recall"], specificity) == by_counts


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, 0, 0.9, 0.9), "no episodes"),
        ((float("nan"), 10, 0.9, 0.9), "not a count"),
        ((5, 10, float("nan"), 0.9), "not finite"),
        ((5, 10, 0.5, 0.5), "no better than chance"),
        ((5, 10, (30, 70), (60, 40)), "no better than chance"),
        ((5, 10, (3, 0), (1, 2)), "too few examples"),
        ((5, 10, (0, 0), (9, 1)), "never measured on a true success"),
        ((5, 10, (9, 1), (0, 0)), "never measured on a true failure"),
        ((5, 10, st.Estimate.none("no true success"), 0.9), "no true success"),
    ],
)
def test_unscored_with_a_reason(arguments: tuple, reason: str) -> None:
    found = st.rogan_gladen(*arguments)
    assert found.value is None and found.low is None and reason in found.unscored


def test_impossible_counts() -> None:
    with pytest.raises(ValueError, match="11 positives of 10"):
        st.rogan_gladen(11, 10, 0.9, 0.9)
    with pytest.raises(ValueError, match="not in"):
        st.rogan_gladen(5, 10, 1.2, 0.9)
    with pytest.raises(ValueError, match="negative"):
        st.rogan_gladen(5, 10, (-1, 3), 0.9)
