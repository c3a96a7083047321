"""Dominoes, the seesaw and the gyroscope."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.draft import GRAVITY, Draft, uniform
from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import Body, Joint, Shape, quaternion, vector
from wfm_sim.assets.physics.solids import fixed, solid, volume
from wfm_sim.assets.physics.solids import inertia as moments_of

WEDGE = quaternion(Rotation.from_euler("y", 45, degrees=True))  # a box on its edge


def dominoes(rng: np.random.Generator, paint: Paint) -> Draft:
    """Five to eight slabs in a straight or curved row; the first is pushed over.

    `order`: they topple in the order of their names. `topple_angle`: a slab is over its edge once it leans further than
    atan(thickness / height) [rad].
    """
    count = int(rng.integers(5, 9))
    half_height = uniform(rng, 0.13, 0.18)
    half_thick, half_wide = half_height * uniform(rng, 0.18, 0.23), half_height * uniform(rng, 0.45, 0.6)
    spacing = half_height * uniform(rng, 0.95, 1.15)
    # A turn per slab of up to 9 degrees; small enough for each to hit the next with its face.
    turn = uniform(rng, -0.16, 0.16) * (rng.uniform() < 0.6)
    friction, restitution = uniform(rng, 0.35, 0.6), uniform(rng, 0.0, 0.1)
    density, push = uniform(rng, 300.0, 700.0), uniform(rng, 3.2, 4.2)
    headings = turn * (np.arange(count) - (count - 1) / 2)
    middle = (headings[1:] + headings[:-1]) / 2
    steps = spacing * np.stack([np.cos(middle), np.sin(middle)], axis=1)
    places = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    places -= places.mean(axis=0)
    bodies = []
    for i in range(count):
        heading = Rotation.from_euler("z", headings[i])
        # The first slab turns about its lower edge: away from it, and its centre moves with it.
        angular = heading.apply([0.0, push, 0.0]) * (i == 0)
        linear = np.cross(angular, heading.apply([-half_thick, 0.0, half_height]))
        bodies.append(
            solid(
                f"domino{i}",
                "box",
                (half_thick, half_wide, half_height),
                paint.thing("plain"),
                vector([*places[i], half_height]),
                quaternion(heading),
                density,
                friction,
                restitution,
                vector(linear),
                vector(angular),
            )
        )
    parameters: dict[str, float | int | str] = {
        "g": GRAVITY,
        "count": count,
        "height": 2 * half_height,
        "thickness": 2 * half_thick,
        "spacing": spacing,
        "turn": turn,
        "friction": friction,
        "push": push,
        "topple_angle": float(np.arctan2(half_thick, half_height)),
        "order": " ".join(body.name for body in bodies),
    }
    views = Viewpoints(azimuths=(-90.0, -55.0, 55.0, 125.0), elevations=(14.0, 28.0, 22.0, 34.0))
    return Draft(bodies, parameters, views=views, floor=(0.3, 1.0))


def seesaw(rng: np.random.Generator, paint: Paint) -> Draft:
    """A plank on a hinge. `variant` 'drop': one end down with a box on it, a ball or box falls on the other end.
    'tip': the plank is level and the heavier of two boxes pulls it down.

    Analytic: 'tip' starts with the angular acceleration `acceleration` [rad/s2] about +y (positive: the end at +x goes
    down) of weights that ride on the plank; 'drop' hits the plank at `impact_time` [s] with `impact_speed` [m/s].
    """
    half_length, half_width, thick = uniform(rng, 0.8, 0.95), 0.22, 0.04
    pivot = uniform(rng, 0.26, 0.34)
    plank_mass = 6.0
    drop = bool(rng.uniform() < 0.6)
    side = float(rng.choice([-1.0, 1.0]))  # which end the striker or the heavier box is on
    lean = float(np.arcsin((pivot - thick) / half_length) * 0.97) if drop else 0.0
    tilt = Rotation.from_euler("y", -side * lean)  # the other end is down
    inertia = tuple(
        plank_mass / 3 * (a**2 + b**2)
        for a, b in ((half_width, thick), (half_length, thick), (half_length, half_width))
    )
    plank = Body(
        "plank",
        (Shape("box", (half_length, half_width, thick), paint.thing(), friction=0.7),),
        (0.0, 0.0, pivot),
        quaternion(tilt),
        plank_mass,
        inertia,  # type: ignore[arg-type]
    )
    stand = fixed(
        "fulcrum",
        Shape("box", (pivot * 0.62,) * 2 + (pivot * 0.62,), paint.furniture(), collides=False, quaternion=WEDGE),
        position=(0.0, 0.0, pivot - thick - 0.62 * pivot * float(np.sqrt(2))),
    )
    parameters: dict[str, float | int | str] = {
        "g": GRAVITY,
        "variant": "drop" if drop else "tip",
        "half_length": half_length,
        "pivot_height": pivot,
        "lean": -side * lean,
        "side": side,
    }
    edge = uniform(rng, 0.13, 0.17)
    rider = solid(
        "rider",
        "box",
        (edge, edge, edge),
        paint.thing(),
        vector(np.array(plank.position) + tilt.apply([-side * (half_length - edge - 0.04), 0.0, thick + edge])),
        quaternion(tilt),
        density=uniform(rng, 150.0, 300.0),
        friction=0.7,
    )
    if drop:
        kind = str(rng.choice(["sphere", "box"]))
        size: tuple[float, ...] = (uniform(rng, 0.14, 0.18),)
        size = size if kind == "sphere" else (size[0] * 0.9,) * 3
        away = half_length - size[0] - 0.06
        top = pivot + away * np.sin(lean) + thick / np.cos(lean)
        gap = uniform(rng, 0.3, 0.7)
        reach = size[0] / np.cos(lean) if kind == "sphere" else size[0] * (1 + np.tan(lean))
        striker = solid(
            "striker",
            kind,  # type: ignore[arg-type]
            size,
            paint.thing(),
            (side * away, 0.0, float(top + reach + gap)),
            density=uniform(rng, 500.0, 900.0),
            friction=0.7,
            restitution=0.0,
        )
        parameters |= {
            "impact_time": float(np.sqrt(2 * gap / GRAVITY)),
            "impact_speed": float(np.sqrt(2 * GRAVITY * gap)),
            "ratio": striker.mass / rider.mass,
        }
    else:
        edge = uniform(rng, 0.14, 0.18)
        away = uniform(rng, 0.5, half_length - edge - 0.03)
        place = (side * away, 0.0, pivot + thick + edge)
        striker = solid(
            "striker", "box", (edge,) * 3, paint.thing(), place, density=uniform(rng, 500.0, 900.0), friction=0.7
        )
        moment, total = 0.0, inertia[1]
        for body in (rider, striker):
            arm, up = body.position[0], body.position[2] - pivot
            moment += body.mass * GRAVITY * arm
            total += body.mass * (arm**2 + up**2) + body.inertia[1]
        parameters |= {"acceleration": float(moment / total), "ratio": striker.mass / rider.mass}
    joints = [Joint("hinge", "hinge", "plank", plank.position, (0.0, 1.0, 0.0))]
    views = Viewpoints(azimuths=(-90.0, -55.0, 50.0, 115.0), elevations=(14.0, 20.0, 26.0, 32.0))
    return Draft([stand, plank, rider, striker], parameters, joints, views=views, floor=(0.6, 1.0))


def gyroscope(rng: np.random.Generator, paint: Paint) -> Draft:
    """One or two heavy tops, each on the ball joint of a stand, spinning fast and tilted: they precess without nodding.

    Analytic: a top of mass m, moments I1 (across) and I3 (along), its centre l from the joint, at the constant tilt t
    from the vertical, precesses at the slower root W (`precession_i` [rad/s], about +z) of
    A W^2 cos t - I3 w3 W + m g l = 0, A = I1 + m l^2, with w3 its spin about its own axis (`spin_i` [rad/s]).
    """
    count = int(rng.integers(1, 3))
    bodies: list[Body] = []
    joints = []
    parameters: dict[str, float | int | str] = {"g": GRAVITY, "count": count}
    furniture = paint.furniture()
    for i in range(count):
        radius, half, arm = uniform(rng, 0.22, 0.28), uniform(rng, 0.03, 0.045), uniform(rng, 0.24, 0.3)
        tilt, turn = np.deg2rad(uniform(rng, 45.0, 72.0)), uniform(rng, -np.pi, np.pi)
        foot = np.array([(i - (count - 1) / 2) * 1.25, 0.0, uniform(rng, 0.42, 0.55)])
        upright = Rotation.from_euler("zy", [turn, tilt])
        axis = upright.apply([0.0, 0.0, 1.0])
        mass = 600.0 * volume("cylinder", (radius, half))
        moments = moments_of("cylinder", (radius, half), mass)
        across = moments[0] + mass * arm**2
        # Faster than the slowest spin with a steady precession at this tilt, by a margin.
        slowest = np.sqrt(4 * across * np.cos(tilt) * mass * GRAVITY * arm) / moments[2]
        spin = float(slowest * uniform(rng, 1.25, 1.6))
        momentum = moments[2] * spin
        rate = (momentum - np.sqrt(momentum**2 - 4 * across * np.cos(tilt) * mass * GRAVITY * arm)) / (
            2 * across * np.cos(tilt)
        )
        angular = np.array([0.0, 0.0, rate]) + (spin - rate * np.cos(tilt)) * axis
        centre = foot + arm * axis
        paint_disc = paint.thing("plain")
        mark = paint.mark()
        shapes = (
            Shape("cylinder", (radius, half), paint_disc, collides=False),
            Shape("capsule", (0.018, arm / 2 + 0.05), paint_disc, (0.0, 0.0, 0.05 - arm / 2), collides=False),
            Shape("box", (radius * 0.3, 0.035, half + 0.004), mark, (radius * 0.62, 0.0, 0.0), collides=False),
        )
        # Euler's equations hold about principal axes; the disc's are the body's.
        bodies.append(
            Body(
                f"top{i}",
                shapes,
                vector(centre),
                quaternion(upright * Rotation.from_euler("z", uniform(rng, -np.pi, np.pi))),
                mass,
                moments,
                vector(np.cross(angular, arm * axis)),
                vector(angular),
            )
        )
        joints.append(Joint(f"pivot{i}", "ball", f"top{i}", vector(foot)))
        stand = (
            Shape("cylinder", (0.14, 0.015), furniture, (0.0, 0.0, 0.015), collides=False),
            Shape("cone", (0.06, float(foot[2]) / 2), furniture, (0.0, 0.0, float(foot[2]) / 2), collides=False),
        )
        bodies.append(fixed(f"stand{i}", *stand, position=(float(foot[0]), float(foot[1]), 0.0)))
        parameters |= {f"spin_{i}": spin, f"precession_{i}": float(rate), f"tilt_{i}": float(tilt), f"arm_{i}": arm}
    views = Viewpoints(azimuths=(-90.0, -52.0, 52.0, 110.0), elevations=(14.0, 22.0, 30.0, 40.0))
    return Draft(bodies, parameters, joints, views=views, integrator="rk4")
