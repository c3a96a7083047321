"""From the records of `judge_eval` to numbers: how good the judge is, on frames and on episodes, true and imagined.

Frames of one episode are alike, so the episode is the independent unit of every interval. What is counted of whole
episodes has Wilson's interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.comparison_summary import ALL
from wfm_sim.evals.estimate import percentile_interval
from wfm_sim.evals.judge_eval import IMAGINED, TRUE, rule
from wfm_sim.evals.statistics import RESAMPLES, Estimate, agreement, cluster_proportion, wilson

Record = Mapping[str, Any]
Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]  # what was said and what is true, of the frames of one episode

SHARES = {
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "agreement": "agreement",
}


def summarise(records: Sequence[Record], *, seed: int = 0) -> dict[str, Any]:
    """All numbers of a run.

    Args:
        records: From `judge_record`, of true and of imagined frames, or of true ones alone.
        seed: Of the bootstraps.

    Returns:
        {"episodes", "tasks", "frames": {comparison: {task: shares and counts}}, "outcomes": {the same of episodes}}.
        Comparisons are named 'judge: true frames' and so on, see COMPARISONS.
    """
    tasks = list(dict.fromkeys(r["task"] for r in records))
    found: dict[str, Any] = {"tasks": tasks, "frames": {}, "outcomes": {}}
    found["episodes"] = {kind: sum(r["frames"] == kind for r in records) for kind in (TRUE, IMAGINED)}
    for name, (kind, said, truth) in COMPARISONS.items():
        of_kind = [r for r in records if r["frames"] == kind]
        if not of_kind:
            continue
        found["frames"][name], found["outcomes"][name] = {}, {}
        for task in (*tasks, ALL):
            mine = [r for r in of_kind if task in (ALL, r["task"])]
            found["frames"][name][task] = frame_shares([p for r in mine if (p := _pair(r, said, truth))], seed)
            ended = [(r[_EPISODE[said]], r[_EPISODE[truth]]) for r in mine]
            found["outcomes"][name][task] = outcome_shares([p for p in ended if None not in p])
    return found


# name -> (frames, what is asked, what counts as the truth)
COMPARISONS = {
    "judge against the twin, true frames": (TRUE, "probability", "truth"),
    "tracker against the twin, true frames": (TRUE, "tracker", "truth"),
    "judge against the tracker, imagined frames": (IMAGINED, "probability", "tracker"),
    "judge against the twin, imagined frames": (IMAGINED, "probability", "truth"),
    "tracker against the twin, imagined frames": (IMAGINED, "tracker", "truth"),
}
_EPISODE = {"probability": "judged", "tracker": "tracked", "truth": "success"}


def verdicts(record: Record, which: str) -> NDArray[np.bool_] | None:
    """What judge ('probability'), tracker or twin ('truth') say of each frame of a record, bool [T + 1]."""
    if record[which] is None:
        return None
    values = np.asarray(record[which])
    return np.asarray(values > rule().threshold if which == "probability" else values.astype(bool))


def _pair(record: Record, said: str, truth: str) -> Pair | None:
    a, b = verdicts(record, said), verdicts(record, truth)
    return None if a is None or b is None else (a, b)


def frame_shares(pairs: Sequence[Pair], seed: int = 0) -> dict[str, Any]:
    """Counts tp, fn, tn, fp over all frames, and SHARES as Estimates (JSON) whose n counts episodes."""
    counts = np.array([_counts(said, truth) for said, truth in pairs]).reshape(-1, 4)  # [N, tp fn tn fp]
    estimates = {
        "balanced_accuracy": balanced_accuracy(counts, seed),
        "precision": _or(cluster_proportion([t[s] for s, t in pairs], seed=seed), "nothing was called a success"),
        "recall": _or(cluster_proportion([s[t] for s, t in pairs], seed=seed), "no true success"),
        "specificity": _or(cluster_proportion([~s[~t] for s, t in pairs], seed=seed), "no true failure"),
        "agreement": _or(cluster_proportion([s == t for s, t in pairs], seed=seed), "no frames"),
    }
    return _json(counts.sum(0), estimates)


def outcome_shares(pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """Counts over episodes, each (called a success, is one), and SHARES as Estimates (JSON)."""
    said, truth = (np.array([p[i] for p in pairs], dtype=bool) for i in (0, 1))
    counts = np.array([_counts(said[i : i + 1], truth[i : i + 1]) for i in range(len(pairs))]).reshape(-1, 4)
    rates = agreement(said, truth).rates()
    tn, fp = (int(counts[:, i].sum()) for i in (2, 3))
    estimates = {
        "balanced_accuracy": balanced_accuracy(counts, seed=0),
        "precision": rates["precision"],
        "recall": rates["recall"],
        "specificity": wilson(tn, tn + fp) if tn + fp else Estimate.none("no true failure"),
        "agreement": rates["agreement"],
    }
    return _json(counts.sum(0), estimates)


def balanced_accuracy(counts: NDArray[Any], seed: int) -> Estimate:
    """Mean of recall and specificity from counts [N, 4] (tp, fn, tn, fp) of N episodes, which are resampled whole.

    Where one of the two rates knows no error, resampling knows none either: then the interval is put together from
    Wilson's of both rates, with one trial per episode that has such frames (Zou & Donner 2008).
    """
    tp, fn, tn, fp = counts.sum(0)
    if not tp + fn or not tn + fp:
        return Estimate.none("no true success" if not tp + fn else "no true failure", len(counts))
    value = float(tp / (tp + fn) + tn / (tn + fp)) / 2
    if 0 in (tp, fn, tn, fp):
        below, above = [], []
        for right, wrong in ((0, 1), (2, 3)):
            rate = counts[:, right].sum() / counts[:, (right, wrong)].sum()
            n = int((counts[:, (right, wrong)].sum(1) > 0).sum())
            found = wilson(float(rate * n), n)
            below.append((found.value or 0.0) - (found.low or 0.0))
            above.append((found.high or 0.0) - (found.value or 0.0))
        low, high = value - 0.5 * math.hypot(*below), value + 0.5 * math.hypot(*above)
        return Estimate(value, max(low, 0.0), min(high, 1.0), len(counts))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=RESAMPLES)  # [R, N]
    a, b, c, d = (weights @ counts).T.astype(np.float64)
    with np.errstate(invalid="ignore"):
        samples = (a / (a + b) + c / (c + d)) / 2
    return Estimate(value, *percentile_interval(samples[np.isfinite(samples)]), n=len(counts))


def confusion(summary: Mapping[str, Any], task: str = ALL) -> dict[str, int]:
    """The judge's errors on whole episodes of the twin: tp, fn, tn, fp."""
    found = summary["outcomes"]["judge against the twin, true frames"][task]
    return {name: int(found[name]) for name in ("tp", "fn", "tn", "fp")}


