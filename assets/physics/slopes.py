"""The tilted plane and the U-shaped slope: sliding and rolling, with their analytic accelerations."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import ellipk

from wfm_sim.assets.physics.draft import GRAVITY, Draft, uniform
from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import Body, Shape, quaternion, vector
from wfm_sim.assets.physics.solids import Kind, fixed, solid

ACROSS = Rotation.from_euler("x", 90, degrees=True)  # lays a cylinder's axis along y


def planar_slope(rng: np.random.Generator, paint: Paint) -> Draft:
    """Two to four things on a ramp, each in its lane: boxes slide (some stick), the round ones roll.

    Analytic, down the slope of `angle` t [rad]: a sliding box g (sin t - mu cos t) with mu its `friction_i`, a box that
    sticks (mu > tan t) 0, a body that rolls without slipping g sin t / (1 + I / (m r^2)); `acceleration_i` [m/s2],
    valid until body i leaves the ramp at `ramp_time_i` [s] (0: never). Down the slope is (cos t, 0, -sin t).
    """
    angle = np.deg2rad(uniform(rng, 20.0, 32.0))
    half_length, thick, lane = 1.55, 0.05, 0.5
    count = int(rng.integers(2, 5))
    half_width = lane * count / 2 + 0.04
    tilt = Rotation.from_euler("y", angle)
    # The ramp's upper face meets the floor at its lower end.
    centre = np.array([0.0, 0.0, 0.0]) - tilt.apply([half_length, 0.0, thick])
    bodies: list[Body] = [_ramp(centre, tilt, (half_length, half_width, thick), paint.furniture())]
    parameters: dict[str, float | int | str] = {"g": GRAVITY, "angle": float(angle), "count": count}
    # No cylinders: the line contact of PhysX' costs them some 3 % of their acceleration.
    kinds = list(rng.permutation(["box", "sphere", "capsule", str(rng.choice(["box", "capsule", "sphere"]))]))
    for i in range(count):
        kind = str(kinds[i])
        size, reach, factor = _slope_size(rng, kind)
        start = uniform(rng, reach + 0.05, reach + 0.45)
        friction = uniform(rng, 0.5, 0.8)
        if kind == "box":
            friction = float(np.tan(angle)) * (
                uniform(rng, 1.5, 1.8) if rng.uniform() < 0.2 else uniform(rng, 0.1, 0.6)
            )
        height = size[2] if kind == "box" else size[0]
        local = [-half_length + start, (i - (count - 1) / 2) * lane, thick + height]
        turn = tilt if kind == "box" else tilt * ACROSS
        bodies.append(
            solid(
                f"{kind}{i}",
                kind,  # type: ignore[arg-type]
                size,
                paint.thing(),
                vector(centre + tilt.apply(local)),
                quaternion(turn),
                density=uniform(rng, 200.0, 800.0),
                friction=friction,
            )
        )
        pull = GRAVITY * np.sin(angle)
        if kind == "box":
            acceleration = max(0.0, pull - friction * GRAVITY * np.cos(angle))
        else:
            acceleration = pull / (1 + factor)
        path = 2 * half_length - start - (size[0] if kind == "box" else 0.0)
        parameters |= {
            f"kind_{i}": kind,
            f"friction_{i}": friction,
            f"acceleration_{i}": float(acceleration),
            f"ramp_time_{i}": float(np.sqrt(2 * path / acceleration)) if acceleration else 0.0,
        }
    views = Viewpoints(azimuths=(-72.0, -35.0, 35.0, 75.0), elevations=(26.0, 30.0, 34.0, 42.0))
    return Draft(bodies, parameters, views=views, floor=(0.4, 1.0))


def _ramp(centre: np.ndarray, tilt: Rotation, half: tuple[float, float, float], material: str) -> Body:
    """A plank on two posts. Its friction is 0, so that of whatever lies on it counts."""
    plank = Shape("box", half, material, vector(centre), quaternion(tilt), friction=0.0, restitution=1.0)
    posts = []
    for along in (-0.9, -0.1):
        x, _, top = centre + tilt.apply([along * half[0], 0.0, -half[2]])
        posts += [
            Shape(
                "box",
                (0.04, 0.04, top / 2),
                material,
                (float(x), side * (half[1] - 0.05), float(top / 2)),
                collides=False,
            )
            for side in (-1.0, 1.0)
        ]
    return fixed("ramp", plank, *posts)


def _slope_size(rng: np.random.Generator, kind: str) -> tuple[tuple[float, ...], float, float]:
    """Size, reach along the slope [m] and I / (m r^2) about the axis that it rolls on."""
    radius = uniform(rng, 0.13, 0.18)
    if kind == "box":
        size = (uniform(rng, 0.14, 0.2), uniform(rng, 0.12, 0.18), uniform(rng, 0.09, 0.14))
        return size, size[0], 0.0
    if kind == "sphere":
        return (radius,), radius, 2 / 5
    if kind == "cylinder":
        return (radius, uniform(rng, 0.1, 0.18)), radius, 1 / 2
    return (radius, half := 0.05), radius, _capsule_factor(radius, half)


def _capsule_factor(radius: float, half: float) -> float:
    body = solid("", "capsule", (radius, half), "", (0.0, 0.0, 0.0))
    return body.inertia[2] / (body.mass * radius**2)


def u_slope(rng: np.random.Generator, paint: Paint) -> Draft:
    """Two to four round things let go on the walls of a half-pipe of many flat slats, each in its lane or two in one.

    Analytic: a body of radius r that rolls on an arc of `radius` R is a pendulum of length R - r whose gravity is
    divided by 1 + I / (m r^2) (`factor_i`); let go at `start_i` [rad] from the bottom it first passes the bottom at
    `bottom_time_i` [s] = sqrt((1 + factor) (R - r) / g) K(sin^2(start / 2)). The slats cost it a little energy.
    """
    radius, spread, slats, thick, lane = uniform(rng, 1.0, 1.25), np.deg2rad(82.0), 60, 0.03, 0.48
    count = int(rng.integers(2, 5))
    shared = bool(count >= 2 and rng.uniform() < 0.35)  # the last two meet in one lane
    lanes = count - shared
    half_width = lane * lanes / 2 + 0.04
    step = 2 * spread / slats
    lift = thick + 0.02
    material = paint.ground("furniture", ("plain",), 1.0)
    shapes = []
    for j in range(slats):
        a = -spread + (j + 0.5) * step
        # Flat slats whose middles touch the arc from below; a little wide, so that no gap opens between their backs.
        middle = (radius + thick) * np.array([np.sin(a), 0.0, -np.cos(a)]) + [0.0, 0.0, radius + lift]
        half = (float((radius + thick) * np.tan(step / 2)), half_width, thick)
        turn = quaternion(Rotation.from_euler("y", -a))
        shapes.append(Shape("box", half, material, vector(middle), turn, friction=0.0, restitution=1.0))
    bodies: list[Body] = [fixed("half_pipe", *shapes)]
    parameters: dict[str, float | int | str] = {"g": GRAVITY, "count": count, "radius": radius, "slats": slats}
    side = float(rng.choice([-1.0, 1.0]))
    for i in range(count):
        drawn = str(rng.choice(["sphere", "sphere", "cylinder", "capsule"]))
        kind: Kind = "sphere" if shared and i >= count - 2 else drawn  # type: ignore[assignment]
        size, _, factor = _slope_size(rng, kind)
        if shared and i == count - 1:
            side = -side
        elif not (shared and i == count - 2):
            side = float(rng.choice([-1.0, 1.0]))
        start = np.deg2rad(uniform(rng, 42.0, 72.0))
        y = (min(i, lanes - 1) - (lanes - 1) / 2) * lane
        rest = radius - size[0]
        place = [side * rest * np.sin(start), y, radius + lift - rest * np.cos(start)]
        bodies.append(
            solid(
                f"{kind}{i}",
                kind,
                size,
                paint.thing(),
                vector(place),
                quaternion(ACROSS),
                density=uniform(rng, 200.0, 800.0),
                friction=0.8,
                restitution=uniform(rng, 0.0, 0.1) if not shared else 0.6,
            )
        )
        bottom = np.sqrt((1 + factor) * rest / GRAVITY) * ellipk(np.sin(start / 2) ** 2)
        parameters |= {
            f"kind_{i}": kind,
            f"radius_{i}": size[0],
            f"factor_{i}": factor,
            f"start_{i}": float(side * start),
            f"bottom_time_{i}": float(bottom),
        }
    parameters["shared_lane"] = int(shared)
    views = Viewpoints(azimuths=(-90.0, -62.0, 60.0, 90.0), elevations=(14.0, 34.0, 40.0, 26.0), jitter=(10.0, 3.0))
    return Draft(bodies, parameters, views=views)
