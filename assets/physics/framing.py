"""Cameras that frame what moves: each looks from a drawn direction and stands as close as the motion allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.scene import Camera, quaternion, vector

VIEWS = 4
FRAMES = 33  # what a model is scored on; later frames may leave the picture
FILL = 0.90  # the part of the picture, across and upwards, that the motion may fill


@dataclass(frozen=True)
class Viewpoints:
    """From where the four cameras look: azimuth (0: from +x, 90: from +y) and elevation in degrees, and how far the
    seed may turn each."""

    azimuths: tuple[float, float, float, float] = (-90.0, -15.0, 60.0, 150.0)
    elevations: tuple[float, float, float, float] = (12.0, 20.0, 28.0, 38.0)
    jitter: tuple[float, float] = (14.0, 4.0)
    fovy: tuple[float, float] = (30.0, 46.0)


def frame_cameras(points: NDArray[np.float64], views: Viewpoints, rng: np.random.Generator) -> tuple[Camera, ...]:
    """The four cameras of a scene: all `points` lie within the FILL of a square picture, as large as can be.

    Args:
        points: float64 [P, 3], metres, world: everything that is to be seen.
        views: Where from.
        rng: Turns each camera a little and draws its field of view.
    """
    cameras = []
    for index, (azimuth, elevation) in enumerate(zip(views.azimuths, views.elevations, strict=True)):
        turn, tilt = rng.uniform(-1, 1, 2) * np.array(views.jitter)
        fovy = float(rng.uniform(*views.fovy))
        axes = _axes(np.deg2rad(azimuth + turn), np.deg2rad(max(elevation + tilt, 4.0)))
        position = _closest(points, axes, FILL * np.tan(np.deg2rad(fovy) / 2))
        cameras.append(Camera(f"view{index}", vector(position), quaternion(Rotation.from_matrix(axes)), fovy))
    return tuple(cameras)


def _axes(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Camera-to-world rotation [3, 3]: right, up and backwards as columns."""
    back = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    return np.stack([right, np.cross(back, right), back], axis=1)


def _closest(points: NDArray[np.float64], axes: NDArray[np.float64], tangent: float) -> NDArray[np.float64]:
    """The nearest position along the camera's axis from which |x / depth| and |y / depth| stay below `tangent`.

    With the camera at (cx, cy, cz) of its own axes a point p is inside when |p_x - cx| <= tangent (cz - p_z): linear in
    cx and cz, so the smallest cz, and with it cx, follow from the extremes of p_x + tangent p_z and tangent p_z - p_x.
    """
    x, y, z = (points @ axes).T
    high = np.array([np.max(tangent * z + p) for p in (x, y)])
    low = np.array([np.max(tangent * z - p) for p in (x, y)])
    depth = float(np.max(high + low)) / (2 * tangent)
    return np.asarray(axes @ np.array([*((high - low) / 2), depth]))
