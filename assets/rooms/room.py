"""What a room is: parts with materials, lights, and what a camera that moves in it must know (where it may be)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

ShapeName = Literal["box", "cylinder", "ellipsoid", "panel"]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Material:
    """A painted surface.

    Attributes:
        name: Unique in its room.
        pixels: uint8 [h, w, 3].
        metres: What one repeat of it covers, where it is not stretched over a part.
    """

    name: str
    pixels: NDArray[np.uint8]
    metres: float = 1.0


@dataclass(frozen=True, eq=False)
class Part:
    """One primitive.

    Attributes:
        shape: "box"; "cylinder" along its z axis; "ellipsoid"; "panel", a rectangle in its x-y plane that is seen from
            +z and is part of the shell: it stands in nobody's way.
        size: Half extents along its axes, metres. Of a cylinder: radius, radius, half height.
        position: Of its centre.
        rotation: [3, 3], its axes in the room.
        material: Name of a material.
        uv: (u0, v0, u1, v1): this part of the texture is stretched over every face; v runs down. None: as in metres.
        taper: Of a cylinder: its upper radius in units of the lower one.
    """

    shape: ShapeName
    size: tuple[float, float, float]
    position: Array
    rotation: Array
    material: str
    uv: tuple[float, float, float, float] | None = None
    taper: float = 1.0


@dataclass(frozen=True)
class Light:
    """A directional light without shadows: direction in which it shines, and its strength."""

    direction: tuple[float, float, float]
    diffuse: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Room:
    """A furnished room: x and y along its walls, z up, the origin at the middle of the floor. Metres.

    Attributes:
        seed: All of it follows from the seed.
        size: Its extents x, y, z.
        parts, materials, lights, ambient: What is seen.
        furniture: What stands in it, for descriptions.
        interest: float64 [N, 3], what is worth looking at: pictures, furniture.
    """

    seed: int
    size: tuple[float, float, float]
    parts: tuple[Part, ...]
    materials: dict[str, Material]
    lights: tuple[Light, ...]
    ambient: float
    furniture: tuple[str, ...]
    interest: Array = field(repr=False)

    @cached_property
    def _solids(self) -> tuple[Array, Array, Array]:
        """Centres [N, 3], axes [N, 3, 3] and half extents [N, 3] of everything that stands or hangs in the room."""
        solid = [part for part in self.parts if part.shape != "panel"]
        centres = np.array([part.position for part in solid]).reshape(-1, 3)
        axes = np.array([part.rotation for part in solid]).reshape(-1, 3, 3)
        return centres, axes, np.array([part.size for part in solid]).reshape(-1, 3)

    def clearance(self, points: ArrayLike) -> Array:
        """Distance [N] of points [N, 3] to the nearest wall, floor, ceiling or thing, 0 or less inside one.

        Things count as the boxes that hold them.
        """
        p = np.asarray(points, np.float64).reshape(-1, 3)
        x, y, z = self.size
        walls = np.minimum(np.array([x / 2, y / 2, z / 2]) - np.abs(p - [0, 0, z / 2]), np.inf).min(axis=1)
        centres, axes, half = self._solids
        local = np.einsum("nji,pnj->pni", axes, p[:, None] - centres)
        outside = np.linalg.norm(np.maximum(np.abs(local) - half, 0), axis=-1).min(axis=1, initial=np.inf)
        return np.asarray(np.minimum(walls, outside))

    def distance_along(self, origins: ArrayLike, directions: ArrayLike) -> Array:
        """How far [N] one sees from points [N, 3] inside the room along unit directions [N, 3]."""
        o = np.asarray(origins, np.float64).reshape(-1, 3)
        d = np.asarray(directions, np.float64).reshape(-1, 3)
        d = np.where(np.abs(d) < 1e-12, 1e-12, d)
        x, y, z = self.size
        walls = np.maximum((np.array([-x / 2, -y / 2, 0]) - o) / d, (np.array([x / 2, y / 2, z]) - o) / d).min(axis=1)
        centres, axes, half = self._solids
        start = np.einsum("nji,pnj->pni", axes, o[:, None] - centres)
        along = np.einsum("nji,pj->pni", axes, d)
        along = np.where(np.abs(along) < 1e-12, 1e-12, along)
        a, b = (-half - start) / along, (half - start) / along
        near, far = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
        hit = np.where((near <= far) & (near > 0), near, np.inf).min(axis=1, initial=np.inf)
        return np.asarray(np.minimum(walls, hit))

    def free_map(self, height: float, cell: float = 0.1, clearance: float = 0.3) -> NDArray[np.bool_]:
        """bool [rows, columns]: where a camera may be at this height; row along y, column along x, from -x/2, -y/2."""
        x = np.arange(-self.size[0] / 2 + cell / 2, self.size[0] / 2, cell)
        y = np.arange(-self.size[1] / 2 + cell / 2, self.size[1] / 2, cell)
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        points = np.concatenate((grid, np.full((*grid.shape[:2], 1), height)), axis=-1)
        return np.asarray((self.clearance(points.reshape(-1, 3)) > clearance).reshape(grid.shape[:2]))


def turned(yaw: float, tilt: float = 0.0) -> Array:
    """[3, 3]: turned by `yaw` about z after a `tilt` about x."""
    c, s, ct, st = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
