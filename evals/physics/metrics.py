"""What a predicted clip is scored by: PSNR, SSIM and DreamSim of its frames, and object IoU of tracked masks.

Object IoU. The objects of the first true mask are tracked through context and prediction. Per frame and object: pixels
in both masks over pixels in either. An object that the true mask of a frame does not show (hidden, or out of the frame)
is left out of that frame, and one that the first mask does not show is left out altogether, for no tracker could know
it. Mean over objects, then over the predicted frames. Scenes and sets: mean over views and seeds of an episode, then
over episodes, then over scenes; intervals are bootstrapped over episodes, scene by scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.evals.estimate import CONFIDENCE, RESAMPLES, Estimate, as_scores
from wfm_sim.evals.statistics import bootstrap_mean


def object_iou(truth: NDArray[np.uint8], found: NDArray[np.uint8], objects: int) -> NDArray[np.float64]:
    """Intersection over union per frame and object.

    Args:
        truth, found: uint8 [T, H, W], 0 background, i + 1 object i.
        objects: N.

    Returns:
        float64 [T, N]; NaN where the true mask shows nothing of that object.
    """
    if truth.shape != found.shape:
        raise ValueError(f"masks differ in shape: {list(truth.shape)} and {list(found.shape)}")
    bins = objects + 1
    out = np.full((len(truth), objects), np.nan)
    for t, (a, b) in enumerate(zip(truth, found, strict=True)):
        pairs = np.bincount(a.ravel().astype(np.int64) * 256 + b.ravel(), minlength=256 * bins).reshape(-1, 256)
        both = np.diag(pairs[:bins, :bins])[1:]
        either = pairs[:bins].sum(1)[1:] + pairs.sum(0)[1:bins] - both
        there = pairs[1:bins].sum(1) > 0
        out[t, there] = both[there] / either[there]
    return out


def frame_iou(truth: NDArray[np.uint8], found: NDArray[np.uint8], objects: int) -> list[float | None]:
    """Object IoU per frame [T], averaged over the objects of the first true mask; None where none of them is seen."""
    values = object_iou(truth, found, objects)
    values[:, ~np.isin(np.arange(1, objects + 1), truth[0])] = np.nan
    return [float(np.nanmean(row)) if np.isfinite(row).any() else None for row in values]


def mean_known(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None when there is none."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def stratified_mean(strata: Mapping[str, ArrayLike], *, seed: int = 0) -> Estimate:
    """The mean over strata (scenes) of their means, with its bootstrap interval (BCa): resampled within each stratum.

    As in `bootstrap_mean` the level is raised for few values (Hesterberg 2015), here by those of the smallest stratum.

    Args:
        strata: Name -> one value per episode; empty ones are left out.
        seed: Of the resampling.

    Returns:
        n counts the episodes. With fewer than two episodes in a stratum there is no interval.
    """
    groups = [g for g in map(as_scores, strata.values()) if g.size]
    if not groups:
        return Estimate.none("no values")
    if len(groups) == 1:
        return bootstrap_mean(groups[0], seed=seed)
    n, value = sum(g.size for g in groups), float(np.mean([g.mean() for g in groups]))
    if min(g.size for g in groups) < 2:
        return Estimate(value, n=n)
    if all(np.ptp(g) == 0 for g in groups):
        return Estimate(value, value, value, n)
    from scipy.special import ndtr, stdtrit
    from scipy.stats import bootstrap

    least = min(g.size for g in groups)
    spread = np.sqrt(least / (least - 1)) * stdtrit(n - len(groups), (1 + CONFIDENCE) / 2)
    level = min(2 * float(ndtr(spread)) - 1, 1 - 2 / RESAMPLES)  # no farther out than the resamples reach

    def statistic(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.asarray(np.mean([s.mean(axis=axis) for s in samples], axis=0))

    found = bootstrap(
        groups,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=level,
        rng=seed,
        vectorized=True,
        method="BCa" if least > 2 else "percentile",
    )
    return Estimate(value, float(found.confidence_interval.low), float(found.confidence_interval.high), n)
