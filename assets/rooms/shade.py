"""Light on floor and walls, painted into their textures: lamp, window, dark corners, and shadows on the floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.rooms.room import Part
from wfm_sim.assets.rooms.textures import textured

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
LAMP, WINDOW = 0.55, 0.35  # what they add where they are nearest
BASE = 0.68
COARSE = 8  # texels per sample of the light, which is smooth


def _light(points: Array, normal: Array, lamp: Array, window: Array) -> Array:
    """Brightness [...] of surfaces at points [..., 3]."""
    out = np.full(points.shape[:-1], BASE)
    for source, strength, reach in ((lamp, LAMP, 2.2), (window, WINDOW, 2.6)):
        way = source - points
        far = np.linalg.norm(way, axis=-1)
        slant = np.clip(way @ normal / np.maximum(far, 1e-6), 0, 1)
        out += strength * (0.25 + 0.75 * slant) / (1 + (far / reach) ** 2)
    return out


def _apply(image: Image, light: NDArray[np.float32]) -> Image:
    import cv2

    fine = cv2.resize(light, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return textured(image, np.asarray(fine, np.float32))


def _grid(rows: int, columns: int, half: tuple[float, float]) -> tuple[Array, Array]:
    """x to the right and y up of the samples of a panel."""
    x = ((np.arange(columns) + 0.5) / columns * 2 - 1) * half[0]
    y = (1 - (np.arange(rows) + 0.5) / rows * 2) * half[1]
    across, up = np.meshgrid(x, y)
    return across, up


def shade_upright(image: Image, axes: Array, at: Array, half: tuple[float, float], lamp: Array, window: Array) -> Image:
    """A wall: `axes` [3, 3] and middle `at` of its panel."""
    across, up = _grid(image.shape[0] // COARSE, image.shape[1] // COARSE, half)
    points = at + across[..., None] * axes[:, 0] + up[..., None] * axes[:, 1]
    light = _light(points, axes[:, 2], lamp, window)
    corner = np.minimum(half[0] - np.abs(across), half[1] - np.abs(up))
    light *= 1 - 0.25 * np.exp(-np.maximum(corner, 0) / 0.15)
    return _apply(image, light.astype(np.float32))


def shade_floor(
    image: Image, size: tuple[float, float, float], things: list[Part], lamp: Array, window: Array
) -> Image:
    """The floor, with the shadows of all boxes and cylinders as the lamp throws them and where they touch it."""
    import cv2

    half = (size[0] / 2, size[1] / 2)
    rows, columns = image.shape[0] // (COARSE // 2), image.shape[1] // (COARSE // 2)
    across, up = _grid(rows, columns, half)
    points = np.stack((across, up, np.zeros_like(up)), axis=-1)
    light = _light(points, np.array([0.0, 0.0, 1.0]), lamp, window)
    corner = np.minimum(half[0] - np.abs(across), half[1] - np.abs(up))
    light *= 1 - 0.25 * np.exp(-np.maximum(corner, 0) / 0.15)
    per_metre = np.array([columns / size[0], rows / size[1]])

    def pixels(xy: Array) -> NDArray[np.int32]:
        flat = (xy * [1, -1] + [half[0], half[1]]) * per_metre
        return np.round(np.clip(flat, -4 * columns, 4 * columns) * 16).astype(np.int32)

    cast, touch = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    for part in things:
        if part.shape == "panel" or max(part.size) < 0.03 or part.material == "rug":
            continue
        corners = part.position + (signs * part.size) @ part.rotation.T
        top = corners[:, 2].max()
        if top >= lamp[2] - 0.05:
            continue
        fall = lamp[2] / np.maximum(lamp[2] - corners[:, 2], 1e-3)
        shadow = lamp[:2] + (corners[:, :2] - lamp[:2]) * fall[:, None]
        cv2.fillConvexPoly(cast, cv2.convexHull(pixels(shadow)), 1.0, cv2.LINE_8, 4)
        if corners[:, 2].min() < 0.3:
            cv2.fillConvexPoly(touch, cv2.convexHull(pixels(corners[:, :2])), 1.0, cv2.LINE_8, 4)
    scale = float(per_metre.mean())
    cast = cv2.GaussianBlur(cast, (0, 0), 0.035 * scale)
    touch = cv2.GaussianBlur(touch, (0, 0), 0.07 * scale)
    light *= (1 - 0.3 * cast) * (1 - 0.35 * touch)
    return _apply(image, light.astype(np.float32))
