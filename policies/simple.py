"""Two policies that know nothing: one that stands still and one that wanders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, Workspace
from wfm_sim.policies.base import ready_rows, rows_to_reset

# Where the random policy wanders: low over the middle of the table, where the objects are.
WANDER = Workspace(low=(0.18, -0.13, 0.022, -0.1, -0.1, -0.6), high=(0.40, 0.13, 0.10, 0.1, 0.1, 0.6))


class ZeroPolicy:
    """Stands still, with the gripper as it was."""

    name = "zero"
    uses_pixels = False

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """Nothing to do."""

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Zero displacement and the present gripper command, float32 [B, 7]."""
        pose = np.asarray(observation["agent_pos"])
        actions = np.zeros((len(pose), 7), dtype=np.float32)
        actions[:, 6] = np.clip(pose[:, 6], 0.0, 1.0)
        return actions


class RandomPolicy:
    """Wanders smoothly: heads for a random point, draws another on arrival, and opens or closes the gripper at times.

    The deltas are correlated in time (a first-order filter) and stay in the action box. It sweeps the table and hits
    objects often, without knowing where they are.
    """

    name = "random"
    uses_pixels = False

    def __init__(self, region: Workspace = WANDER, speed: float = 0.035, inertia: float = 0.5) -> None:
        """Set up.

        Args:
            region: Where the points to head for are drawn.
            speed: Metres per step at most, about.
            inertia: How much of the last delta is kept, 0..1.
        """
        self._low, self._high = np.array(region.low), np.array(region.high)
        self._speed, self._inertia = speed, inertia
        self._rows: list[_Wanderer | None] = []

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset; `info` is not used."""
        if len(self._rows) != len(seeds):
            self._rows = [None] * len(seeds)
        for i in rows_to_reset(len(seeds), mask):
            self._rows[i] = _Wanderer(np.random.default_rng([int(seeds[i]), 11]), self._low, self._high)

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See Policy.act."""
        poses = np.asarray(observation["agent_pos"], dtype=np.float64)
        rows = ready_rows(self._rows, len(poses))
        actions = [row.act(pose, self._speed, self._inertia) for row, pose in zip(rows, poses, strict=True)]
        return np.stack(actions).astype(np.float32)


class _Wanderer:
    """One row of RandomPolicy."""

    def __init__(self, rng: np.random.Generator, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        self._rng, self._low, self._high = rng, low, high
        self._point = rng.uniform(low, high)
        self._delta = np.zeros(6)
        self._gripper = float(rng.uniform() < 0.5)

    def act(self, pose: NDArray[np.float64], speed: float, inertia: float) -> NDArray[np.float64]:
        if np.linalg.norm(self._point[:3] - pose[:3]) < 0.02 or self._rng.uniform() < 0.08:
            self._point = self._rng.uniform(self._low, self._high)
            if self._rng.uniform() < 0.4:
                self._gripper = 1.0 - self._gripper
        wish = self._point - pose[:6]
        wish[:3] *= min(1.0, speed * 1.3 / max(float(np.linalg.norm(wish[:3])), 1e-9))
        wish[3:] = np.clip(wish[3:], -0.12, 0.12)
        wish += self._rng.normal(0.0, [0.008] * 3 + [0.02] * 3)
        self._delta = inertia * self._delta + (1.0 - inertia) * wish
        local = Rotation.from_euler("xyz", pose[3:6]).inv().apply(self._delta[:3])
        return np.clip(np.concatenate([local, self._delta[3:], [self._gripper]]), ACTION_LOW, ACTION_HIGH)
