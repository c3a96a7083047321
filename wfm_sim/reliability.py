"""How good a stated probability is: does it rank (AUROC), and does it come true (calibration)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Of the n predictions in (low, high]: their mean, and the share that came true."""

    low: float
    high: float
    predicted: float
    observed: float
    n: int


def auroc(score: ArrayLike, label: ArrayLike) -> float | None:
    """Probability that a positive has a higher score than a negative, ties counted half; None without both.

    The Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982).
    """
    from scipy.stats import rankdata

    truth = np.asarray(label, dtype=bool).ravel()
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(np.asarray(score, dtype=np.float64).ravel())
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def reliability(probability: ArrayLike, label: ArrayLike, bins: int = BINS) -> list[Bin]:
    """At most `bins` bins of about equal mass that cover [0, 1], by rising probability; equal ones stay together."""
    p, y = np.asarray(probability, dtype=np.float64).ravel(), np.asarray(label, dtype=np.float64).ravel()
    if not p.size:
        return []
    borders = np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1], method="lower")
    edges = np.unique(np.concatenate([[0.0], borders, [1.0]]))
    which = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, len(edges) - 2)
    parts = [(k, which == k) for k in range(len(edges) - 1)]
    return [
        Bin(float(edges[k]), float(edges[k + 1]), float(p[rows].mean()), float(y[rows].mean()), int(rows.sum()))
        for k, rows in parts
        if rows.any()
    ]


def calibration_error(probability: ArrayLike, label: ArrayLike, bins: int = BINS) -> float | None:
    """Expected calibration error over bins of equal mass (Naeini et al. 2015): mean |predicted - observed|; None
    without predictions."""
    table = reliability(probability, label, bins)
    if not table:
        return None
    return sum(b.n * abs(b.predicted - b.observed) for b in table) / sum(b.n for b in table)


def platt(logits: ArrayLike, label: ArrayLike) -> tuple[float, float]:
    """Slope and offset that make sigmoid(slope * logit + offset) a calibrated probability, by maximum likelihood.

    The targets are drawn in a little from 0 and 1 (Platt 1999), so that separable data gives finite numbers. Where all
    labels agree there is nothing to learn a slope from: it stays 1.
    """
    from scipy.optimize import minimize

    x, truth = np.asarray(logits, dtype=np.float64).ravel(), np.asarray(label, dtype=bool).ravel()
    positives = int(truth.sum())
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (truth.size - positives + 2))
    fixed = positives in (0, truth.size)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = (1.0 if fixed else weights[0]) * x + weights[1]
        error = 1 / (1 + np.exp(-z)) - target
        gradient = np.array([0.0 if fixed else float((error * x).mean()), float(error.mean())])
        return float((np.logaddexp(0, z) - target * z).mean()), gradient

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return (1.0 if fixed else float(found[0])), float(found[1])
