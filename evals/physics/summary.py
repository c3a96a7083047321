"""Scores summed up: per scene and over all, with intervals, and tables laid out as Table 20 of the Cosmos paper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wfm_sim.data.files import field, read_json
from wfm_sim.data.physics import PhysicsData
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.metrics import mean_known, stratified_mean
from wfm_sim.evals.statistics import bootstrap_mean

if TYPE_CHECKING:
    from wfm_sim.evals.physics.score import ScoreSettings
    from wfm_sim.evals.physics.trackers import Tracker

METRICS = {"psnr": ("PSNR [dB]", 2), "ssim": ("SSIM", 3), "dreamsim": ("DreamSim", 3), "iou": ("Avg. IoU", 3)}
FLOOR = "floor"
FORMAT = "wfm-sim physics summary 1"


def summarise(
    records: Sequence[Mapping[str, Any]],
    data: PhysicsData,
    entrant: str,
    settings: ScoreSettings,
    tracker: Tracker,
    dreamsim_reason: str,
    seeds: int,
) -> dict[str, Any]:
    """The summary of one run.

    Returns:
        scenes: name -> metric -> estimate, and `all`: metric -> estimate, each as Estimate.to_json(), of psnr [dB],
        ssim, dreamsim, iou and floor (the tracker's IoU on the truth of the same videos); and what made the numbers.
    """
    reasons = {"dreamsim": dreamsim_reason, "iou": tracker.reason, FLOOR: tracker.reason}
    episodes: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for metric in (*METRICS, FLOOR):
        grouped: dict[tuple[str, int], list[float | None]] = defaultdict(list)
        for record in records:
            grouped[record["scene"], record["episode"]].append(record[metric])
        for (scene, _), values in sorted(grouped.items()):
            mean = mean_known(values)
            if mean is not None:
                episodes[metric][scene].append(mean)
    names = [scene for scene in data.scenes if any(r["scene"] == scene for r in records)]
    scenes = {scene: {m: _estimate(episodes[m][scene], reasons.get(m, "")).to_json() for m in (*METRICS, FLOOR)}
              for scene in names}  # fmt: skip
    whole = {}
    for metric in (*METRICS, FLOOR):
        reason = reasons.get(metric, "")
        whole[metric] = (Estimate.none(reason) if reason else stratified_mean(episodes[metric])).to_json()
    first = data.episodes(names[0])[0]
    return {
        "format": FORMAT,
        "entrant": entrant,
        "conditioning": settings.context,
        "frames": settings.frames,
        "seeds": seeds,
        "videos": len(records),
        "episodes": {scene: len({r["episode"] for r in records if r["scene"] == scene}) for scene in names},
        "views": 1 + max(r["view"] for r in records),
        "size": list(first.size),
        "tracker": tracker.name,
        "data": {"hash": data.hash, **{k: data.manifest.get(k) for k in ("settings", "engine", "renderer")}},
        "settings": asdict(settings),
        "scenes": scenes,
        "all": whole,
    }


def _estimate(values: Sequence[float], reason: str) -> Estimate:
    return Estimate.none(reason) if reason else bootstrap_mean(values)


def read_summary(path: Path) -> dict[str, Any]:
    """The summary in a run's folder. UserError when there is none."""
    summary = read_json(path / "summary.json")
    field(summary, "scenes", path / "summary.json")
    return summary


def format_run(summary: Mapping[str, Any]) -> str:
    """One run as Markdown: the row of Table 20, then scene by scene."""
    lines = [format_table([summary]), "", _scene_table(summary)]
    return "\n".join(lines)


def format_table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Several runs as one Markdown table, a row each, in the layout of the paper's Table 20."""
    head = ["Model", "Conditioning", *(label for label, _ in METRICS.values()), "IoU of the tracker on the truth"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for summary in summaries:
        count = summary["conditioning"]
        cells = [str(summary["entrant"]), f"{count} frame{'s' if count > 1 else ''}", *_cells(summary["all"])]
        lines.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(_note(summary) for summary in summaries)
    reasons = dict.fromkeys(
        f"{label} unscored: {reason}."
        for summary in summaries
        for metric, (label, _) in METRICS.items()
        if (reason := summary["all"][metric].get("unscored"))
    )
    return "\n".join([*lines, "", *notes, *reasons])


def _scene_table(summary: Mapping[str, Any]) -> str:
    head = ["Scene", "episodes", *(label for label, _ in METRICS.values()), "IoU of the tracker on the truth"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for scene, values in summary["scenes"].items():
        lines.append("| " + " | ".join([scene, str(summary["episodes"][scene]), *_cells(values)]) + " |")
    return "\n".join(lines)


def _cells(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    digits = {**{name: places for name, (_, places) in METRICS.items()}, FLOOR: METRICS["iou"][1]}
    out = []
    for name, places in digits.items():
        estimate = Estimate(**values[name])
        out.append("unscored" if estimate.value is None else estimate.format(places))
    return out


def _note(summary: Mapping[str, Any]) -> str:
    """What stands behind the numbers, in one line."""
    counts = sorted(set(summary["episodes"].values()))
    episodes = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    engine, renderer = (summary["data"].get(k) or {} for k in ("engine", "renderer"))
    height, width = summary["size"]
    return (
        f"{len(summary['scenes'])} scenes x {episodes} episodes x {summary['views']} views, {summary['seeds']} "
        f"prediction(s) each, frames {summary['conditioning']} to {summary['frames'] - 1} scored at "
        f"{width}x{height} px. "
        f"Engine {engine.get('name')} {engine.get('version')}, renderer {renderer.get('name')} "
        f"{renderer.get('version')}; masks by the {summary['tracker']}. 95 % intervals over episodes."
    )
