"""The policies that evals compare, by name: from one that stands still to one that nearly always succeeds.

make_policy("expert-noise0.1-late3")              # any amount of any flaw, see policies/graded.py
make_policy("bc-state-300")                       # behaviour cloning, as shipped
make_policy("bc:runs/bc/stage-300.safetensors")   # the same from a file
make_policy("replay:datasets/tabletop#000003")    # recorded actions
make_policy("openpi://127.0.0.1:8000")            # from a server, see docs/remote_policies.md
[make_policy(name) for name in contestants("standard")]
"""

from __future__ import annotations

from collections.abc import Callable

from wfm_sim.errors import unknown
from wfm_sim.policies.base import Policy
from wfm_sim.policies.graded import RANGES, parse_expert
from wfm_sim.policies.replay import PREFIX as REPLAY
from wfm_sim.policies.replay import parse_replay
from wfm_sim.policies.scripted import ScriptedExpert
from wfm_sim.policies.simple import RandomPolicy, ZeroPolicy
from wfm_sim.weights import shipped

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
    """A fresh policy of this name, see above.

    Raises:
        UserError: there is none, with the nearest name; or what the name says of it is wrong.
    """
    if name in CONTESTANTS:
        return CONTESTANTS[name]()
    if name.startswith(REPLAY):
        return parse_replay(name)
    if "://" in name:
        from wfm_sim.policies.remote_name import remote_policy  # websockets is imported only where it is needed

        return remote_policy(name)
    if name.startswith("expert-"):
        return parse_expert(name)
    if name.startswith(("bc-", "bc:")):
        from wfm_sim.policies.learned import parse_policy  # torch is imported only where it is needed

        return parse_policy(name)
    cloned = [stem for stem in shipped() if stem.startswith("bc-")]
    raise unknown("policy", name, [*CONTESTANTS, *cloned, *(f"expert-{flaw}0.1" for flaw in RANGES)])


# What the big comparison compares, from worst to best in the twin (docs/policies.md has the table).
STANDARD = (
    "zero", "expert-late3", "random", "expert-flawed", "expert-noise0.8", "bc-state-300", "expert-noise0.6",
    "bc-pixels-800", "expert-noise0.4", "bc-state-1000", "bc-pixels-2400", "expert-offset0.02", "expert-noise0.2",
    "expert-slow0.5", "expert-noise0.1", "expert",
)  # fmt: skip


def contestants(which: str = "standard") -> list[str]:
    """The names of a list of policies. Raises UserError when there is no such list."""
    lists = {"standard": STANDARD}
    if which not in lists:
        raise unknown("list of policies", which, lists)
    return list(lists[which])
