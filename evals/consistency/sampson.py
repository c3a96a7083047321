"""Sampson error of consecutive frames: how far matched features lie from the epipolar geometry of their pair.

    e(x, y) = |y^T F x| / sqrt(|S F x|^2 + |S F^T y|^2),   S = diag(1, 1, 0),   in pixels

(Hartley and Zisserman, eq. 11.9, its root; Cosmos, section 5.3.1.) Reported in pixels of a canvas of 960 x 540, by the
diagonal, so that frame sizes can be compared. Three numbers, for three questions:

- `mean`: the paper's, over all matches, F by RANSAC at 3 px. Outliers of the matching decide it.
- `median`: over all matches, F by LO-RANSAC at 1 px. It is what orders warps of a few pixels.

- `capped`: mean over the pairs of their medians, none above `CAP`; a pair without geometry counts as `CAP`.

A pair without geometry (too few matches or inliers) is no perfect pair: it lowers `coverage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.consistency.matches import Features, match

CANVAS = (540, 960)
MIN_INLIERS = 16  # F takes 8; chance alone gives a few more
INLIER_PX = 3.0
CAP = 10.0  # pixels of the canvas
_ROBUST_PX = 1.0


@dataclass(frozen=True)
class PairError:
    """Of one pair of frames.

    Attributes:
        first, second: Frames.
        errors: float64 [M], by LO-RANSAC's F, in pixels of the frame; empty without geometry.
        paper_errors: float64 [M], by RANSAC's F.
        inliers: Share of the matches within `INLIER_PX` of RANSAC's F.
    """

    first: int
    second: int
    errors: NDArray[np.float64]
    paper_errors: NDArray[np.float64]
    inliers: float

    @property
    def covered(self) -> bool:
        """Whether the pair shows one geometry."""
        return self.errors.size > 0


@dataclass(frozen=True)
class Sampson:
    """Of one clip at one stride; numbers are None where no pair has a geometry.

    Attributes:
        median, mean: See the module, in pixels of the canvas.
        capped: Likewise; `CAP` where no pair has a geometry.
        inlier_ratio: Mean over the pairs with geometry.
        coverage: Share of the pairs with geometry, in [0, 1].
        cuts: The pairs without.
        scale: From pixels of the frame to pixels of the canvas.
    """

    median: float | None
    mean: float | None
    capped: float
    inlier_ratio: float | None
    coverage: float
    cuts: tuple[tuple[int, int], ...]
    scale: float


def canvas_scale(size: tuple[int, ...]) -> float:
    """From pixels of a frame of `size` (height, width) to pixels of the canvas."""
    return float(np.linalg.norm(CANVAS) / np.linalg.norm(size[:2]))


def sampson(features: Sequence[Features], size: tuple[int, int], *, stride: int = 1, seed: int = 0) -> Sampson:
    """Sampson error of all pairs (t, t + stride).

    Args:
        features: Of the frames, in order.
        size: (height, width) of the frames.
        stride: >= 1.
        seed: Of the estimators.
    """
    pairs = [_pair(features, t, t + stride, seed) for t in range(len(features) - stride)]
    good = [p for p in pairs if p.covered]
    scale = canvas_scale(size)
    cuts = tuple((p.first, p.second) for p in pairs if not p.covered)
    if not good:
        return Sampson(None, None, CAP, None, 0.0, cuts, scale)
    medians = [min(CAP, scale * float(np.median(p.errors))) if p.covered else CAP for p in pairs]
    return Sampson(
        scale * float(np.median(np.concatenate([p.errors for p in good]))),
        scale * float(np.mean(np.concatenate([p.paper_errors for p in good]))),
        float(np.mean(medians)),
        float(np.mean([p.inliers for p in good])),
        len(good) / len(pairs),
        cuts,
        scale,
    )


def sampson_errors(F: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [M] in pixels, of matches a, b [M, 2] with y^T F x = 0 for x of a and y of b."""
    x, y = np.column_stack((a, np.ones(len(a)))), np.column_stack((b, np.ones(len(b))))
    there, back = x @ F.T, y @ F
    slope = (there[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1)
    return np.asarray(np.abs((y * there).sum(1)) / np.sqrt(np.maximum(slope, 1e-30)))


def _pair(features: Sequence[Features], first: int, second: int, seed: int) -> PairError:
    a, b = match(features[first], features[second])
    empty = PairError(first, second, np.zeros(0), np.zeros(0), 0.0)
    if len(a) < MIN_INLIERS:
        return empty
    paper, robust = (fundamental(a, b, seed, robust=robust) for robust in (False, True))
    if paper is None or robust is None:
        return empty
    errors = sampson_errors(robust, a, b)
    paper_errors = sampson_errors(paper, a, b)
    if (errors < INLIER_PX).sum() < max(MIN_INLIERS, 0.2 * len(a)):
        return empty
    return PairError(first, second, errors, paper_errors, float((paper_errors < INLIER_PX).mean()))


def fundamental(
    a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0, *, robust: bool = True
) -> NDArray[np.float64] | None:
    """F [3, 3] of matches [M, 2]; None where there is none.

    robust: By pycolmap's LO-RANSAC at 1 px, which comes nearest to the true F (OpenCV's MAGSAC nearly does, but fails
        on some perfect matches); else as the paper's code finds it, by OpenCV's RANSAC at 3 px and 0.99.
    """
    F = _lo_ransac(a, b, seed) if robust else _ransac(a, b, seed)
    if F is None or F.shape != (3, 3) or not np.isfinite(F).all():
        return None
    return np.asarray(F, np.float64)


def _lo_ransac(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> NDArray[Any] | None:
    import pycolmap

    options = pycolmap.RANSACOptions()
    options.random_seed = seed
    options.max_error = _ROBUST_PX
    options.confidence = 0.999
    options.min_num_trials, options.max_num_trials = 100, 2000
    found = pycolmap.estimate_fundamental_matrix(a, b, options)
    return None if found is None else found["F"]


def _ransac(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> NDArray[Any] | None:
    import cv2

    cv2.setRNGSeed(seed)
    try:
        return cv2.findFundamentalMat(a, b, cv2.FM_RANSAC, 3.0, 0.99)[0]
    except cv2.error:
        return None
