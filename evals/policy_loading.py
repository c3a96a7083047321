"""From the name of a policy to the policy: one of ours (contestants.py), or yours, as `module:function`.

make_policy("expert-noise0.2")
make_policy("my_package.my_module:make_policy")    # imported, called without arguments
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path

from wfm_sim.errors import UserError, unknown
from wfm_sim.evals import contestants
from wfm_sim.policies.base import Policy

_CUSTOM = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")
_PREFIXES = ("bc", "replay")  # of contestants' own names: 'bc:FILE'


def is_custom(name: str) -> bool:
    """Whether a name is of the form `module:function`."""
    found = _CUSTOM.fullmatch(name)
    return found is not None and found["module"] not in _PREFIXES


def make_policy(name: str) -> Policy:
    """A fresh policy.

    Raises:
        UserError: no such policy, module or function, or what the function returns is no policy.
    """
    if not is_custom(name):
        return contestants.make_policy(name)
    module, _, function = name.partition(":")
    loaded = _import(module)
    if not hasattr(loaded, function):
        raise unknown(f"function of {module}", function, [n for n in dir(loaded) if not n.startswith("_")])
    make = getattr(loaded, function)
    try:
        policy = make()
    except UserError:
        raise
    except Exception as error:  # the user's code: whatever it raises is told in one sentence
        raise UserError(f"{name}() failed: {type(error).__name__}: {error}") from error
    for method in ("reset", "act"):
        if not callable(getattr(policy, method, None)):
            raise UserError(
                f"{name}() returned a {type(policy).__name__} without {method}(); "
                "a policy has reset(info, seeds, mask) and act(observation), see wfm_sim.policies.base."
            )
    return policy  # type: ignore[no-any-return]


def code_hash(name: str) -> str | None:
    """SHA-256 of the source file behind a `module:function`, 'sha256:...'; None for policies of ours."""
    if not is_custom(name):
        return None
    file = getattr(_import(name.partition(":")[0]), "__file__", None)
    return None if file is None else f"sha256:{hashlib.sha256(Path(file).read_bytes()).hexdigest()}"


def _import(module: str):  # type: ignore[no-untyped-def]
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` does; a console script does not
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):  # a module that the user's code misses
            raise UserError(f"importing {module} failed: {error}") from error
        raise UserError(
            f"no module {module!r} to take a policy from; it must be installed or lie in {here} or on PYTHONPATH."
        ) from None
    except Exception as error:
        raise UserError(f"importing {module} failed: {type(error).__name__}: {error}") from error
