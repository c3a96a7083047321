"""Procedural surfaces: each is a field 0..1 that blends a material's two colours. Tiles without seams. Numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics.scene import Material
from wfm_sim.errors import unknown

Field = NDArray[np.float64]


def texture(material: Material, size: int = 256) -> NDArray[np.uint8]:
    """The surface of a material, uint8 [size, size, 3]; `size` a power of two. Deterministic from `texture_seed`.

    Raises:
        UserError: unknown kind of texture.
    """
    if material.kind not in TEXTURES:
        raise unknown("texture", material.kind, TEXTURES)
    # Drawn small and fixed, then looked up: the same pattern at every size.
    blend = TEXTURES[material.kind](np.random.default_rng([material.texture_seed, 77]), size)[..., None]
    rgb = np.array(material.rgb) * (1 - blend) + np.array(material.rgb2) * blend
    return np.asarray(np.clip(rgb, 0, 1) * 255 + 0.5, dtype=np.uint8)


def _grid(size: int) -> tuple[Field, Field]:
    line = np.arange(size) / size
    v, u = np.meshgrid(line, line, indexing="ij")
    return u, v


def _smooth_noise(rng: np.random.Generator, size: int, octaves: tuple[int, ...]) -> Field:
    """Sum of periodic value noise at the given numbers of cells, scaled to 0..1."""
    u, v = _grid(size)
    total = np.zeros((size, size))
    for level, cells in enumerate(octaves):
        knots = rng.uniform(size=(cells, cells))
        x, y = u * cells, v * cells
        i, j = x.astype(int), y.astype(int)
        fx, fy = (3 * f**2 - 2 * f**3 for f in (x - i, y - j))
        i2, j2 = (i + 1) % cells, (j + 1) % cells
        upper = knots[j, i] * (1 - fx) + knots[j, i2] * fx
        lower = knots[j2, i] * (1 - fx) + knots[j2, i2] * fx
        total += (upper * (1 - fy) + lower * fy) / 2**level
    return np.asarray((total - total.min()) / np.ptp(total))


def _plain(rng: np.random.Generator, size: int) -> Field:
    return np.zeros((size, size))


def _checker(rng: np.random.Generator, size: int) -> Field:
    u, v = _grid(size)
    return np.asarray((np.floor(2 * u) + np.floor(2 * v)) % 2)


def _stripes(rng: np.random.Generator, size: int) -> Field:
    u, _ = _grid(size)
    return np.asarray(np.floor(4 * u) % 2)


def _tiles(rng: np.random.Generator, size: int) -> Field:
    """Two by two tiles of slightly different tone with dark joints."""
    u, v = _grid(size)
    x, y = 2 * u % 1, 2 * v % 1
    joint = (np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < 0.03).astype(np.float64)
    tone = rng.uniform(0.0, 0.45, (2, 2))[np.floor(2 * v).astype(int), np.floor(2 * u).astype(int)]
    return np.asarray(np.maximum(tone, joint))


def _wood(rng: np.random.Generator, size: int) -> Field:
    u, v = _grid(size)
    bend = 0.012 * np.sin(2 * np.pi * (u + rng.uniform())) + 0.006 * np.sin(4 * np.pi * (u + rng.uniform()))
    grain = sum(np.sin(2 * np.pi * (f * (v + bend) + rng.uniform())) for f in (5, 11, 23)) / 6 + 0.5
    planks = 4
    row = np.floor(v * planks).astype(int)
    tone = 0.55 * np.asarray(grain) + rng.uniform(0.0, 0.35, planks)[row]
    return np.asarray(np.clip(np.where(np.abs(v * planks - np.round(v * planks)) < 0.03, 1.0, tone), 0, 1))


def _marble(rng: np.random.Generator, size: int) -> Field:
    u, v = _grid(size)
    warp = _smooth_noise(rng, size, (3, 6, 12, 24))
    vein = np.abs(np.sin(2 * np.pi * (u + v + 1.6 * warp)))
    return np.asarray((1 - vein) ** 4 * 0.9 + 0.2 * _smooth_noise(rng, size, (4, 8, 16)))


def _noise(rng: np.random.Generator, size: int) -> Field:
    return _smooth_noise(rng, size, (4, 8, 16, 32, 64))


def _speckle(rng: np.random.Generator, size: int) -> Field:
    """Terrazzo: patches of a few tones."""
    field = _smooth_noise(rng, size, (32, 64))
    return np.asarray(np.digitize(field, (0.35, 0.6, 0.75)) / 3.0)


TEXTURES: dict[str, Callable[[np.random.Generator, int], Field]] = {
    "plain": _plain,
    "checker": _checker,
    "stripes": _stripes,
    "tiles": _tiles,
    "wood": _wood,
    "marble": _marble,
    "noise": _noise,
    "speckle": _speckle,
}
