"""Undirected play that seeks contact: shove a block, grab and carry one, or wander, over and over.

It looks at where the blocks are (which only the physics twin can tell), so it is a way to collect data and no policy
that could be judged in a learned simulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW

# Where play goes: metres in the base frame, over the part of the table where things lie.
REACH_LOW, REACH_HIGH = np.array([0.18, -0.135, 0.022]), np.array([0.40, 0.135, 0.14])
NEAR = 0.010  # metres; a goal this near counts as reached
PATIENCE = 7  # steps after which a goal that is out of reach is given up
TURN = 0.2  # radians per step


@dataclass(frozen=True)
class Goal:
    """Where to go next: position [3] in metres, gripper (1 = open), and steps to stay there."""

    position: NDArray[np.float64]
    gripper: float
    stay: int = 0


class Play:
    """One episode of play; everything random about it follows from `seed`."""

    name = "play"

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 13])
        self._goals: list[Goal] = []
        self._steps = 0
        self._yaw = float(self._rng.uniform(-0.6, 0.6))
        self._speed = float(self._rng.uniform(0.022, 0.045))
        self._drift = np.zeros(3)

    def act(self, pose: NDArray[np.float32], blocks: NDArray[np.float64]) -> NDArray[np.float32]:
        """The next canonical action.

        Args:
            pose: [7], the commanded gripper pose (`agent_pos`).
            blocks: [n, 3], the blocks' centres in the base frame, metres.
        """
        here = np.asarray(pose, dtype=np.float64)
        while not self._goals or self._reached(here):
            if self._goals:
                self._goals.pop(0)
            self._steps = 0
            if not self._goals:
                self._goals = self._plan(blocks)
        goal = self._goals[0]
        self._steps += 1
        way = goal.position - here[:3]
        way *= min(1.0, self._speed / max(float(np.linalg.norm(way)), 1e-9))
        self._drift = 0.7 * self._drift + self._rng.normal(0.0, 0.002, 3)
        rotation = Rotation.from_euler("xyz", here[3:6])
        turn = (rotation.inv() * Rotation.from_euler("z", self._yaw)).as_euler("xyz")
        turn = np.clip(turn, -TURN, TURN) + self._rng.normal(0.0, 0.01, 3)
        action = np.concatenate([rotation.inv().apply(way + self._drift), turn, [goal.gripper]])
        return np.clip(action, ACTION_LOW, ACTION_HIGH).astype(np.float32)

    def _reached(self, pose: NDArray[np.float64]) -> bool:
        goal = self._goals[0]
        if self._steps >= PATIENCE + goal.stay:
            return True
        return self._steps >= goal.stay + 1 and bool(np.linalg.norm(goal.position - pose[:3]) < NEAR)

    def _plan(self, blocks: NDArray[np.float64]) -> list[Goal]:
        self._yaw = float(self._rng.uniform(-0.7, 0.7))
        kind = self._rng.choice(["shove", "grab", "wander"], p=[0.45, 0.35, 0.2])
        on_table = [block for block in blocks if np.all(np.abs(block[:2] - [0.29, 0.0]) < [0.13, 0.16])]
        if kind == "wander" or not on_table:
            point = self._rng.uniform(REACH_LOW, REACH_HIGH)
            return [Goal(point, float(self._rng.uniform() < 0.5))]
        block = on_table[int(self._rng.integers(len(on_table)))]
        return self._shove(block) if kind == "shove" else self._grab(block)

    def _shove(self, block: NDArray[np.float64]) -> list[Goal]:
        angle = self._rng.uniform(-np.pi, np.pi)
        way = np.array([np.cos(angle), np.sin(angle), 0.0])
        aside = self._rng.normal(0.0, 0.01) * np.array([-way[1], way[0], 0.0])
        # The gripper is nearly square: turn a face of it to the block.
        self._yaw = float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        gripper = float(self._rng.uniform() < 0.25)
        low, high = self._rng.uniform(0.022, 0.038), self._rng.uniform(0.065, 0.1)
        behind = block - self._rng.uniform(0.05, 0.07) * way + aside
        end = block + self._rng.uniform(-0.01, 0.10) * way + aside
        return [
            Goal(_inside(behind, high), gripper),
            Goal(_inside(behind, low), gripper),
            Goal(_inside(end, low), gripper),
        ]

    def _grab(self, block: NDArray[np.float64]) -> list[Goal]:
        miss = 0.02 if self._rng.uniform() < 0.2 else 0.006
        over = block + np.array([*self._rng.normal(0.0, miss, 2), 0.0])
        low = max(float(block[2]) + self._rng.uniform(-0.002, 0.01), REACH_LOW[2])
        high = self._rng.uniform(0.05, 0.13)
        away = np.array([*self._rng.uniform(REACH_LOW[:2], REACH_HIGH[:2]), 0.0])
        goals = [
            Goal(_inside(over, max(low + 0.045, 0.07)), 1.0),
            Goal(_inside(over, low), 1.0),
            Goal(_inside(over, low), 0.0, stay=2),
            Goal(_inside(over, high), 0.0),
            Goal(_inside(away, high), 0.0),
        ]
        if self._rng.uniform() < 0.8:
            down = self._rng.uniform(0.022, 0.08)
            goals += [Goal(_inside(away, down), 0.0), Goal(_inside(away, down), 1.0, stay=1)]
        return goals


def _inside(point: NDArray[np.float64], z: float) -> NDArray[np.float64]:
    return np.clip([point[0], point[1], z], REACH_LOW, REACH_HIGH)
