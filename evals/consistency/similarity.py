"""The similarity that best takes one set of points to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation.

    Attributes:
        scale: > 0.
        rotation: float64 [3, 3].
        translation: float64 [3].
    """

    scale: float
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of points [..., 3]."""
        return self.scale * points @ self.rotation.T + self.translation

    def poses(self, c2w: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cameras [..., 4, 4] moved along: turned, and their positions scaled too."""
        out = c2w.copy()
        out[..., :3, :3] = self.rotation @ c2w[..., :3, :3]
        out[..., :3, 3] = self(c2w[..., :3, 3])
        return out

    @property
    def matrix(self) -> NDArray[np.float64]:
        """float64 [4, 4]."""
        out = np.eye(4)
        out[:3, :3] = self.scale * self.rotation
        out[:3, 3] = self.translation
        return out


def umeyama(source: NDArray[np.float64], target: NDArray[np.float64]) -> Similarity | None:
    """The similarity with the least squared distance from `source` [N, 3] to `target` [N, 3].

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eq. 40-43.
    On a line the turn about it is arbitrary (and on nearly a line ill-conditioned): use it for positions, never to
    compare rotations.

    Returns:
        None where all points of one set coincide, or there are fewer than two.
    """
    if len(source) < 2:
        return None
    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    variance = (s**2).sum() / len(s)
    if variance < 1e-24 or (t**2).sum() / len(t) < 1e-24:
        return None
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.array([1.0, 1.0, 1.0 if np.linalg.det(u) * np.linalg.det(vt) > 0 else -1.0])
    rotation = u @ (sign[:, None] * vt)
    scale = float((d * sign).sum() / variance)
    if scale <= 0:
        return None
    return Similarity(scale, rotation, mean_t - scale * rotation @ mean_s)
