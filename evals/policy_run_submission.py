"""What an evaluation run hands in to the leaderboard: submission.json beside its clips and its recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wfm_sim.evals.leaderboard_sources import AGREEMENT, LOCAL
from wfm_sim.evals.policy_run_clips import RECORDING, ClipEntry
from wfm_sim.evals.policy_run_summary import NO_TWIN, PolicyRow, RunSummary
from wfm_sim.evals.statistics import Estimate, wilson
from wfm_sim.evals.submission import ClipLink, Metric, PolicyCell, Protocol, RecordingLink, Subject, Submission, slug


def submission(
    folder: Path,
    summary: RunSummary,
    clips: Sequence[ClipEntry],
    settings: Mapping[str, Any],
    session: Mapping[str, Any],
) -> Submission:
    """The submission of a run folder; its id stays the same when the run is repeated there."""
    model, name = str(settings["world model"]), folder.resolve().name
    hashes = settings["policy hashes"]
    policies = [row.policy for row in summary.policies]
    differs = () if summary.comparison is not None else (f"{NO_TWIN}: there is no true success.",)
    return Submission(
        id=slug(f"policy-{model}-{name}" if name != "policy" else f"policy-{model}"),
        kind="policy",
        date=datetime.now(UTC).date().isoformat(),
        submitter=LOCAL,
        world_model=Subject(model, hash=settings["world model hash"] or ""),
        policies=tuple(Subject(p, hash=hashes.get(p, "")) for p in policies),
        metrics=tuple(_metrics(summary)),
        cells=tuple(_cell(row) for row in (*summary.rows, *summary.policies)),
        protocol=Protocol(
            "wfm-sim eval policy: common scenes in the model and in its physics twin",
            episodes=sum(row.imagined.n for row in summary.policies),
            seeds=f"seed {settings['seed']}, {settings['episodes']} scenes per policy and task",
            judge=" ".join(filter(None, (settings["judge"], settings["judge hash"]))),
            truth="" if summary.comparison is None else "MuJoCo",
            differs=differs,
        ),
        machine={k: str(v) for k, v in session["machine"].items()},
        versions={**session["versions"], **({"git": session["git"]} if session["git"] else {})},
        clips=tuple(
            ClipLink(
                clip.path,
                "imagined" if clip.twin is None else "pair",
                caption=f"{clip.instruction}, scene {clip.seed}",
                policy=clip.policy,
                task=clip.task,
                imagined_success=clip.model[0],
                true_success=None if clip.twin is None else clip.twin[0],
            )
            for clip in clips
        ),
        recordings=(RecordingLink(RECORDING, "the clips' rollouts"),) if clips else (),
    )


def _metrics(summary: RunSummary) -> Iterator[Metric]:
    found: dict[str, Estimate] = {name: Estimate.none(NO_TWIN) for name in AGREEMENT if name != "frames_per_second"}
    comparison = summary.comparison
    if comparison is not None:
        found = {
            "pearson": comparison.pearson,
            "rank_correlation": comparison.rank_correlation,
            "mean_gap": comparison.gap.mean,
            "mmrv": comparison.mmrv,
            **comparison.episodes.rates(),
        }
    for name, (label, unit, better) in AGREEMENT.items():
        if name in found:
            yield Metric(name, found[name], better, label, unit)


def _cell(row: PolicyRow) -> PolicyCell:
    untrusted = None if row.left_out is None else wilson(row.left_out, row.imagined.n)
    return PolicyCell(row.policy, row.task, row.imagined, row.twin, untrusted, row.corrected)
