"""The evals' commands: their options, and one sentence with exit code 2 for bad input."""

from pathlib import Path

import pytest

from wfm_sim.cli import main

BAD = {
    "unknown model": (["demo", "--world-model", "nano-tabeltop"], "unknown world model"),
    "no episodes": (["eval", "nano", "--episodes", "0"], "episodes must be at least 1"),
    "unknown model of an eval": (["eval", "nano", "--world-model", "nope"], "unknown world model"),
    "missing file": (["eval", "nano", "--world-model", "nope.safetensors"], "nope.safetensors"),
    "no data": (["eval", "replay", "--world-model", "nope", "--data", "nowhere"], "no such folder"),
    "unknown command": (["eval", "nanoo"], "nanoo"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, wanted = BAD[name]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and wanted in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing half-written
