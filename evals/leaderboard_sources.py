"""From folders to submissions: a run folder of one of our evals, or a submission with its media.

    <folder>/submission.json   a submission; its clips and recordings lie beside it
    <folder>/summary.json      a run of `wfm-sim demo`, `eval nano` or `eval trust`, known by what it holds

A folder that is neither is searched, two folders deep, for folders that are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wfm_sim.data.files import read_json
from wfm_sim.errors import UserError
from wfm_sim.evals.statistics import Estimate
from wfm_sim.evals.submission import (
    FILE_NAME,
    Better,
    Kind,
    Metric,
    PolicyCell,
    Protocol,
    RecordingLink,
    Subject,
    Submission,
    Submitter,
    Trust,
    TrustBin,
    read_submission,
    slug,
)

SUMMARY = "summary.json"
LOCAL = Submitter("local run")
_DEPTH = 2

# name -> label, unit, better
AGREEMENT: dict[str, tuple[str, str, Better]] = {
    "pearson": ("Pearson r", "correlation", "higher"),
    "rank_correlation": ("Spearman ρ", "correlation", "higher"),
    "mmrv": ("MMRV", "rate", "lower"),
    "mean_gap": ("mean |imagined - true|", "rate", "lower"),
    "agreement": ("same verdict per episode", "rate", "higher"),
    "recall": ("recall of true successes", "rate", "higher"),
    "false_alarms": ("false alarms", "rate", "lower"),
    "frames_per_second": ("speed", "frames/s", "higher"),
}
_REFERENCES = {"repeat": "repeat the first frame", "truth": "true frames (floor)"}


@dataclass(frozen=True)
class Source:
    """A submission and the folder that its clips and recordings are relative to."""

    submission: Submission
    folder: Path


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """Every submission in files and folders.

    Raises:
        UserError: a path without anything to show, a broken file, or one id twice.
    """
    sources = [source for path in paths for source in _read(Path(path))]
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(source.submission.id, source)
        if other is not source and other.folder.resolve() != source.folder.resolve():
            raise UserError(f"{other.folder} and {source.folder} have the same id {source.submission.id!r}.")
    return list(seen.values())


def _read(path: Path) -> list[Source]:
    if path.is_file():
        return [Source(read_submission(path), path.parent)]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder.")
    own = read_folder(path)
    if own is not None:
        return [own]
    found = [source for folder in _folders(path, _DEPTH) if (source := read_folder(folder)) is not None]
    if not found:
        raise UserError(
            f"{path} holds no {FILE_NAME} and no run of `wfm-sim eval policy`, `eval nano`, `eval trust` or `demo`."
        )
    return found


def read_folder(folder: Path) -> Source | None:
    """The submission of one folder; None when it is not a run that is known here."""
    if (folder / FILE_NAME).is_file():
        return Source(read_submission(folder / FILE_NAME), folder)
    if not (folder / SUMMARY).is_file():
        return None
    summary = read_json(folder / SUMMARY)
    for known, convert in _RUNS:
        if known(summary):
            try:
                submission = convert(summary, folder)
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise UserError(f"{folder / SUMMARY}: not the summary of a run ({error!r}).") from None
            return Source(Submission.from_json(submission.to_json()), folder)
    return None


def _folders(path: Path, depth: int) -> Iterator[Path]:
    for child in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        yield child
        if depth > 1:
            yield from _folders(child, depth - 1)


def _from_demo(summary: Mapping[str, Any], folder: Path) -> Submission:
    about = summary.get("about", {})
    model = about.get("world model", "unknown")
    episodes = summary["episode_agreement"]["agreement"]["n"]
    cells = [_cell(c) for c in (*summary["cells"], *summary["policies"])]
    return Submission(
        **_head("policy", model, folder),
        world_model=Subject(model),
        metrics=tuple(_agreement_metrics(summary)),
        cells=tuple(cells),
        protocol=Protocol(
            "wfm-sim demo: common scenes in the model and in its physics twin",
            episodes=episodes,
            seeds=about.get("scenes", ""),
            judge="success from imagined pixels by the model's judge",
            truth="MuJoCo",
        ),
        machine={k: about[k] for k in ("machine", "speed") if k in about},
        versions={"wfm-sim": about["version"].removeprefix("wfm-sim ")} if "version" in about else {},
        recordings=tuple(RecordingLink(p.name, "rollouts in both worlds") for p in sorted(folder.glob("*.rrd"))),
    )


def _agreement_metrics(summary: Mapping[str, Any]) -> Iterator[Metric]:
    policies = len(summary["policies"])
    violation, speed = summary.get("mean_maximum_rank_violation"), summary.get("frames_per_second")
    found: dict[str, Estimate] = {
        "pearson": _estimate(summary["pearson"]),
        "rank_correlation": _estimate(summary["rank_correlation"]),
        "mean_gap": _estimate(summary["mean_gap"]),
        "mmrv": Estimate.none("needs two policies") if violation is None else Estimate(violation, n=policies),
    }
    found |= {k: _estimate(v) for k, v in summary["episode_agreement"].items()}
    if speed:
        found["frames_per_second"] = Estimate(speed, n=1)
    for name, (label, unit, better) in AGREEMENT.items():
        if name in found:
            yield Metric(name, found[name], better, label, unit)


def _from_nano(summary: Mapping[str, Any], folder: Path) -> Submission:
    from wfm_sim.evals.nano_summary import LABELS

    protocol = summary.get("protocol", {})
    higher = ("placed", "agreement", "recall", "psnr", "moving_psnr", "ssim")
    metrics = []
    for name, (label, factor, _, unit) in LABELS.items():
        if name not in summary["headline"]:
            continue
        found = {k: _estimate(v) for k, v in summary["headline"][name].items()}
        gate = summary["gates"].get(name)
        metrics.append(
            Metric(
                name,
                found["model"],
                "higher" if name in higher else "lower",
                label,
                "rate" if factor == 100 else unit,
                gate=None if gate is None else gate["limit"],
                baselines={_REFERENCES.get(k, k): v for k, v in found.items() if k != "model"},
            )
        )
    first, count = protocol.get("first_seed"), summary["episodes"]
    model = summary.get("model", "unknown")
    judge = summary.get("judge") or {}
    return Submission(
        **_head("nano", model, folder),
        world_model=Subject(model),
        metrics=tuple(metrics),
        protocol=Protocol(
            f"nano gates: {summary['horizon']} steps imagined open loop from the first frame",
            episodes=count,
            seeds="" if first is None else f"held-out episodes from seed {first} on",
            judge=f"balanced accuracy {judge['balanced_accuracy']:.3f}" if "balanced_accuracy" in judge else "",
            tracker="colour tracker; positions in pixels of a 64 px frame",
            truth="MuJoCo",
        ),
    )


def _from_trust(summary: Mapping[str, Any], folder: Path) -> Submission:
    from wfm_sim.evals.trust_summary import LABELS

    model, tolerance = summary["model"], summary["tolerance"]
    metrics = [
        Metric(
            name,
            _estimate(value),
            "higher" if name.startswith("auroc") else "lower",
            LABELS[name].format(horizon=summary["horizon"]),
            "" if name.startswith("auroc") else "rate",
            gate=summary["gates"][name]["limit"] if name in summary["gates"] else None,
        )
        for name, value in summary["headline"].items()
    ]
    caught = (summary["exploit"] or {}).get("untrusted")
    if caught is not None:
        metrics.append(Metric("exploit_untrusted", _estimate(caught), "higher", "exploits that are untrusted", "rate"))
    bins = (
        TrustBin(b["low"], b["high"], b["predicted"], _estimate(b["observed"])) for b in summary["reliability"]["now"]
    )
    return Submission(
        **_head("trust", model, folder),
        world_model=Subject(model),
        metrics=tuple(metrics),
        trust=Trust(tuple(bins), str(tolerance.get("meaning", ""))),
        protocol=Protocol(
            f"wfm-sim eval trust: {summary['protocol']['steps']} steps imagined open loop, is each within tolerance",
            episodes=summary["episodes"],
            seeds=f"held-out episodes from seed {summary['protocol']['first_seed']} on",
            truth="MuJoCo",
        ),
    )


def _head(kind: Kind, model: str, folder: Path) -> dict[str, Any]:
    """Fields that a run folder does not say itself; the id is the same when the run is repeated into its folder."""
    changed = datetime.fromtimestamp((folder / SUMMARY).stat().st_mtime, UTC)
    name = folder.resolve().name
    return {
        "id": slug(f"{kind}-{Path(model).stem}-{name}" if name != kind else f"{kind}-{Path(model).stem}"),
        "kind": kind,
        "date": changed.date().isoformat(),
        "submitter": LOCAL,
        "title": "",
    }


def _cell(content: Mapping[str, Any]) -> PolicyCell:
    return PolicyCell(content["policy"], content["task"], _estimate(content["model"]), _estimate(content["twin"]))


def _estimate(content: Mapping[str, Any]) -> Estimate:
    """An estimate of a summary. A bootstrap's interval may just miss its own point: it is widened to hold it."""
    found = Estimate(**content)
    if found.value is None or found.low is None or found.high is None:
        return found
    return replace(found, low=min(found.low, found.value), high=max(found.high, found.value))


def _from_physics(summary: Mapping[str, Any], folder: Path) -> Submission:
    from wfm_sim.evals.physics.submission import physics_submission

    return physics_submission(summary, folder)


def _from_consistency(summary: Mapping[str, Any], folder: Path) -> Submission:
    from wfm_sim.evals.consistency.submission import consistency_submission

    return consistency_submission(summary, folder)


Known = Callable[[Mapping[str, Any]], bool]
Convert = Callable[[Mapping[str, Any], Path], Submission]
_RUNS: tuple[tuple[Known, Convert], ...] = (
    (lambda s: {"cells", "policies", "episode_agreement"} <= set(s), _from_demo),
    (lambda s: str(s.get("format", "")).startswith("wfm-sim physics summary"), _from_physics),
    (lambda s: str(s.get("format", "")).startswith("wfm-sim consistency summary"), _from_consistency),
    (lambda s: {"headline", "gates", "reliability", "collapse"} <= set(s), _from_trust),
    (lambda s: {"headline", "gates", "horizon"} <= set(s), _from_nano),
)
