"""From records of evals/trust.py to numbers with intervals: does trust rank, come true, and catch what it must?

The episode is the independent unit of every interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.statistics import Estimate, agreement, cluster_proportion, wilson
from wfm_sim.evals.trust import EXPLOIT, HELD_OUT
from wfm_sim.reliability import BINS, auroc, calibration_error, reliability

THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
UNTRUSTED = 0.5  # an episode whose trust fell below this is not to be believed
GATES = {"auroc_ahead": (0.90, "at least"), "ece_now": (0.05, "at most")}
RESAMPLES = 500

LABELS = {
    "auroc_now": "AUROC: diverged now",
    "auroc_ahead": "AUROC: diverged within the next {horizon} steps, all steps",
    "auroc_ahead_not_yet": "AUROC: diverged within the next {horizon} steps, among steps not diverged yet",
    "ece_now": "expected calibration error: within tolerance now",
    "ece_ahead": "expected calibration error: within tolerance for the next {horizon} steps",
    "diverged": "steps that are diverged",
    "diverged_at_end": "episodes that are diverged at the last step",
}


def summarise(records: Sequence[dict[str, Any]], horizon: int = 5, *, seed: int = 0) -> dict[str, Any]:
    """All numbers, ready for JSON.

    Args:
        records: From evals/trust.py.
        horizon: Steps that the second output of trust speaks of.
    """
    ordinary = [r for r in records if r["kind"] == HELD_OUT]
    exploited = [r for r in records if r["kind"] == EXPLOIT]
    found: dict[str, Any] = {"episodes": len(ordinary), "exploits": len(exploited), "horizon": horizon}
    if ordinary:
        found["headline"] = {k: e.to_json() for k, e in _headline(ordinary, horizon, seed).items()}
        found["gates"] = _gates(found["headline"])
        found["reliability"] = {
            "now": _bins([(*pair,) for pair in _now(ordinary)], seed),
            "ahead": _bins([(p, y) for p, y, _ in _ahead(ordinary, horizon)], seed),
        }
        found["collapse"] = collapse(ordinary)
        if "judged" in ordinary[0]:
            found["abstention"] = abstention(ordinary)
    if exploited:
        found["exploit"] = exploitation(exploited, ordinary)
    return found


def _now(records: Sequence[dict[str, Any]]) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Per episode: trust and whether within tolerance, at steps 1..T (step 0 is given)."""
    return [(np.array(r["trust"][1:]), ~np.array(r["diverged"][1:], dtype=bool)) for r in records]


