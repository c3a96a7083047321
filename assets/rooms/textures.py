"""Procedural surfaces of rooms: functions of (rng, size in pixels, size in metres) that give uint8 [h, w, 3].

Every one has detail at all scales from a metre down to a texel, and none repeats within itself: what a camera must
recognise from another place has to be unlike its surroundings, near by and far away.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.float32]
Image = NDArray[np.uint8]
Size = tuple[int, int]  # height, width
Metres = tuple[float, float]


def hsv(hue: float, saturation: float, value: float) -> Field:
    """RGB 0..1, float32 [3]; the hue wraps, the others are clipped."""
    s, v = float(np.clip(saturation, 0, 1)), float(np.clip(value, 0, 1))
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, s, v), np.float32)


def muted(rng: np.random.Generator, light: tuple[float, float] = (0.55, 0.85)) -> Field:
    """A colour for large surfaces."""
    return hsv(rng.uniform(), rng.uniform(0.05, 0.35), rng.uniform(*light))


def vivid(rng: np.random.Generator) -> Field:
    """A colour for small things."""
    return hsv(rng.uniform(), rng.uniform(0.45, 0.9), rng.uniform(0.4, 0.95))


def wooden(rng: np.random.Generator) -> Field:
    """A colour of wood, from ebony to birch."""
    return hsv(rng.uniform(0.04, 0.11), rng.uniform(0.25, 0.65), rng.uniform(0.35, 0.85))


def fractal(rng: np.random.Generator, size: Size, coarsest: float, finest: float = 2.0, gain: float = 0.75) -> Field:
    """Noise of zero mean and unit deviation, [h, w], with blobs from `coarsest` down to `finest` pixels across.

    gain: Amplitude of each octave relative to the one twice as coarse.
    """
    import cv2

    height, width = size
    total = np.zeros(size, np.float32)
    pixels, weight = float(coarsest), 1.0
    while pixels >= finest:
        cells = (max(2, round(height / pixels)), max(2, round(width / pixels)))
        knots = rng.standard_normal(cells, np.float32)
        total += weight * cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)
        pixels, weight = pixels / 2, weight * gain
    total -= total.mean()
    return np.asarray(total / max(float(total.std()), 1e-6))


def stretched(rng: np.random.Generator, size: Size, along: float, across: float) -> Field:
    """Streaks [h, w] along the rows, `along` by `across` pixels: grain."""
    import cv2

    height, width = size
    out = np.zeros(size, np.float32)
    for part in (1.0, 0.45):
        cells = (max(2, round(height / (across * part))), max(2, round(width / (along * part))))
        out += cv2.resize(rng.standard_normal(cells, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(out / 1.4)


def paint(rgb: ArrayLike, tone: ArrayLike, tint: Field | None = None) -> Image:
    """A colour [3] or [h, w, 3] times a tone [h, w] around 1, with a slight drift from red to blue by `tint`."""
    import cv2

    colour: Field = np.asarray(rgb, np.float32)
    plain: Field = np.asarray(tone, np.float32)
    channels = []
    for k, drift in enumerate((0.05, 0.0, -0.05)):
        channel = plain * colour[..., k]
        if tint is not None and drift:
            channel *= 1 + np.float32(drift) * tint
        channels.append(cv2.convertScaleAbs(np.maximum(channel, 0), alpha=255))
    return np.asarray(cv2.merge(channels), np.uint8)


def textured(image: Image, tone: Field) -> Image:
    """An image times a tone [h, w] around 1."""
    import cv2

    three = cv2.merge([tone, tone, tone])
    return np.asarray(cv2.multiply(image, three, dtype=cv2.CV_8U), np.uint8)


def patches(rng: np.random.Generator, size: Size, pixels: float, share: float) -> Field:
    """Blotches with crisp edges, about `pixels` across, that cover this share: 0 or 1, [h, w]."""
    field = fractal(rng, size, pixels, max(2.0, pixels / 3), 0.6)
    return np.asarray(field > np.quantile(field[::7, ::7], 1 - share), np.float32)


def _metre_grid(size: Size, metres: Metres) -> tuple[Field, Field]:
    v = (np.arange(size[0], dtype=np.float32) + 0.5) * (metres[0] / size[0])
    u = (np.arange(size[1], dtype=np.float32) + 0.5) * (metres[1] / size[1])
    return u[None, :], v[:, None]


def _cells(u: Field, v: Field, wide: float, high: float, shift: Field | float) -> tuple[NDArray[np.int32], Field]:
    """Number of the cell of a running bond, and the distance to its border, both [h, w]; metres."""
    row = np.floor(v / high)
    moved = u + np.asarray(shift, np.float32) * wide
    column = np.floor(moved / wide)
    du, dv = moved - column * wide, v - row * high
    border = np.minimum(np.minimum(du, wide - du), np.minimum(dv, high - dv))
    return (row * 131 + column).astype(np.int32), np.asarray(border, np.float32)


def _per_cell(rng: np.random.Generator, cell: NDArray[np.int32]) -> Field:
    """One number of unit deviation for each cell, [h, w]."""
    table = rng.standard_normal(4096, np.float32)
    return np.asarray(table[(cell * 7919) & 4095])


def planks(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Boards along the rows."""
    u, v = _metre_grid(size, metres)
    high = rng.uniform(0.08, 0.2)
    shift = rng.uniform(0, 1, 512).astype(np.float32)[np.floor(v / high).astype(int) % 512]
    cell, border = _cells(u, v, rng.uniform(0.7, 1.6), high, shift)
    per_metre = size[1] / metres[1]
    grain = stretched(rng, size, 0.25 * per_metre, 0.012 * per_metre)
    tone = 1 + 0.13 * _per_cell(rng, cell) + 0.09 * grain
    tone += 0.07 * fractal(rng, size, 0.3 * per_metre, 3)
    tone *= 1 - 0.55 * (border < 0.004)
    return paint(wooden(rng), tone, _per_cell(rng, cell + 5))


