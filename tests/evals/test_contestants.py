"""The registry of policies: every name makes a policy of that name, wrong ones get a hint."""

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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exprt", "did you mean 'expert'"),
        ("noise0.1", "did you mean 'expert-noise0.1'"),
        ("expert-nois0.1", "did you mean 'noise0.1'"),
        ("replay:nowhere#1", "no such folder"),
        ("bc:nowhere", "no policy file"),
        ("bc-stat-100", "unknown policy"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_policy(name)


def test_unknown_list() -> None:
    with pytest.raises(UserError, match="did you mean 'standard'"):
        contestants("standrad")
