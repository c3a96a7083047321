"""The seesaw's plank and the gyroscope's precession."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics.scene import rotation
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_model import Floats, Measurement, compare, value
from wfm_sim.evals.physics.laws_tracks import Clip, Pair, Tracks, local_line

LAST = 5  # frames at the end over which the tilt is averaged
RATES = np.arange(-12.0, 12.01, 0.1)  # rad/s: precessions that are tried


def seesaw(pair: Pair) -> list[Measurement]:
    """Rate and last tilt of the plank, positive where the end at +x goes down."""
    body = pair.clip.truth.names.index("plank")
    return [
        compare("tilt_rate", "plank", pair, partial(_rate, pair, body)),
        compare("tilt", "plank", pair, partial(_tilt, pair, body)),
    ]


def tilts(pair: Pair, body: int, tracks: Tracks) -> Floats:
    """Tilt of the plank about +y, float64 [T], radians, from the longest axis of its mask; NaN where it is hidden.

    The plank's axis, at any tilt, is seen as a line through the projected hinge: the tilt whose line has the mask's
    direction is the answer.
    """
    clip = pair.clip
    half = clip.scene.body("plank").shapes[0].size[0]
    centre = clip.truth.positions[0, body]
    angles = np.deg2rad(np.arange(-45.0, 45.01, 0.25))
    along = half * np.stack([np.cos(angles), np.zeros_like(angles), -np.sin(angles)], axis=1)
    seen = clip.project(centre + along) - clip.project(centre - along)
    lines = np.arctan2(seen[:, 1], seen[:, 0])
    axes = np.where(pair.usable[:, body], tracks.axes[:, body], np.nan)
    apart = np.abs((axes[:, None] - lines + np.pi / 2) % np.pi - np.pi / 2)
    out = np.full(len(axes), np.nan)
    there = np.isfinite(axes)
    out[there] = angles[apart[there].argmin(axis=1)]
    return out


def _rate(pair: Pair, body: int, tracks: Tracks) -> Estimate:
    clip = pair.clip
    _, slopes = local_line(clip.times, tilts(pair, body, tracks))
    slopes = slopes[clip.begin :]
    known = np.flatnonzero(np.isfinite(slopes))
    if len(known) < len(slopes) / 2:
        return Estimate.none("the plank is in sight in less than half of the frames", len(known))
    return value(slopes[known][np.argmax(np.abs(slopes[known]))], len(known))


def _tilt(pair: Pair, body: int, tracks: Tracks) -> Estimate:
    last = tilts(pair, body, tracks)[max(pair.clip.context, len(pair.clip) - LAST) :]
    known = last[np.isfinite(last)]
    if len(known) < 2:
        return Estimate.none("the plank is out of sight at the end", len(known))
    return value(np.rad2deg(np.median(known)), len(known))


def gyroscope(pair: Pair) -> list[Measurement]:
    """Precession of every top."""
    clip = pair.clip
    out = []
    for i, name in enumerate(clip.truth.names):
        frames = pair.frames(i, clip.begin, fewest=0.4)
        expected = float(clip.scene.parameters[f"precession_{i}"])
        out.append(compare("precession", name, pair, partial(_precession, clip, i, frames), expected))
    return out


def _precession(clip: Clip, body: int, frames: NDArray[np.intp], tracks: Tracks) -> Estimate:
    """Rate [rad/s] about +z at which the centre of a top goes round above its pivot, with the interval of the fit.

    At a constant tilt the centre is at angle p0 + W t on a known circle, p0 is known from the last given frame. W is
    what brings the circle's points, seen by the camera, nearest to the centroids of all frames; a constant shift in the
    picture is left free for what the silhouette's middle differs from the centre of mass.
    """
    if len(frames) < 8:
        return Estimate.none("the top is in sight in too few frames", len(frames))
    from scipy.optimize import least_squares

    pivot = np.array(clip.scene.joints[body].anchor)
    arm = float(clip.scene.parameters[f"arm_{body}"])
    axis = rotation(clip.truth.quaternions[clip.begin, body]).apply([0.0, 0.0, 1.0])
    t = (frames - clip.begin) * clip.step
    shown = tracks.centroids[frames, body]

    def residuals(unknown: Floats) -> Floats:
        rate, shift = unknown[0], unknown[1:]
        turn = rate * t
        x = np.cos(turn) * axis[0] - np.sin(turn) * axis[1]
        y = np.sin(turn) * axis[0] + np.cos(turn) * axis[1]
        points = pivot + arm * np.stack([x, y, np.full_like(x, axis[2])], axis=1)
        return np.asarray(clip.project(points) + shift - shown).ravel()

    def misfit(rate: float) -> float:
        gaps = residuals(np.array([rate, 0.0, 0.0])).reshape(-1, 2)
        return float(np.sum((gaps - gaps.mean(axis=0)) ** 2))

    start = RATES[int(np.argmin([misfit(rate) for rate in RATES]))]
    fit = least_squares(residuals, np.array([start, 0.0, 0.0]))
    freedom = max(len(fit.fun) - 3, 1)
    error = float(np.sqrt(np.linalg.pinv(fit.jac.T @ fit.jac)[0, 0] * 2 * fit.cost / freedom))
    rate = float(fit.x[0])
    return Estimate(rate, rate - 1.96 * error, rate + 1.96 * error, len(frames))