def _ahead(
    records: Sequence[dict[str, Any]], horizon: int
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Per episode, at steps 0..T - horizon: the second output, whether within tolerance at each of the next steps, and
    whether within it now."""
    out = []
    for r in records:
        fine = ~np.array(r["diverged"], dtype=bool)
        n = max(0, len(fine) - horizon)
        stays = np.array([fine[t + 1 : t + 1 + horizon].all() for t in range(n)], dtype=bool)
        out.append((np.array(r["horizon"][:n]), stays, fine[:n]))
    return out


def _headline(records: Sequence[dict[str, Any]], horizon: int, seed: int) -> dict[str, Estimate]:
    now, ahead = _now(records), [(p, y) for p, y, _ in _ahead(records, horizon)]
    not_yet = [(p[f], y[f]) for p, y, f in _ahead(records, horizon)]
    return {
        "auroc_now": _bootstrap(now, auroc, seed),
        "auroc_ahead": _bootstrap(ahead, auroc, seed),
        "auroc_ahead_not_yet": _bootstrap(not_yet, auroc, seed),
        "ece_now": _bootstrap(now, calibration_error, seed),
        "ece_ahead": _bootstrap(ahead, calibration_error, seed),
        "diverged": cluster_proportion([(~y).astype(float) for _, y in now], seed=seed),
        "diverged_at_end": wilson(sum(bool(r["diverged"][-1]) for r in records), len(records)),
    }


def _bootstrap(
    groups: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    statistic: Callable[[Any, Any], float | None],
    seed: int,
) -> Estimate:
    """A statistic of pooled (probability, came true), with its percentile interval over resampled episodes."""
    groups = [g for g in groups if len(g[0])]
    if not groups:
        return Estimate.none("no steps")
    value = statistic(*_pool(groups))
    if value is None:
        return Estimate.none("all steps agree", len(groups))
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    samples = [statistic(*_pool([groups[i] for i in row])) for row in draws.tolist()]
    known = [s for s in samples if s is not None]
    if len(known) < RESAMPLES // 2:
        return Estimate(value, n=len(groups))
    low, high = np.percentile(known, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(groups))


def _pool(groups: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.concatenate([p for p, _ in groups]), np.concatenate([y for _, y in groups])


def _bins(groups: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]], seed: int) -> list[dict[str, Any]]:
    """Reliability table: low, high, predicted (mean), observed (share with its interval), n (steps)."""
    table = []
    for b in reliability(*_pool(groups), bins=BINS):
        first = b.low == 0.0
        inside = [y[((p > b.low) | (first & (p >= b.low))) & (p <= b.high)].astype(float) for p, y in groups]
        observed = cluster_proportion([y for y in inside if len(y)], seed=seed)
        table.append({"low": b.low, "high": b.high, "predicted": b.predicted, "observed": observed.to_json(), "n": b.n})
    return table


def collapse(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Steps to collapse: the first step from which an episode stays diverged to its end.

    An episode that is within tolerance at its last step is censored there (Kaplan and Meier 1958, by statsmodels).
    What is diverged only at the very end counts as collapsed: whether it would have come back is not known.

    Returns:
        {"median": step or None (not reached), "median_interval": [low, high or None], "horizon", "censored": share,
        "survival": [{"step", "survival", "low", "high"}]}.
    """
    from statsmodels.duration.survfunc import SurvfuncRight

    times, ended = [], []
    for r in records:
        out = np.array(r["diverged"], dtype=bool)
        fine = np.flatnonzero(~out)
        last = int(fine[-1]) if len(fine) else -1
        ended.append(last < len(out) - 1)
        times.append(last + 1 if ended[-1] else len(out) - 1)
    horizon = max(len(r["diverged"]) for r in records) - 1
    result: dict[str, Any] = {"horizon": horizon, "censored": 1 - float(np.mean(ended)), "median": None}
    result |= {"median_interval": [None, None], "survival": [{"step": 0, "survival": 1.0, "low": 1.0, "high": 1.0}]}
    if not any(ended):
        return result
    curve = SurvfuncRight(np.array(times), np.array(ended, dtype=int))
    for step, p, se in zip(curve.surv_times.tolist(), curve.surv_prob, curve.surv_prob_se, strict=True):
        low, high = np.clip([p - 1.96 * se, p + 1.96 * se], 0, 1)
        result["survival"].append({"step": int(step), "survival": float(p), "low": float(low), "high": float(high)})
    below = curve.surv_times[curve.surv_prob <= 0.5 + 1e-9]
    early, late = (int(x) if np.isfinite(x) else None for x in curve.quantile_ci(0.5))
    result |= {"median": int(below[0]) if len(below) else None, "median_interval": [early, late]}
    return result


def abstention(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Agreement of the judge on imagined frames with the twin, when episodes whose trust fell below a threshold are
    left out: [{"threshold", "kept", "left_out" (share), "agreement", "agreement_left_out"}]."""
    lowest = np.array([min(r["trust"]) for r in records])
    judged, truth = (np.array([r[name] for r in records], dtype=bool) for name in ("judged", "success"))
    table = []
    for threshold in THRESHOLDS:
        kept = lowest >= threshold
        rows: dict[str, Any] = {"threshold": threshold, "kept": int(kept.sum()), "left_out": float(1 - kept.mean())}
        for name, mask in (("agreement", kept), ("agreement_left_out", ~kept)):
            rates = agreement(judged[mask], truth[mask]).rates()
            rows[name] = (rates["agreement"] if mask.any() else Estimate.none("no episode")).to_json()
        table.append(rows)
    return table


def exploitation(exploited: Sequence[dict[str, Any]], ordinary: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the exploiter is said to reach, what it reaches, and how much of it trust disbelieves."""
    n = len(exploited)
    low = np.array([min(r["trust"]) < UNTRUSTED for r in exploited])
    said, true = (np.array([bool(r[name]) for r in exploited]) for name in ("judged", "success"))
    out = np.array([any(r["diverged"]) for r in exploited])
    false = said & ~true
    groups = _now(exploited)
    return {
        "threshold": UNTRUSTED,
        "imagined_success": wilson(int(said.sum()), n).to_json(),
        "true_success": wilson(int(true.sum()), n).to_json(),
        "diverged": wilson(int(out.sum()), n).to_json(),
        "untrusted": wilson(int(low.sum()), n).to_json(),
        "false_successes": int(false.sum()),
        "false_successes_untrusted": (
            wilson(int(low[false].sum()), int(false.sum())) if false.any() else Estimate.none("no false success")
        ).to_json(),
        "untrusted_held_out": wilson(sum(min(r["trust"]) < UNTRUSTED for r in ordinary), len(ordinary)).to_json(),
        "auroc_now": _bootstrap(groups, auroc, 0).to_json(),
        "ece_now": _bootstrap(groups, calibration_error, 0).to_json(),
    }


def _gates(headline: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    gates = {}
    for name, (limit, side) in GATES.items():
        value = headline[name].get("value")
        met = None if value is None else bool(value >= limit if side == "at least" else value <= limit)
        gates[name] = {"limit": limit, "side": side, "value": value, "met": met}
    return gates
