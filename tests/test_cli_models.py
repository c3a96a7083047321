"""`wfm-sim models` and `wfm-sim parity`."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wfm_sim import cli
from wfm_sim.models.published.registry import PRESETS

FOLDER = Path(os.environ.get("WFM_SIM_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")) / "parity"


def case(path: Path, *, wrong: bool = False, cls: str = "sampling") -> None:
    """A small reference case; `wrong` spoils one of its outputs, `cls` renames its class."""
    source = FOLDER / "p1_ar_sampling.safetensors"
    if not source.is_file():
        pytest.skip("the reference cases are not here (set WFM_SIM_REAL_DATA)")
    tensors = load_file(source)
    name = next(n for n, v in tensors.items() if n.startswith("out.") and v.is_floating_point())
    if wrong:
        tensors[name] = tensors[name] + 1
    save_file(tensors, path, metadata={"cls": cls, "config": json.dumps({"temperature": 0.8, "top_p": 0.7, "seed": 0})})


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_parity_prints_a_line_a_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case(tmp_path / "good.safetensors")
    assert cli.main(["parity", str(tmp_path)]) == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "good"
    assert " s  ok " in line
    assert "(limit 1e-04)" in line
    assert summary.startswith("1 of 1 reproduced, 0 failed, 0 skipped; largest error ")


def test_parity_fails_for_a_case_that_is_wrong_or_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case(tmp_path / "bad.safetensors", wrong=True)
    case(tmp_path / "good.safetensors")
    assert cli.main(["parity", str(tmp_path), "--threads", "1"]) == 1
    bad, _, summary = capsys.readouterr().out.splitlines()
    assert "FAILED" in bad
    assert summary.startswith("1 of 2 reproduced, 1 failed, 0 skipped")
    (tmp_path / "bad.safetensors").unlink()
    case(tmp_path / "new.safetensors", cls="CosmosOmni")
    assert cli.main(["parity", str(tmp_path)]) == 1
    _, new, summary = capsys.readouterr().out.splitlines()
    assert "skipped  no network of ours for 'CosmosOmni'" in new
    assert summary.startswith("1 of 2 reproduced, 0 failed, 1 skipped")


def test_parity_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["parity", str(tmp_path)]) == 2
    assert "no reference case (*.safetensors) there" in capsys.readouterr().err
    assert cli.main(["parity", str(tmp_path), "--threads", "0"]) == 2
    assert "--threads" in capsys.readouterr().err


def test_models_lists_shipped_and_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    for name in ("nano-rigid", "nano-rooms", "nano-tabletop"):
        assert sum(line.startswith(f"{name}: ") for line in said.splitlines()) == 1
    assert "nano-tabletop: 10.15M parameters" in said
    assert "action" in said and "camera" in said
    for name in PRESETS:
        assert sum(line.split()[:1] == [name] for line in said.splitlines()) == 1
    (line,) = (line for line in said.splitlines() if line.split()[:1] == ["predict2.5-2b-action"])
    assert "2.127B" in line
    assert "nvidia/Cosmos-Predict2.5-2B" in line
    assert "NVIDIA Open Model License" in line


def test_one_model_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "predict1-7b-video2world"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("predict1-7b-video2world: 7.236B parameters")
    for part in ("nvidia/Cosmos-Predict1-7B-Video2World", '["model.pt"]', "text: t5", '"num_blocks": 28', "p1_dit_v2w"):
        assert part in said
    assert cli.main(["models", "predict1-7b-camera"]) == 0
    assert "no weights of it were published" in capsys.readouterr().out
    assert cli.main(["models", "nano-tabletop"]) == 0
    assert capsys.readouterr().out.startswith("nano-tabletop: 10.15M")
    assert cli.main(["models", "predict2.5-2b-actoin"]) == 2
    assert "did you mean 'predict2.5-2b-action'" in capsys.readouterr().err


def test_models_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(PRESETS) < set(rows)
    assert rows["cosmos-tokenize1-cv8x8x8-720p"]["files"] == ["encoder.jit", "decoder.jit"]
    assert rows["predict1-7b-camera"]["repository"] is None
    assert cli.main(["models", "predict2.5-14b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows["predict2.5-14b"]
