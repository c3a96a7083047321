"""Dominoes, the seesaw and the gyroscope."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.draft import GRAVITY, Draft, uniform
from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import quaternion, vector
from wfm_sim.assets.physics.solids import solid


def dominoes(rng: np.random.Generator, paint: Paint) -> Draft:
    """Six to nine slabs in a straight or curved row; the first is pushed over.

    `order`: they topple in the order of their names. `topple_angle`: a slab is over its edge once it leans further than
    atan(thickness / height) [rad].
    """
    count = int(rng.integers(6, 10))
    half_height = uniform(rng, 0.13, 0.18)
    half_thick, half_wide = half_height * uniform(rng, 0.17, 0.22), half_height * uniform(rng, 0.45, 0.6)
    spacing = half_height * uniform(rng, 0.85, 1.15)
    # A turn per slab of up to 9 degrees; small enough for each to hit the next with its face.
    turn = uniform(rng, -0.16, 0.16) * (rng.uniform() < 0.6)
    friction, restitution = uniform(rng, 0.35, 0.6), uniform(rng, 0.0, 0.1)
    density, push = uniform(rng, 300.0, 700.0), uniform(rng, 3.0, 4.0)
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
