"""How the bodies of a scene moved: the same arrays from every engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """The state of N dynamic bodies at T times, float64, in the world frame.

    times [T], seconds. positions [T, N, 3], metres, of the centres of mass. quaternions [T, N, 4], (w, x, y, z), signs
    continuous in time. linear [T, N, 3], m/s; angular [T, N, 3], rad/s. names: the N bodies, as Scene.names.
    nodes [T, M, 3]: the nodes of the scene's soft bodies, one after the other; None without soft bodies. A soft body's
    position is the mean of its nodes, its quaternion their best rigid turn away from the start.
    """

    times: Array
    positions: Array
    quaternions: Array
    linear: Array
    angular: Array
    names: tuple[str, ...]
    nodes: Array | None = None

    def __len__(self) -> int:
        return len(self.times)


def continuous(quaternions: Array) -> Array:
    """The same turns with the signs chosen so that none jumps: float64 [T, N, 4]."""
    same = np.sum(quaternions[1:] * quaternions[:-1], axis=-1) >= 0
    signs = np.cumprod(np.where(same, 1.0, -1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * signs[..., None]])
