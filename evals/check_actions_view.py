"""What the checks of recorded actions look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.action_contract import ActionContract
from wfm_sim.evals.check_actions_report import Check, Finding
from wfm_sim.evals.check_actions_scale import (
    Reference,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """One episode's actions [n, A] as written, and its canonical poses [n+1, 7] (None: not recorded)."""

    actions: Array
    states: Array | None = None


@dataclass(frozen=True)
class View:
    """Recordings read in one contract: canonical displacements (at the recording's own rate) and poses."""

    source: ActionContract
    written: list[Array]
    actions: list[Array]
    states: list[Array] | None
    fps: float | None
    target: ActionContract
    reference: Reference


Outcome = Check | Finding | None
