"""Is an imagined state still within a stated tolerance of the truth? What `info["trust"]` is the probability of.

Within tolerance: every block that the truth shows is found by the colour tracker (wfm_sim/object_tracking.py) in the
imagined frame, no farther than so many pixels from its true place and with at least a share of its true area. A block
that the tracker cannot place within the same limits in the *true* frame (behind a finger, say) is not asked for: that
would be an error of the instrument. Everything else is `diverged`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.object_tracking import Appearance, appearances, locate_all

FRAME = 64.0  # pixels; what the limits are given for


@dataclass(frozen=True)
class Tolerance:
    """The limits, in pixels of a 64 px frame.

    Attributes:
        distance: Of a block's centroid from its true place.
        kept: Share of its true visible area that must be there.
        visible: True visible area from which a block is asked for, now and in the first frame.
    """

    distance: float = 5.0
    kept: float = 0.25
    visible: float = 8.0

    def describe(self) -> str:
        """One sentence."""
        return (
            f"every block of which the truth shows at least {self.visible:g} px is found in the imagined frame within "
            f"{self.distance:g} px of its true place and with at least {100 * self.kept:g} % of its true area "
            "(pixels of a 64 px frame, colour tracker)"
        )

    def to_json(self) -> dict[str, Any]:
        """Its numbers and the sentence."""
        return {**asdict(self), "meaning": self.describe()}


TOLERANCE = Tolerance()


def diverged(
    truth: NDArray[np.uint8],
    imagined: NDArray[np.uint8],
    objects: NDArray[np.floating],
    paints: Sequence[ArrayLike | None] | None = None,
    tolerance: Tolerance = TOLERANCE,
) -> NDArray[np.bool_]:
    """Which frames of one episode are out of tolerance: bool [T]. Arguments as `errors`."""
    return errors(truth, imagined, objects, paints, tolerance) > tolerance.distance


def errors(
    truth: NDArray[np.uint8],
    imagined: NDArray[np.uint8],
    objects: NDArray[np.floating],
    paints: Sequence[ArrayLike | None] | None = None,
    tolerance: Tolerance = TOLERANCE,
) -> NDArray[np.float32]:
    """How far the block that is farthest from its true place is from it, float32 [T], in pixels of a 64 px frame.

    Infinity where a block is lost, 0 where none is asked for.

    Args:
        truth, imagined: uint8 [T, H, W, 3], beginning with the same true frame.
        objects: [T, K, 3], x, y and visible area (pixels) of every block in the truth; area 0 where it is hidden.
        paints: RGB (0..255) of the blocks, where known (see `appearances`).
    """
    scale = FRAME / truth.shape[1]
    looks = appearances(truth[0], [(float(x), float(y), float(area)) for x, y, area in objects[0]], paints)
    asked = (objects[..., 2] * scale**2 >= tolerance.visible) & (objects[:1, :, 2] * scale**2 >= tolerance.visible)
    asked[:, [i for i, look in enumerate(looks) if look is None]] = False
    away = np.where(asked, _distances(imagined, looks, objects, tolerance), 0.0)
    # The truth is only tracked where it could excuse the model.
    doubtful = (away > tolerance.distance).any(axis=1)
    unseen = _distances(truth[doubtful], looks, objects[doubtful], tolerance) > tolerance.distance
    away[doubtful] = np.where(unseen, 0.0, away[doubtful])
    return np.asarray(away.max(axis=1), dtype=np.float32)


def _distances(
    frames: NDArray[np.uint8],
    looks: Sequence[Appearance | None],
    objects: NDArray[np.floating],
    tolerance: Tolerance,
) -> NDArray[np.float64]:
    """Of every block from where it truly is, [T, K], in pixels of a 64 px frame; infinity where too little is found."""
    out = np.full(objects.shape[:2], np.inf)
    for t, frame in enumerate(frames):
        for k, found in enumerate(locate_all(frame, looks)):
            if found is not None and found.area >= tolerance.kept * objects[t, k, 2]:
                out[t, k] = np.hypot(found.x - objects[t, k, 0], found.y - objects[t, k, 1]) * FRAME / frame.shape[0]
    return out
