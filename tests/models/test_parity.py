"""Our networks against inputs and outputs of the published ones (random weights, float32)."""

import os
from pathlib import Path

import pytest

from wfm_sim.models.parity import CASES, run_case

FOLDER = Path(os.environ.get("WFM_SIM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "parity"


@pytest.mark.parametrize("name", sorted(CASES))
def test_parity(name: str) -> None:
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"reference case {name} is not here (set WFM_SIM_REAL_DATA)")
    errors = run_case(path)
    assert errors, "the case compared nothing"
    assert max(errors.values()) <= 1e-4, errors
