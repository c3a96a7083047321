"""Recovered cameras against the commanded ones: rotation, and position after the best similarity.

Rotation errors are relative to the first recovered frame, as a similarity fitted to positions says next to nothing
about rotation on a path that is nearly straight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import relative_to_first
from wfm_sim.evals.consistency.similarity import Similarity, umeyama


@dataclass(frozen=True)
class PoseErrors:
    """Errors over the registered frames.

    Attributes:
        rotation_mean: Degrees per frame, the first (0 by definition) left out.
        rotation_sum: Degrees, over the frames (CameraCtrl, CamI2V in radians).
        translation: Mean distance of positions after the best similarity, as a share of the commanded path's length;
            None where the command does not move the camera.
        ate: Root mean square of the same distances, likewise.
        aligned: That similarity.
    """

    rotation_mean: float
    rotation_sum: float
    translation: float | None
    ate: float | None
    aligned: Similarity | None


def rotation_angles(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees between rotations [..., 3, 3]: arccos((tr(A B^T) - 1) / 2), in a form that is exact near 0 too."""
    # |A - B|_F = 2 sqrt(2) sin(angle / 2); arccos loses half of the digits near 0
    chord = np.linalg.norm(a - b, axis=(-2, -1)) / (2 * np.sqrt(2))
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(chord, 0, 1))))


def rotation_errors(found: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees [R - 1] of poses [R, 4, 4] camera to world, each relative to its first, without that first."""
    a, b = relative_to_first(found)[1:, :3, :3], relative_to_first(true)[1:, :3, :3]
    return rotation_angles(a, b)


def path_length(c2w: NDArray[np.float64]) -> float:
    """Of the positions of poses [T, 4, 4], in their units."""
    return float(np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).sum())


def compare(
    found: NDArray[np.float64], frame_index: NDArray[np.int64], commanded: NDArray[np.float64]
) -> PoseErrors | None:
    """Recovered poses against the commanded path.

    Args:
        found: float64 [R, 4, 4], camera to world.
        frame_index: int [R], which frames they are.
        commanded: float64 [T, 4, 4], camera to world, of all frames.

    Returns:
        None with fewer than two recovered poses.
    """
    if len(found) < 2:
        return None
    true = commanded[frame_index]
    angles = rotation_errors(found, true)
    length = path_length(commanded)
    aligned = umeyama(found[:, :3, 3], true[:, :3, 3]) if length > 0 else None
    translation = ate = None
    if aligned is not None:
        distances = np.linalg.norm(aligned(found[:, :3, 3]) - true[:, :3, 3], axis=1)
        translation = float(distances.mean() / length)
        ate = float(np.sqrt((distances**2).mean()) / length)
    return PoseErrors(float(angles.mean()), float(angles.sum()), translation, ate, aligned)
