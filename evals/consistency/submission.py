"""A run of the consistency evals as a submission to the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wfm_sim.evals.consistency.run import RECORDINGS
from wfm_sim.evals.consistency.sampson import CANVAS
from wfm_sim.evals.consistency.summary import METRICS
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.submission import Metric, Protocol, RecordingLink, Subject, Submission, Submitter, slug

FLOOR = "true video (floor)"


def consistency_submission(
    summary: Mapping[str, Any], folder: Path, *, recordings: Sequence[RecordingLink] | None = None
) -> Submission:
    """The submission of a run's summary.

    Args:
        summary: See summary.py.
        folder: The run's, for the date and, where `recordings` are not named, for those that lie in it.
    """
    name, clips = str(summary["name"]), summary["clips"]
    changed = datetime.fromtimestamp((folder / "summary.json").stat().st_mtime, UTC)
    if recordings is None:
        there = sorted((folder / RECORDINGS).glob("*.rrd"))
        recordings = [RecordingLink(f"{RECORDINGS}/{p.name}", f"cameras and points of {p.stem}") for p in there]
    known = "known intrinsics" if _known(summary["source"]) else "intrinsics as found by SfM"
    backends = ", ".join(summary["synthesis_backends"]) or "none"
    settings = summary["settings"]
    return Submission(
        id=slug(f"consistency-{name}"),
        kind="consistency",
        title=name,
        date=changed.date().isoformat(),
        submitter=Submitter("local run"),
        world_model=Subject(name),
        metrics=tuple(_metrics(summary)),
        protocol=Protocol(
            f"wfm-sim eval consistency: {_frames(summary['source'])}, {known}",
            episodes=int(clips["all"]),
            seeds=f"seed {settings['seed']}; {clips['not_applicable']} clips not applicable, {clips['failed']} failed",
            tracker=f"SIFT; SfM by pycolmap's global mapper; view synthesis: {backends}",
            truth="commanded camera path, where there is one",
            differs=(
                "SIFT features instead of SuperPoint and LightGlue.",
                f"Sampson errors in pixels of a {CANVAS[1]}x{CANVAS[0]} canvas; a pair without geometry is not a 0.",
                "strict pose success and 'not applicable' without parallax are ours; the paper's success is 'loose'.",
            ),
        ),
        recordings=tuple(recordings),
    )


def _metrics(summary: Mapping[str, Any]) -> Iterator[Metric]:
    floor = (summary["floor"] or {}).get("metrics", {})
    for name, kind in METRICS.items():
        baselines = {FLOOR: _estimate(floor[name])} if name in floor else {}
        yield Metric(name, _estimate(summary["metrics"][name]), kind.better, kind.label, kind.unit, baselines=baselines)


def _estimate(content: Mapping[str, Any]) -> Estimate:
    """A bootstrap's interval may just miss its own point: it is widened to hold it."""
    found = Estimate(**content)
    if found.value is None or found.low is None or found.high is None:
        return found
    return replace(found, low=min(found.low, found.value), high=max(found.high, found.value))


def _frames(source: Mapping[str, Any]) -> str:
    frames = source.get("frames")
    return f"{frames} frames a clip" if isinstance(frames, int) and frames else "all frames of a clip"


def _known(source: Mapping[str, Any]) -> bool:
    return bool(source.get("cameras") or source.get("intrinsics") or source.get("fov"))
