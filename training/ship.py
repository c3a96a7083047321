"""Give a trained simulator its name, its history and its measured quality, and put it among the shipped weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wfm_sim.data.files import read_json
from wfm_sim.errors import UserError
from wfm_sim.models.causal_world import CausalWorldModel
from wfm_sim.models.checkpoint import load, save

HEADLINE = ("moved_error", "moved_error_median", "placed", "lost", "agreement", "psnr", "ssim", "moving_psnr")


def ship(
    model: Path,
    name: str,
    quality: Path,
    history: str,
    out: Path,
    times: tuple[float, ...] | None = None,
) -> Path:
    """Write `out`/`name`.safetensors.

    Args:
        model: What `wfm-sim train action` wrote.
        quality: summary.json of `wfm-sim eval nano`.
        history: How it came to be, in a sentence: commands, data seed, machine.
        times: Denoising times, instead of the model's.

    Raises:
        UserError: an unreadable model or a summary without a headline.
    """
    trained = load(model, dtype=torch.float32)
    summary = read_json(quality)
    if "headline" not in summary:
        raise UserError(f"{quality}: no summary of `wfm-sim eval nano` (the field 'headline' is missing)")
    shipped = CausalWorldModel(replace(trained.cfg, name=name, times=times or trained.cfg.times))
    shipped.load_state_dict(trained.state_dict())
    about: dict[str, Any] = {"training": trained.metadata, "history": history}
    about["quality"] = {"episodes": summary["episodes"], "step": summary["horizon"]}
    about["quality"] |= {k: v["model"] for k, v in summary["headline"].items() if k in HEADLINE and "model" in v}
    path = out / f"{name}.safetensors"
    save(shipped, path, about=about, dtype=torch.bfloat16)
    return path
