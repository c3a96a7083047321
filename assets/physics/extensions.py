"""The extension set, reported apart from the eight scenes: contact-rich, deformable, many bodies, long horizons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import ellipk

from wfm_sim.assets.physics.draft import GRAVITY, Draft, uniform
from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import Body, Joint, Shape, SoftBody, quaternion, vector
from wfm_sim.assets.physics.solids import Kind, fixed, inertia, solid, volume


def newtons_cradle(rng: np.random.Generator, paint: Paint) -> Draft:
    """Four to six equal balls on strings; one or two are raised and let go.

    Analytic: a raised ball first passes the bottom at `arrival_time` [s]; as many balls leave on the other side as
    came, and rise to nearly the same angle (`restitution` at each of the hits).
    """
    count = int(rng.integers(4, 7))
    raised = int(rng.integers(1, 3))
    radius, length = uniform(rng, 0.11, 0.13), uniform(rng, 0.85, 1.05)
    start, restitution = np.deg2rad(uniform(rng, 35.0, 55.0)), 0.97
    # Gaps so wide that the hits come one after the other, as in theory; without them springs would share the blow.
    gap, half_width, height = 0.01, 0.28, length + 0.35
    mass = 2500.0 * volume("sphere", (radius,))
    string = np.array([0.0, half_width, length])
    bodies, joints = [], []
    side = float(rng.choice([-1.0, 1.0]))
    for i in range(count):
        foot = np.array([side * (i - (count - 1) / 2) * (2 * radius + gap), 0.0, height])
        # The balls raised are the first, and lean outwards.
        turn = Rotation.from_euler("y", side * start if i < raised else 0.0)
        colour = paint.thing()
        shapes = [Shape("sphere", (radius,), colour, friction=0.0, restitution=restitution)]
        for sign in (-1.0, 1.0):
            line = string * (1.0, sign, 1.0)
            along, _ = Rotation.align_vectors([line], [[0.0, 0.0, 1.0]])
            half = float(np.linalg.norm(line)) / 2
            shapes.append(Shape("capsule", (0.008, half), colour, vector(line / 2), quaternion(along), collides=False))
        bodies.append(
            Body(
                f"ball{i}",
                tuple(shapes),
                vector(foot - turn.apply([0.0, 0.0, length])),
                quaternion(turn),
                mass,
                inertia("sphere", (radius,), mass),
            )
        )
        joints.append(Joint(f"string{i}", "hinge", f"ball{i}", vector(foot), (0.0, 1.0, 0.0)))
    reach = (count / 2) * (2 * radius + gap) + 0.1
    furniture = paint.furniture()
    rails = [
        Shape("box", (reach, 0.02, 0.02), furniture, (0.0, s * half_width, height), collides=False) for s in (-1, 1)
    ]
    posts = [
        Shape("box", (0.02, 0.02, height / 2), furniture, (t * reach, s * half_width, height / 2), collides=False)
        for s in (-1, 1)
        for t in (-1, 1)
    ]
    effective = length + 2 * radius**2 / (5 * length)
    parameters: dict[str, float | int | str] = {
        "g": GRAVITY,
        "count": count,
        "raised": raised,
        "start": float(start),
        "length": length,
        "radius": radius,
        "restitution": restitution,
        "arrival_time": float(np.sqrt(effective / GRAVITY) * ellipk(np.sin(start / 2) ** 2)),
    }
    views = Viewpoints(azimuths=(-90.0, -58.0, 56.0, 122.0), elevations=(8.0, 16.0, 22.0, 30.0))
    return Draft([*bodies, fixed("frame", *rails, *posts)], parameters, joints, views=views)


def soft_drop(rng: np.random.Generator, paint: Paint) -> Draft:
    """An elastic block falls on the floor, squashes and jumps; a ball falls on it. Only the engine MuJoCo runs it.

    Analytic: `first_contact` [s] of the block.
    """
    count = tuple(int(value) for value in rng.integers(4, 6, 3))
    spacing = uniform(rng, 0.13, 0.16)
    half = [spacing * (value - 1) / 2 for value in count]
    gap = uniform(rng, 0.5, 0.9)
    turn = Rotation.from_euler("z", uniform(rng, -0.5, 0.5))
    middle = half[2] + gap
    soft = SoftBody(
        "jelly",
        (count[0], count[1], count[2]),
        spacing,
        (0.0, 0.0, middle),
        quaternion(turn),
        mass=150.0 * 8 * float(np.prod(half)),
        young=uniform(rng, 3e4, 9e4),
        poisson=0.3,
        damping=0.004,
        friction=0.6,
        material=paint.thing("plain"),  # a flex has no texture coordinates
    )
    radius = uniform(rng, 0.1, 0.13)
    high = middle + half[2] + radius + uniform(rng, 0.45, 0.8)
    place = (uniform(rng, -0.08, 0.08), uniform(rng, -0.08, 0.08), high)
    ball = solid("ball", "sphere", (radius,), paint.thing(), place, density=700.0, friction=0.5, restitution=0.2)
    parameters: dict[str, float | int | str] = {
        "g": GRAVITY,
        "young": soft.young,
        "first_contact": float(np.sqrt(2 * gap / GRAVITY)),
    }
    return Draft(
        [ball], parameters, soft=[soft], views=Viewpoints(elevations=(8.0, 16.0, 24.0, 34.0)), floor=(0.6, 1.0)
    )


def bowl(rng: np.random.Generator, paint: Paint) -> Draft:
    """Thirty balls poured into a bowl of flat panels."""
    count, panels = 30, 14
    furniture = paint.ground("furniture", ("plain",), 1.0)
    # The bowl's profile: (radius, height) of its inner edge, from the bottom up.
    profile = ((0.28, 0.03), (0.62, 0.22), (0.86, 0.62))
    shapes = [Shape("cylinder", (0.34, 0.03), furniture, (0.0, 0.0, 0.0), friction=0.0, restitution=1.0)]
    for (r0, z0), (r1, z1) in pairwise(profile):
        slope, slant = np.arctan2(z1 - z0, r1 - r0), np.hypot(z1 - z0, r1 - r0) / 2
        half = (float(slant) + 0.01, float(r1 * np.tan(np.pi / panels)), 0.015)
        for k in range(panels):
            around = Rotation.from_euler("z", 2 * np.pi * k / panels)
            turn = around * Rotation.from_euler("y", -slope)
            middle = around.apply([(r0 + r1) / 2, 0.0, (z0 + z1) / 2]) - turn.apply([0.0, 0.0, half[2]])
            shapes.append(
                Shape("box", half, furniture, vector(middle), quaternion(turn), friction=0.0, restitution=1.0)
            )
    bodies: list[Body] = [fixed("bowl", *shapes, position=(0.0, 0.0, 0.05))]
    places = [(x, y, z) for z in range(4) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    for i, chosen in enumerate(np.sort(rng.permutation(len(places))[:count])):
        place = np.array(places[chosen]) * (0.27, 0.27, 0.28) + [0.0, 0.0, 0.75] + rng.uniform(-0.02, 0.02, 3)
        bodies.append(
            solid(
                f"ball{i}",
                "sphere",
                (uniform(rng, 0.085, 0.11),),
                paint.thing("plain"),
                vector(place),
                density=uniform(rng, 300.0, 900.0),
                friction=0.4,
                restitution=uniform(rng, 0.2, 0.5),
            )
        )
    parameters: dict[str, float | int | str] = {"g": GRAVITY, "count": count}
    return Draft(bodies, parameters, views=Viewpoints(elevations=(24.0, 32.0, 40.0, 50.0)))


def pusher(rng: np.random.Generator, paint: Paint) -> Draft:
    """A bar on rails is driven at constant speed into three to five things on the floor, and pushes them along.

    Analytic: the bar's `speed` [m/s]; no body in front of it may be behind it.
    """
    count, speed = int(rng.integers(3, 6)), uniform(rng, 0.75, 1.0)
    half = (0.05, 0.55, 0.12)
    start = -0.95
    mass = 40.0
    bar = Body(
        "bar",
        (Shape("box", half, paint.thing(), friction=0.3, restitution=0.0),),
        (start, 0.0, half[2] + 0.012),
        mass=mass,
        inertia=inertia("box", half, mass),
        linear=(speed, 0.0, 0.0),
    )
    bodies = [bar]
    grid = np.array([(x, y) for x in (0, 1) for y in (-1, 0, 1)]) * (0.45, 0.36) + (-0.6, 0.0)
    for i, k in enumerate(rng.permutation(len(grid))[:count]):
        kind: Kind = str(rng.choice(["box", "cylinder", "sphere", "box"]))  # type: ignore[assignment]
        radius = uniform(rng, 0.1, 0.14)
        size: tuple[float, ...] = (radius,)
        if kind == "box":
            size = (radius, uniform(rng, 0.09, 0.14), uniform(rng, 0.09, 0.14))
        elif kind == "cylinder":
            size = (radius, uniform(rng, 0.08, 0.14))
        place = grid[k] + rng.uniform(-0.04, 0.04, 2)
        turn = Rotation.from_euler("z", uniform(rng, -0.4, 0.4))
        bodies.append(
            solid(
                f"{kind}{i}",
                kind,
                size,
                paint.thing(),
                vector([*place, size[-1]]),
                quaternion(turn),
                density=uniform(rng, 200.0, 600.0),
                friction=uniform(rng, 0.3, 0.5),
            )
        )
    # The gain holds the speed within a few per cent against the friction of all that is pushed.
    joints = [Joint("rails", "slide", "bar", bar.position, (1.0, 0.0, 0.0), limits=(-0.02, 1.9), drive=(speed, 2e4))]
    parameters: dict[str, float | int | str] = {"g": GRAVITY, "count": count, "speed": speed}
    views = Viewpoints(azimuths=(-90.0, -40.0, 35.0, 100.0), elevations=(20.0, 28.0, 34.0, 44.0))
    return Draft(bodies, parameters, joints, views=views, floor=(0.0, 1.0))
