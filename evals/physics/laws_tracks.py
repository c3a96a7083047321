"""What masks say about bodies: centroids, areas, axes; and the way from a pixel to a point of a known plane.

Pixels are (x right, y down) with the centre of the upper left one at (0.5, 0.5), as the cameras' intrinsics have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics import Scene, Shape
from wfm_sim.assets.physics.scene import rotation
from wfm_sim.assets.physics.solids import corners
from wfm_sim.data.physics import Motion

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.uint8]
FEWEST = 6  # pixels: a smaller patch has no centroid worth the name
SHOWN = 0.6  # of a body's silhouette must be in sight in the truth for its centroid to stand for its centre
PEEPS = 0.3  # of it is enough to see that a body is far from where it should be
FOUND = 0.5  # of the truth's visible area must be found in the other video


@dataclass(frozen=True)
class Clip:
    """The truth of one video.

    Attributes:
        scene: With its parameters and analytic quantities.
        K: float64 [3, 3], intrinsics in pixels of the masks.
        world_to_camera: float64 [4, 4], OpenCV axes.
        truth: How the bodies moved, T frames or more.
        masks: uint8 [T, H, W], the true ones: 0 background, i + 1 body i of truth.names.
        context: Frames that a model was given, at least 1; what comes after them is its own.
    """

    scene: Scene
    K: Floats
    world_to_camera: Floats
    truth: Motion
    masks: Labels
    context: int = 1

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def times(self) -> Floats:
        """Seconds, float64 [T]."""
        return self.truth.times[: len(self)]

    @property
    def step(self) -> float:
        """Seconds between frames."""
        return float(self.truth.times[1] - self.truth.times[0])

    @property
    def begin(self) -> int:
        """The last frame that was given: predictions go on from there."""
        return self.context - 1

    @property
    def centre(self) -> Floats:
        """Of the camera, in the world: float64 [3]."""
        R, t = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return np.asarray(-R.T @ t)

    def project(self, points: Floats) -> Floats:
        """Pixels float64 [..., 2] of world points [..., 3]."""
        seen = (points @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]) @ self.K.T
        return np.asarray(seen[..., :2] / seen[..., 2:])

    def lift(self, pixels: Floats, point: Floats, normal: Floats) -> Floats:
        """World points float64 [..., 3]: where rays through pixels [..., 2] meet the plane of a point and a normal."""
        homogeneous = np.concatenate([pixels, np.ones((*pixels.shape[:-1], 1))], axis=-1)
        rays = homogeneous @ np.linalg.inv(self.K).T @ self.world_to_camera[:3, :3]
        reach = np.asarray(point - self.centre) @ normal
        return np.asarray(self.centre + rays * (reach / (rays @ normal))[..., None])

    def facing(self, point: Floats) -> Floats:
        """Normal of the vertical plane through a point that faces the camera: float64 [3], horizontal."""
        away = (self.centre - point) * [1.0, 1.0, 0.0]
        return np.asarray(away / np.linalg.norm(away))

    def speed(self, pixels_per_frame: float) -> float:
        """A speed of the image that is given for pictures 128 pixels wide, for these masks [pixels per frame]."""
        return pixels_per_frame * self.masks.shape[2] / 128

    @cached_property
    def silhouettes(self) -> NDArray[np.int64]:
        """Pixels of the picture that each true body would cover were nothing in front of it: int64 [T, N]."""
        out = np.zeros((len(self), len(self.truth.names)), np.int64)
        for i, body in enumerate(self.scene.dynamic):
            points = [_surface(shape) for shape in body.shapes]
            for t in range(len(self)):
                turn = rotation(self.truth.quaternions[t, i])
                canvas = np.zeros(self.masks.shape[1:], np.uint8)
                for local in points:
                    seen = self.project(turn.apply(local) + self.truth.positions[t, i]) - 0.5
                    cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(seen).astype(np.int32)), 1)
                out[t, i] = np.count_nonzero(canvas)
        # Of soft bodies nothing is known but what was seen.
        for i in range(len(self.scene.dynamic), out.shape[1]):
            out[:, i] = np.bincount(self.masks[0].ravel(), minlength=256)[i + 1]
        return out


def _surface(shape: Shape) -> Floats:
    """Points of a shape whose convex hull is the shape: float64 [P, 3], in the body's frame."""
    if shape.kind == "box":
        return corners(shape)
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(around), np.sin(around), np.zeros_like(around)], axis=1) * shape.size[0]
    up = np.array([0.0, 0.0, shape.size[1] if len(shape.size) > 1 else 0.0])
    if shape.kind == "cone":
        local = np.concatenate([ring - up, up[None]])
    elif shape.kind == "cylinder":
        local = np.concatenate([ring - up, ring + up])
    else:  # spheres, and a capsule's caps
        height = np.deg2rad(np.arange(-90, 91, 15))
        ball = (ring[None] * np.cos(height)[:, None, None]).reshape(-1, 3)
        ball[:, 2] = np.repeat(np.sin(height) * shape.size[0], len(around))
        local = np.concatenate([ball - up, ball + up])
    return np.asarray(rotation(shape.quaternion).apply(local) + np.array(shape.position))


