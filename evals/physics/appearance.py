"""What tells objects from each other and from the background, pixel by pixel, without any weights.

Light changes a surface's colour along the line through black (shadow, shading, brightness), and a power law such as
sRGB's keeps such lines straight. So a colour c explains a pixel I as well as the nearest point s c of its line does,
where s is how much brighter the pixel is, and s far from 1 costs a little. The background is one colour per pixel (the
cameras stand still), an object a few colours taken from its first mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

NOISE = 0.035  # of colours, of 1: edges, compression, textures seen from another side
BRIGHTNESS = 0.022  # weight of (log s)^2 against squared colour differences
OBJECT_RANGE, SCENE_RANGE = (0.35, 2.2), (0.45, 2.1)  # of s
COLOURS = 5  # of one object
# Costs beyond BEND grow slower and slower, up to MOST: one odd pixel says only so much, though of two colours that are
# both far the nearer one still wins. Objects of one noise level are so cut out without a bias to either side.
BEND, MOST = 4.0, 10.0


def distance(pixels: Floats, colours: Floats, limits: tuple[float, float]) -> Floats:
    """Squared distance of colours to lines: float32 [..., 3] each (broadcast) -> float32 [...], brightness included."""
    dot = np.einsum("...c,...c->...", pixels, colours)
    return _distance(dot, np.einsum("...c,...c->...", pixels, pixels), (colours * colours).sum(-1), limits)


def nearest(pixels: Floats, colours: Floats, limits: tuple[float, float]) -> Floats:
    """`distance` of each pixel, [P, 3], to the nearest of [K, 3]: float32 [P]."""
    squares = np.einsum("pc,pc->p", pixels, pixels)
    one = [_distance(pixels @ c, squares, np.float32(c @ c), limits) for c in colours]
    return np.asarray(np.min(one, axis=0), dtype=np.float32)


def _distance(dot: Floats, pixels: Floats, colours: Floats | np.float32, limits: tuple[float, float]) -> Floats:
    """From the products I.c, I.I and c.c."""
    square = np.maximum(colours, np.float32(1e-4))
    scale = np.clip(dot / square, np.float32(limits[0]), np.float32(limits[1]))
    # |I - s c|^2 written out
    away = pixels - 2 * scale * dot + scale * scale * square
    return np.asarray(np.maximum(away, 0) + np.float32(BRIGHTNESS) * np.square(np.log(scale)), dtype=np.float32)


def cost(squared: Floats, noise: float = NOISE) -> Floats:
    """Squared distance -> what it costs to explain a pixel so 0 .. MOST."""
    bent = np.float32(BEND) * np.log1p(squared * np.float32(1 / (2 * noise * noise * BEND)))
    return np.minimum(bent, np.float32(MOST))


def palette(pixels: Floats, count: int = COLOURS) -> Floats:
    """The main colours [K, 3] of pixels [N, 3], by k-means with a fixed seed."""
    if len(pixels) <= count:
        return pixels
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.002)
    _, labels, centres = cv2.kmeans(
        np.ascontiguousarray(pixels), count, np.zeros(len(pixels), np.int32), criteria, 1, cv2.KMEANS_PP_CENTERS
    )
    # A colour of very few pixels is an edge, not a surface.
    share = np.bincount(labels.ravel(), minlength=count) / len(pixels)
    return np.asarray(centres[share >= min(0.04, share.max())], dtype=np.float32)


@dataclass
class Background:
    """One colour per pixel of what stands still; guessed from its surroundings where an object has always been.

    Attributes:
        colours: float32 [H, W, 3], 0..1.
        known: bool [H, W]: seen, not guessed.
    """

    colours: Floats
    known: Bools

    @classmethod
    def of(cls, frame: NDArray[np.uint8], covered: Bools) -> Background:
        """From a frame, uint8 [H, W, 3], and what objects cover in it, bool [H, W]."""
        hole = cv2.dilate(covered.astype(np.uint8), np.ones((3, 3), np.uint8))
        filled = cv2.inpaint(frame, hole, 3, cv2.INPAINT_TELEA) if hole.any() else frame
        return cls(np.asarray(filled, dtype=np.float32) / np.float32(255), hole == 0)

    def cost(self, image: Floats) -> Floats:
        """What it costs to explain each pixel of float32 [H, W, 3] as background: [H, W]."""
        costs = cost(distance(image, self.colours, SCENE_RANGE))
        # What was guessed may be wrong, but not by any amount: no background pixel is more certain to be none.
        return np.asarray(np.where(self.known, costs, 0.6 * costs), dtype=np.float32)

    def learn(self, image: Floats, free: Bools) -> None:
        """Take the pixels that are surely background now and were hidden so far."""
        new = free & ~self.known
        self.colours[new] = image[new]
        self.known |= new
