"""The policies that evals compare, by name: from one that stands still to one that nearly always succeeds."""

from __future__ import annotations

from collections.abc import Callable

from wfm_sim.errors import unknown
from wfm_sim.policies.base import Policy
from wfm_sim.policies.scripted import ScriptedExpert
from wfm_sim.policies.simple import RandomPolicy, ZeroPolicy

CONTESTANTS: dict[str, Callable[[], Policy]] = {
    "zero": ZeroPolicy,
    "random": RandomPolicy,
    "expert": ScriptedExpert,
    "expert-noise0.1": lambda: ScriptedExpert(noise=0.1),
    "expert-noise0.2": lambda: ScriptedExpert(noise=0.2),
    "expert-noise0.4": lambda: ScriptedExpert(noise=0.4),
    "expert-noise0.6": lambda: ScriptedExpert(noise=0.6),
    "expert-noise0.8": lambda: ScriptedExpert(noise=0.8),
    "expert-flawed": lambda: ScriptedExpert(flaw="random", name="expert-flawed"),
}


def make_policy(name: str) -> Policy:
    """A fresh policy of this name. Raises UserError, with the nearest name, when there is none."""
    if "://" in name:
        from wfm_sim.policies.remote_name import remote_policy  # websockets is imported only where it is needed

        return remote_policy(name)
    if name not in CONTESTANTS:
        raise unknown("policy", name, CONTESTANTS)
    return CONTESTANTS[name]()
