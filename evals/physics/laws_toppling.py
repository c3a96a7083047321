"""Stacks and dominoes: what falls, when, and in which order."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np

from wfm_sim.assets.physics.scene import rotation
from wfm_sim.assets.physics.solids import corners
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_model import Floats, Measurement, compare, value
from wfm_sim.evals.physics.laws_tracks import PEEPS, Clip, Pair, Tracks

MOVED = 0.1  # m: a piece that is further than this from where it may stand has fallen
LEANS = 20.0  # degrees: a domino that leans further is falling
SEEN = 0.5  # of the frames must be usable


def stack(pair: Pair) -> list[Measurement]:
    """Whether the stack stands until the end of the clip and, where the truth falls, when it begins to."""
    clip = pair.clip
    out = [compare("stands", "", pair, partial(_stands, pair), float(clip.scene.parameters["stands"]))]
    if out[0].truth.value == 0.0:
        out.append(compare("fall_time", "", pair, partial(_fall, pair)))
    return out


def settled(clip: Clip) -> Floats:
    """Where the pieces of a stack come to rest when they stand: the start without the gaps between them. [N, 3]."""
    out = clip.truth.positions[0].copy()
    below, sunk = 0.0, 0.0  # top of the piece below at the start; the gaps so far
    for i, body in enumerate(clip.scene.dynamic):
        z = (rotation(clip.truth.quaternions[0, i]).apply(corners(body.shapes[0])) + clip.truth.positions[0, i])[:, 2]
        sunk += float(z.min()) - below
        below = float(z.max())
        out[i, 2] -= sunk
    return out


def displacements(pair: Pair, tracks: Tracks) -> Floats:
    """Metres from where each piece may stand, in its vertical plane that faces the camera: float64 [T, N] (NaN)."""
    clip, shown = pair.clip, pair.shown(PEEPS)
    out = np.full(shown.shape, np.nan)
    for i, rest in enumerate(settled(clip)):
        start = clip.truth.positions[0, i]
        places = clip.lift(tracks.centroids[:, i], start, clip.facing(start))
        # Part of a piece may be hidden from the first frame on: what counts is where the centroid moves.
        places = places + (start - places[0] if np.isfinite(places[0]).all() else 0.0)
        nearest = np.clip(places[:, 2], rest[2], start[2])
        out[:, i] = np.hypot(np.linalg.norm((places - start)[:, :2], axis=1), places[:, 2] - nearest)
    return np.where(shown, out, np.nan)


def _stands(pair: Pair, tracks: Tracks) -> Estimate:
    clip = pair.clip
    if not np.any(pair.shown(PEEPS)[clip.context :].mean(axis=0) >= SEEN):
        return Estimate.none("no piece is in sight for half of the frames")
    stands = not np.isfinite(_fall_at(pair, tracks))
    # Poses say what the true stack does; a camera from which that is hidden tells nothing about the other video either.
    away = np.linalg.norm(clip.truth.positions[: len(clip)] - settled(clip), axis=-1)
    if tracks is pair.true and stands != bool(np.all(away < MOVED)):
        return Estimate.none("this camera does not see the fall")
    return value(float(stands))


def _fall(pair: Pair, tracks: Tracks) -> Estimate:
    clip = pair.clip
    when = _fall_at(pair, tracks)
    if when < clip.times[clip.begin]:
        return Estimate.none("it has begun to fall before the prediction begins")
    return value(min(when, float(clip.times[-1]) + clip.step))


def _fall_at(pair: Pair, tracks: Tracks) -> float:
    """Time at which the first piece is further than MOVED from its place for two frames [s]; inf for never."""
    far = displacements(pair, tracks)
    return min((first_crossing(pair.clip.times, far[:, i], MOVED) for i in range(far.shape[1])), default=np.inf)


def first_crossing(times: Floats, values: Floats, level: float) -> float:
    """When `values` [T] (NaN: unknown) first passes `level` upwards and stays above for two known frames; or inf."""
    known = np.flatnonzero(np.isfinite(values))
    times, values = times[known], values[known]
    above = values > level
    for k in range(len(values) - 1):
        if above[k] and above[k + 1]:
            if k == 0:
                return float(times[0])
            part = (level - values[k - 1]) / (values[k] - values[k - 1])
            return float(times[k - 1] + part * (times[k] - times[k - 1]))
    return float("inf")


def dominoes(pair: Pair) -> list[Measurement]:
    """When each domino that is in sight topples, and whether one topples before the one that pushes it."""
    clip = pair.clip
    count, ends = len(clip.truth.names), float(clip.times[-1]) + clip.step
    found, true = ([_topples(pair, t, i) for i in range(count)] for t in (pair.found, pair.true))
    out = []
    for i, name in enumerate(clip.truth.names):
        if true[i].value is not None and true[i].value < clip.times[clip.begin]:
            continue  # it was shown
        out.append(Measurement("topple_time", name, found[i], true[i]))
    out.append(Measurement("topple_order", "", _inversion(found, ends), _inversion(true, ends), 0.0))
    return out


def _inversion(times: list[Estimate], ends: float) -> Estimate:
    """By how many seconds a domino topples before its predecessor, at most; 0 when the order is kept."""
    known = [(a.value, b.value) for a, b in pairwise(times)]
    gaps = [a - b for a, b in known if a is not None and b is not None and b < ends]
    if not gaps:
        return Estimate.none("no two neighbours are in sight of which the second topples")
    return value(max(*gaps, 0.0), len(gaps))


def _topples(pair: Pair, tracks: Tracks, body: int) -> Estimate:
    """Time at which it leans by LEANS [s]; the end of the clip when it does not."""
    clip = pair.clip
    if pair.usable[clip.context :, body].mean() < SEEN:
        return Estimate.none("hidden in more than half of the frames")
    angles = np.where(pair.usable[:, body], leans(clip, tracks, body), np.nan)
    return value(min(first_crossing(clip.times, angles, LEANS), float(clip.times[-1]) + clip.step))


def leans(clip: Clip, tracks: Tracks, body: int) -> Floats:
    """How far a domino leans, float64 [T], degrees: it turns about its lower front edge, which moves its centroid.

    The centre's path under such a turn is projected into the picture; the angle is that of the nearest point. Where
    a neighbour cuts the mask of the first frame, the whole path is shifted by as much.
    """
    thick, _, high = clip.scene.dynamic[body].shapes[0].size
    start, turn = clip.truth.positions[0, body], rotation(clip.truth.quaternions[0, body])
    forward, up, across = turn.apply([1.0, 0.0, 0.0]), turn.apply([0.0, 0.0, 1.0]), turn.apply([0.0, 1.0, 0.0])
    edge = start + thick * forward - high * up
    angles = np.arange(-20.0, 91.0)
    from_edge = high * up - thick * forward
    swung = np.stack([type(turn).from_rotvec(np.deg2rad(a) * across).apply(from_edge) for a in angles])
    path = clip.project(edge + swung)
    shown = tracks.centroids[0, body]
    path = path + (shown - clip.project(start) if np.isfinite(shown).all() else 0.0)
    gaps = np.linalg.norm(tracks.centroids[:, body, None] - path, axis=-1)
    out = np.full(len(gaps), np.nan)
    there = np.isfinite(gaps).all(axis=1)
    out[there] = angles[gaps[there].argmin(axis=1)]
    return out
