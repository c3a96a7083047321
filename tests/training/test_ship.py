"""A shipped model carries its name, its history and its measured quality."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wfm_sim.errors import UserError
from wfm_sim.models import load, save
from wfm_sim.models.causal_world import CausalWorldModel
from wfm_sim.models.presets import nano_dit, nano_tabletop
from wfm_sim.training.ship import ship


def test_ship(tmp_path: Path) -> None:
    model = CausalWorldModel(replace(nano_tabletop(), dit=nano_dit(48, 1, 2)))
    save(model, tmp_path / "m.safetensors", about={"recipe": "debug"})
    summary = {"episodes": 4, "horizon": 24, "headline": {"lost": {"model": {"value": 0.5}, "repeat": {"value": 0.1}}}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    path = ship(
        tmp_path / "m.safetensors", "mine", [tmp_path / "summary.json"], "by a test", tmp_path / "w", (1.0, 0.5)
    )
    shipped = load(path, dtype=torch.float32)
    assert shipped.spec.name == "mine" and shipped.cfg.times == (1.0, 0.5)
    assert shipped.metadata["training"] == {"recipe": "debug"} and shipped.metadata["history"] == "by a test"
    assert shipped.metadata["quality"] == {"episodes": 4, "step": 24, "lost": {"value": 0.5}}
    assert torch.allclose(shipped.net.x_embedder["proj"][1].weight, model.net.x_embedder["proj"][1].weight, atol=1e-2)

    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="no summary of"):
        ship(tmp_path / "m.safetensors", "mine", [tmp_path / "other.json"], "", tmp_path / "w")


def test_ship_with_the_quality_of_other_evals(tmp_path: Path) -> None:
    model = CausalWorldModel(replace(nano_tabletop(), dit=nano_dit(48, 1, 2)))
    save(model, tmp_path / "m.safetensors", about={})
    iou = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 9}
    for context in (1, 9):
        physics = {"settings": {"context": context}, "all": {"iou": iou, "floor": {}}}
        (tmp_path / f"{context}.json").write_text(json.dumps(physics))
    paths = [tmp_path / "9.json", tmp_path / "1.json"]
    shipped = load(ship(tmp_path / "m.safetensors", "rigid", paths, "", tmp_path, fps=24.0), dtype=torch.float32)
    assert shipped.spec.fps == 24.0
    assert shipped.metadata["quality"] == [{"context": 9, "iou": iou}, {"context": 1, "iou": iou}]
    camera = {
        "format": "wfm-sim camera summary 1",
        "settings": {"scenes": 3, "source": "/somewhere"},
        "entrants": {"model": {"metrics": {"frame_psnr": iou, "fid": {}}}},
        "loop_psnr": iou,
    }
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    shipped = load(ship(tmp_path / "m.safetensors", "rooms", [tmp_path / "camera.json"], "", tmp_path))
    assert shipped.metadata["quality"] == {"scenes": 3, "frame_psnr": iou, "loop_psnr": iou}
