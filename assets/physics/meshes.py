"""Triangle meshes of the primitives with texture coordinates in metres: for engines that draw meshes, and for cones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics.scene import Shape

SIDES = 32


@dataclass(frozen=True)
class Mesh:
    """vertices float64 [V, 3] and uv float64 [V, 2] in metres; faces int32 [F, 3], counter-clockwise from outside."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    uv: NDArray[np.float64]


def mesh_of(shape: Shape) -> Mesh:
    """The surface of a shape in its own frame."""
    if shape.kind == "box":
        return _box(np.array(shape.size))
    if shape.kind == "plane":
        x, y = shape.size
        flat = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
        return Mesh(np.pad(flat, ((0, 0), (0, 1))), np.array([[0, 1, 2], [0, 2, 3]], np.int32), flat)
    radius = shape.size[0]
    if shape.kind == "sphere":
        angles = np.linspace(-np.pi / 2, np.pi / 2, SIDES // 2 + 1)
        return _revolve(radius * np.cos(angles), radius * np.sin(angles))
    half = shape.size[1]
    if shape.kind == "capsule":
        angles = np.concatenate([np.linspace(-np.pi / 2, 0, SIDES // 4 + 1), np.linspace(0, np.pi / 2, SIDES // 4 + 1)])
        lift = np.repeat([-half, half], len(angles) // 2)
        return _revolve(radius * np.cos(angles), radius * np.sin(angles) + lift)
    if shape.kind == "cylinder":
        # Rings twice where the surface has an edge: neighbours may not share a normal there.
        return _revolve(
            np.array([0, radius, radius, radius, radius, 0]), np.array([-half, -half, -half, half, half, half])
        )
    return _revolve(np.array([0, radius, radius, 0]), np.array([-half, -half, -half, half]))


def cone_hull(radius: float, half: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The closed surface of a cone without double vertices: [SIDES + 2, 3] and triangles [2 SIDES, 3]."""
    angles = 2 * np.pi * np.arange(SIDES) / SIDES
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full(SIDES, -half)], axis=1)
    vertices = np.concatenate([ring, [[0.0, 0.0, half], [0.0, 0.0, -half]]])
    i, j = np.arange(SIDES), (np.arange(SIDES) + 1) % SIDES
    side = np.stack([i, j, np.full(SIDES, SIDES)], axis=1)
    base = np.stack([j, i, np.full(SIDES, SIDES + 1)], axis=1)
    return vertices, np.concatenate([side, base]).astype(np.int32)


def _box(half: NDArray[np.float64]) -> Mesh:
    vertices: list[NDArray[np.float64]] = []
    faces: list[list[int]] = []
    uv: list[NDArray[np.float64]] = []
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for sign in (-1.0, 1.0):
            points = np.zeros((4, 3))
            points[:, axis] = sign * half[axis]
            points[:, u], points[:, v] = (sign * corners[:, 0] * half[u]), corners[:, 1] * half[v]
            start = 4 * len(vertices)
            vertices.append(points)
            faces += [[start, start + 1, start + 2], [start, start + 2, start + 3]]
            uv.append(corners * (half[u], half[v]))
    return Mesh(np.concatenate(vertices), np.array(faces, np.int32), np.concatenate(uv))


def _revolve(radii: NDArray[np.float64], heights: NDArray[np.float64]) -> Mesh:
    """The surface that a profile, from the bottom up, sweeps about the z axis."""
    radii = np.where(radii < 1e-9, 0.0, radii)  # a cosine of 90 degrees
    angles = 2 * np.pi * np.arange(SIDES + 1) / SIDES  # the seam twice, for its two texture coordinates
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(radii), np.diff(heights)))])
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    vertices = np.concatenate(
        [np.column_stack([r * ring, np.full(SIDES + 1, z)]) for r, z in zip(radii, heights, strict=True)]
    )
    uv = np.concatenate([np.column_stack([angles * radii.max(), np.full(SIDES + 1, s)]) for s in length])
    faces = []
    for row in range(len(radii) - 1):
        if length[row + 1] == length[row]:
            continue
        a = row * (SIDES + 1) + np.arange(SIDES)
        b = a + SIDES + 1
        if radii[row] > 0:
            faces.append(np.stack([a, a + 1, b + 1], axis=1))
        if radii[row + 1] > 0:
            faces.append(np.stack([a, b + 1, b], axis=1))
    # Where the profile starts or ends on the axis one of the two triangles of each side has no area; it was left out.
    return Mesh(vertices, np.concatenate(faces).astype(np.int32), uv)
