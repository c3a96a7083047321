"""A few lines of benchmarks/statistics_coverage.py: intervals hold the truth about as often as they say."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "statistics_coverage.py"
SPEC = importlib.util.spec_from_file_location("statistics_coverage", PATH)
assert SPEC is not None and SPEC.loader is not None
benchmark = importlib.util.module_from_spec(SPEC)
sys.modules["statistics_coverage"] = benchmark  # dataclasses look their module up
SPEC.loader.exec_module(benchmark)
CASES = {case.name: case for case in benchmark.CASES}


@pytest.mark.parametrize(
    ("name", "experiments", "low", "high"),  # bounds: the wanted 93 to 97 % and three standard errors
    [
        ("Wilson, 100 episodes, rates 2 to 98 %", 1000, 0.91, 0.985),
        ("Jeffreys, 100 episodes, rates 2 to 98 %", 1000, 0.91, 0.985),
        ("paired difference (Tango), 100 pairs, 80 and 70 %, shared scenes", 500, 0.90, 0.99),
        ("judge corrected, 100 episodes, .97/.97 on 200 each", 1000, 0.91, 0.99),
        ("judge corrected, rate 50 %, .85/.80 on 100 each", 1000, 0.91, 0.985),
        ("Pearson, 12 policies, 100 episodes, true r .98, common seeds", 120, 0.88, 1.0),
        ("mean |gap|, 12 cells, 100 episodes, gaps of 10 points", 150, 0.88, 1.0),
        ("ranks of 8 policies at once, 100 pairs", 25, 0.88, 1.0),
        ("[not used] judge's error ignored (Wilson), .90/.85", 500, 0.40, 0.75),
    ],
)
def test_coverage(name: str, experiments: int, low: float, high: float) -> None:
    found = benchmark.coverage(CASES[name], experiments, seed=1)
    assert found.n == experiments
    assert low <= found.held <= high


def test_peeking_at_a_fixed_test_would_raise_false_alarms() -> None:
    rng = benchmark.np.random.default_rng(0)
    rate = benchmark.constant(0.5, 500)
    wins, losses = benchmark.streams(rng, 500, rate, rate, 0.0)
    assert benchmark.peeking(wins, losses, 0.05) > 0.10
    assert (benchmark.first_decision(wins, losses, 0.05) > 0).mean() <= 0.05
