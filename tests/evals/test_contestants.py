"""The registry of policies: every name makes a policy of that name, wrong ones get a hint."""

import re
from pathlib import Path

import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals.contestants import CONTESTANTS, contestants, make_policy
from wfm_sim.policies.base import Policy


@pytest.mark.parametrize("name", sorted({*CONTESTANTS, *contestants("standard")}))
def test_every_name_makes_a_fresh_policy_of_that_name(name: str) -> None:
    policy = make_policy(name)
    assert isinstance(policy, Policy) and policy.name == name and make_policy(name) is not policy


def test_the_standard_list_is_for_a_comparison_of_many() -> None:
    names = contestants()
    assert len(names) >= 12 and len(set(names)) == len(names) and {"zero", "expert"} <= set(names)
    assert {name.split("-")[1] for name in names if name.startswith("bc-")} == {"state", "pixels"}


def test_make_reproduce_runs_the_standard_list(root: Path) -> None:
    found = re.search(r"^STANDARD := (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert found and found[1].split(",") == contestants()


def test_the_standard_list_goes_from_worst_to_best_as_documented(root: Path) -> None:
    rows = re.findall(
        r"^\| `([\w.-]+)` (?:\|[^|]*){3}\| (\d+) \[", (root / "docs/policies.md").read_text(), re.MULTILINE
    )
    success = {name: int(percent) for name, percent in rows}
    told = [success[name] for name in contestants()]
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exprt", "did you mean 'expert'"),
        ("noise0.1", "did you mean 'expert-noise0.1'"),
        ("expert-nois0.1", "did you mean 'noise0.1'"),
        ("replay:nowhere#1", "no such folder"),
        ("bc:nowhere", "no policy file"),
        ("bc-stat-300", "did you mean 'bc-state-300'"),
        ("bc-state-301", "did you mean 'bc-state-30"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_policy(name)


def test_unknown_list() -> None:
    with pytest.raises(UserError, match="did you mean 'standard'"):
        contestants("standrad")
