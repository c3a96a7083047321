"""What holds in every scene: bodies stay, do not enter each other, gain no energy, and move forwards and smoothly."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_fall import UP
from wfm_sim.evals.physics.laws_model import Floats, Measurement, compare, value
from wfm_sim.evals.physics.laws_slopes import ACROSS
from wfm_sim.evals.physics.laws_tracks import FEWEST, PEEPS, Clip, Labels, Pair, Tracks, local_line

GONE = 0.25  # a body of which less than this part of the true area is left is gone; a second piece of more is one
STILL = 0.1  # pixels a frame, in pictures 128 wide: the root mean square speed below which nothing moves
MOVES = 0.4  # pixels a frame, likewise: a body that is faster has a path to speak of
BLOW = 0.02  # m: paths that are less smooth than this over seven frames have a blow in them
FOLLOWED = 0.6  # of its frames must be usable for a body to count in the energy


def general(pair: Pair) -> list[Measurement]:
    """All general laws, of which some say nothing in some scenes."""
    clip = pair.clip
    out = [permanence(pair, i) for i in range(len(clip.truth.names))]
    for a, b in neighbours(clip):
        names = f"{clip.truth.names[a]}, {clip.truth.names[b]}"
        out.append(compare("penetration", names, pair, partial(_penetration, pair, a, b)))
    if clip.scene.name in PLANES:
        out.append(compare("energy", "", pair, partial(_energy_rise, pair)))
    out.append(compare("time_order", "", pair, partial(_order, pair)))
    out.append(compare("smoothness", "", pair, partial(_roughness, pair)))
    return out


def permanence(pair: Pair, body: int) -> Measurement:
    """Frames after the context in which a body is gone though the truth shows it, is there though the truth hides it,
    or is in two pieces though the truth is in one. One that leaves over the picture's edge is not missed from then on.
    """
    clip, first = pair.clip, pair.clip.context
    true, found = pair.true.areas[first:, body], pair.found.areas[first:, body]
    whole = np.maximum(clip.silhouettes[first:, body], 1)
    should = (true >= GONE * whole) & (true >= 2 * FEWEST)
    gone = should & (found < GONE * true)
    appeared = (true < FEWEST) & (found >= GONE * whole) & (found >= 2 * FEWEST)
    for k in np.flatnonzero(gone):
        before = np.flatnonzero(pair.found.areas[: first + k, body] >= FEWEST)
        gone[k] = not (len(before) and pair.found.edge[before[-1], body] and not pair.true.edge[first + k, body])
    split = np.array(
        [pieces(pair.masks[first + k], body) and not pieces(clip.masks[first + k], body) for k in range(len(should))]
    )
    if not should.any():
        reason = Estimate.none("the body is never in sight after the context")
        return Measurement("permanence", clip.truth.names[body], reason, reason)
    wrong = gone | appeared | (split & should)
    return Measurement(
        "permanence", clip.truth.names[body], value(wrong.sum(), len(wrong)), value(0.0, len(wrong)), 0.0
    )


def pieces(mask: Labels, body: int) -> bool:
    """Whether a body's mask [H, W] has a second piece of at least GONE of the largest."""
    mine = mask == body + 1
    rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
    if not len(rows):
        return False
    mine = mine[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    _, _, stats, _ = cv2.connectedComponentsWithStats(mine.astype(np.uint8), connectivity=8)
    sizes = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return bool(len(sizes) > 1 and sizes[-2] >= max(GONE * sizes[-1], FEWEST))


def neighbours(clip: Clip) -> list[tuple[int, int]]:
    """Pairs of bodies that one view can tell apart from each other: both move in one plane that is known."""
    count = len(clip.truth.names)
    if clip.scene.name == "stable_stack":
        return [(i, i + 1) for i in range(count - 1)]
    if clip.scene.name == "u_slope" and clip.scene.parameters["shared_lane"]:
        return [(count - 2, count - 1)]
    return []


def inner_radius(clip: Clip, body: int) -> float:
    """Radius [m] of the largest sphere about a primitive's middle that is inside it."""
    shape = clip.scene.dynamic[body].shapes[0]
    if shape.kind == "box":
        return float(min(shape.size))
    if shape.kind in ("cylinder", "cone"):
        # A cone's centre of mass is a quarter of its height above the base.
        return float(min(shape.size[0], shape.size[1] / (2 if shape.kind == "cone" else 1)))
    return float(shape.size[0])


def _penetration(pair: Pair, a: int, b: int, tracks: Tracks) -> Estimate:
    """Sum of the inner radii less the distance of the centres, at its largest [m]; 0 where they stay apart."""
    clip = pair.clip
    # Of two that are in each other the nearer one hides the other: less of it must be in sight than elsewhere.
    seen = (pair.true.areas >= np.maximum(PEEPS * clip.silhouettes, FEWEST)) & (pair.found.areas >= FEWEST)
    both = np.flatnonzero((seen & ~pair.true.edge & ~pair.found.edge)[:, [a, b]].all(axis=1))
    both = both[both >= clip.context]
    if len(both) < 3:
        return Estimate.none("not in sight together", len(both))
    start = clip.truth.positions[0, a]
    normal = _normal(clip, start)
    places = [clip.lift(tracks.centroids[both, i], start, normal) for i in (a, b)]
    depth = inner_radius(clip, a) + inner_radius(clip, b) - np.linalg.norm(places[0] - places[1], axis=1)
    # The second deepest: one frame of a flickering mask is no law broken.
    return value(max(float(np.sort(depth)[-2]), 0.0), len(both))


# The plane in which a scene's bodies move, by its normal. FACING: the vertical plane that faces the camera, in which
# motion towards the camera is not seen. Gyroscopes keep energy in a spin that masks do not show: not listed.
FACING, RAMP, LANE = "facing", "ramp", "lane"
PLANES = {
    "free_fall": FACING,
    "planar_slope": RAMP,
    "u_slope": LANE,
    "stable_stack": FACING,
    "unstable_stack": FACING,
    "dominoes": FACING,
    "seesaw": LANE,
}


def _normal(clip: Clip, point: Floats) -> Floats:
    kind = PLANES[clip.scene.name]
    if kind == RAMP:
        tilt = float(clip.scene.parameters["angle"])
        return np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    return ACROSS if kind == LANE else clip.facing(point)


def _energy_rise(pair: Pair, tracks: Tracks) -> Estimate:
    """Largest rise of the translational and potential energy from one frame to any later one, over the weight [m].

    Of the bodies that are in sight most of the time. It is not the whole energy: what turns from spin into speed rises
    too, as it does in the truth, which is measured in the same way. Across a blow the energy goes evenly from what it
    was before to what it is after.
    """
    clip = pair.clip
    g = -clip.scene.gravity[2]
    masses = np.array([body.mass for body in clip.scene.dynamic])
    followed = [i for i in range(len(masses)) if pair.usable[clip.begin :, i].mean() >= FOLLOWED]
    if not followed:
        return Estimate.none("no body is in sight for most of the clip")
    total = np.zeros(len(clip))
    for i in followed:
        start = clip.truth.positions[0, i]
        places = clip.lift(tracks.centroids[:, i], start, _normal(clip, start))
        path = np.where(pair.usable[:, i, None], places, np.nan)
        where, speed = local_line(clip.times, path, half=3, degree=2, smooth=BLOW)
        head = 0.5 * np.sum(speed**2, axis=1) / g + where @ UP
        known = np.flatnonzero(np.isfinite(head))
        if len(known) < 3:
            return Estimate.none("no body can be followed")
        total += masses[i] * np.interp(np.arange(len(clip)), known, head[known])
    # Fits at the ends of a clip lean on one side only: leave them out, and single frames that flicker with them.
    after = total[clip.begin :]
    smooth = np.median(np.stack([after[:-2], after[1:-1], after[2:]]), axis=0)
    rises = smooth - np.minimum.accumulate(smooth)
    return value(float(rises.max()) / float(masses[followed].sum()), len(smooth))


def _steps(pair: Pair, tracks: Tracks) -> Floats:
    """Steps of the centroids, pixels per frame, float64 [T - 1 - begin, N, 2]; NaN where a body is out of sight."""
    begin = pair.clip.begin
    return np.diff(np.where(pair.usable[begin:, :, None], tracks.centroids[begin:], np.nan), axis=0)


def _rms(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0


def _order(pair: Pair, tracks: Tracks) -> Estimate:
    """How much more the motion in the picture is like the truth's than like that of the truth played backwards.

    The correlation of all steps with the true ones, less that with the reversed truth's where it is positive: about 1
    for the truth, 0 for other motion, -1 for the truth backwards, from its end or from the last given frame.
    """
    theirs, ours = _steps(pair, tracks), _steps(pair, pair.true)
    for steps, which in ((ours, "truth"), (theirs, "video")):
        if np.isfinite(steps).sum() < 20:
            return Estimate.none("too little is in sight in both videos")
        if _rms(steps) < pair.clip.speed(STILL):
            return Estimate.none(f"nothing moves in the {which}")
    # A cut, say from the given frame to the end of a reversed video, is one step that must not outweigh all others.
    most = np.nanmax(np.linalg.norm(ours, axis=-1))
    theirs = theirs * np.minimum(1.0, most / np.maximum(np.linalg.norm(theirs, axis=-1, keepdims=True), 1e-9))
    return value(_correlation(theirs, ours) - max(_correlation(theirs, -ours[::-1]), 0.0), len(theirs))


def _correlation(a: Floats, b: Floats) -> float:
    """Of two sets of steps of one shape, where both are known, about zero."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def _roughness(pair: Pair, tracks: Tracks) -> Estimate:
    """Third over first differences of the centroids, root mean squares: 3.2 for bodies that are anywhere at any time.

    Of the bodies that move: of one that rests, differences are those of its outline's noise.
    """
    steps = _steps(pair, tracks)
    moving = [i for i in range(steps.shape[1]) if _rms(steps[:, i]) >= pair.clip.speed(MOVES)]
    jerk, moved = _rms(np.diff(steps[:, moving], n=2, axis=0)), _rms(steps[:, moving])
    if not moving or not jerk:
        return Estimate.none("nothing moves, or not for long enough")
    return value(jerk / moved, int(np.isfinite(steps[:, moving]).sum() // 2))
