"""Stacks that stand, and stacks that fall."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.draft import GRAVITY, Draft, uniform
from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import Body, quaternion, vector
from wfm_sim.assets.physics.solids import Kind, solid, volume

DENSITY, FRICTION = 400.0, 0.7
VIEWS = Viewpoints(azimuths=(-90.0, 0.0, 50.0, 150.0), elevations=(10.0, 16.0, 24.0, 34.0))


def stable_stack(rng: np.random.Generator, paint: Paint) -> Draft:
    """Three to six things on each other, let go a centimetre or two apart: they clap together and stand.

    `stands`: 1. `margin`: how far inside its support the centre of mass of what is above stays at every joint, as a
    part of the support's half width (1: in the middle, 0: at the edge).
    """
    return _stack(rng, paint, topples=False)


def unstable_stack(rng: np.random.Generator, paint: Paint) -> Draft:
    """The same with one joint where what is above has its centre of mass beyond the edge: it tips over there.

    `stands`: 0. `margin` < 0. `joint`: the index of the body that what tips stands on. `tilt_x`, `tilt_y`: the
    direction in which it tips.
    """
    return _stack(rng, paint, topples=True)


def _stack(rng: np.random.Generator, paint: Paint, topples: bool) -> Draft:
    count = int(rng.integers(3, 7))
    joint = int(rng.integers(0, count - 1)) if topples else -1
    pieces = [_piece(rng, i, count) for i in range(count)]
    heights = np.array([size[2] if kind == "box" else size[1] for kind, size in pieces])
    masses = np.array([DENSITY * volume(kind, size) for kind, size in pieces])
    over = uniform(rng, 0.12, 0.35)
    yaws = rng.uniform(-0.25, 0.25, count)
    heading = float(rng.choice([0.0, np.pi / 2, np.pi, 1.5 * np.pi]) + (yaws[joint] if topples else 0.0))
    tip = np.array([np.cos(heading), np.sin(heading)])
    # From the top down: where the centre of mass of all above lies, relative to the piece that carries it.
    places = np.zeros((count, 2))
    margin = 1.0
    for i in range(count - 2, -1, -1):
        above = slice(i + 1, count)
        carried = masses[above] @ places[above] / masses[above].sum()
        kind, size = pieces[i]
        half = min(size[:2]) if kind == "box" else size[0]
        # What rests on it touches only as far as the smaller of the two reaches.
        upper_kind, upper = pieces[i + 1]
        half = min(half, min(upper[:2]) if upper_kind == "box" else upper[0])
        if i == joint:
            wide = size[0 if abs(np.cos(heading - yaws[i])) > 0.5 else 1] if kind == "box" else size[0]
            shift = tip * wide * (1 + over)
        else:
            part, direction = uniform(rng, 0.0, 0.3), uniform(rng, -np.pi, np.pi)
            shift = part * half * np.array([np.cos(direction), np.sin(direction)])
            margin = min(margin, 1 - part)
        places[above] += shift - carried
    places -= places.mean(axis=0)
    bodies: list[Body] = []
    bottom = 0.0
    for i, (kind, size) in enumerate(pieces):
        bottom += uniform(rng, 0.005, 0.02) * (not topples or i != joint + 1)
        offset = heights[i] / 2 if kind == "cone" else heights[i]  # height of the centre of mass
        bodies.append(
            solid(
                f"{kind}{i}",
                kind,
                size,
                paint.thing(),
                vector([*places[i], bottom + offset]),
                quaternion(Rotation.from_euler("z", yaws[i])),
                DENSITY,
                FRICTION,
            )
        )
        bottom += 2 * heights[i]
    parameters: dict[str, float | int | str] = {
        "g": GRAVITY,
        "count": count,
        "stands": int(not topples),
        "margin": float(-over if topples else margin),
        "friction": FRICTION,
    }
    if topples:
        parameters |= {"joint": joint, "tilt_x": float(tip[0]), "tilt_y": float(tip[1])}
    return Draft(bodies, parameters, views=VIEWS, floor=(0.7, 1.0))


def _piece(rng: np.random.Generator, index: int, count: int) -> tuple[Kind, tuple[float, ...]]:
    """A flat thing, smaller the higher it lies; the last may be a cone."""
    shrink = 1.0 - 0.07 * index
    draw = rng.uniform()
    if index == count - 1 and draw < 0.3:
        return "cone", (uniform(rng, 0.15, 0.19) * shrink, uniform(rng, 0.12, 0.16))
    if draw < 0.65:
        wide = rng.uniform(0.16, 0.24, 2) * shrink
        return "box", (float(wide[0]), float(wide[1]), uniform(rng, 0.08, 0.14))
    return "cylinder", (uniform(rng, 0.17, 0.22) * shrink, uniform(rng, 0.08, 0.13))
