"""Real robot episodes replayed: a model starts from a real frame, takes the recorded actions, and is held to the video.

    summary = main(["nano-tabletop", "runs/bridge/model.safetensors"], "../shared/data/bridge_worldgym", episode=-1)

Per horizon: PSNR, SSIM and moving-region PSNR of every model beside 'repeat the first frame'. The whole episode is
rolled out once, for the strip and the recording; for the numbers it is also cut into windows that do not overlap, each
started from its own real frame. Everything goes through `wfm_sim/ActionWorld-v0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim import video_metrics
from wfm_sim.data import Episode, open_dataset
from wfm_sim.data.files import write_json
from wfm_sim.envs.starts import fit_image
from wfm_sim.errors import UserError
from wfm_sim.evals.clips import write_strip
from wfm_sim.evals.loading import load_model
from wfm_sim.evals.rerun_log import Clip, write_recording
from wfm_sim.evals.statistics import Estimate, bootstrap_mean, paired_bootstrap
from wfm_sim.world_model import WorldModel

Frames = NDArray[np.uint8]
METRICS = {"psnr": ("PSNR", "dB", 2), "ssim": ("SSIM", "", 3), "moving_psnr": ("moving-region PSNR", "dB", 2)}


def main(
    world_models: Sequence[str | Path | WorldModel],
    dataset: str | Path,
    *,
    episode: int | str = 0,
    split: str | None = None,
    horizon: int = 8,
    labels: Sequence[str] | None = None,
    out: Path | str = Path("runs/eval/replay"),
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Replay one episode with every model; print a table, write summary.json, strip.png and replay.rrd.

    Args:
        world_models: Names, paths or models, e.g. before and after post-training.
        dataset: A folder that `wfm_sim.data.open_dataset` reads.
        episode: Its position (negative: from the end) or its id; one that was held out of training.
        split: Of the data set.
        horizon: Steps per window; the windows follow one another without overlap.
        labels: What to call the models; by default their names.
        out: Folder for the results.
        seed: Of the models' noise and the bootstrap.

    Raises:
        UserError: no models, unknown names, a wrong episode, or a horizon longer than the episode.
    """
    console, out = console or Console(), Path(out)
    if not world_models:
        raise UserError("replay needs at least one world model, got none.")
    if labels is not None and len(labels) != len(world_models):
        raise UserError(f"{len(labels)} labels were given for {len(world_models)} world models.")
    recorded = pick_episode(dataset, episode, split)
    if not 1 <= horizon <= len(recorded.actions):
        raise UserError(f"the horizon must be 1..{len(recorded.actions)} steps for this episode, not {horizon}.")
    models = [load_model(model) for model in world_models]
    names = list(labels) if labels is not None else _distinct([model.spec.name for model in models])
    result: dict[str, Any] = {
        "dataset": Path(dataset).name,
        "episode": recorded.id,
        "instruction": recorded.instruction,
        "frames": len(recorded),
        "horizon": horizon,
        "models": {},
    }
    rows: list[tuple[str, Frames]] = []
    clips = []
    for name, model in zip(names, models, strict=True):
        truth = fit_frames(recorded.frames, model.spec.frame_size)
        actions, clipped = fit_actions(recorded.actions, model)
        whole = rollouts(model, truth[:1], actions[None], seed=seed)[0]
        starts = np.arange(0, len(actions) - horizon + 1, horizon)
        cut = np.stack([actions[s : s + horizon] for s in starts])
        windows = rollouts(model, truth[starts], cut, seed=seed)
        true_windows = np.stack([truth[s : s + horizon + 1] for s in starts])
        result["models"][name] = {
            "frame_size": list(model.spec.frame_size),
            "actions_clipped": clipped,
            "whole_episode": _curves(truth[None], whole[None]),
            "windows": len(starts),
            "per_horizon": _curves(true_windows, windows),
            "last_step": _estimates(true_windows, windows, seed),
        }
        if not rows:
            rows.append(
                (f"{Path(dataset).name} {recorded.id}: real, {recorded.instruction or 'no instruction'}", truth)
            )
        rows.append((f"imagined by {name} from the first frame", whole))
        states = recorded.states
        clips.append(Clip(f"{name}: {recorded.instruction}", truth, whole, actions, states, fps=recorded.fps))
    write_json(out / "summary.json", result)
    write_strip(out / "strip.png", rows, columns=10)
    write_recording(out / "replay.rrd", clips, name=f"replay {recorded.id}")
    _print(console, result)
    console.print(f"summary, strip and recording in {out}", highlight=False, soft_wrap=True)
    return result


def pick_episode(dataset: str | Path, episode: int | str, split: str | None = None) -> Episode:
    """One episode by position or id.

    Raises:
        UserError: there is none of this position or id, or it has no action.
    """
    episodes = open_dataset(dataset, split=split)
    if isinstance(episode, str) and not (episode.lstrip("-").isdigit() and episode not in episodes.ids):
        found = episodes.get(episode)
    else:
        position, count = int(episode), len(episodes)
        if not -count <= position < count:
            raise UserError(f"{dataset} has episodes 0..{count - 1}, not {position}.")
        found = episodes[position % count]
    if not len(found.actions):
        raise UserError(f"{found.source or found.id}: a single frame and no action, nothing to replay.")
    return found