def format_tables(summary: Mapping[str, Any], *, brief: bool = False) -> str:
    """Markdown: a table of frames and one of episodes; brief: tasks apart only where the judge is held to the twin."""
    parts = []
    for level, title in (("frames", "frames"), ("outcomes", "whole episodes")):
        head = [title, "task", "tp", "fn", "tn", "fp", *SHARES.values()]
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for name, by_task in summary[level].items():
            for task, row in by_task.items():
                if brief and task != ALL and name != next(iter(COMPARISONS)):
                    continue
                shares = [Estimate(**row[key]).format(1, 100) for key in SHARES]
                counts = [str(row[key]) for key in ("tp", "fn", "tn", "fp")]
                lines.append(f"| {name} | {task} | {' | '.join(counts)} | {' | '.join(shares)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _counts(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    pairs = ((said, truth), (~said, truth), (~said, ~truth), (said, ~truth))
    tp, fn, tn, fp = (int((a & b).sum()) for a, b in pairs)
    return tp, fn, tn, fp


def _json(counts: NDArray[Any], estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    named = {name: int(n) for name, n in zip(("tp", "fn", "tn", "fp"), counts, strict=True)}
    return {**named, **{name: e.to_json() for name, e in estimates.items()}}


def _or(estimate: Estimate, reason: str) -> Estimate:
    return estimate if estimate.value is not None else Estimate.none(reason, estimate.n)
