"""A room from a seed: its size, what it is made of, what stands in it and hangs on its walls, and its light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.rooms import furniture as make
from wfm_sim.assets.rooms import textures
from wfm_sim.assets.rooms.furniture import Piece
from wfm_sim.assets.rooms.room import Light, Material, Part, Room, turned
from wfm_sim.assets.rooms.shade import shade_floor, shade_upright
from wfm_sim.errors import UserError

Array = NDArray[np.float64]
Place = Callable[[Piece, Array, float], bool]
TEXEL = 0.006  # metres, of floor, walls and ceiling
MARGIN = 0.05  # metres between pieces
CORRIDOR = 1.0  # metres that the piece in the middle leaves free on every side, at least
FLOORS = (textures.planks, textures.parquet, textures.tiles, textures.planks)
WALLS = (textures.plaster, textures.wallpaper, textures.bricks, textures.plaster, textures.wallpaper)


def build_room(seed: int) -> Room:
    """The room of a seed: 3 to 6 m a side, 2.4 to 2.9 m high, with 6 to 14 pieces of furniture.

    Raises:
        UserError: a seed below 0.
    """
    if seed < 0:
        raise UserError(f"the seed of a room must be at least 0, not {seed}")
    rng = np.random.default_rng([int(seed), 6001])
    size = (float(rng.uniform(3.4, 6.0)), float(rng.uniform(3.2, 5.4)), float(rng.uniform(2.4, 2.9)))
    placed = _furnish(rng, size)
    parts: list[Part] = []
    for piece, at, yaw in placed:
        turn = turned(yaw)
        parts += [
            Part(p.shape, p.size, turn @ p.position + [*at, 0.0], turn @ p.rotation, p.material, p.uv, p.taper)
            for p in piece.parts
        ]
    interest = [np.array([*at, min(piece.height * 0.7, 1.6)]) for piece, at, _ in placed]
    hung, seen = _hang(rng, size, placed)
    lamp = np.array([rng.uniform(-0.2, 0.2) * size[0], rng.uniform(-0.2, 0.2) * size[1], size[2] - 0.35])
    window = seen[0]  # the first thing hung is the window
    parts += hung + _trim(size, lamp)
    materials = _materials(rng)
    parts += _shell(rng, size, materials, parts, lamp, window)
    lights, ambient = _lights(rng, window)
    names = tuple(piece.name for piece, _, _ in placed)
    points = np.array([*interest, *seen])
    return Room(int(seed), size, tuple(parts), materials, lights, ambient, names, points)


def _wall_frame(size: tuple[float, float, float], wall: int) -> tuple[float, Array, float]:
    """(yaw that turns +y towards the wall, direction along it to the right as seen from inside, its length)."""
    yaw = (0.0, -np.pi / 2, np.pi, np.pi / 2)[wall]
    return yaw, turned(yaw)[:, 0], size[0] if wall % 2 == 0 else size[1]


def _furnish(rng: np.random.Generator, size: tuple[float, float, float]) -> list[tuple[Piece, Array, float]]:
    """Pieces with the place (x, y) and yaw of each; none overlap."""
    placed: list[tuple[Piece, Array, float]] = []
    taken: list[tuple[Array, Array]] = []

    def fits(low: Array, high: Array) -> bool:
        inside = bool((low >= -np.array(size[:2]) / 2).all() and (high <= np.array(size[:2]) / 2).all())
        return inside and not any((low < b + MARGIN).all() and (high > a - MARGIN).all() for a, b in taken)

    def place(piece: Piece, at: Array, yaw: float) -> bool:
        half = np.abs(turned(yaw)[:2, :2]) @ piece.half
        if not fits(at - half, at + half):
            return False
        placed.append((piece, at, yaw))
        taken.append((at - half, at + half))
        return True

    _furnish_middle(rng, size, place)
    order = [make.ALONG_WALLS[i] for i in rng.permutation(len(make.ALONG_WALLS))]
    order += [make.SMALL[i] for i in rng.permutation(len(make.SMALL))]
    wanted = round(size[0] + size[1]) + int(rng.integers(-2, 3))
    for maker in order:
        if len(placed) >= wanted + 3:
            break
        piece = maker(rng)
        for _ in range(12):
            wall = int(rng.integers(4))
            yaw, along, length = _wall_frame(size, wall)
            slack = length / 2 - piece.half[0] - 0.02
            if slack <= 0:
                continue
            depth = (size[1] if wall % 2 == 0 else size[0]) / 2 - piece.half[1] - rng.uniform(0.01, 0.05)
            at = along[:2] * rng.uniform(-slack, slack) + turned(yaw)[:2, 1] * depth
            if place(piece, at, yaw):
                break
    return placed


def _furnish_middle(rng: np.random.Generator, size: tuple[float, float, float], place: Place) -> None:
    """A table with chairs, a coffee table on a rug, or nothing but a rug: in the middle, with room to walk round it."""
    kind = str(rng.choice(["dining", "coffee", "rug", "dining"]))
    centre = np.array([rng.uniform(-0.12, 0.12) * size[0], rng.uniform(-0.12, 0.12) * size[1]])
    yaw = float(rng.choice([0.0, np.pi / 2]))
    room_to_walk = min(size[0], size[1]) > 3.9
    if kind == "rug" or rng.uniform() < 0.5:
        half = (rng.uniform(0.6, 0.22 * size[0] + 0.3), rng.uniform(0.5, 0.22 * size[1] + 0.2))
        rug = Piece("rug", (0.0, 0.0))  # one can stand on it
        rug.add("box", (half[0], half[1], 0.004), (0, 0, 0), "rug", uv=(0.0, 0.0, 1.0, 1.0))
        place(rug, centre, float(rng.uniform(-0.15, 0.15)))
    if kind == "dining" and room_to_walk:
        table = make.table(rng)
        if place(table, centre, yaw):
            _set_chairs(rng, table, centre, yaw, place)
    elif kind == "coffee" or not room_to_walk:
        place(make.low_table(rng), centre, yaw)


def _set_chairs(rng: np.random.Generator, table: Piece, centre: Array, yaw: float, place: Place) -> None:
    x, y = table.half
    sides = [(-0.45 * x, -1), (0.45 * x, -1), (-0.45 * x, 1), (0.45 * x, 1)]
    if table.name == "round table":
        sides = [(0.0, -1), (0.0, 1)]
    for along, side in sides:
        if rng.uniform() < 0.3:
            continue
        pulled = y + 0.22 + rng.uniform(0.06, 0.2)  # drawn back from the table
        at = centre + turned(yaw)[:2, :2] @ [along, side * pulled]
        place(make.chair(rng), at, yaw + (0.0 if side > 0 else np.pi))


def _hang(
    rng: np.random.Generator, size: tuple[float, float, float], placed: list[tuple[Piece, Array, float]]
) -> tuple[list[Part], list[Array]]:
    """Window, door, pictures, a clock, wall shelves: parts, and the middle of each. The window comes first."""
    parts: list[Part] = []
    seen: list[Array] = []
    spans: list[tuple[int, float, float, float, float]] = []  # wall, left, right, bottom, top

    for piece, at, yaw in placed:
        for wall in range(4):
            wall_yaw, along, _ = _wall_frame(size, wall)
            inwards = (size[1] if wall % 2 == 0 else size[0]) / 2 - float(turned(wall_yaw)[:2, 1] @ at)
            half = np.abs(turned(wall_yaw)[:2, :2].T @ turned(yaw)[:2, :2]) @ piece.half
            if inwards - half[1] < 0.3:
                middle = float(along[:2] @ at)
                spans.append((wall, middle - half[0], middle + half[0], 0.0, piece.height))

    def hang(piece: Piece, wall: int, along_wall: float, z: float, half: tuple[float, float], force: bool) -> bool:
        box = (wall, along_wall - half[0], along_wall + half[0], z - half[1], z + half[1])
        meets = [
            s for s in spans if s[0] == wall and s[1] < box[2] and s[2] > box[1] and s[3] < box[4] and s[4] > box[3]
        ]
        if meets and not force:
            return False
        spans.append(box)
        yaw, along, _ = _wall_frame(size, wall)
        turn = turned(yaw)
        depth = (size[1] if wall % 2 == 0 else size[0]) / 2
        origin = along * along_wall + turn[:, 1] * depth
        for p in piece.parts:
            where = turn @ p.position + origin
            parts.append(Part(p.shape, p.size, where, turn @ p.rotation, p.material, p.uv, p.taper))
        seen.append(np.array([origin[0], origin[1], z]))
        return True

    def somewhere(piece: Piece, z: float, half: tuple[float, float], tries: int = 8, force: bool = False) -> bool:
        for k in range(tries):
            wall = int(rng.integers(4))
            slack = _wall_frame(size, wall)[2] / 2 - half[0] - 0.05
            if slack > 0 and hang(piece, wall, float(rng.uniform(-slack, slack)), z, half, force and k == tries - 1):
                return True
        return False

    window, extent, z = _window(rng, size)
    somewhere(window, z, extent, force=True)
    if not seen:  # every wall was shorter than the window: it never is, but the rest relies on it
        hang(window, 0, 0.0, z, extent, True)
    door = Piece("door", (0.45, 0.02))
    door.add("box", (0.46, 0.02, 1.03), (0, 0, 0), "paint1")
    door.add("box", (0.4, 0.03, 1.0), (0, 0, 0.0), "wood0")
    for k in (0.25, 1.15):
        door.add("box", (0.27, 0.035, 0.32), (0, 0, k), "wood1")
    door.add("ellipsoid", (0.025, 0.06, 0.025), (0.33, -0.04, 1.0), "paint1")
    somewhere(door, 1.02, (0.47, 1.02))
    for _ in range(int(rng.integers(5, 11))):
        w, h = rng.uniform(0.15, 0.42), rng.uniform(0.15, 0.4)
        picture = Piece("picture", (w, 0.02))
        z = rng.uniform(1.3, 1.75)
        uv = make.picture_cell(rng)
        if rng.uniform() < 0.8:
            picture.add("box", (w + 0.025, 0.012, h + 0.025), (0, -0.012, z - h - 0.025), make.wood(rng))
        picture.add("box", (w, 0.018, h), (0, -0.018, z - h), "pictures", uv=uv)
        somewhere(picture, z, (w + 0.04, h + 0.04), 5)
    for _ in range(int(rng.integers(0, 3))):
        x, z = rng.uniform(0.25, 0.5), rng.uniform(1.2, 1.6)
        board = Piece("wall shelf", (x, 0.1))
        board.add("box", (x, 0.1, 0.01), (0, -0.1, z), make.wood(rng))
        board.put(make.books(rng, 2 * x * rng.uniform(0.4, 0.95), 0.24, 0.16), (0, -0.1, z + 0.02))
        somewhere(board, z + 0.12, (x, 0.2), 6)
    return parts, seen


def _window(rng: np.random.Generator, size: tuple[float, float, float]) -> tuple[Piece, tuple[float, float], float]:
    """A window with a frame, a view and curtains: the piece, its half extents on the wall, and its height."""
    w, h = rng.uniform(0.4, 0.75), rng.uniform(0.4, 0.6)
    z = min(1.45, size[2] - h - 0.2)
    piece = Piece("window", (w, 0.03))
    piece.add("box", (w, 0.01, h), (0, -0.005, z - h), "view", uv=(0.0, 0.0, 1.0, 1.0))
    for x in (-w, 0.0, w):
        piece.add("box", (0.03, 0.03, h + 0.03), (x, -0.02, z - h - 0.03), "paint2")
    for y in (-h, rng.uniform(0.1, 0.5) * h, h):
        piece.add("box", (w + 0.03, 0.03, 0.03), (0, -0.02, z + y - 0.03), "paint2")
    if rng.uniform() < 0.7:
        for side in (-1, 1):
            low = z - h - 0.15
            piece.add("box", (0.13, 0.035, (z + h + 0.1 - low) / 2), (side * (w + 0.13), -0.05, low), make.cloth(rng))
        piece.add("cylinder", (0.012, 0.012, 0.01), (0, -0.05, z + h + 0.1), "paint1")
    return piece, (w + 0.28, h + 0.18), z


def _trim(size: tuple[float, float, float], lamp: Array) -> list[Part]:
    """Skirting boards and the lamp that hangs from the ceiling."""
    parts = []
    for wall in range(4):
        yaw, _, length = _wall_frame(size, wall)
        depth = (size[1] if wall % 2 == 0 else size[0]) / 2
        at = turned(yaw)[:, 1] * (depth - 0.006) + [0, 0, 0.04]
        parts.append(Part("box", (length / 2, 0.006, 0.04), at, turned(yaw), "wood1"))
    cord = (size[2] - lamp[2]) / 2
    parts.append(Part("cylinder", (0.008, 0.008, cord), lamp + np.array([0, 0, cord]), np.eye(3), "paint1"))
    parts.append(Part("cylinder", (0.22, 0.22, 0.1), lamp - np.array([0, 0, 0.05]), np.eye(3), "cloth1", None, 0.5))
    return parts


def _materials(rng: np.random.Generator) -> dict[str, Material]:
    """All but floor, walls and ceiling, which are made with their light."""
    made: dict[str, Material] = {}

    def keep(name: str, pixels: textures.Image, metres: float = 1.0) -> None:
        made[name] = Material(name, pixels, metres)

    small, one = (384, 384), (1.0, 1.0)
    for k in range(2):
        keep(f"wood{k}", textures.timber(rng, small, one))
        keep(f"cloth{k}", textures.fabric(rng, small, one))
    for k in range(3):
        keep(f"paint{k}", textures.painted(rng, (256, 256), one))
    keep("leaves", textures.leaves(rng, (256, 256), (0.4, 0.4)), 0.4)
    keep("books", textures.spines(rng, (256, 32 * make.BOOKS), make.BOOKS))
    images = [textures.picture(rng, (224, 224)) for _ in range(make.PICTURES)]
    keep("pictures", textures.sheet(images, make.COLUMNS))
    labels = [textures.picture(rng, (128, 128)) for _ in range(make.PICTURES)]
    keep("labels", textures.sheet(labels, make.COLUMNS))
    keep("rug", textures.rug(rng, (384, 512)))
    view = textures.picture(rng, (192, 192), kind=1).astype(np.float32)
    keep("view", np.asarray(120 + 0.53 * view, np.uint8))
    return made


def _shell(
    rng: np.random.Generator,
    size: tuple[float, float, float],
    materials: dict[str, Material],
    things: list[Part],
    lamp: Array,
    window: Array,
) -> list[Part]:
    """Floor, walls and ceiling as panels; their textures hold the light and the shadows of what stands near."""
    x, y, z = size
    floor_kind = FLOORS[int(rng.integers(len(FLOORS)))]
    plain_kind, accent_kind = (WALLS[int(rng.integers(len(WALLS)))] for _ in range(2))
    accent = int(rng.integers(4))
    parts = []

    def add(name: str, pixels: textures.Image, half: tuple[float, float], at: Array, axes: Array) -> None:
        materials[name] = Material(name, pixels)
        parts.append(Part("panel", (*half, 0.0), at, axes, name, (0.0, 0.0, 1.0, 1.0)))

    floor = floor_kind(rng, (round(y / TEXEL), round(x / TEXEL)), (y, x))
    add("floor", shade_floor(floor, size, things, lamp, window), (x / 2, y / 2), np.zeros(3), np.eye(3))
    above = textures.plaster(rng, (round(y / TEXEL / 1.5), round(x / TEXEL / 1.5)), (y, x))
    bright = np.asarray(90 + 0.65 * above, np.uint8)
    down = np.diag([1.0, -1.0, -1.0])
    add("ceiling", bright, (x / 2, y / 2), np.array([0, 0, z]), down)
    # Painted as one strip around the room, and cut: one colour, and no two walls alike.
    lengths = [x if wall % 2 == 0 else y for wall in range(4)]
    around = sum(lengths)
    strip = plain_kind(rng, (round(z / TEXEL), round(around / TEXEL)), (z, around))
    begin = 0.0
    for wall, length in enumerate(lengths):
        turn = turned(_wall_frame(size, wall)[0])
        if wall == accent and rng.uniform() < 0.7:
            image = accent_kind(rng, (round(z / TEXEL), round(length / TEXEL)), (z, length))
        else:
            image = strip[:, round(begin / TEXEL) : round((begin + length) / TEXEL)]
        begin += length
        # Seen from inside: x to the right, y up, z (the normal) into the room.
        axes = np.stack((turn[:, 0], [0, 0, 1], -turn[:, 1]), axis=1)
        half = (length / 2, z / 2)
        at = turn[:, 1] * (y if wall % 2 == 0 else x) / 2 + [0, 0, z / 2]
        add(f"wall{wall}", shade_upright(image, axes, at, half, lamp, window), half, at, axes)
    return parts


def _lights(rng: np.random.Generator, window: Array) -> tuple[tuple[Light, ...], float]:
    """From the window, from above, and a little from below (what the floor throws back)."""
    inwards = -np.array([window[0], window[1], 1.2])
    inwards /= np.linalg.norm(inwards)
    warm = rng.uniform(-0.06, 0.06)
    strength = rng.uniform(0.28, 0.42)
    tilt = rng.uniform(-0.35, 0.35, 2)
    above = np.array([*tilt, -1.0]) / np.linalg.norm([*tilt, 1.0])
    sun = Light(tuple(inwards.tolist()), (strength * (1 + warm), strength, strength * (1 - warm)))
    lamp = Light(tuple(above.tolist()), (0.36 * (1 - warm), 0.36, 0.36 * (1 + warm)))
    back = Light((0.0, 0.0, 1.0), (0.2,) * 3)
    return (sun, lamp, back), float(rng.uniform(0.58, 0.72))
