"""Which law is broken: from the masks of a video, the scene and its camera to measured quantities in world units.

    clip = Clip(scene, camera.intrinsics(w, h), camera.extrinsics(), trajectory, true_masks, context=9)
    for m in measure(clip, masks):           # masks: uint8 [T, H, W], tracked in the video that is judged
        m.law, m.subject, m.found, m.truth, m.deviation, m.unscored

Every quantity is measured in the same way, in the same frames, in the true masks; what differs is the deviation, and
laws_calibration.py says which deviations ground-truth video shows and which it does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wfm_sim.errors import UserError
from wfm_sim.evals.physics.laws_fall import free_fall
from wfm_sim.evals.physics.laws_general import general
from wfm_sim.evals.physics.laws_model import LAWS, Law, Measurement
from wfm_sim.evals.physics.laws_slopes import planar_slope, u_slope
from wfm_sim.evals.physics.laws_toppling import dominoes, stack
from wfm_sim.evals.physics.laws_tracks import Clip, Labels, Pair, tracks_of
from wfm_sim.evals.physics.laws_turning import gyroscope, seesaw

__all__ = ["LAWS", "OF_SCENE", "Clip", "Law", "Measurement", "measure"]

# Scenes that are not listed have the general laws only.
OF_SCENE: dict[str, Callable[[Pair], list[Measurement]]] = {
    "free_fall": free_fall,
    "planar_slope": planar_slope,
    "u_slope": u_slope,
    "stable_stack": stack,
    "unstable_stack": stack,
    "dominoes": dominoes,
    "seesaw": seesaw,
    "gyroscope": gyroscope,
}


def measure(clip: Clip, masks: Labels) -> list[Measurement]:
    """Everything that one video says about the laws of its scene.

    Args:
        clip: The truth: scene, camera, poses, masks, frames of context.
        masks: uint8 [T, H, W], the same bodies in the video, from frame 0 on; frames before `clip.context` are the true
            ones.

    Returns:
        The scene's own laws, then the general ones; at least one measurement of each, scored or not.

    Raises:
        UserError: masks of another type or size than the truth's, a context that leaves nothing to predict, or a truth
            of fewer frames than its masks.
    """
    if masks.dtype != np.uint8 or masks.shape != clip.masks.shape:
        raise UserError(
            f"laws: masks are {masks.dtype} {list(masks.shape)}, expected uint8 {list(clip.masks.shape)} as the truth's"
        )
    if not 1 <= clip.context < len(clip):
        raise UserError(f"laws: a context of {clip.context} frames leaves nothing to judge in {len(clip)} frames")
    if len(clip.truth.times) < len(clip):
        raise UserError(f"laws: {len(clip)} frames of masks, but poses of {len(clip.truth.times)}")
    count = len(clip.truth.names)
    pair = Pair(clip, masks, tracks_of(clip.masks, count), tracks_of(masks, count))
    own = OF_SCENE.get(clip.scene.name)
    with np.errstate(invalid="ignore"):  # NaN stands for 'not in sight'
        return [*(own(pair) if own else []), *general(pair)]
