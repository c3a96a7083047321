"""From measurements to a verdict: applicable or not, pose success in our strict and in the paper's loose sense.

- *Not applicable*: frozen, a camera that stands or only turns, a flat scene. Such clips score perfectly in every error
  and so have no score at all. Where the camera was told to move, that is a failure of the video, not an excuse.
- *Loose* success (Cosmos, section 5.3.1): SfM yields poses, of whatever part of the clip.
- *Strict* success: one model with nearly all frames, enough points seen under real angles, small reprojection error.
- `coverage`: registered share times share of consecutive pairs with a geometry. A scene that is swapped half way keeps
  its small errors and loses this; scores are multiplied by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from wfm_sim.evals.consistency.parallax import Parallax
from wfm_sim.evals.consistency.sampson import Sampson
from wfm_sim.evals.consistency.sfm import SfmResult

REGISTERED = 0.9
TRIANGULATION_DEG = 1.5
REPROJECTION_PX = 2.0
MIN_POINTS = 30
TOLD_TO_MOVE = 0.02  # commanded positions farther apart than this (metres, where the path is in metres)


@dataclass(frozen=True)
class Verdict:
    """Of one clip.

    Attributes:
        applicable: Whether 3D consistency can be judged.
        counted: Whether the clip counts in the rate of success: it is applicable, or it was told to move.
        success, loose: Pose success; both False where not applicable.
        coverage: In [0, 1].
        score: Strict success times coverage, in [0, 1].
        reason: Why it is not applicable, or no strict success; '' where it is one.
    """

    applicable: bool
    counted: bool
    success: bool
    loose: bool
    coverage: float
    score: float
    reason: str


def judge(frames: int, parallax: Parallax, pairs: Sampson, sfm: SfmResult | None, moved: float | None) -> Verdict:
    """The verdict on a clip of so many `frames`.

    Args:
        sfm: None where it was not run, the clip not being applicable.
        moved: The largest distance between commanded positions; None without a commanded path.
    """
    if parallax.reason or sfm is None:
        told = moved is not None and moved > TOLD_TO_MOVE
        reason = parallax.reason + (", though it was told to move" if told else "")
        return Verdict(False, told, False, False, 0.0, 0.0, reason)
    registered = 0 if sfm.reconstruction is None else len(sfm.reconstruction.frame_index)
    coverage = registered / frames * pairs.coverage
    reason = _shortfall(frames, registered, pairs, sfm)
    return Verdict(True, True, not reason, registered > 0, coverage, 0.0 if reason else coverage, reason)


def _shortfall(frames: int, registered: int, pairs: Sampson, sfm: SfmResult) -> str:
    """The first thing that keeps a clip from strict success."""
    if sfm.reconstruction is None:
        return sfm.reason
    if len(sfm.models) > 1:
        return f"{len(sfm.models)} models, of {' and '.join(map(str, sfm.models))} frames"
    if registered < REGISTERED * frames:
        return f"{registered} of {frames} frames registered"
    if len(sfm.reconstruction.points) < MIN_POINTS:
        return f"{len(sfm.reconstruction.points)} points"
    if sfm.triangulation_angle is None or sfm.triangulation_angle <= TRIANGULATION_DEG:
        return f"points are seen under {sfm.triangulation_angle or 0:.2g} degrees"
    if sfm.reprojection is None or sfm.reprojection >= REPROJECTION_PX:
        return f"reprojection error of {sfm.reprojection or float('inf'):.2g} px"
    if pairs.coverage < REGISTERED:
        return f"{len(pairs.cuts)} cuts between frames"
    return ""
