"""From per-episode records of the nano gates to estimates with intervals, gates met or not, and a table to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError
from wfm_sim.evals.statistics import Estimate, agreement, bootstrap_mean, cluster_bootstrap, cluster_proportion

METHODS = ("model", "repeat", "truth")
GATES = {"moved_error": 3.0, "lost": 0.03, "agreement": 0.90}  # error and lost below, agreement at or above
PLACED_PX = 3.0

# metric -> (label, factor, digits, unit)
LABELS: dict[str, tuple[str, float, int, str]] = {
    "moved_error": ("moved-object position error, mean", 1, 2, "px"),
    "moved_error_median": ("moved-object position error, median", 1, 2, "px"),
    "placed": (f"moved objects found within {PLACED_PX:g} px", 100, 1, "%"),
    "still_error": ("unmoved-object position error, mean", 1, 2, "px"),
    "lost": ("objects lost at the last step", 100, 1, "%"),
    "lost_any_step": ("objects lost, all steps", 100, 1, "%"),
    "agreement": ("success agrees with the twin", 100, 1, "%"),
    "recall": ("true successes judged a success", 100, 1, "%"),
    "false_alarms": ("true failures judged a success", 100, 1, "%"),
    "psnr": ("PSNR", 1, 2, "dB"),
    "moving_psnr": ("moving-region PSNR", 1, 2, "dB"),
    "ssim": ("SSIM", 1, 3, ""),
}


def summarise(records: Sequence[dict[str, Any]], *, horizon: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Estimates of every metric for every method at the last step, and the means per step.

    Args:
        records: From `score`.
        horizon: The step of the headline, 1..T; None is the last.

    Returns:
        {"horizon", "episodes", "success_rate", "gates": {name: {...}}, "headline": {metric: {method: Estimate json}},
        "per_step": {metric: {method: [T]}}}.
    """
    if not records:
        raise UserError("there are no records to summarise.")
    steps = len(records[0]["visible"])
    last = (horizon or steps) - 1
    headline: dict[str, dict[str, Estimate]] = {}
    per_step: dict[str, dict[str, list[float | None]]] = {}
    for metric in ("psnr", "ssim", "moving_psnr"):
        reason = "the truth moved nothing at this step" if metric == "moving_psnr" else ""
        headline[metric], per_step[metric] = {}, {}
        for method in ("model", "repeat"):
            table = np.array([r[method][metric] for r in records], dtype=np.float64)  # [N, T], None -> nan
            headline[metric][method] = _or(bootstrap_mean(_finite(table[:, last]), seed=seed), reason)
            per_step[metric][method] = [_mean(column) for column in table.T]
    for name, mask_name, reason in (
        ("moved_error", "moved", "no object was moved"),
        ("still_error", "still", "no object stayed where it was"),
    ):
        headline[name], per_step[name] = {}, {}
        for method in METHODS:
            groups = [_errors(r, method, mask_name) for r in records]  # each [T, K]
            now = [_finite(g[last]) for g in groups]
            headline[name][method] = _or(cluster_bootstrap(now, seed=seed), reason)
            per_step[name][method] = [_mean(np.concatenate([g[t] for g in groups])) for t in range(steps)]
            if name == "moved_error":
                median = cluster_bootstrap(now, _median, seed=seed, resamples=1000)
                headline.setdefault("moved_error_median", {})[method] = _or(median, reason)
                placed = [_placed(r, method, last) for r in records]
                headline.setdefault("placed", {})[method] = _or(cluster_proportion(placed, seed=seed), reason)
    headline["lost"], headline["lost_any_step"], per_step["lost"] = {}, {}, {}
    for method in METHODS:
        lost = [_lost(r, method) for r in records]
        headline["lost"][method] = _or(cluster_proportion([_finite(x[last]) for x in lost], seed=seed), "none visible")
        headline["lost_any_step"][method] = _or(
            cluster_bootstrap([_finite(x) for x in lost], seed=seed), "none visible"
        )
        per_step["lost"][method] = [_mean(np.concatenate([x[t] for x in lost])) for t in range(steps)]
    truth = [r["success"] for r in records]
    for method in METHODS:
        if "judged" not in records[0][method]:
            rates = {k: Estimate.none("no judge was given") for k in ("agreement", "recall", "false_alarms")}
        else:
            rates = agreement([r[method]["judged"] for r in records], truth).rates()
        for name in ("agreement", "recall", "false_alarms"):
            headline.setdefault(name, {})[method] = rates[name]
    return {
        "horizon": last + 1,
        "episodes": len(records),
        "moved_objects": int(sum(np.sum(r["moved"][last]) for r in records)),
        "success_rate": float(np.mean(truth)),
        "gates": _gates(headline),
        "headline": {m: {k: e.to_json() for k, e in by.items()} for m, by in headline.items()},
        "per_step": per_step,
    }


def format_table(summary: dict[str, Any], name: str) -> str:
    """The headline as a Markdown table: metric, model, repeat, true frames, gate."""
    lines = [
        f"| at step {summary['horizon']}, {summary['episodes']} episodes | {name} | repeat the first frame "
        "| true frames (floor) | gate |",
        "|---|---|---|---|---|",
    ]
    for metric, (label, factor, digits, unit) in LABELS.items():
        cells = []
        for method in METHODS:
            fields = summary["headline"][metric].get(method)
            cells.append(Estimate(**fields).format(digits, factor, unit) if fields else "")
        gate = summary["gates"].get(metric)
        verdict = ""
        if gate:
            word = {True: "met", False: "**not met**", None: "unscored"}[gate["met"]]
            verdict = f"{'>=' if metric == 'agreement' else '<'} {gate['limit'] * factor:g} {unit}: {word}"
        lines.append(f"| {label} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


def _errors(record: dict[str, Any], method: str, which: str) -> NDArray[np.float64]:
    error = np.array(record[method]["error"], dtype=np.float64)
    moved, visible = np.array(record["moved"], dtype=bool), np.array(record["visible"], dtype=bool)
    return np.where(moved if which == "moved" else visible & ~moved, error, np.nan)


def _lost(record: dict[str, Any], method: str) -> NDArray[np.float64]:
    """float [T, K]: 1 lost, 0 kept, NaN not asked for."""
    return np.where(np.array(record["visible"], dtype=bool), np.array(record[method]["lost"], dtype=float), np.nan)


def _placed(record: dict[str, Any], method: str, step: int) -> NDArray[np.float64]:
    """Of the objects moved at `step`: 1 where found within PLACED_PX of the truth, else 0 (lost ones too)."""
    error = np.array(record[method]["error"][step], dtype=np.float64)
    moved = np.array(record["moved"][step], dtype=bool)
    return (np.nan_to_num(error, nan=np.inf) < PLACED_PX)[moved].astype(np.float64)


def _gates(headline: dict[str, dict[str, Estimate]]) -> dict[str, dict[str, Any]]:
    gates = {}
    for name, limit in GATES.items():
        value = headline[name]["model"].value
        met = None if value is None else (value >= limit if name == "agreement" else value < limit)
        gates[name] = {"limit": limit, "value": value, "met": met}
    return gates


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]


def _mean(values: NDArray[np.float64]) -> float | None:
    finite = _finite(np.asarray(values, dtype=np.float64))
    return float(finite.mean()) if finite.size else None


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))


def _or(estimate: Estimate, reason: str) -> Estimate:
    return Estimate.none(reason or estimate.unscored) if estimate.value is None else estimate
