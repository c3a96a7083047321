"""Where is the block? Objects of known colour found in a frame, true or imagined, sharp or blurred.

Each pixel is explained as a mixture of the object's colour and the nearest colour of everything else in the scene:
with Lab distances d_o to the object and d_e to the rest, the object's share is d_e / (d_o + d_e). Pixels with a share
above one half are the object's; the largest connected patch of them, with what lies beside it (a finger may cut a
block in two), gives a share-weighted centroid and area. So a block that has faded half-way into the table is lost.

The colours come from the episode's true first frame, which makes the tracker indifferent to light and palette.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

LIGHTNESS_WEIGHT = 0.35  # faces of one block differ in lightness far more than in hue
MAX_DISTANCE = 45.0  # weighted Lab units; farther from the object's colour than this is never the object
MIN_CONTRAST = 10.0  # scene colours closer to the object's than this cannot be told apart from it and are left out
SCENE_COLOURS = 12
MIN_AREA = 3.0  # pixels at 64 px frames; scaled with the frame

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Located:
    """A patch found: centroid in pixels (x right, y down, the centre of the top-left pixel is 0, 0) and area."""

    x: float
    y: float
    area: float


@dataclass(frozen=True)
class Appearance:
    """What an object looks like, in weighted Lab: its lit and shaded colours, the rest of the scene, its first area."""

    colours: Floats  # [J, 3]
    others: Floats = field(default_factory=lambda: np.empty((0, 3)))  # [K, 3]
    area: float | None = None


def lab(rgb: ArrayLike) -> Floats:
    """uint8 [..., 3] sRGB -> float64 [..., 3] CIE Lab with lightness scaled by LIGHTNESS_WEIGHT."""
    array = np.asarray(rgb, dtype=np.uint8)
    flat = array.reshape(1, -1, 3).astype(np.float32) / 255
    converted = cv2.cvtColor(flat, cv2.COLOR_RGB2Lab).reshape(array.shape).astype(np.float64)
    return converted * (LIGHTNESS_WEIGHT, 1, 1)


def appearances(
    frame: NDArray[np.uint8],
    objects: Sequence[tuple[float, float, float]],
    paints: Sequence[ArrayLike | None] | None = None,
) -> list[Appearance | None]:
    """How each object looks in one true frame.

    Args:
        frame: uint8 [H, W, 3], the episode's first true frame.
        objects: (x, y, visible area in px) of every object in it; area 0 for one that cannot be seen.
        paints: The RGB (0..255) each object is painted with, before any light, where it is known: pixels of quite
            another hue are then not taken for the object's (a finger may stand right before it).

    Returns:
        One Appearance per object, None for one that cannot be seen.
    """
    image = lab(frame)
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    radii = [np.sqrt(max(area, 0) / np.pi) for _, _, area in objects]
    distance = [np.hypot(columns - x, rows - y) for x, y, _ in objects]
    colours: list[Floats | None] = []
    for index, (radius, away) in enumerate(zip(radii, distance, strict=True)):
        core = image[away <= max(radius, 0.75)] if objects[index][2] > 0 else image[:0, 0]
        paint = paints[index] if paints is not None else None
        if paint is not None:
            core = _of_hue(core, lab(paint))
        colours.append(_shades(core) if len(core) else None)
    outside = np.ones(frame.shape[:2], dtype=bool)
    for radius, away in zip(radii, distance, strict=True):
        outside &= away > 1.7 * radius
    scene = _palette(image[outside])
    found: list[Appearance | None] = []
    for index, colour in enumerate(colours):
        if colour is None:
            found.append(None)
            continue
        rest = np.concatenate([scene, *(c for i, c in enumerate(colours) if i != index and c is not None)])
        # A shade that the scene has too is given up, if another is left; then scene colours that are still too near.
        contrast = _nearest(colour, rest)
        colour = colour[(contrast > MIN_CONTRAST) | (contrast == contrast.max())]
        rest = rest[_nearest(rest, colour) > MIN_CONTRAST]
        found.append(Appearance(colour, rest, objects[index][2]))
    return found


def locate(frame: NDArray[np.uint8], look: Appearance | ArrayLike) -> Located | None:
    """Find one object in uint8 [H, W, 3]; None when no patch of its colour is there.

    Args:
        look: From `appearances`, or a plain RGB triple (0..255) when nothing else is known.
    """
    return locate_all(frame, [look])[0]


def locate_all(frame: NDArray[np.uint8], looks: Sequence[Appearance | ArrayLike | None]) -> list[Located | None]:
    """`locate` for several objects of one frame; None in, None out."""
    image = lab(frame)
    known = [a if a is None or isinstance(a, Appearance) else Appearance(lab(a)[None]) for a in looks]
    return [None if a is None else _locate(image, a) for a in known]


def _locate(image: Floats, look: Appearance) -> Located | None:
    share = _share(image, look)
    count, labels, _, centroids = cv2.connectedComponentsWithStats((share > 0.5).astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    mass = np.bincount(labels.ravel(), weights=share.ravel(), minlength=count)
    mass[0] = 0
    best = int(mass.argmax())
    # everything of the object's colour within one object's width of the largest patch belongs to it
    reach = 1.5 * np.sqrt(max(look.area or 0.0, float(mass[best])) / np.pi) + 1
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    near = np.hypot(columns - centroids[best][0], rows - centroids[best][1]) <= reach
    weight = np.where((labels == best) | ((labels > 0) & near), share, 0)
    area = float(weight.sum())
    if area < MIN_AREA * (image.shape[0] / 64) ** 2:
        return None
    return Located(float((weight * columns).sum() / area), float((weight * rows).sum() / area), area)


def _share(image: Floats, look: Appearance) -> Floats:
    to_object = _nearest(image, look.colours)
    to_rest = _nearest(image, look.others) if len(look.others) else np.full(to_object.shape, MAX_DISTANCE / 2)
    share = to_rest / np.maximum(to_object + to_rest, 1e-9)
    return np.where(to_object > MAX_DISTANCE, 0.0, share)


def _nearest(colours: Floats, among: Floats) -> Floats:
    """Distance of each colour [..., 3] to the nearest of `among` [K, 3]."""
    flat = colours.reshape(-1, 3)
    # one row per member of `among`, so that the minimum runs over whole rows
    squared = np.square(among).sum(-1)[:, None] - 2 * among @ flat.T
    nearest = squared.min(axis=0) + np.square(flat).sum(-1)
    return np.sqrt(np.maximum(nearest, 0)).reshape(colours.shape[:-1])


def _of_hue(pixels: Floats, paint: Floats) -> Floats:
    """The pixels whose hue is within 45 degrees of the paint's and whose chroma is not near grey; all, if too few."""
    chroma = np.hypot(pixels[:, 1], pixels[:, 2])
    along = pixels[:, 1:] @ paint[1:] / max(float(np.hypot(*paint[1:])), 1e-9)
    chosen = pixels[(chroma > 8) & (along > 0.7 * chroma)]
    return chosen if len(chosen) >= 3 else pixels


def _shades(pixels: Floats) -> Floats:
    """An object's colours, from its shaded to its lit face: [J, 3] out of pixels [N, 3], strays left out."""
    middle = np.median(pixels, axis=0)
    pixels = pixels[np.linalg.norm(pixels - middle, axis=1) < MAX_DISTANCE / 2]
    if len(pixels) < 6:
        return middle[None]
    return pixels[np.argsort(pixels[:, 0])[(np.array([0.1, 0.5, 0.9]) * (len(pixels) - 1)).round().astype(int)]]


def _palette(pixels: Floats) -> Floats:
    """The main colours [K, 3] of the rest of the scene, by k-means with a fixed seed."""
    if len(pixels) <= SCENE_COLOURS:
        return pixels
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    labels = np.zeros(len(pixels), np.int32)
    data = pixels.astype(np.float32)
    _, _, centres = cv2.kmeans(data, SCENE_COLOURS, labels, criteria, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres, dtype=np.float64)
