"""Errors a user can act on: one clear sentence, shown without a traceback and with exit code 2 by the command line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message names what was given, what was expected and, where there is one, the right thing."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a `name` that is none of `known`, e.g. `unknown("world model", "nano-tabeltop", names)`.

    Returns (does not raise) a UserError such as
    "unknown world model 'nano-tabeltop'; did you mean 'nano-tabletop'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}."
    return UserError(f"unknown {kind} {str(name)!r}; {hint}")
