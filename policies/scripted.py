"""Scripted experts for the three tabletop tasks, and their noisy and flawed variants.

They know the layout at reset and their own commanded pose (`agent_pos`), nothing else: no frame and no physics state.
So the same policy runs in the physics twin and in the learned simulator, where no physics state exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW
from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.base import ready_rows, rows_to_reset

# layout["task"] indexes this; a test holds it equal to TASKS of assets/tabletop.py.
TASKS = ("push", "pick", "place")

TRAVEL_Z, LIFT_Z = 0.078, 0.112  # metres: clear of blocks with fingertips 1 cm below; high enough for 'pick'
STANDOFF = 0.052  # centre of the pusher to centre of the block before the push
CONTACT = 0.033  # the same while they touch: half a block and half the closed gripper
FAST, SLOW = 0.038, 0.030  # metres per step
TURN = 0.24  # radians per step

FLAWS = {
    "offset": "misses the block sideways by 2.5 to 4 cm, or pushes it off-centre",
    "never_close": "never closes the gripper; a push stops half way",
    "late_close": "closes only after lifting; a push comes down half way along",
    "wrong_height": "works 3.5 to 5 cm too high",
    "wrong_object": "goes for a distractor",
    "early_open": "lets go half way; a push stops half way",
}


@dataclass(frozen=True)
class Waypoint:
    """A pose to go to: position [m], yaw [rad], gripper (1 = open), metres per step, and steps to stay once there."""

    position: NDArray[np.float64]
    yaw: float
    gripper: float
    speed: float = FAST
    stay: int = 0


def plan_task(
    task: str, target: NDArray[np.float64], goal: NDArray[np.float64], *, flaw: str | None = None, offset: float = 0.0
) -> list[Waypoint]:
    """Waypoints that do a task.

    Args:
        task: One of TASKS.
        target: [4], centre of the block and its yaw.
        goal: [3], see the `layout` of wfm_sim/envs/twin.py.
        flaw: One of FLAWS, or None.
        offset: Size of the flaw in metres, signed, for 'offset' (sideways) and 'wrong_height' (its absolute value, up).
    """
    position, yaw = np.array(target[:3]), _wrap_quarter(float(target[3]))
    up = abs(offset) if flaw == "wrong_height" else 0.0
    if task == "push":
        return _plan_push(position, np.array(goal), flaw, offset, up)
    if flaw == "offset":
        position[:2] += offset * np.array([np.cos(yaw), np.sin(yaw)])
    low = position[2] + up
    closed = 1.0 if flaw == "never_close" else 0.0
    at_grasp = 1.0 if flaw == "late_close" else closed
    travel = LIFT_Z if task == "pick" else TRAVEL_Z
    plan = [
        Waypoint(_at(position, TRAVEL_Z + up), yaw, 1.0),
        Waypoint(_at(position, low), yaw, 1.0),
        Waypoint(_at(position, low), yaw, at_grasp, stay=2),
        Waypoint(_at(position, travel + up), yaw, at_grasp, speed=SLOW),
    ]
    if flaw == "early_open" and task == "pick":
        plan[-1:] = [
            Waypoint(_at(position, low + 0.03), yaw, closed),
            Waypoint(_at(position, low + 0.03), yaw, 1.0, stay=2),
        ]
        plan.append(Waypoint(_at(position, travel), yaw, 1.0))
    if task == "place":
        down = goal[2] + position[2] + 0.002 + up
        if flaw == "early_open":
            half = (position + goal) / 2
            plan.append(Waypoint(_at(half, TRAVEL_Z), yaw, closed))
            plan.append(Waypoint(_at(half, TRAVEL_Z), yaw, 1.0, stay=2))
            closed = 1.0
        plan += [
            Waypoint(_at(goal, TRAVEL_Z + up), yaw, closed),
            Waypoint(_at(goal, down), yaw, closed, speed=SLOW),
            Waypoint(_at(goal, down), yaw, 1.0, stay=2),
            Waypoint(_at(goal, TRAVEL_Z + up), yaw, 1.0),
        ]
    return plan


def _plan_push(
    block: NDArray[np.float64], goal: NDArray[np.float64], flaw: str | None, offset: float, up: float
) -> list[Waypoint]:
    """Come down behind the block, square to the way it has to go, and push it straight into the zone."""
    way = goal[:2] - block[:2]
    distance = max(float(np.hypot(*way)), 1e-6)
    way = way / distance
    # The closed gripper is nearly square, so a face of it can be turned to any direction within +-45 degrees of yaw.
    yaw = _wrap_quarter(float(np.arctan2(way[1], way[0])))
    aside = offset * np.array([-way[1], way[0]]) if flaw == "offset" else np.zeros(2)
    behind = block[:2] - STANDOFF * way + aside
    end = goal[:2] - CONTACT * way + aside
    if flaw in ("never_close", "early_open"):
        end = behind + 0.35 * (end - behind)
    low = 0.022 + up
    start = [Waypoint(_at(behind, TRAVEL_Z + up), yaw, 0.0), Waypoint(_at(behind, low), yaw, 0.0)]
    if flaw == "late_close":
        half = (behind + end) / 2 + 0.02 * way
        start = [start[0], Waypoint(_at(half, TRAVEL_Z), yaw, 0.0), Waypoint(_at(half, low + 0.01), yaw, 0.0)]
    return [*start, Waypoint(_at(end, low), yaw, 0.0, speed=SLOW)]


class ScriptedExpert:
    """Follows the waypoints of the task that the layout names, correcting its own commanded pose.

    Without noise and flaw it succeeds in nearly every episode of the twin; benchmarks/expert_success.py counts.
    """

    uses_pixels = False

    def __init__(self, noise: float = 0.0, flaw: str | None = None, name: str | None = None) -> None:
        """Set up.

        Args:
            noise: Standard deviation of Gaussian noise on the six displacements, as a fraction of their bounds
                (0.2 is 1 cm and 0.05 rad per step); >= 0.
            flaw: One of FLAWS, 'random' (each episode draws one), or None.
            name: What reports call it; a name that tells noise and flaw by default.

        Raises:
            UserError: negative noise, or an unknown flaw.
        """
        if not (np.isfinite(noise) and noise >= 0):
            raise UserError(f"noise must be a number >= 0, not {noise}")
        if flaw is not None and flaw not in (*FLAWS, "random"):
            raise unknown("flaw", flaw, (*FLAWS, "random"))
        self.noise = float(noise)
        self.flaw = flaw
        parts = ["expert"] + ([f"noise{noise:g}"] if noise else []) + ([flaw] if flaw else [])
        self.name = name or "-".join(parts)
        self._rows: list[Follower | None] = []

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset; reads info["layout"] alone."""
        layout = info["layout"]
        if len(self._rows) != len(seeds):
            self._rows = [None] * len(seeds)
        for i in rows_to_reset(len(seeds), mask):
            rng = np.random.default_rng([int(seeds[i]), 7])
            target = np.asarray(layout["target"][i], dtype=np.float64)
            goal = np.asarray(layout["goal"][i], dtype=np.float64)
            flaw = self.flaw
            if flaw == "random":
                flaw = str(rng.choice(list(FLAWS)))
            if flaw == "wrong_object":
                # Without a known distractor, the place where one could well be: mirrored about the middle.
                target = np.asarray(
                    layout["distractor"][i] if "distractor" in layout else target * [1, -1, 1, -1], dtype=np.float64
                )
            low, high = (0.035, 0.05) if flaw == "wrong_height" else (0.025, 0.04)
            offset = float(rng.uniform(low, high) * rng.choice([-1, 1]))
            plan = plan_task(TASKS[int(layout["task"][i])], target, goal, flaw=flaw, offset=offset)
            self._rows[i] = Follower(plan, rng, self.noise)

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See Policy.act; reads agent_pos alone."""
        poses = np.asarray(observation["agent_pos"], dtype=np.float64)
        rows = ready_rows(self._rows, len(poses))
        return np.stack([row.act(pose) for row, pose in zip(rows, poses, strict=True)]).astype(np.float32)


class Follower:
    """One row of an expert: goes from waypoint to waypoint. policies/graded.py gives it its other two flaws."""

    def __init__(
        self, plan: list[Waypoint], rng: np.random.Generator, noise: float, speed: float = 1.0, late: int = 0
    ) -> None:
        """Set up.

        Args:
            plan: What `plan_task` gave.
            rng: Source of the noise.
            noise: See ScriptedExpert.
            speed: All speeds times this, in (0, 1].
            late: The gripper stays open for so many steps after it should have begun to close.
        """
        self._plan, self._rng, self._noise, self._speed, self._late = plan, rng, noise, speed, late
        self._index = self._stayed = self._steps = 0
        # With noise, waiting for a perfect pose would take for ever.
        self._near, self._turned = 0.005 + 0.06 * noise, 0.06 + 0.3 * noise

    def act(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next action [7] from the commanded pose [7]."""
        while self._index < len(self._plan) - 1 and self._done(pose):
            self._index, self._stayed, self._steps = self._index + 1, 0, 0
        waypoint = self._plan[self._index]
        self._steps += 1
        rotation = Rotation.from_euler("xyz", pose[3:6])
        delta = waypoint.position - pose[:3]
        delta *= min(1.0, self._speed * waypoint.speed / max(float(np.linalg.norm(delta)), 1e-9))
        turn = (rotation.inv() * Rotation.from_euler("z", waypoint.yaw)).as_euler("xyz")
        turn = np.clip(turn, -TURN * self._speed, TURN * self._speed)
        gripper = waypoint.gripper
        if gripper < 0.5 and self._late > 0:
            self._late, gripper = self._late - 1, 1.0
        action = np.concatenate([rotation.inv().apply(delta), turn, [gripper]])
        if self._noise:
            action[:6] += self._rng.normal(0.0, self._noise, 6) * ACTION_HIGH[:6]
        return np.clip(action, ACTION_LOW, ACTION_HIGH)

    def _done(self, pose: NDArray[np.float64]) -> bool:
        waypoint = self._plan[self._index]
        if waypoint.stay:
            self._stayed += 1
            return self._stayed > waypoint.stay
        near = np.linalg.norm(waypoint.position - pose[:3]) < self._near
        turned = abs(waypoint.yaw - pose[5]) < self._turned
        return bool(near and turned) or self._steps > 9 / self._speed


def _at(xy: NDArray[np.float64], z: float) -> NDArray[np.float64]:
    return np.array([xy[0], xy[1], z])


def _wrap_quarter(angle: float) -> float:
    """The angle modulo a quarter turn, in -pi/4..pi/4: a cube and a square gripper look the same after one."""
    return (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4
