"""Furniture from primitives. Each function draws one piece from `rng`: its back towards +y, standing on z = 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from wfm_sim.assets.rooms.room import Part, ShapeName, turned

BOOKS = 16  # spines on the sheet of the material "books"
PICTURES = 6  # on the sheet "pictures", 3 columns; "labels" has the same grid
COLUMNS = 3


@dataclass
class Piece:
    """Parts around the middle of a footprint of 2 half[0] by 2 half[1] metres."""

    name: str
    half: tuple[float, float]
    parts: list[Part] = field(default_factory=list)
    height: float = 0.0

    def add(
        self,
        shape: ShapeName,
        size: tuple[float, float, float],
        at: tuple[float, float, float],
        material: str,
        yaw: float = 0.0,
        tilt: float = 0.0,
        uv: tuple[float, float, float, float] | None = None,
        taper: float = 1.0,
    ) -> None:
        """A part with half extents `size`; `at` is the middle of its lower side."""
        centre = np.array(at, np.float64) + np.array([0.0, 0.0, size[2]])
        self.parts.append(Part(shape, size, centre, turned(yaw, tilt), material, uv, taper))
        self.height = max(self.height, at[2] + 2 * size[2])

    def put(self, other: Piece, at: tuple[float, float, float], yaw: float = 0.0) -> None:
        """Another piece on this one."""
        turn = turned(yaw)
        for p in other.parts:
            where = turn @ p.position + at
            self.parts.append(Part(p.shape, p.size, where, turn @ p.rotation, p.material, p.uv, p.taper))
        self.height = max(self.height, at[2] + other.height)


def cell(index: int, columns: int, rows: int) -> tuple[float, float, float, float]:
    """The part of a sheet that shows image `index`."""
    y, x = index // columns, index % columns
    return (x / columns, y / rows, (x + 1) / columns, (y + 1) / rows)


def picture_cell(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """One image of the sheets "pictures" and "labels"."""
    return cell(int(rng.integers(PICTURES)), COLUMNS, PICTURES // COLUMNS)


def wood(rng: np.random.Generator) -> str:
    """One of the two kinds of wood of a room."""
    return str(rng.choice(["wood0", "wood1"]))


def cloth(rng: np.random.Generator) -> str:
    """One of the two kinds of cloth of a room."""
    return str(rng.choice(["cloth0", "cloth1"]))


def books(rng: np.random.Generator, length: float, high: float, deep: float) -> Piece:
    """A row of books of at most so much; some lean, some spaces are free."""
    piece = Piece("books", (length / 2, deep / 2))
    x = -length / 2
    while True:
        wide, tall = rng.uniform(0.02, 0.055), high * rng.uniform(0.6, 0.97)
        if rng.uniform() < 0.06:
            x += rng.uniform(0.03, 0.12)
        if x + wide > length / 2:
            return piece
        k, depth = int(rng.integers(BOOKS)), deep * rng.uniform(0.7, 0.95)
        at = (x + wide / 2, (deep - depth) / 2, 0.0)
        piece.add("box", (wide / 2 - 0.001, depth / 2, tall / 2), at, "books", uv=cell(k, BOOKS, 1))
        x += wide


def stuff(rng: np.random.Generator) -> Piece:
    """Something small to stand on furniture: a vase, a bowl, a pile of books, a box, a lamp, a plant, a frame."""
    kind = str(rng.choice(["vase", "bowl", "pile", "box", "lamp", "pot plant", "frame", "mug"]))
    piece = Piece(kind, (0.1, 0.1))
    paint = str(rng.choice(["paint0", "paint1", "paint2"]))
    if kind == "vase":
        r, high = rng.uniform(0.04, 0.07), rng.uniform(0.08, 0.16)
        piece.add("cylinder", (r, r, high), (0, 0, 0), paint, taper=rng.uniform(0.5, 1.4))
        for _ in range(int(rng.integers(2, 6))):
            x, y = rng.uniform(-0.06, 0.06, 2)
            piece.add("ellipsoid", (0.03, 0.03, rng.uniform(0.04, 0.08)), (x, y, 2 * high), "leaves")
    elif kind == "bowl":
        r = rng.uniform(0.08, 0.14)
        piece.add("cylinder", (0.6 * r, 0.6 * r, 0.03), (0, 0, 0), paint, taper=1.6)
        for _ in range(4):
            x, y = rng.uniform(-0.4, 0.4, 2) * r
            piece.add("ellipsoid", (0.035, 0.035, 0.035), (x, y, 0.035), str(rng.choice(["cloth0", "paint2"])))
    elif kind == "pile":
        z = 0.0
        for _ in range(int(rng.integers(2, 6))):
            thick = rng.uniform(0.01, 0.022)
            size = (rng.uniform(0.08, 0.11), rng.uniform(0.1, 0.15), thick)
            piece.add("box", size, (0, 0, z), "books", rng.uniform(-0.4, 0.4), uv=cell(int(rng.integers(16)), BOOKS, 1))
            z += 2 * thick
    elif kind == "box":
        size = (rng.uniform(0.06, 0.12), rng.uniform(0.06, 0.12), rng.uniform(0.04, 0.1))
        piece.add("box", size, (0, 0, 0), "labels", rng.uniform(-1, 1), uv=picture_cell(rng))
    elif kind == "lamp":
        piece.add("cylinder", (0.06, 0.06, 0.01), (0, 0, 0), "paint0")
        piece.add("cylinder", (0.012, 0.012, 0.12), (0, 0, 0.02), "paint0")
        piece.add("cylinder", (0.12, 0.12, 0.09), (0, 0, 0.22), cloth(rng), taper=0.6)
    elif kind == "pot plant":
        plant_into(rng, piece, 0.07, 0.12, rng.uniform(0.1, 0.2))
    elif kind == "frame":
        piece.add("box", (0.08, 0.008, 0.11), (0, 0, 0), "pictures", rng.uniform(-0.5, 0.5), uv=picture_cell(rng))
    else:
        piece.add("cylinder", (0.04, 0.04, 0.05), (0, 0, 0), paint)
    return piece


def strew(rng: np.random.Generator, piece: Piece, z: float, half: tuple[float, float], count: int) -> None:
    """Put small things on a surface, apart from each other."""
    taken: list[tuple[float, float]] = []
    for _ in range(count):
        x, y = rng.uniform(-1, 1) * (half[0] - 0.1), rng.uniform(-1, 1) * max(half[1] - 0.1, 0.0)
        if all(np.hypot(x - a, y - b) > 0.26 for a, b in taken):
            piece.put(stuff(rng), (x, y, z), rng.uniform(-0.6, 0.6))
            taken.append((x, y))


def plant_into(rng: np.random.Generator, piece: Piece, radius: float, pot: float, high: float) -> None:
    """A pot with leaves."""
    piece.add("cylinder", (radius * 0.75, radius * 0.75, pot / 2), (0, 0, 0), "paint1", taper=1.33)
    for _ in range(int(rng.integers(7, 14))):
        angle, reach = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.3, 1.6)
        size = (radius * rng.uniform(0.15, 0.35), radius * rng.uniform(0.5, 0.9), high * rng.uniform(0.12, 0.3))
        at = (reach * np.cos(angle), reach * np.sin(angle), pot + high * rng.uniform(0.0, 0.5))
        piece.add("ellipsoid", size, at, "leaves", angle, rng.uniform(-0.7, 0.7))


def legs(piece: Piece, x: float, y: float, high: float, thick: float, material: str) -> None:
    """Four legs, inset from the corners."""
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (x - thick), sy * (y - thick), 0.0)
            piece.add("box", (thick, thick, high / 2), at, material)


def table(rng: np.random.Generator) -> Piece:
    """A dining table, rectangular or round, laid with things."""
    high, material = rng.uniform(0.7, 0.76), wood(rng)
    if rng.uniform() < 0.35:
        r = rng.uniform(0.4, 0.55)
        piece = Piece("round table", (r, r))
        piece.add("cylinder", (r, r, 0.018), (0, 0, high - 0.036), material)
        piece.add("cylinder", (0.05, 0.05, high / 2 - 0.03), (0, 0, 0.03), material)
        piece.add("cylinder", (0.6 * r, 0.6 * r, 0.015), (0, 0, 0), material)
        strew(rng, piece, high, (0.65 * r, 0.65 * r), 4)
        return piece
    x, y = rng.uniform(0.5, 0.8), rng.uniform(0.35, 0.48)
    piece = Piece("table", (x, y))
    piece.add("box", (x, y, 0.018), (0, 0, high - 0.036), material)
    piece.add("box", (x - 0.06, y - 0.06, 0.03), (0, 0, high - 0.096), material)
    legs(piece, x - 0.02, y - 0.02, high - 0.036, 0.03, material)
    strew(rng, piece, high, (x, y), 6)
    return piece


def chair(rng: np.random.Generator, material: str = "wood1", seat: str = "cloth0") -> Piece:
    """A chair with a back of slats."""
    piece = Piece("chair", (0.21, 0.22))
    legs(piece, 0.2, 0.2, 0.43, 0.018, material)
    piece.add("box", (0.2, 0.2, 0.02), (0, 0, 0.42), seat)
    top = rng.uniform(0.42, 0.55)
    for sx in (-1, 1):
        piece.add("box", (0.018, 0.015, top / 2), (sx * 0.182, 0.185, 0.45), material)
    for k in range(3):
        piece.add("box", (0.165, 0.01, 0.035), (0, 0.185, 0.45 + top * (0.3 + 0.25 * k)), material)
    return piece


def sofa(rng: np.random.Generator) -> Piece:
    """A sofa or an armchair with cushions."""
    x, cover = rng.choice([0.45, 0.8, 0.95]), cloth(rng)
    other = "cloth1" if cover == "cloth0" else "cloth0"
    piece = Piece("sofa" if x > 0.5 else "armchair", (float(x), 0.42))
    piece.add("box", (x, 0.42, 0.13), (0, 0, 0.06), cover)
    piece.add("box", (x, 0.1, 0.4), (0, 0.32, 0.06), cover)
    for sx in (-1, 1):
        piece.add("box", (0.09, 0.42, 0.27), (sx * (x - 0.09), 0, 0.06), cover)
    seats = max(1, round(x / 0.4))
    wide = (x - 0.18) / seats
    for k in range(seats):
        at = -x + 0.18 + wide * (2 * k + 1)
        piece.add("box", (wide - 0.01, 0.3, 0.06), (at, -0.1, 0.32), cover)
        if rng.uniform() < 0.8:
            piece.add("box", (0.17, 0.05, 0.17), (at, 0.13, 0.44), other, rng.uniform(-0.3, 0.3), -0.3)
    return piece


def shelf(rng: np.random.Generator) -> Piece:
    """A bookshelf with books and things."""
    x, y, high, material = rng.uniform(0.35, 0.6), rng.uniform(0.14, 0.18), rng.uniform(1.5, 2.1), wood(rng)
    piece = Piece("bookshelf", (x, y))
    for sx in (-1, 1):
        piece.add("box", (0.012, y, high / 2), (sx * (x - 0.012), 0, 0), material)
    piece.add("box", (x, 0.006, high / 2), (0, y - 0.006, 0), material)
    levels = int(rng.integers(4, 7))
    step = (high - 0.1) / levels
    for k in range(levels + 1):
        z = 0.06 + k * step
        piece.add("box", (x - 0.012, y, 0.01), (0, 0, z), material)
        if k == levels or rng.uniform() < 0.15:
            strew(rng, piece, z + 0.02, (x - 0.05, y), 2) if k == levels else None
            continue
        if rng.uniform() < 0.2:
            piece.put(stuff(rng), (rng.uniform(-0.5, 0.5) * x, 0, z + 0.02))
            continue
        row = books(rng, 2 * x - 0.04, min(step - 0.03, 0.3), 2 * y - 0.03)
        piece.put(row, (0, 0, z + 0.02))
    return piece


def cabinet(rng: np.random.Generator) -> Piece:
    """A chest of drawers or a sideboard, with things on it."""
    x, y, high, material = rng.uniform(0.4, 0.8), rng.uniform(0.2, 0.27), rng.uniform(0.6, 1.0), wood(rng)
    front = str(rng.choice(["wood0", "wood1", "paint0", "paint2"]))
    piece = Piece("cabinet", (x, y))
    piece.add("box", (x, y, high / 2), (0, 0, 0), material)
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    w, h = x / columns, (high - 0.08) / rows / 2
    for i in range(rows):
        for j in range(columns):
            at = (-x + w * (2 * j + 1), -y - 0.006, 0.06 + 2 * h * i)
            piece.add("box", (w - 0.012, 0.008, h - 0.012), at, front)
            piece.add("ellipsoid", (0.016, 0.016, 0.016), (at[0], -y - 0.02, at[2] + h), "paint1")
    strew(rng, piece, high, (x, y), 5)
    return piece


def desk(rng: np.random.Generator) -> Piece:
    """A desk with a screen, papers and things."""
    x, y, high, material = rng.uniform(0.55, 0.75), rng.uniform(0.3, 0.38), 0.73, wood(rng)
    piece = Piece("desk", (x, y))
    piece.add("box", (x, y, 0.015), (0, 0, high - 0.03), material)
    for sx in (-1, 1):
        piece.add("box", (0.015, y, high / 2 - 0.015), (sx * (x - 0.02), 0, 0), material)
    piece.add("box", (0.2, y - 0.03, 0.25), (x - 0.25, 0, 0.15), "paint0")
    piece.add("box", (0.26, 0.012, 0.16), (0, y - 0.12, high + 0.1), "pictures", uv=picture_cell(rng))
    piece.add("box", (0.03, 0.03, 0.06), (0, y - 0.1, high), "paint1")
    piece.add("box", (0.2, 0.07, 0.01), (0, -0.05, high), "paint2")
    for _ in range(3):
        at = (rng.uniform(-0.8, 0.8) * x, -y + 0.15, high)
        piece.add("box", (0.105, 0.148, 0.002), at, "labels", rng.uniform(-1, 1), uv=picture_cell(rng))
    piece.put(stuff(rng), (-x + 0.15, 0.1, high))
    piece.put(stuff(rng), (x - 0.15, 0.1, high))
    return piece


def bed(rng: np.random.Generator) -> Piece:
    """A bed, its head towards the wall."""
    x, y, material = rng.choice([0.45, 0.7]), 1.0, wood(rng)
    piece = Piece("bed", (float(x), y))
    piece.add("box", (x, y, 0.14), (0, 0, 0.08), material)
    piece.add("box", (x, 0.03, 0.45), (0, y - 0.03, 0), material)
    piece.add("box", (x - 0.02, y - 0.05, 0.09), (0, -0.02, 0.33), "paint2")
    piece.add("box", (x, 0.65, 0.1), (0, -0.33, 0.34), cloth(rng))
    for k in range(1 if x < 0.5 else 2):
        at = 0.0 if x < 0.5 else (k - 0.5) * x
        piece.add("box", (0.3, 0.18, 0.06), (at, y - 0.3, 0.51), "cloth1", rng.uniform(-0.1, 0.1), 0.15)
    return piece


def boxes(rng: np.random.Generator) -> Piece:
    """A pile of printed boxes."""
    piece = Piece("boxes", (0.3, 0.3))
    z = 0.0
    for k in range(int(rng.integers(1, 4))):
        wide, deep = rng.uniform(0.13, 0.27 - 0.05 * k, 2).tolist()
        size = (wide, deep, rng.uniform(0.1, 0.2))
        piece.add("box", size, (0, 0, z), "labels", rng.uniform(-0.3, 0.3), uv=picture_cell(rng))
        z += 2 * size[2]
    return piece


def floor_lamp(rng: np.random.Generator) -> Piece:
    """A standing lamp."""
    piece = Piece("floor lamp", (0.2, 0.2))
    high = rng.uniform(1.3, 1.6)
    piece.add("cylinder", (0.15, 0.15, 0.015), (0, 0, 0), "paint1")
    piece.add("cylinder", (0.015, 0.015, high / 2), (0, 0, 0.02), "paint1")
    piece.add("cylinder", (0.2, 0.2, 0.14), (0, 0, high - 0.1), cloth(rng), taper=rng.uniform(0.5, 0.9))
    return piece


def plant(rng: np.random.Generator) -> Piece:
    """A large plant in a pot."""
    piece = Piece("plant", (0.25, 0.25))
    pot, high = rng.uniform(0.25, 0.4), rng.uniform(0.6, 1.1)
    plant_into(rng, piece, rng.uniform(0.14, 0.2), pot, high)
    piece.add("cylinder", (0.02, 0.02, high * 0.35), (0, 0, pot), "wood1")
    return piece


def low_table(rng: np.random.Generator) -> Piece:
    """A coffee table."""
    x, y, high, material = rng.uniform(0.35, 0.55), rng.uniform(0.25, 0.35), rng.uniform(0.35, 0.45), wood(rng)
    piece = Piece("coffee table", (x, y))
    piece.add("box", (x, y, 0.015), (0, 0, high - 0.03), material)
    piece.add("box", (x - 0.05, y - 0.05, 0.008), (0, 0, 0.12), material)
    legs(piece, x, y, high - 0.03, 0.022, material)
    strew(rng, piece, high, (x, y), 4)
    return piece


def stool(rng: np.random.Generator) -> Piece:
    """A pouf or stool."""
    piece = Piece("stool", (0.2, 0.2))
    piece.add("cylinder", (0.2, 0.2, rng.uniform(0.18, 0.24)), (0, 0, 0), cloth(rng), taper=rng.uniform(0.85, 1.0))
    return piece


Maker = Callable[[np.random.Generator], Piece]
ALONG_WALLS: tuple[Maker, ...] = (shelf, shelf, cabinet, cabinet, sofa, desk, bed, plant, floor_lamp, boxes, sofa)
SMALL: tuple[Maker, ...] = (plant, floor_lamp, boxes, stool, boxes)
