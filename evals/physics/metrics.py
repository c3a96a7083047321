"""Object IoU: do the objects of two videos cover the same pixels?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def object_iou(truth: NDArray[np.uint8], found: NDArray[np.uint8], objects: int) -> NDArray[np.float64]:
    """Intersection over union per frame and object.

    Args:
        truth, found: uint8 [T, H, W], 0 background, i + 1 object i.
        objects: N.

    Returns:
        float64 [T, N]; NaN where the true mask has no pixel of that object (it is hidden, or out of the frame).
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
