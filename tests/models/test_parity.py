"""Our networks against inputs and outputs of the published ones (random weights, float32)."""

import os
from pathlib import Path

import pytest

from wfm_sim.models.parity import run_case
from wfm_sim.models.parity.case import read_case

FOLDER = Path(os.environ.get("WFM_SIM_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "parity"
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


@pytest.mark.skipif(not NAMES, reason="the reference cases are not here (set WFM_SIM_REAL_DATA)")
@pytest.mark.parametrize("name", NAMES)
def test_parity(name: str) -> None:
    result = run_case(read_case(FOLDER / f"{name}.safetensors"))
    assert result.passed, result
