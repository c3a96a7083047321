"""A tiny ray-traced room with solid noise for texture: clips with exact cameras, from numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wfm_sim.camera import Intrinsics

_CELLS = 20.0  # of the texture, per metre
_ROOM = np.array([[-3.0, -1.6, -3.0], [3.0, 1.4, 4.0]])  # y is down: the floor is at 1.4


def walk(frames: int, *, length: float = 0.6, turn: float = 0.25) -> NDArray[np.float64]:
    """float64 [T, 4, 4], camera to world: an arc to the right and forward that turns left as it goes."""
    t = np.linspace(0, 1, frames)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    yaw = -turn * t
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(yaw)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(yaw), -np.sin(yaw)
    poses[:, :3, 3] = np.stack([length * t, -0.08 * np.sin(3 * t), -1.5 + 0.5 * length * t**2], 1)
    return poses


def pan(frames: int, turn: float = 0.4) -> NDArray[np.float64]:
    """float64 [T, 4, 4]: a camera that turns on the spot."""
    poses = walk(frames, length=0.0, turn=turn)
    poses[:, :3, 3] = [0, 0, -1.5]
    return poses


def render(
    poses: NDArray[np.float64], intrinsics: Intrinsics, *, seed: int = 0, supersample: int = 2
) -> NDArray[np.uint8]:
    """uint8 [T, H, W, 3] of a room with boxes in it."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([-2.2, -0.7, 0.5], [2.2, 1.1, 3.2], (9, 3))
    half = rng.uniform(0.12, 0.35, (9, 3))
    boxes = np.stack([centres - half, centres + half], 1)
    volume = _texture(rng)
    k = supersample
    v, u = np.mgrid[0 : intrinsics.height * k, 0 : intrinsics.width * k]
    rays = np.stack([(u + 0.5) / k - intrinsics.cx, (v + 0.5) / k - intrinsics.cy, np.ones(u.shape)], -1)
    rays[..., 0] /= intrinsics.fx
    rays[..., 1] /= intrinsics.fy
    return np.stack([_frame(pose, rays.reshape(-1, 3), boxes, volume, u.shape, k) for pose in poses])


def _frame(pose, rays, boxes, volume, shape, k):  # type: ignore[no-untyped-def]
    origin, d = pose[:3, 3], rays @ pose[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.maximum((_ROOM[0] - origin) / d, (_ROOM[1] - origin) / d)  # leaving the room
        best, which = inside.min(1), np.zeros(len(d), np.int64)
        for i, (low, high) in enumerate(boxes, 1):
            a, b = (low - origin) / d, (high - origin) / d
            near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
            hit = (near < far) & (near > 0) & (near < best)
            best[hit], which[hit] = near[hit], i
    points = origin + best[:, None] * d + 5.0 + 7.3 * which[:, None]
    value = ndimage.map_coordinates(volume, (points * _CELLS).T, order=1, mode="grid-wrap")
    tint = 0.35 + 0.65 * np.random.default_rng(7).random((len(boxes) + 1, 3))[which]
    image = np.clip(value[:, None] * tint, 0, 1).reshape(shape[0] // k, k, shape[1] // k, k, 3).mean((1, 3))
    return np.round(255 * image).astype(np.uint8)


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of several sizes in a cube that repeats, about 0 to 1."""
    total = np.zeros((96, 96, 96))
    for sigma in (0.7, 1.5, 3.0, 6.0):
        octave = ndimage.gaussian_filter(rng.standard_normal(total.shape), sigma, mode="wrap")
        total += octave / octave.std()
    return (0.5 + 0.13 * total).astype(np.float32)