def parquet(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Squares of staves, turned by turns."""
    u, v = _metre_grid(size, metres)
    side, staves = rng.uniform(0.25, 0.5), int(rng.integers(4, 7))
    i, j = np.floor(v / side), np.floor(u / side)
    upright = (i + j) % 2 > 0
    across = np.where(upright, u / side - j, v / side - i)
    stave = np.floor(across * staves)
    cell = (i * 977 + j * 31 + stave).astype(np.int32)
    per_metre = size[1] / metres[1]
    grain = np.where(upright, stretched(rng, size[::-1], 0.15 * per_metre, 0.01 * per_metre).T,
                     stretched(rng, size, 0.15 * per_metre, 0.01 * per_metre))  # fmt: skip
    tone = 1 + 0.14 * _per_cell(rng, cell) + 0.08 * grain + 0.06 * fractal(rng, size, 0.4 * per_metre, 3)
    edge = np.abs(across * staves - np.round(across * staves)) * side / staves
    return paint(wooden(rng), np.asarray(tone * (1 - 0.4 * (edge < 0.003)), np.float32), _per_cell(rng, cell + 3))


def tiles(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Stone or ceramic with joints."""
    u, v = _metre_grid(size, metres)
    side = rng.uniform(0.2, 0.5)
    cell, border = _cells(u, v, side, side, 0.0)
    per_metre = size[1] / metres[1]
    vein = fractal(rng, size, 0.5 * per_metre, 2, 0.8)
    marble = np.exp(-6 * np.abs(np.sin(1.5 * vein + u / side)))
    tone = 1 + 0.1 * _per_cell(rng, cell) - 0.28 * marble + 0.07 * fractal(rng, size, 0.1 * per_metre, 2)
    if rng.uniform() < 0.4:
        tone *= 1 - 0.35 * ((cell // 131 + cell % 131) % 2)
    out = paint(muted(rng), tone, _per_cell(rng, cell + 9))
    out[border < rng.uniform(0.003, 0.006)] = (muted(rng, (0.3, 0.6)) * 255).astype(np.uint8)
    return out


def bricks(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """A wall of bricks, bare or whitewashed."""
    u, v = _metre_grid(size, metres)
    high = rng.uniform(0.065, 0.1)
    cell, border = _cells(u, v, high * rng.uniform(2.6, 3.4), high, 0.5 * (np.floor(v / high) % 2))
    per_metre = size[1] / metres[1]
    bare = rng.uniform() < 0.6
    rgb = hsv(rng.uniform(0.0, 0.06), rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.7)) if bare else muted(rng)
    tone = 1 + 0.17 * _per_cell(rng, cell) + 0.12 * fractal(rng, size, 0.08 * per_metre, 2)
    tone += 0.08 * fractal(rng, size, 0.8 * per_metre, 20)
    rough = border + 0.002 * fractal(rng, size, 8, 2)
    tone = np.where(rough < 0.007, (1.25 if bare else 0.7) + 0.08 * fractal(rng, size, 8, 2), tone)
    return paint(rgb, tone, _per_cell(rng, cell + 1))


def plaster(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Paint on roughcast: sponged, stippled, or dabbed with a second colour."""
    per_metre = size[1] / metres[1]
    rgb = muted(rng, (0.65, 0.95))
    tone = 1 + 0.06 * fractal(rng, size, 0.7 * per_metre, 3, 0.9)
    strength = rng.uniform(0.6, 1.3)
    tone -= 0.13 * strength * patches(rng, size, rng.uniform(0.06, 0.16) * per_metre, 0.22)
    tone += 0.12 * strength * patches(rng, size, rng.uniform(0.03, 0.07) * per_metre, 0.1)
    tone -= 0.2 * strength * patches(rng, size, 0.02 * per_metre, 0.04)
    if rng.uniform() < 0.5:
        dab = patches(rng, size, rng.uniform(0.1, 0.25) * per_metre, 0.25)[..., None]
        return paint(rgb + (muted(rng, (0.5, 0.9)) - rgb) * np.float32(0.5) * dab, tone)
    return paint(rgb, tone, fractal(rng, size, per_metre, 10))


def wallpaper(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Stripes and scattered motifs; the motifs vary in size, turn and colour, so that no two places are alike."""
    import cv2

    u, _ = _metre_grid(size, metres)
    per_metre = size[1] / metres[1]
    base, other = muted(rng, (0.65, 0.9)), muted(rng, (0.45, 0.8))
    wide = rng.uniform(0.08, 0.3)
    stripe = (np.sin(2 * np.pi * u / wide) > rng.uniform(-0.5, 0.9)).astype(np.float32) * np.ones((size[0], 1))
    rgb = base + (other - base) * (rng.uniform(0.2, 0.8) * stripe[..., None]).astype(np.float32)
    tone = 1 + 0.05 * fractal(rng, size, 0.5 * per_metre, 2, 0.9)
    tone -= 0.1 * patches(rng, size, 0.03 * per_metre, 0.12)
    out = paint(rgb, tone)
    colours = [(vivid(rng) * 200 + 30).tolist() for _ in range(4)]
    step = rng.uniform(0.12, 0.3)
    for k, y in enumerate(np.arange(step / 2, metres[0], step)):
        for x in np.arange(step / 2 * (1 + k % 2), metres[1] + step, step):
            at = (int(x * per_metre), int(y * size[0] / metres[0]))
            shape(rng, out, at, rng.uniform(0.15, 0.42) * step * per_metre, colours[int(rng.integers(4))])
    return np.asarray(cv2.GaussianBlur(out, (0, 0), 0.7), np.uint8)


def shape(
    rng: np.random.Generator, image: Image, at: tuple[int, int], radius: float, colour: list[float], fill: int = -1
) -> None:
    """Draw one random figure: a polygon, a star, an ellipse, a ring or a leaf."""
    import cv2

    kind = int(rng.integers(5))
    turn = rng.uniform(0, 2 * np.pi)
    if kind in (0, 1):
        corners = int(rng.integers(3, 8))
        angle = turn + 2 * np.pi * np.arange(2 * corners) / (2 * corners)
        reach = radius * np.where(np.arange(2 * corners) % 2, 1.0 if kind == 0 else rng.uniform(0.35, 0.6), 1.0)
        points = np.stack((np.cos(angle), np.sin(angle)), -1) * reach[:, None] + at
        cv2.fillPoly(image, [np.round(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
        return
    axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.3, 1.0))))
    cv2.ellipse(image, at, axes, float(np.degrees(turn)), 0, 360, colour, fill if kind != 3 else 2, cv2.LINE_AA)
    if kind == 4:
        inner = [min(255.0, c * 0.5 + 90) for c in colour]
        cv2.circle(image, at, max(1, int(radius * 0.25)), inner, -1, cv2.LINE_AA)


def picture(rng: np.random.Generator, size: Size, kind: int | None = None) -> Image:
    """A painting: abstract figures (kind 0), a landscape of ridges (1), or blocks of colour (2)."""
    import cv2

    height, width = size
    kind = int(rng.integers(3)) if kind is None else kind
    if kind == 1:
        sky = np.linspace(1.1, 0.7, height, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
        out = paint(vivid(rng) * 0.5 + 0.45, sky + 0.05 * fractal(rng, size, width / 3, 3))
        colour = vivid(rng)
        for k in range(5):
            ridge = height * (0.35 + 0.13 * k) + height * 0.08 * fractal(rng, (2, width), width / 3, 4, 0.55)[0]
            below = np.arange(height)[:, None] > ridge[None]
            tone = 0.55 + 0.1 * k + 0.12 * fractal(rng, size, 20, 2)
            out = np.where(below[..., None], paint(0.6 * colour + 0.4 * vivid(rng), tone), out)
        out = np.ascontiguousarray(out)
        cv2.circle(
            out, (int(width * rng.uniform(0.2, 0.8)), int(height * 0.2)), int(height * 0.08), (250, 240, 200), -1
        )
        return out
    out = paint(muted(rng, (0.5, 0.95)), 1 + 0.1 * fractal(rng, size, width / 2, 2))
    if kind == 2:
        _blocks(rng, out, 0, 0, height, width, 4)
    for _ in range(int(rng.integers(8, 26)) if kind == 0 else 5):
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        shape(rng, out, at, rng.uniform(0.03, 0.22) * width, (vivid(rng) * 255).tolist())
    return textured(out, 1 + 0.05 * fractal(rng, size, 12, 2))


def _blocks(rng: np.random.Generator, image: Image, y0: int, x0: int, y1: int, x1: int, depth: int) -> None:
    if depth == 0 or min(y1 - y0, x1 - x0) < 8:
        image[y0:y1, x0:x1] = (vivid(rng) if rng.uniform() < 0.6 else muted(rng)) * 255
        image[y0 : y0 + 2, x0:x1] = image[y0:y1, x0 : x0 + 2] = 25
        return
    cut = rng.uniform(0.25, 0.75)
    if y1 - y0 > x1 - x0:
        middle = int(y0 + cut * (y1 - y0))
        _blocks(rng, image, y0, x0, middle, x1, depth - 1)
        _blocks(rng, image, middle, x0, y1, x1, depth - 1)
    else:
        middle = int(x0 + cut * (x1 - x0))
        _blocks(rng, image, y0, x0, y1, middle, depth - 1)
        _blocks(rng, image, y0, middle, y1, x1, depth - 1)


def rug(rng: np.random.Generator, size: Size) -> Image:
    """Borders around a field of figures, with a pile."""
    height, width = size
    out = np.empty((height, width, 3), np.uint8)
    inset = 0
    for _ in range(int(rng.integers(3, 6))):
        out[inset : height - inset, inset : width - inset] = vivid(rng) * 220
        inset += int(rng.uniform(0.02, 0.06) * height)
    for _ in range(int(rng.integers(25, 60))):
        at = (int(rng.uniform(inset, width - inset)), int(rng.uniform(inset, height - inset)))
        shape(rng, out, at, rng.uniform(0.02, 0.09) * height, (vivid(rng) * 235).tolist())
    tone = 1 + 0.1 * fractal(rng, size, 6, 1.5) + 0.05 * fractal(rng, size, 80, 8)
    return textured(out, tone)


def fabric(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Cloth: plain, striped, plaid or strewn with figures."""
    u, v = _metre_grid(size, metres)
    per_metre = size[1] / metres[1]
    rgb = (vivid(rng) * 0.6 + 0.3 * muted(rng)) * np.ones((*size, 1), np.float32)
    tone = 1 + 0.1 * fractal(rng, size, 0.08 * per_metre, 2, 0.9) + 0.06 * fractal(rng, size, 0.4 * per_metre, 9)
    tone -= 0.25 * patches(rng, size, rng.uniform(0.03, 0.07) * per_metre, 0.18)
    kind = int(rng.integers(4))
    if kind in (1, 2):
        wide = rng.uniform(0.05, 0.14)
        other = vivid(rng)
        line = (np.sin(2 * np.pi * u / wide) > 0.3) * np.ones_like(v) * 0.6
        if kind == 2:
            line = line * 0.6 + 0.35 * (np.sin(2 * np.pi * v / wide) > 0.3)
        rgb = rgb + (other - rgb) * line[..., None].astype(np.float32)
    out = paint(rgb, tone)
    if kind == 3:
        for _ in range(60):
            at = (int(rng.uniform(0, size[1])), int(rng.uniform(0, size[0])))
            shape(rng, out, at, rng.uniform(0.02, 0.05) * per_metre, (vivid(rng) * 235).tolist())
    return out


def timber(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Wood of furniture: grain along the rows, with knots."""
    u, v = _metre_grid(size, metres)
    per_metre = size[1] / metres[1]
    warp = 0.02 * fractal(rng, size, 0.5 * per_metre, 20)
    rings = np.sin(2 * np.pi * (v + warp) / rng.uniform(0.03, 0.08))
    for _ in range(int(rng.integers(3, 8))):
        x, y, wide = rng.uniform(0, metres[1]), rng.uniform(0, metres[0]), rng.uniform(0.02, 0.05)
        apart = np.sqrt((0.4 * (u - x)) ** 2 + (v - y) ** 2) / wide
        rings = np.where(apart < 2, rings + 1.8 * np.exp(-(apart**2)) * np.sin(9 * apart), rings)
    tone = 1 + 0.09 * rings + 0.1 * stretched(rng, size, 0.12 * per_metre, 0.006 * per_metre)
    tone += 0.05 * fractal(rng, size, 0.2 * per_metre, 2)
    return paint(wooden(rng), tone, warp * 40)


def painted(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Lacquer with wear: for metal, pots, lamp shades."""
    per_metre = size[1] / metres[1]
    tone = 1 + 0.06 * fractal(rng, size, 0.3 * per_metre, 2, 0.8)
    worn = fractal(rng, size, 0.06 * per_metre, 2)
    return paint(muted(rng, (0.25, 0.95)), np.asarray(tone - 0.18 * (worn > 1.5), np.float32))


def leaves(rng: np.random.Generator, size: Size, metres: Metres) -> Image:
    """Foliage."""
    hue = rng.uniform(0.22, 0.4)
    out = paint(hsv(hue, 0.7, 0.25), 1 + 0.2 * fractal(rng, size, 20, 2))
    for _ in range(160):
        at = (int(rng.uniform(0, size[1])), int(rng.uniform(0, size[0])))
        colour = hsv(hue + rng.uniform(-0.04, 0.04), rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.8)) * 255
        shape(rng, out, at, rng.uniform(0.02, 0.07) * size[0], colour.tolist())
    return out


def spines(rng: np.random.Generator, size: Size, count: int) -> Image:
    """The backs of `count` books side by side, each in its own column, with a title and ornaments."""
    import cv2

    height, width = size
    out = np.empty((height, width, 3), np.uint8)
    step = width // count
    for k in range(count):
        left = k * step
        colour = vivid(rng) if rng.uniform() < 0.7 else muted(rng, (0.2, 0.95))
        out[:, left : left + step] = colour * 235
        ink = (hsv(rng.uniform(), rng.uniform(0, 0.6), 0.95 if colour.mean() < 0.5 else 0.15) * 255).tolist()
        for _ in range(int(rng.integers(1, 4))):
            y = int(rng.uniform(0.04, 0.95) * height)
            cv2.rectangle(out, (left, y), (left + step - 1, y + int(rng.uniform(2, 10))), ink, -1)
        y = int(rng.uniform(0.15, 0.4) * height)
        for _ in range(int(rng.integers(3, 8))):
            high = int(rng.uniform(4, 18))
            cv2.rectangle(out, (left + step // 3, y), (left + 2 * step // 3, y + high), ink, -1)
            y += high + int(rng.uniform(3, 8))
    return textured(out, 1 + 0.06 * fractal(rng, size, 20, 2))


def sheet(images: list[Image], columns: int) -> Image:
    """Images of one size in a grid, row by row; what is missing stays black."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    out = np.zeros((rows * height, columns * width, 3), np.uint8)
    for k, image in enumerate(images):
        y, x = k // columns * height, k % columns * width
        out[y : y + height, x : x + width] = image
    return out
