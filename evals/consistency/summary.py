"""Scores of clips summed up: a number with its 95 % interval over clips for each metric, and an account of failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wfm_sim.data.files import field, read_json
from wfm_sim.evals.consistency.sampson import CAP
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.statistics import bootstrap_mean, wilson

if TYPE_CHECKING:
    from rich.table import Table

    from wfm_sim.evals.consistency.score import ConsistencySettings

FORMAT = "wfm-sim consistency summary 1"
NO_NETWORK = "its feature network's weights are not part of wfm-sim"


@dataclass(frozen=True)
class MetricKind:
    """How a metric is shown: `unit` "rate" is a share shown in per cent."""

    label: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    digits: int


METRICS: dict[str, MetricKind] = {
    "score": MetricKind("strict pose success x coverage", "rate", "higher", 1),
    "pose_success": MetricKind("pose success, strict", "rate", "higher", 1),
    "pose_success_loose": MetricKind("pose success, as the paper's", "rate", "higher", 1),
    "registered_share": MetricKind("frames registered", "rate", "higher", 1),
    "pair_coverage": MetricKind("pairs with a geometry", "rate", "higher", 1),
    "sampson_median": MetricKind("Sampson error, median", "px of 960x540", "lower", 3),
    "sampson_mean": MetricKind("Sampson error, the paper's mean", "px of 960x540", "lower", 3),
    "sampson_capped": MetricKind(f"Sampson error, pairs without geometry as {CAP:g}", "px of 960x540", "lower", 3),
    "inlier_ratio": MetricKind("inliers", "rate", "higher", 1),
    "reprojection": MetricKind("reprojection error", "px", "lower", 3),
    "rotation_error_mean": MetricKind("rotation error, mean over frames", "deg", "lower", 3),
    "rotation_error_sum": MetricKind("rotation error, sum over frames", "deg", "lower", 2),
    "translation_error": MetricKind("translation error / path length", "", "lower", 4),
    "ate": MetricKind("ATE / path length", "", "lower", 4),
    "psnr": MetricKind("view synthesis PSNR", "dB", "higher", 2),
    "psnr_covered": MetricKind("view synthesis PSNR x coverage, failures as 0", "dB", "higher", 2),
    "ssim": MetricKind("view synthesis SSIM", "", "higher", 3),
    "lpips": MetricKind("view synthesis LPIPS", "", "lower", 3),
    "fid": MetricKind("FID", "", "lower", 2),
    "fvd": MetricKind("FVD", "", "lower", 2),
}
_SYNTHESIS = ("psnr", "psnr_covered", "ssim", "lpips")
_RATES = ("pose_success", "pose_success_loose")


def summarise(
    records: Sequence[Mapping[str, Any]],
    settings: ConsistencySettings,
    name: str,
    identity: Mapping[str, Any],
    floor: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The summary of a run.

    Returns:
        metrics: name -> Estimate.to_json(); floor: likewise, or None; clips: how many there were, how many were
        counted, not applicable and failed, and reason -> how many for all that is no strict success.
    """
    backends = sorted({r["synthesis_backend"] for r in [*records, *(floor or ())] if r.get("synthesis_backend")})

    def measured(of: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {k: v.to_json() for k, v in estimates(of, settings.synthesis, backends).items()}

    return {
        "format": FORMAT,
        "name": name,
        "source": dict(identity),
        "settings": asdict(settings),
        "clips": _account(records),
        "metrics": measured(records),
        "floor": None if floor is None else {"clips": _account(floor), "metrics": measured(floor)},
        "synthesis_backends": backends,
        "cpu_seconds": _cpu(records),
    }  # fmt: skip


def estimates(
    records: Sequence[Mapping[str, Any]], synthesis: bool = True, backends: Sequence[str] = ()
) -> dict[str, Estimate]:
    """Every metric over clips. Rates and the score are over all clips that count; errors over those that have them."""
    counted = [r for r in records if r["counted"]]
    found: dict[str, Estimate] = {}
    nothing = "no clip is applicable" if records else "no clips"
    for metric in METRICS:
        if metric in ("fid", "fvd"):
            found[metric] = Estimate.none(NO_NETWORK)
        elif metric in _SYNTHESIS and not synthesis:
            found[metric] = Estimate.none("view synthesis was not asked for")
        elif metric in _RATES:
            hits = sum(bool(r[metric]) for r in counted)
            found[metric] = wilson(hits, len(counted)) if counted else Estimate.none(nothing)
        else:
            values = [v for r in counted if (v := _value(r, metric)) is not None]
            found[metric] = bootstrap_mean(values) if values else Estimate.none(_why(metric, counted) or nothing)
    if len(backends) > 1:
        for metric in _SYNTHESIS:
            found[metric] = Estimate.none(f"backends are never mixed, there are {' and '.join(backends)}")
    return found


def _value(record: Mapping[str, Any], metric: str) -> float | None:
    """Of one clip that counts; None where it has none."""
    told = not record["applicable"]  # it counts because it was told to move, or because it failed
    if metric == "score":
        return float(record["score"])
    if metric == "registered_share":
        return record["registered"] / record["frames"] if record.get("frames") else 0.0
    if metric == "sampson_capped":
        return CAP if told else record["sampson_capped"]
    if metric == "psnr_covered":
        return 0.0 if record.get("psnr") is None else float(record["psnr"] * record["coverage"])
    if told and metric in ("sampson_median", "sampson_mean", "inlier_ratio", "pair_coverage"):
        return None
    value = record.get(metric)
    return None if value is None else float(value)


def _why(metric: str, counted: Sequence[Mapping[str, Any]]) -> str:
    if not counted:
        return ""
    if metric in ("rotation_error_mean", "rotation_error_sum", "translation_error", "ate"):
        moved = any(r.get("rotation_error_mean") is not None for r in counted)
        return "the commanded path has no length" if moved else "no recovered poses beside a commanded path"
    if metric in _SYNTHESIS:
        key = "lpips_reason" if metric == "lpips" else "synthesis_reason"
        reasons = Counter(r[key] for r in counted if r.get(key))
        return str(reasons.most_common(1)[0][0]) if reasons else "no reconstruction"
    return "no clip has it"


def _account(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    reasons = Counter(_short(r) for r in records if not r["pose_success"])
    return {
        "all": len(records),
        "counted": sum(r["counted"] for r in records),
        "succeeded": sum(r["pose_success"] for r in records),
        "not_applicable": sum(r["status"] == "not applicable" for r in records),
        "failed": sum(r["status"] == "failed" for r in records),
        "reasons": dict(reasons.most_common()),
    }


def _short(record: Mapping[str, Any]) -> str:
    status = {"scored": "no success", "not applicable": "not applicable", "failed": "failed"}[record["status"]]
    return f"{status}: {record['reason']}"


def _cpu(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean CPU seconds per clip that had the part."""
    parts: dict[str, list[float]] = {}
    for record in records:
        for part, seconds in (record.get("seconds") or {}).items():
            parts.setdefault(part, []).append(seconds)
    return {part: round(sum(v) / len(v), 2) for part, v in parts.items()}


def read_summary(path: Path) -> dict[str, Any]:
    """The summary in a run's folder. UserError when there is none."""
    summary = read_json(path / "summary.json")
    field(summary, "metrics", path / "summary.json")
    return summary


def rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Label with unit, value with interval, clips, floor: of every metric."""
    floor = (summary["floor"] or {}).get("metrics", {})
    out = []
    for name, kind in METRICS.items():
        own = Estimate(**summary["metrics"][name])
        label = f"{kind.label} [{'%' if kind.unit == 'rate' else kind.unit}]" if kind.unit else kind.label
        below = _text(Estimate(**floor[name]), kind) if name in floor else ""
        out.append((label, _text(own, kind), str(own.n), below))
    return out


def _text(estimate: Estimate, kind: MetricKind) -> str:
    if estimate.value is None:
        return "unscored"
    return estimate.format(kind.digits, 100.0 if kind.unit == "rate" else 1.0)


def unscored_lines(summary: Mapping[str, Any]) -> list[str]:
    """Why metrics are unscored, those of one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for name, kind in METRICS.items():
        if reason := summary["metrics"][name].get("unscored"):
            by_reason.setdefault(reason, []).append(kind.label)
    return [f"Unscored ({reason}): {', '.join(labels)}." for reason, labels in by_reason.items()]


def format_markdown(summary: Mapping[str, Any]) -> str:
    """The table and the account as Markdown."""
    floor = summary["floor"] is not None
    head = ["metric", str(summary["name"]), "clips", *(["floor"] if floor else [])]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row[: len(head)]) + " |" for row in rows(summary)]
    return "\n".join([*lines, "", *account_lines(summary)])


def account_lines(summary: Mapping[str, Any]) -> list[str]:
    """How many clips did what, and why, one sentence a line."""
    clips = summary["clips"]
    lines = [
        f"{clips['all']} clip{'s' * (clips['all'] != 1)}: "
        f"{clips['succeeded']} succeed of {clips['counted']} that count, "
        f"{clips['not_applicable']} not applicable, {clips['failed']} failed."
    ]
    lines += [f"- {count} x {reason}" for reason, count in clips["reasons"].items()]
    lines += unscored_lines(summary)
    if summary["synthesis_backends"]:
        lines.append(f"View synthesis by {', '.join(summary['synthesis_backends'])}.")
    if summary["cpu_seconds"]:
        parts = ", ".join(f"{part} {seconds:g}" for part, seconds in summary["cpu_seconds"].items())
        lines.append(f"CPU seconds per clip: {parts}.")
    return lines


def rich_table(summary: Mapping[str, Any]) -> Table:
    """For the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"3D consistency of {escape(summary['name'])}, 95 % intervals over clips", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("clips", justify="right")
    if summary["floor"] is not None:
        table.add_column("floor", justify="right")
    for row in rows(summary):
        table.add_row(*map(escape, row[: len(table.columns)]))
    return table
