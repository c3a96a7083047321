"""Our networks against the published ones: `run_case` on a file, `run_folder` on many (`wfm-sim parity FOLDER`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wfm_sim.errors import UserError
from wfm_sim.models.parity import autoregressive, dits, schedules, tokenizers
from wfm_sim.models.parity.case import Case, Comparison, Runner, read_case

# The reference's class -> how its cases are run.
RUNNERS: dict[str, Runner] = {**tokenizers.RUNNERS, **dits.RUNNERS, **autoregressive.RUNNERS, **schedules.RUNNERS}


@dataclass(frozen=True)
class Result:
    """What came of one case: its comparisons, or why there are none."""

    name: str
    comparisons: list[Comparison] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""
    failed: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(c.passed for c in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The comparison nearest to its limit, or furthest beyond."""
        return max(self.comparisons, key=lambda c: (not c.passed, c.error / max(c.limit, 1e-12)), default=None)


@torch.no_grad()
def run_case(case: Case) -> Result:
    """Run one case; what goes wrong in it is in the result, not raised."""
    if case.cls not in RUNNERS:
        return Result(case.name, skipped=f"no network of ours for {case.cls!r}")
    begun = time.perf_counter()
    try:
        comparisons = RUNNERS[case.cls](case)
    except (RuntimeError, KeyError, ValueError, TypeError, AssertionError, UserError) as error:
        return Result(case.name, failed=f"{type(error).__name__}: {error}".splitlines()[0])
    return Result(case.name, comparisons, time.perf_counter() - begun)


def run_folder(folder: Path) -> Iterator[Result]:
    """Every case of a folder, in the order of their names.

    Raises:
        UserError: no such folder, or no case in it.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise UserError(f"{folder}: no reference case (*.safetensors) there")
    for path in paths:
        yield run_case(read_case(path))
