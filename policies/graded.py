"""Scripted experts whose flaws have a size, so that policies of any skill can be had: `parse_expert` reads their names.

    parse_expert("expert-noise0.3")                  # the same as ScriptedExpert(noise=0.3)
    parse_expert("expert-offset0.02")                # misses the block sideways by 2 cm
    parse_expert("expert-noise0.1-late3-slow0.8")    # any of them together, in any order

The flaws without an amount (`expert-offset`, `expert-early_open`, see scripted.FLAWS) are as they always were.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.base import Policy, ready_rows, rows_to_reset
from wfm_sim.policies.scripted import FLAWS, SLOW, TASKS, Follower, ScriptedExpert, Waypoint, plan_task

_NAME = re.compile(r"([a-z_]+?)_?(\d+(?:\.\d*)?|\.\d+)?")


@dataclass(frozen=True)
class Flaws:
    """What is wrong with an expert, and by how much; the values here are those of a flawless one.

    Attributes:
        noise: Standard deviation of Gaussian noise on the six displacements, as a fraction of their bounds.
        offset: Metres by which it misses the block sideways (to a side drawn per episode), or pushes it off-centre.
        wrong_height: Metres by which it works too high.
        late: Steps. The gripper begins to close so many steps late (a fraction is drawn by lot: 1.5 is 1 or 2); a push
            comes down late by as many steps of its way, so that from about 1 on it lands on the block.
        early: Steps. The block is let go so many steps of the way before it should be; a push stops as much short.
        slow: All speeds are multiplied by it, in (0, 1]. Episodes end after 32 steps: a flawless one takes 9 to 16.
        wrong_object: Probability of an episode in which it goes for a distractor.
        never_close: Probability of an episode in which it never closes the gripper; a push then stops half way.
    """

    noise: float = 0.0
    offset: float = 0.0
    wrong_height: float = 0.0
    late: float = 0.0
    early: float = 0.0
    slow: float = 1.0
    wrong_object: float = 0.0
    never_close: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high, unit) in RANGES.items():
            value = getattr(self, name)
            # The lowest speed is not 0: an expert that never arrives is the policy 'zero'.
            if not low <= value <= high:
                raise UserError(f"{name} must be {low:g} to {high:g}{unit}, not {value:g}")


# Flaw -> smallest and largest amount, and its unit.
RANGES: dict[str, tuple[float, float, str]] = {
    "noise": (0.0, 2.0, " of the action bounds"),
    "offset": (0.0, 0.2, " metres"),
    "wrong_height": (0.0, 0.1, " metres"),
    "late": (0.0, 32.0, " steps"),
    "early": (0.0, 32.0, " steps"),
    "slow": (0.05, 1.0, " of the usual speed"),
    "wrong_object": (0.0, 1.0, ", a probability"),
    "never_close": (0.0, 1.0, ", a probability"),
}


class GradedExpert:
    """A scripted expert with flaws of a given size; like ScriptedExpert it knows layout and commanded pose alone.

    Without flaws, or with noise alone, its actions are those of ScriptedExpert to the bit.
    """

    uses_pixels = False

    def __init__(self, flaws: Flaws, name: str | None = None) -> None:
        """Set up.

        Args:
            flaws: What is wrong with it.
            name: What reports call it; the name that `parse_expert` would understand by default.
        """
        self.flaws = flaws
        self.name = name or expert_name(flaws)
        self._rows: list[Follower | None] = []

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset; reads info["layout"] alone."""
        layout = info["layout"]
        if len(self._rows) != len(seeds):
            self._rows = [None] * len(seeds)
        for i in rows_to_reset(len(seeds), mask):
            row = {name: np.asarray(values[i], dtype=np.float64) for name, values in layout.items()}
            self._rows[i] = self._begin(row, int(seeds[i]))

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See Policy.act; reads agent_pos alone."""
        poses = np.asarray(observation["agent_pos"], dtype=np.float64)
        rows = ready_rows(self._rows, len(poses))
        return np.stack([row.act(pose) for row, pose in zip(rows, poses, strict=True)]).astype(np.float32)

    def _begin(self, layout: dict[str, NDArray[np.float64]], seed: int) -> Follower:
        flaws, lot = self.flaws, np.random.default_rng([seed, 17])
        # One draw per flaw, whatever their sizes: a larger flaw changes the episodes that a smaller one has changed.
        side = float(lot.choice([-1.0, 1.0]))
        rounding, other, slip = lot.uniform(size=3)
        task = TASKS[int(layout["task"])]
        target, goal = layout["target"].copy(), layout["goal"].copy()
        if other < flaws.wrong_object:
            # Without a known distractor, the place where one could well be: mirrored about the middle.
            target = layout.get("distractor", target * [1, -1, 1, -1])
        stops = slip < flaws.never_close
        flaw = "never_close" if stops else "offset"
        plan = plan_task(task, target, goal, flaw=flaw, offset=0.0 if stops else side * flaws.offset)
        if flaws.early:
            plan = _let_go_early(plan, flaws.early * flaws.slow)
        if task == "push" and flaws.late:
            plan = _come_down_late(plan, flaws.late * flaws.slow)
        up = np.array([0.0, 0.0, flaws.wrong_height])
        plan = [replace(waypoint, position=waypoint.position + up) for waypoint in plan]
        noise = np.random.default_rng([seed, 7])
        noise.uniform(), noise.choice([-1, 1])  # what ScriptedExpert draws before its noise
        return Follower(plan, noise, flaws.noise, speed=flaws.slow, late=int(flaws.late + rounding))


def _let_go_early(plan: list[Waypoint], steps: float) -> list[Waypoint]:
    """The plan with the gripper opened, or the push ended, `steps` full-speed steps of the way too early."""
    held = [i for i, waypoint in enumerate(plan) if waypoint.gripper < 0.5]
    if not held:
        return plan
    pushes = held[0] == 0
    first, last = (1, held[-1]) if pushes else (held[0], held[-1])  # where the block begins to move; where it arrives
    left, at = steps, last
    while at > first:
        way = plan[at].position - plan[at - 1].position
        length = float(np.linalg.norm(way)) / plan[at].speed
        if length >= left:
            break
        left, at = left - length, at - 1
    point = plan[at].position
    if at > first:
        point = point - way * (left / length if length else 0.0)
    stop = replace(plan[at], position=point, stay=0)
    if pushes:
        return [*plan[:at], stop]
    after = [replace(waypoint, gripper=1.0, stay=0) for waypoint in plan[at:]]
    return [*plan[:at], stop, replace(stop, gripper=1.0, stay=2), *after]


def _come_down_late(plan: list[Waypoint], steps: float) -> list[Waypoint]:
    """The plan of a push that goes along its way for `steps` full-speed steps before it comes down."""
    above, behind, end = plan[0], plan[1], plan[-1]
    way = end.position - behind.position
    length = max(float(np.linalg.norm(way)), 1e-9)
    ahead = way * min(1.0, steps * SLOW / length)
    return [above, *(replace(waypoint, position=waypoint.position + ahead) for waypoint in (above, behind)), end]


def expert_name(flaws: Flaws) -> str:
    """'expert-noise0.1-late3' and the like; parse_expert reads it back."""
    parts = [f"-{f.name}{getattr(flaws, f.name):g}" for f in fields(flaws) if getattr(flaws, f.name) != f.default]
    return "expert" + "".join(parts)


def parse_expert(name: str) -> Policy:
    """The scripted expert of a name 'expert[-FLAW[AMOUNT]]...', e.g. 'expert-noise0.1-offset0.02'.

    Raises:
        UserError: an unknown flaw, one without the amount it needs or with one it cannot have, an amount out of range,
            or the same flaw twice.
    """
    head, *parts = name.split("-")
    if head != "expert":
        raise unknown("policy", name, ["expert"])
    amounts: dict[str, float] = {}
    plain: list[str] = []
    for part in parts:
        match = _NAME.fullmatch(part)
        word, amount = match.groups() if match else (part, None)
        if word in amounts or word in plain:
            raise UserError(f"policy {name!r} has {word!r} twice")
        if word in RANGES and amount is not None:
            amounts[word] = float(amount)
        elif word in (*FLAWS, "flawed") and amount is None:
            plain.append(word)
        elif word in RANGES:
            low, high, unit = RANGES[word]
            raise UserError(
                f"policy {name!r}: {word!r} needs an amount, {low:g} to {high:g}{unit}, e.g. '{word}{high / 4:g}'"
            )
        else:
            known = {f"{flaw}{amount}" for flaw in RANGES} if amount is not None else {*FLAWS, "flawed", *RANGES}
            error = unknown("flaw", part, known)
            raise UserError(f"policy {name!r}: {error}")
    if not plain:
        if not set(amounts) - {"noise"}:
            return ScriptedExpert(noise=Flaws(**amounts).noise)
        return GradedExpert(Flaws(**amounts))
    if len(plain) > 1 or set(amounts) - {"noise"}:
        raise UserError(f"policy {name!r}: {plain[0]!r} without an amount goes with noise alone")
    noise = Flaws(**amounts).noise
    if plain == ["flawed"]:
        return ScriptedExpert(noise, flaw="random", name=name)
    return ScriptedExpert(noise, flaw=plain[0])