def rollouts(model: WorldModel, first: Frames, actions: NDArray[np.float32], *, seed: int = 0) -> Frames:
    """Imagine W windows in one batch of `wfm_sim/ActionWorld-v0`.

    Args:
        first: uint8 [W, H, W, 3] at the model's frame size.
        actions: float32 [W, n, A].

    Returns:
        uint8 [W, n + 1, H, W, 3], the first frames included.
    """
    count, steps = actions.shape[:2]
    padding = -steps % model.spec.frames_per_step
    padded = np.concatenate([actions, np.repeat(actions[:, -1:], padding, axis=1)], axis=1)
    env: Any = gym.make_vec(
        "wfm_sim/ActionWorld-v0", num_envs=count, world_model=model, max_episode_steps=padded.shape[1] + 1
    )
    try:
        env.reset(seed=[seed + i for i in range(count)], options={"image": first})
        observations, *_ = env.unwrapped.step_chunk(padded)
    finally:
        env.close()
    return np.concatenate([first[:, None], observations["pixels"][:, :steps]], axis=1)


def fit_frames(frames: Frames, size: tuple[int, int]) -> Frames:
    """Frames [T, H, W, 3] at the model's frame size, resized as the environments resize a start image."""
    return np.stack([fit_image(frame, size)[0] for frame in frames])


def fit_actions(actions: NDArray[np.float32], model: WorldModel) -> tuple[NDArray[np.float32], float]:
    """Actions clipped to the model's box, as the environments clip them, and the share of values that were."""
    low, high = (np.array(bound, np.float32) for bound in (model.spec.condition_low, model.spec.condition_high))
    if actions.shape[1] != len(low):
        raise UserError(f"{model.spec.name!r} takes {len(low)} numbers per action, the episode has {actions.shape[1]}.")
    fitted = np.clip(actions, low, high)
    return fitted, float((np.abs(fitted - actions) > 1e-6).mean())


def _curves(truth: Frames, imagined: Frames) -> dict[str, dict[str, list[float | None]]]:
    """Means over windows [W, T, ...] per step 1..T-1, of the model and of repeating the first frame."""
    scores = _scores(truth, imagined)
    return {m: {k: [_mean(column) for column in v.T] for k, v in by.items()} for m, by in scores.items()}


def _scores(truth: Frames, imagined: Frames) -> dict[str, dict[str, NDArray[np.float64]]]:
    """metric -> 'model' or 'repeat' -> [W, T-1], NaN where nothing moved."""
    repeat = np.repeat(truth[:, :1], truth.shape[1], axis=1)
    scores: dict[str, dict[str, NDArray[np.float64]]] = {metric: {} for metric in METRICS}
    for method, frames in (("model", imagined), ("repeat", repeat)):
        scores["psnr"][method] = video_metrics.psnr(truth, frames)[:, 1:]
        scores["ssim"][method] = video_metrics.ssim(truth, frames)[:, 1:]
        pairs = zip(truth, frames, strict=True)
        scores["moving_psnr"][method] = np.stack([video_metrics.moving_psnr(t, f)[1:] for t, f in pairs])
    return scores


def _estimates(truth: Frames, imagined: Frames, seed: int) -> dict[str, dict[str, Any]]:
    """At the last step of the windows: model, repeat, and their paired difference, with intervals over windows."""
    found = {}
    for metric, by in _scores(truth, imagined).items():
        model, repeat = by["model"][:, -1], by["repeat"][:, -1]
        scored = np.isfinite(model) & np.isfinite(repeat)
        if not scored.any():
            nothing = Estimate.none("nothing moved in any window").to_json()
            found[metric] = {"model": nothing, "repeat": nothing, "gain": nothing}
            continue
        found[metric] = {
            "model": bootstrap_mean(model[scored], seed=seed).to_json(),
            "repeat": bootstrap_mean(repeat[scored], seed=seed).to_json(),
            "gain": paired_bootstrap(model[scored], repeat[scored], seed=seed).to_json(),
        }
    return found


def _print(console: Console, result: dict[str, Any]) -> None:
    title = f"{result['dataset']} {result['episode']}: step {result['horizon']} of each window"
    table = Table(title=title, title_justify="left")
    for name in ("model", "metric", "imagined", "repeat the first frame", "gain"):
        table.add_column(name)
    for name, model in result["models"].items():
        for metric, (label, unit, digits) in METRICS.items():
            cells = [
                Estimate(**model["last_step"][metric][k]).format(digits, 1, unit) for k in ("model", "repeat", "gain")
            ]
            table.add_row(name if metric == "psnr" else "", label, *cells)
    console.print(table)
    horizons = Table(title="PSNR (dB) by step, mean over windows; repeat in brackets", title_justify="left")
    horizons.add_column("model")
    steps = sorted({s for s in (1, 2, 4, 8, 12, 16, 24, result["horizon"]) if s <= result["horizon"]})
    for step in steps:
        horizons.add_column(str(step), justify="right")
    for name, model in result["models"].items():
        curve = model["per_horizon"]["psnr"]
        horizons.add_row(name, *(f"{curve['model'][s - 1]:.1f} ({curve['repeat'][s - 1]:.1f})" for s in steps))
    console.print(horizons)


def _distinct(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(names)]


def _mean(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.mean()), 4) if finite.size else None
