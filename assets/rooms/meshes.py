"""Parts as triangles with texture coordinates, all parts of a material in one mesh: what keeps drawing cheap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.rooms.room import Material, Part

Array = NDArray[np.float64]
SIDES = 20  # of a cylinder
RINGS = 6  # of an ellipsoid, from pole to pole


@dataclass(frozen=True, eq=False)
class Mesh:
    """float64 [N, 3] vertices, [N, 3] normals, [N, 2] texture coordinates (v up), int [F, 3] faces (seen from outside
    counter-clockwise)."""

    vertices: Array
    normals: Array
    uv: Array
    faces: NDArray[np.int64]


def mesh_of(parts: Iterable[Part], material: Material) -> Mesh:
    """All parts as one mesh in the room's frame."""
    made = [_place(part, material, k) for k, part in enumerate(parts)]
    begin = np.cumsum([0, *(len(m.vertices) for m in made)])
    return Mesh(
        np.concatenate([m.vertices for m in made]),
        np.concatenate([m.normals for m in made]),
        np.concatenate([m.uv for m in made]),
        np.concatenate([m.faces + start for m, start in zip(made, begin, strict=False)]),
    )


def _place(part: Part, material: Material, number: int) -> Mesh:
    local, metric = {"box": _box, "panel": _panel, "cylinder": _cylinder, "ellipsoid": _ellipsoid}[part.shape](part)
    if part.uv is None:
        # Where on the material a part begins is as good as random, so that no two legs look alike.
        begin = np.array([0.618 * number + 3.1 * part.position[0], 0.414 * number + 2.7 * part.position[1]])
        uv = metric / material.metres + begin - np.floor(begin)
    else:
        u0, v0, u1, v1 = part.uv
        uv = np.array([u0, 1 - v1]) + local.uv * [u1 - u0, v1 - v0]
    return Mesh(local.vertices @ part.rotation.T + part.position, local.normals @ part.rotation.T, uv, local.faces)


def _panel(part: Part) -> tuple[Mesh, Array]:
    x, y, _ = part.size
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    vertices = np.column_stack((corners * [x, y], np.zeros(4)))
    mesh = Mesh(vertices, np.tile([0.0, 0, 1], (4, 1)), (corners + 1) / 2, np.array([[0, 1, 2], [0, 2, 3]]))
    return mesh, corners * [x, y]


# Of each face of a box: its normal, and the directions that are right and up for who looks at it.
_FACES = np.array(
    [
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[0, 0, -1], [1, 0, 0], [0, -1, 0]],
    ]
)


def _box(part: Part) -> tuple[Mesh, Array]:
    size = np.array(part.size)
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    vertices, normals, uv, metric = [], [], [], []
    for normal, right, up in _FACES:
        plane = corners[:, :1] * right + corners[:, 1:] * up
        vertices.append((normal + plane) * size)
        normals.append(np.tile(normal, (4, 1)))
        uv.append((corners + 1) / 2)
        metric.append(corners * [np.abs(right) @ size, np.abs(up) @ size] + 0.37 * np.abs(normal) @ size)
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * k for k in range(6)])
    # Long boards have their grain along them, whichever way they stand.
    long = np.concatenate(metric)
    if part.size[2] > max(part.size[:2]):
        long = long[:, ::-1]
    return Mesh(np.concatenate(vertices), np.concatenate(normals), np.concatenate(uv), faces), long


def _cylinder(part: Part) -> tuple[Mesh, Array]:
    radius, _, half = part.size
    top = radius * part.taper
    angle = np.linspace(0, 2 * np.pi, SIDES + 1)
    round_, ones = np.stack((np.cos(angle), np.sin(angle)), -1), np.ones((SIDES + 1, 1))
    side = np.concatenate((np.hstack((round_ * radius, -half * ones)), np.hstack((round_ * top, half * ones))))
    slope = np.hstack((round_, (radius - top) / (2 * half) * ones))
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    k = np.arange(SIDES)
    wall = np.concatenate((np.stack((k, k + 1, k + SIDES + 2), -1), np.stack((k, k + SIDES + 2, k + SIDES + 1), -1)))
    share = np.concatenate((angle, angle)) / (2 * np.pi)
    high = np.repeat([0.0, 1.0], SIDES + 1)
    vertices, normals = [side], [np.tile(slope, (2, 1))]
    uv, metric = [np.stack((share, high), -1)], [np.stack((share * 2 * np.pi * radius, high * 2 * half), -1)]
    faces, begin = [wall], len(side)
    for z, r, way in ((half, top, 1.0), (-half, radius, -1.0)):
        vertices.append(np.vstack(([0, 0, z], np.hstack((round_ * r, z * ones)))))
        normals.append(np.tile([0, 0, way], (SIDES + 2, 1)))
        disc = np.vstack(([0.0, 0.0], round_ * [1, way]))
        uv.append(disc / 2 + 0.5)
        metric.append(disc * r)
        fan = np.stack((np.zeros(SIDES, int), k + 1, k + 2), -1) + begin
        faces.append(fan if way > 0 else fan[:, ::-1])
        begin += SIDES + 2
    return Mesh(*(np.concatenate(a) for a in (vertices, normals, uv, faces))), np.concatenate(metric)


def _ellipsoid(part: Part) -> tuple[Mesh, Array]:
    size, sides = np.array(part.size), SIDES // 2
    polar, around = np.meshgrid(np.linspace(0, np.pi, RINGS + 1), np.linspace(0, 2 * np.pi, sides + 1), indexing="ij")
    unit = np.stack((np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)), -1).reshape(-1, 3)
    normals = unit / size
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(RINGS), np.arange(sides), indexing="ij"))
    a, b = i * (sides + 1) + j, (i + 1) * (sides + 1) + j
    faces = np.concatenate((np.stack((a, b, b + 1), -1)[i < RINGS], np.stack((a, b + 1, a + 1), -1)))
    # At the poles one of the two triangles is a line.
    thin = (np.linalg.norm(unit[faces[:, 0]] - unit[faces[:, 1]], axis=1) < 1e-9) | (
        np.linalg.norm(unit[faces[:, 1]] - unit[faces[:, 2]], axis=1) < 1e-9
    )
    thin |= np.linalg.norm(unit[faces[:, 0]] - unit[faces[:, 2]], axis=1) < 1e-9
    uv = np.stack((around / (2 * np.pi), 1 - polar / np.pi), -1).reshape(-1, 2)
    metric = uv * [2 * np.pi * size[:2].mean(), np.pi * size[2]]
    return Mesh(unit * size, normals, uv, faces[~thin]), metric
