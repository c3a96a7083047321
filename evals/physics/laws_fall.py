"""Free fall: the acceleration in the air, and the bounce."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_model import Floats, Measurement, compare, fitted, value
from wfm_sim.evals.physics.laws_tracks import Clip, Pair, Tracks

BALLISTIC = 0.2  # m/s: a body whose vertical speed differs from free fall's by more has touched something
LEAST_FRAMES = 5
UP = np.array([0.0, 0.0, 1.0])


def free_fall(pair: Pair) -> list[Measurement]:
    """g of every body, and the restitution of the spheres that reach the floor within the clip."""
    clip = pair.clip
    out = []
    for i, name in enumerate(clip.truth.names):
        contacts = contact_frames(clip, i)
        air = pair.frames(i, 0, contacts[0] if contacts else len(clip))
        out.append(compare("gravity", name, pair, partial(gravity, clip, i, air), -clip.scene.gravity[2]))
        if contacts and name.startswith("sphere") and contacts[0] >= clip.context:
            expected = float(clip.scene.parameters[f"restitution_{i}"])
            out.append(compare("restitution", name, pair, partial(restitution, pair, i, contacts), expected))
    return out


def contact_frames(clip: Clip, body: int) -> list[int]:
    """First frame after each contact of the true body: where its vertical speed is not what free fall made of it.

    Of contacts that last, or that follow each other from frame to frame, the first.
    """
    speed = clip.truth.linear[: len(clip), body, 2]
    touched = np.abs(np.diff(speed) - clip.scene.gravity[2] * clip.step) > BALLISTIC
    begins = touched & ~np.concatenate([[False], touched[:-1]])
    return [int(frame) + 1 for frame in np.flatnonzero(begins)]


def gravity(clip: Clip, body: int, frames: NDArray[np.intp], tracks: Tracks) -> Estimate:
    """The downward acceleration [m/s2] after the context that explains a body's path in the picture best.

    A point that falls with the true g as long as the frames are the true ones, and with the g that is sought from there
    on, without a jump of its velocity, must lie on the rays through the centroids of the known camera. That is linear
    in what is sought: g, and velocity and start across the picture and upwards. Towards the camera, where one view
    says little, the body keeps its true place and its true (small) velocity of the start.
    """
    own = int(np.sum(frames > clip.begin))
    if own < LEAST_FRAMES - 1 or len(frames) < LEAST_FRAMES:
        return Estimate.none(
            f"{own} frames of free fall after the context in sight, {LEAST_FRAMES - 1} are needed", own
        )
    t, given = frames * clip.step, clip.begin * clip.step
    after = np.maximum(t - given, 0.0)
    start, velocity = clip.truth.positions[0, body], clip.truth.linear[0, body]
    away = clip.facing(start)
    side = np.cross(UP, away)
    R = clip.world_to_camera[:3, :3]
    fallen = 0.5 * clip.scene.gravity[2] * (t**2 - after**2)
    known = (start + np.outer(t, away * (velocity @ away)) + np.outer(fallen, UP)) @ R.T + clip.world_to_camera[:3, 3]
    rays = (tracks.centroids[frames, body] - clip.K[:2, 2]) / clip.K[[0, 1], [0, 1]]
    bases = [R @ axis for axis in (side, UP, side, UP, UP)]
    growth = [np.ones_like(t), np.ones_like(t), t, t, -0.5 * after**2]
    rows, targets = [], []
    for k in (0, 1):  # x / z = ray, times z: linear; in pixels at the first depth
        scale = clip.K[k, k] / known[0, 2]
        columns = [g * (b[k] - rays[:, k] * b[2]) for b, g in zip(bases, growth, strict=True)]
        rows.append(scale * np.stack(columns, axis=1))
        targets.append(scale * (rays[:, k] * known[:, 2] - known[:, k]))
    return fitted(np.concatenate(rows), np.concatenate(targets), index=4)


def heights(clip: Clip, body: int, tracks: Tracks) -> Floats:
    """Height [m] of the centre, float64 [T], on the vertical plane through its true start that faces the camera."""
    start = clip.truth.positions[0, body]
    return np.asarray(clip.lift(tracks.centroids[:, body], start, clip.facing(start))[:, 2])


def restitution(pair: Pair, body: int, contacts: list[int], tracks: Tracks) -> Estimate:
    """A sphere's speed after its first bounce over that before, from the parabolas of g on either side of it.

    `contacts`: frames after each contact of the true sphere; the bounce is looked for within four frames of the first.
    """
    clip = pair.clip
    g, radius = -clip.scene.gravity[2], float(clip.scene.dynamic[body].shapes[0].size[0])
    first, second = contacts[0], contacts[1] if len(contacts) > 1 else len(clip)
    if second - first < 5:
        return Estimate.none("the bounce is too low, or too late, to be measured")
    z = np.where(pair.usable[:, body], heights(clip, body, tracks), np.nan)
    window = np.arange(max(first - 4, 3), min(first + 5, len(clip) - 3))
    if not len(window) or not np.isfinite(z[window]).any():
        return Estimate.none("the body is out of sight when it bounces")
    bounce = int(window[np.nanargmin(z[window])])
    span = min(5, second - first - 1)
    speeds = []
    for frames in (np.arange(max(bounce - 5, 0), bounce), np.arange(bounce + 1, min(bounce + 1 + span, len(clip)))):
        frames = frames[np.isfinite(z[frames])]
        if len(frames) < 3:
            return Estimate.none("too few frames on one side of the bounce", len(frames))
        t = clip.times[frames] - clip.times[bounce]
        slope, start = np.polyfit(t, z[frames] + 0.5 * g * t**2, 1)
        # z = start + slope t - g t^2 / 2 passes the height of the contact with this speed:
        speeds.append(float(np.sqrt(max(slope**2 + 2 * g * (start - radius), 0.0))))
    if speeds[0] < 0.5:
        return Estimate.none("the body does not come down")
    return value(speeds[1] / speeds[0])
