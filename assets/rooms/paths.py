"""Walks through a room: smooth, at eye or table height, never through furniture, always with parallax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.rooms.room import Room
from wfm_sim.errors import UserError

Array = NDArray[np.float64]
CLEARANCE = 0.3  # metres between the camera and everything else
VIEW = (1.0, 4.0)  # metres that a gaze reaches
MAX_STEP, MAX_TURN = 0.18, 0.18  # metres and radians per frame, below wfm_sim.camera.MOTION_HIGH
KNOT_SECONDS = 1.2  # between the places and targets that a walk is led along
TRIES = 400


def walk(room: Room, seed: int, frames: int = 33, fps: float = 10.0) -> Array:
    """A walk, float64 [T, 4, 4]: camera to world, OpenCV axes.

    The place follows a spline through free places, the gaze one through points worth looking at (half of the time it
    stays on one, half of the time it moves on); the horizon sways by two degrees. Every two frames that are a second
    apart lie at least 10 cm apart, and the middle of the picture is 1 to 4 m away in three of four frames and never
    closer than half a metre.

    Raises:
        UserError: less than one frame, a rate that is not positive, or no walk found (a room without free floor).
    """
    if frames < 1 or fps <= 0:
        raise UserError(f"a walk of {frames} frames at {fps} frames per second; expected at least 1 and a rate above 0")
    rng = np.random.default_rng([int(seed), int(room.seed), 6002])
    times = np.arange(frames) / fps
    for attempt in range(TRIES):
        speed = rng.uniform(0.25, 1.0) * max(0.3, 1 - attempt / TRIES)
        poses = _attempt(room, rng, times, speed)
        if poses is not None and _good(room, poses, fps):
            return poses
    raise UserError(f"room {room.seed}: found no walk of {frames} frames at {fps} frames per second")


def _attempt(room: Room, rng: np.random.Generator, times: Array, speed: float) -> Array | None:
    places = _places(room, rng, max(2, int(np.ceil(times[-1] / KNOT_SECONDS)) + 1), speed * KNOT_SECONDS)
    if places is None:
        return None
    position = _spline(places, times)
    targets = _targets(room, rng, places)
    if targets is None:
        return None
    gaze = _spline(targets, times) - position
    roll = np.radians(2) * np.sin(times * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
    return look_at(position, gaze, roll)


def _spline(knots: Array, times: Array) -> Array:
    from scipy.interpolate import CubicSpline

    return np.asarray(CubicSpline(np.arange(len(knots)) * KNOT_SECONDS, knots, bc_type="natural")(times))


def _places(room: Room, rng: np.random.Generator, count: int, stride: float) -> Array | None:
    """Free places [count, 3], a stride apart, that turn off gently."""
    half = np.array(room.size[:2]) / 2 - CLEARANCE
    low, high = (1.2, 1.7) if rng.uniform() < 0.6 else (0.75, 1.2)
    drift = stride * rng.uniform(0.0, 0.35)  # up and down
    starts = np.column_stack((rng.uniform(-half, half, (64, 2)), rng.uniform(low, high, 64)))
    free = starts[room.clearance(starts) > CLEARANCE]
    if not len(free):
        return None
    places, heading = [free[0]], rng.uniform(-np.pi, np.pi)
    for _ in range(count - 1):
        turn = rng.normal(0, 0.5, 24) * np.linspace(1, 4, 24)
        reach = stride * rng.uniform(0.6, 1.2, 24)
        way = np.column_stack((np.cos(heading + turn), np.sin(heading + turn), np.zeros(24)))
        there = places[-1] + way * reach[:, None]
        there[:, 2] = np.clip(there[:, 2] + rng.uniform(-drift, drift, 24), low - 0.1, high + 0.1)
        between = places[-1] + (there - places[-1])[:, None] * np.linspace(0.25, 1, 4)[None, :, None]
        good = np.flatnonzero((room.clearance(between.reshape(-1, 3)).reshape(24, 4) > CLEARANCE).all(axis=1))
        if not len(good):
            return None
        places.append(there[good[0]])
        heading += turn[good[0]]
    return np.array(places)


def _targets(room: Room, rng: np.random.Generator, places: Array) -> Array | None:
    """What is looked at from each place, [count, 3]."""
    steady = rng.uniform() < 0.5
    targets: list[Array] = []
    for place in places:
        points = room.interest + rng.normal(0, 0.15, room.interest.shape)
        way = points - place
        far = np.linalg.norm(way, axis=1)
        flat = np.abs(way[:, 2]) / np.maximum(far, 1e-6) < 0.6  # not straight down
        good = flat & (far > VIEW[0]) & (far < VIEW[1] + 0.8)
        if targets:
            before = targets[-1] - place
            if steady and VIEW[0] < np.linalg.norm(before):
                targets.append(targets[-1])
                continue
            near = way @ before / np.maximum(far * np.linalg.norm(before), 1e-6)
            good &= near > np.cos(1.0)
        if not good.any():
            if not targets:
                return None
            targets.append(targets[-1])
            continue
        targets.append(points[rng.choice(np.flatnonzero(good))])
    return np.array(targets)


def look_at(position: Array, gaze: Array, roll: Array | float = 0.0) -> Array:
    """Cameras [..., 4, 4] at `position` [..., 3] that look along `gaze` [..., 3], upright but for `roll` [rad]."""
    forward = gaze / np.linalg.norm(gaze, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    c, s = np.asarray(c)[..., None], np.asarray(s)[..., None]
    out = np.zeros((*position.shape[:-1], 4, 4))
    out[..., :3, 0], out[..., :3, 1] = c * right + s * down, c * down - s * right
    out[..., :3, 2], out[..., :3, 3], out[..., 3, 3] = forward, position, 1
    return out


def _good(room: Room, poses: Array, fps: float) -> bool:
    position = poses[:, :3, 3]
    if (room.clearance(position) < CLEARANCE - 0.05).any():
        return False
    if position[:, 2].min() < 0.5 or position[:, 2].max() > room.size[2] - 0.3:
        return False
    seen = room.distance_along(position, poses[:, :3, 2])
    if seen.min() < 0.5 or ((seen > VIEW[0]) & (seen < VIEW[1])).mean() < 0.75:
        return False
    if len(poses) == 1:
        return True
    step = np.linalg.norm(np.diff(position, axis=0), axis=1)
    turn = np.einsum("nij,nij->n", poses[1:, :3, :3], poses[:-1, :3, :3])
    if step.max() > MAX_STEP or np.arccos(np.clip((turn - 1) / 2, -1, 1)).max() > MAX_TURN:
        return False
    second = round(min(fps, len(poses) - 1))
    apart = np.linalg.norm(position[second:] - position[:-second], axis=1)
    return bool(apart.min() > 0.1 * min(1.0, second / fps))
