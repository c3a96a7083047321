"""A scoring run of the physics benchmark as a submission to the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.summary import FLOOR
from wfm_sim.evals.submission import ClipLink, Metric, Protocol, RecordingLink, Subject, Submission, Submitter, slug

# name -> label, unit
LABELS = {
    "psnr": ("PSNR", "dB"),
    "ssim": ("SSIM", ""),
    "dreamsim": ("DreamSim", ""),
    "iou": ("object IoU", ""),
}


def physics_submission(
    summary: Mapping[str, Any],
    folder: Path,
    *,
    clips: Sequence[ClipLink] = (),
    recordings: Sequence[RecordingLink] = (),
) -> Submission:
    """The submission of a run's summary.

    Args:
        summary: See summary.py.
        folder: The run's, for the date.
        clips, recordings: Relative to it.
    """
    name, given = str(summary["entrant"]), int(summary["conditioning"])
    engine, renderer = (summary["data"].get(k) or {} for k in ("engine", "renderer"))
    changed = datetime.fromtimestamp((folder / "summary.json").stat().st_mtime, UTC)
    episodes = sum(summary["episodes"].values())
    return Submission(
        id=slug(f"physics-{name}-{given}"),
        kind="physics",
        title=f"{name}, {given} frame{'s' if given > 1 else ''} given",
        date=changed.date().isoformat(),
        submitter=Submitter("local run"),
        world_model=Subject(name),
        metrics=tuple(_metrics(summary)),
        protocol=Protocol(
            f"wfm-sim physics score: frames {given} to {summary['frames'] - 1} from {given}",
            episodes=episodes,
            seeds=f"{summary['seeds']} prediction(s) per video, {summary['views']} views; {summary['data']['hash']}",
            tracker=str(summary["tracker"]),
            truth=f"{engine.get('name')} {engine.get('version')}",
            differs=(
                f"rendered by {renderer.get('name')} {renderer.get('version')} at "
                f"{summary['size'][1]}x{summary['size'][0]} px, not by Isaac Sim at 1080p.",
                "scenes of our own in the manner of the paper's, which were not released.",
                "masks tracked without weights, not by SAMURAI."
                if summary["tracker"] != "sam2"
                else "masks tracked by SAM 2, not by SAMURAI.",
            ),
        ),
        clips=tuple(clips),
        recordings=tuple(recordings),
    )


def _metrics(summary: Mapping[str, Any]) -> Iterator[Metric]:
    whole = summary["all"]
    for name, (label, unit) in LABELS.items():
        baselines = {"tracker on the truth": Estimate(**whole[FLOOR])} if name == "iou" else {}
        yield Metric(name, Estimate(**whole[name]), "higher", label, unit, baselines=baselines)
    for scene, values in summary["scenes"].items():
        floor = {"tracker on the truth": Estimate(**values[FLOOR])}
        yield Metric(f"iou_{scene}", Estimate(**values["iou"]), "higher", f"IoU: {scene.replace('_', ' ')}", "",
                     baselines=floor)  # fmt: skip
