"""Free fall."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.draft import GRAVITY, Draft, uniform
from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import Body, quaternion, vector
from wfm_sim.assets.physics.solids import Kind, bounding_radius, solid

FALLING: tuple[Kind, ...] = ("box", "sphere", "cylinder", "capsule", "cone")


def free_fall(rng: np.random.Generator, paint: Paint) -> Draft:
    """Two to four solids dropped side by side from 1.3 to 2.0 m, some with a push and a spin; they bounce and settle.

    Analytic: until its first contact body i follows z0 + v0 t - g t^2 / 2 and keeps its angular momentum; a sphere
    leaves the floor with `restitution_i` times the speed it came with. `first_contact` [s]: no body touches before.
    """
    count = int(rng.integers(2, 5))
    bodies: list[Body] = []
    parameters: dict[str, float | int | str] = {"g": GRAVITY, "count": count}
    contacts = []
    places = _spread(rng, count, 0.68)
    for i in range(count):
        kind = str(rng.choice(FALLING))
        size = _drop_size(rng, kind)
        reach = bounding_radius(kind, size)  # type: ignore[arg-type]
        height = uniform(rng, 1.3, 2.0) + reach
        up, push = uniform(rng, -0.2, 0.9), rng.uniform(-0.15, 0.15, 2)
        spin = rng.uniform(-4.0, 4.0, 3) * (rng.uniform() < 0.7)
        restitution, friction = uniform(rng, 0.1, 0.6), uniform(rng, 0.3, 0.8)
        bodies.append(
            solid(
                f"{kind}{i}",
                kind,  # type: ignore[arg-type]
                size,
                paint.thing(),
                vector([*places[i], height]),
                quaternion(Rotation.random(random_state=rng)),
                density=uniform(rng, 200.0, 900.0),
                friction=friction,
                restitution=restitution,
                linear=vector([*push, up]),
                angular=vector(spin),
            )
        )
        drop = height - 1.4 * reach  # a cone's tip reaches beyond the sphere about its centre of mass
        contacts.append((up + np.sqrt(up**2 + 2 * GRAVITY * drop)) / GRAVITY)
        parameters |= {f"drop_{i}": height, f"velocity_{i}": up, f"restitution_{i}": restitution}
    parameters["first_contact"] = float(min(contacts))
    return Draft(bodies, parameters, views=Viewpoints(elevations=(8.0, 16.0, 24.0, 32.0)))


def _drop_size(rng: np.random.Generator, kind: str) -> tuple[float, ...]:
    if kind == "box":
        return tuple(float(value) for value in rng.uniform(0.14, 0.22, 3))
    if kind == "sphere":
        return (uniform(rng, 0.18, 0.24),)
    if kind == "capsule":
        return (uniform(rng, 0.13, 0.17), uniform(rng, 0.1, 0.15))
    return (uniform(rng, 0.16, 0.22), uniform(rng, 0.15, 0.22))


def _spread(rng: np.random.Generator, count: int, gap: float) -> np.ndarray:
    """Places [count, 2] on a little grid, shuffled and shaken, at least 0.8 gap apart."""
    grid = np.array([(x, y) for x in (-1, 0, 1) for y in (-0.5, 0.5)]) * gap
    chosen = grid[rng.permutation(len(grid))[:count]]
    return np.asarray(chosen - chosen.mean(axis=0) + rng.uniform(-0.1, 0.1, (count, 2)) * gap)
