"""The tilted plane and the half-pipe. In both, a body's centre moves in a plane that is known from the scene."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_model import Floats, Measurement, compare, fitted, value
from wfm_sim.evals.physics.laws_tracks import Clip, Pair, Tracks, local_line

LEAST_FRAMES = 6
LAST = 6  # frames at the end of which the energy is the median
ACROSS = np.array([0.0, 1.0, 0.0])


def planar_slope(pair: Pair) -> list[Measurement]:
    """Acceleration of every body and, of the boxes that slide, the coefficient of friction that follows from it."""
    clip, parameters = pair.clip, pair.clip.scene.parameters
    tilt, g = float(parameters["angle"]), float(parameters["g"])
    out = []
    for i, name in enumerate(clip.truth.names):
        leaves = float(parameters[f"ramp_time_{i}"])
        stop = min(len(clip), int(np.floor(leaves / clip.step))) if leaves else len(clip)
        frames = pair.frames(i, clip.begin, stop)
        expected = float(parameters[f"acceleration_{i}"])
        measured = compare(
            "slope_acceleration",
            name,
            pair,
            partial(_acceleration, clip, i, frames),
            expected,
        )
        out.append(measured)
        if parameters[f"kind_{i}"] == "box":
            found, true = (friction(a, tilt, g, sticks=not expected) for a in (measured.found, measured.truth))
            out.append(Measurement("friction", name, found, true, float(parameters[f"friction_{i}"])))
    return out


def _acceleration(clip: Clip, body: int, frames: NDArray[np.intp], tracks: Tracks) -> Estimate:
    """Down the slope [m/s2]: the parabola through the centroids, each on the plane through the start along the ramp."""
    if len(frames) < LEAST_FRAMES:
        return Estimate.none(f"{len(frames)} frames on the ramp in sight, {LEAST_FRAMES} are needed", len(frames))
    tilt = float(clip.scene.parameters["angle"])
    down, normal = np.array([np.cos(tilt), 0.0, -np.sin(tilt)]), np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    along = clip.lift(tracks.centroids[frames, body], clip.truth.positions[0, body], normal) @ down
    t = (frames - clip.begin) * clip.step
    return fitted(np.stack([np.ones_like(t), t, 0.5 * t**2], axis=1), along, index=2)


def friction(acceleration: Estimate, tilt: float, g: float, sticks: bool) -> Estimate:
    """Coulomb's coefficient of a box that slides with an acceleration: (g sin t - a) / (g cos t)."""
    if acceleration.value is None:
        return acceleration
    if sticks:
        return Estimate.none("a box that sticks shows only that its friction is above tan(angle)", acceleration.n)
    numbers = (acceleration.value, acceleration.high, acceleration.low)
    mu, low, high = (None if a is None else float((g * np.sin(tilt) - a) / (g * np.cos(tilt))) for a in numbers)
    return Estimate(mu, low, high, acceleration.n)


def u_slope(pair: Pair) -> list[Measurement]:
    """When every body passes the bottom, and what part of its energy it has left after that."""
    clip, parameters = pair.clip, pair.clip.scene.parameters
    count = len(clip.truth.names)
    out = []
    for i, name in enumerate(clip.truth.names):
        if parameters["shared_lane"] and i >= count - 2:
            continue  # these two hit each other
        passes = float(parameters[f"bottom_time_{i}"])
        frames = pair.frames(i, clip.begin)
        out.append(compare("bottom_time", name, pair, partial(_passage, clip, i, frames), passes))
        out.append(compare("energy_kept", name, pair, partial(_kept, pair, i), 1.0))
    return out


def lane(clip: Clip, body: int, tracks: Tracks) -> Floats:
    """Where the centre is in its lane, world points float64 [T, 3]: y is that of the start."""
    return clip.lift(tracks.centroids[:, body], clip.truth.positions[0, body], ACROSS)


def _passage(clip: Clip, body: int, frames: NDArray[np.intp], tracks: Tracks) -> Estimate:
    """First time at which x changes its sign [s]; the end of the clip where it does not."""
    x = lane(clip, body, tracks)[frames, 0] * np.sign(clip.truth.positions[0, body, 0])
    if len(frames) < LEAST_FRAMES or clip.truth.positions[clip.begin, body, 0] * clip.truth.positions[0, body, 0] <= 0:
        return Estimate.none("it passes the bottom before the prediction begins, or out of sight", len(frames))
    beyond = np.flatnonzero(x <= 0)
    if not len(beyond):
        return value(clip.times[-1] + clip.step, len(frames))
    k = int(beyond[0])
    if k == 0:
        return value(clip.times[frames[0]], len(frames))
    part = x[k - 1] / (x[k - 1] - x[k])
    return value((1 - part) * clip.times[frames[k - 1]] + part * clip.times[frames[k]], len(frames))


def _kept(pair: Pair, body: int, tracks: Tracks) -> Estimate:
    """Energy in the last frames (the median; rolling included) over that at the start.

    At a turning point this is the ratio of the heights above the bottom; between them the speed counts too.
    """
    clip, parameters = pair.clip, pair.clip.scene.parameters
    rest = float(parameters["radius"]) - float(parameters[f"radius_{body}"])
    g, factor, start = (float(parameters[key]) for key in ("g", f"factor_{body}", f"start_{body}"))
    places = np.where(pair.usable[:, body, None], lane(clip, body, tracks)[:, [0, 2]], np.nan)
    where, speed = local_line(clip.times, places, half=3, degree=2)
    bottom = float(clip.truth.positions[0, body, 2]) - rest * (1 - np.cos(start))
    energy = 0.5 * (1 + factor) * np.sum(speed**2, axis=1) + g * (where[:, 1] - bottom)
    last = energy[max(len(clip) - LAST, clip.context) :]
    if np.isfinite(last).sum() < LAST / 2:
        return Estimate.none("out of sight at the end", int(np.isfinite(last).sum()))
    return value(float(np.nanmedian(last)) / (g * rest * (1 - np.cos(start))), int(np.isfinite(last).sum()))