@dataclass(frozen=True)
class Tracks:
    """What the masks of T frames say about N bodies.

    Attributes:
        areas: int64 [T, N], pixels.
        centroids: float64 [T, N, 2], pixels; NaN where the body has fewer than FEWEST.
        axes: float64 [T, N], radians in [0, pi): the direction of the longest extent, from x to y.
        edge: bool [T, N], whether the mask touches the edge of the picture.
    """

    areas: NDArray[np.int64]
    centroids: Floats
    axes: Floats
    edge: Bools


def tracks_of(masks: Labels, count: int) -> Tracks:
    """Tracks of bodies 1..count in masks uint8 [T, H, W]."""
    frames, height, width = masks.shape
    y, x = (grid.ravel() + 0.5 for grid in np.mgrid[:height, :width])
    weights = (None, x, y, x * x, x * y, y * y)
    sums = np.empty((6, frames, count))
    edge = np.zeros((frames, count), bool)
    for t, mask in enumerate(masks):
        flat = mask.ravel()
        there = np.flatnonzero(flat)
        labels = flat[there]
        sums[:, t] = [
            np.bincount(labels, None if w is None else w[there], minlength=256)[1 : count + 1] for w in weights
        ]
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        edge[t] = np.isin(np.arange(1, count + 1), border)
    area = np.where(sums[0] < FEWEST, np.nan, sums[0])
    mean_x, mean_y, xx, xy, yy = sums[1:] / area
    axes = 0.5 * np.arctan2(2 * (xy - mean_x * mean_y), (xx - mean_x**2) - (yy - mean_y**2))
    return Tracks(sums[0].astype(np.int64), np.stack([mean_x, mean_y], axis=-1), axes % np.pi, edge)


@dataclass(frozen=True)
class Pair:
    """The same bodies in the true masks and in those of another video of the same scene.

    usable: bool [T, N]: enough of the body is in sight in both, and in neither does it touch the picture's edge.
    masks: uint8 [T, H, W], the other video's.
    """

    clip: Clip
    masks: Labels
    true: Tracks
    found: Tracks

    @cached_property
    def usable(self) -> Bools:
        """See the class."""
        return self.shown(SHOWN) & ~self.true.edge & ~self.found.edge

    def shown(self, part: float) -> Bools:
        """Whether a part of each silhouette is in sight in the truth, and about as much in the video: bool [T, N]."""
        true = self.true.areas >= np.maximum(part * self.clip.silhouettes, FEWEST)
        return np.asarray(true & (self.found.areas >= np.maximum(FOUND * self.true.areas, FEWEST)))

    def frames(self, body: int, first: int, stop: int | None = None, fewest: float = 0.0) -> NDArray[np.intp]:
        """Usable frames in first..stop - 1; `fewest`: where less than that part of them is usable, none."""
        span = self.usable[first:stop, body]
        chosen = np.flatnonzero(span) + first
        return chosen if len(chosen) >= fewest * max(len(span), 1) else chosen[:0]


def local_line(
    times: Floats, values: Floats, half: int = 2, degree: int = 1, smooth: float = np.inf
) -> tuple[Floats, Floats]:
    """Value and slope at each time from the polynomial through its 2 half + 1 neighbours that are there.

    Args:
        times: float64 [T].
        values: float64 [T] or [T, D], NaN where unknown.
        half: Neighbours on either side.
        degree: Of the polynomial, 1 or 2.
        smooth: The largest root mean square distance of the neighbours from it: across a blow there is no slope.

    Returns:
        Two of the shape of `values`; NaN where fewer than degree + 2 neighbours are known, or are not smooth.
    """
    shape = values.shape
    values = values.reshape(len(values), -1)
    out, slope = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for t in range(len(times)):
        near = slice(max(t - half, 0), t + half + 1)
        known = np.isfinite(values[near]).all(axis=1)
        if known.sum() >= degree + 2:
            powers = np.vander(times[near][known] - times[t], degree + 1, increasing=True)
            fit = np.linalg.lstsq(powers, values[near][known], rcond=None)[0]
            gaps = powers @ fit - values[near][known]
            if np.sqrt(np.mean(np.sum(gaps**2, axis=1))) <= smooth:
                out[t], slope[t] = fit[0], fit[1]
    return out.reshape(shape), slope.reshape(shape)
