"""Masses and principal inertias of homogeneous solids, about their centres of mass (z is the axis of symmetry)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from wfm_sim.assets.physics.scene import IDENTITY as UPRIGHT
from wfm_sim.assets.physics.scene import Body, Quaternion, Shape, Vector, rotation

Kind = Literal["box", "sphere", "cylinder", "capsule", "cone"]


def volume(kind: Kind, size: tuple[float, ...]) -> float:
    """Cubic metres; `size` as in Shape."""
    if kind == "box":
        return float(8 * np.prod(size))
    if kind == "sphere":
        return float(4 / 3 * np.pi * size[0] ** 3)
    radius, half = size
    if kind == "cylinder":
        return float(np.pi * radius**2 * 2 * half)
    if kind == "capsule":
        return float(np.pi * radius**2 * 2 * half + 4 / 3 * np.pi * radius**3)
    return float(np.pi * radius**2 * 2 * half / 3)


def inertia(kind: Kind, size: tuple[float, ...], mass: float) -> Vector:
    """Principal moments [kg m2] about the centre of mass; `size` as in Shape."""
    if kind == "box":
        x, y, z = (value**2 for value in size)
        return (mass / 3 * (y + z), mass / 3 * (x + z), mass / 3 * (x + y))
    if kind == "sphere":
        return (mass * 2 / 5 * size[0] ** 2,) * 3
    radius, height = size[0], 2 * size[1]
    if kind == "cylinder":
        across = mass * (3 * radius**2 + height**2) / 12
        return (across, across, mass * radius**2 / 2)
    if kind == "cone":
        across = mass * (3 / 20 * radius**2 + 3 / 80 * height**2)
        return (across, across, mass * 3 / 10 * radius**2)
    # A capsule is a cylinder with a hemisphere on either end, whose own centre lies 3/8 of the radius above its base.
    caps = mass * (4 / 3 * radius**3) / (4 / 3 * radius**3 + radius**2 * height)
    tube = mass - caps
    across = tube * (3 * radius**2 + height**2) / 12
    across += caps * (2 / 5 * radius**2 + height**2 / 4 + 3 / 8 * radius * height)
    return (across, across, tube * radius**2 / 2 + caps * 2 / 5 * radius**2)


def solid(
    name: str,
    kind: Kind,
    size: tuple[float, ...],
    material: str,
    position: Vector,
    quaternion: Quaternion = UPRIGHT,
    density: float = 400.0,
    friction: float = 0.5,
    restitution: float = 0.0,
    linear: Vector = (0.0, 0.0, 0.0),
    angular: Vector = (0.0, 0.0, 0.0),
) -> Body:
    """A dynamic body of one homogeneous primitive; `position` is its centre of mass (of a cone: a quarter of its height
    above the base)."""
    mass = density * volume(kind, size)
    # A Shape's origin is half way up; a cone's centre of mass is lower.
    offset = (0.0, 0.0, size[1] / 2 if kind == "cone" else 0.0)
    shape = Shape(kind, size, material, position=offset, friction=friction, restitution=restitution)
    return Body(name, (shape,), position, quaternion, mass, inertia(kind, size, mass), linear, angular)


def fixed(name: str, *shapes: Shape, position: Vector = (0.0, 0.0, 0.0), quaternion: Quaternion = UPRIGHT) -> Body:
    """A static body."""
    return Body(name, shapes, position, quaternion)


def bounding_radius(kind: Kind, size: tuple[float, ...]) -> float:
    """Radius [m] of the smallest sphere about the shape's origin that holds it."""
    if kind == "sphere":
        return float(size[0])
    if kind == "capsule":
        return float(size[0] + size[1])
    return float(np.linalg.norm(size))


def corners(shape: Shape) -> np.ndarray:
    """The corners of the shape's bounding box in the body's frame: float64 [8, 3]."""
    if shape.kind == "box":
        half = np.array(shape.size)
    elif shape.kind == "sphere":
        half = np.full(3, shape.size[0])
    elif shape.kind == "capsule":
        half = np.array([shape.size[0], shape.size[0], shape.size[0] + shape.size[1]])
    elif shape.kind == "plane":
        half = np.array([*shape.size, 0.0])
    else:
        half = np.array([shape.size[0], shape.size[0], shape.size[1]])
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    return np.asarray(rotation(shape.quaternion).apply(signs * half) + np.array(shape.position))
