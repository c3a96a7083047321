"""Give a trained simulator its name, its history and its measured quality, and put it among the shipped weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wfm_sim.data.files import read_json
from wfm_sim.errors import UserError
from wfm_sim.models.checkpoint import load, save, untrained

HEADLINE = ("moved_error", "moved_error_median", "placed", "lost", "agreement", "psnr", "ssim", "moving_psnr")
CAMERA_HEADLINE = ("pose_success", "rotation_error_mean", "translation_error", "frame_psnr", "frame_ssim")
PHYSICS_HEADLINE = ("iou", "psnr", "ssim")


def ship(
    model: Path,
    name: str,
    quality: list[Path],
    history: str,
    out: Path,
    times: tuple[float, ...] | None = None,
    fps: float | None = None,
) -> Path:
    """Write `out`/`name`.safetensors.

    Args:
        model: What `wfm-sim train action` or `train camera` wrote.
        quality: summary.json of `wfm-sim eval nano`, `wfm-sim eval camera` or `wfm-sim physics score`; of several runs
            of the last, one per number of given frames.
        history: How it came to be, in a sentence: commands, data seed, machine.
        times, fps: Denoising times and frames per second, instead of the model's.

    Raises:
        UserError: an unreadable model, or a summary of none of these evals.
    """
    trained = load(model, dtype=torch.float32)
    cfg = replace(trained.cfg, name=name, times=times or trained.cfg.times, fps=fps or trained.cfg.fps)
    shipped = untrained(cfg)
    shipped.load_state_dict(trained.state_dict())
    measured = [_quality(read_json(path), path) for path in quality]
    about: dict[str, Any] = {"training": trained.metadata, "history": history}
    about["quality"] = measured[0] if len(measured) == 1 else measured
    path = out / f"{name}.safetensors"
    save(shipped, path, about=about, dtype=torch.bfloat16)
    return path


def _quality(summary: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a summary says of the model, in few numbers."""
    if "headline" in summary:  # eval nano
        kept = {k: v["model"] for k, v in summary["headline"].items() if k in HEADLINE and "model" in v}
        return {"episodes": summary["episodes"], "step": summary["horizon"], **kept}
    if str(summary.get("format", "")).startswith("wfm-sim camera summary"):
        metrics = summary["entrants"]["model"]["metrics"]
        kept = {k: metrics[k] for k in CAMERA_HEADLINE if k in metrics}
        told = summary["settings"]
        about = {k: told[k] for k in ("scenes", "frames", "seed", "loops", "loop_steps") if k in told}
        return {**about, **kept, "loop_psnr": summary["loop_psnr"]}
    if "all" in summary and "iou" in summary["all"]:  # physics score
        kept = {k: summary["all"][k] for k in PHYSICS_HEADLINE if k in summary["all"]}
        return {"context": summary.get("settings", {}).get("context"), **kept}
    raise UserError(f"{path}: no summary of `wfm-sim eval nano`, `eval camera` or `physics score`")
