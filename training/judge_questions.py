"""Questions about recorded frames that a judge learns from, and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from wfm_sim.data.bulk import EpisodeArrays
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.judge import JudgeConfig

# Geometry of the scene, metres; a test holds it equal to assets/tabletop.py, which training does not import.
BLOCK_HALF, ZONE_REACH, PLATE_RADIUS, LIFT_HEIGHT = 0.021, 0.035, 0.052, 0.05
OUT_OF_REACH = 0.06  # a gripper this far from a block's centre does not touch it


@dataclass(frozen=True)
class Questions:
    """Q questions about recorded frames, with their answers.

    Attributes:
        episode, time, task, colour: int64 [Q], indices into the episodes, their frames and the judge's names.
        success: bool [Q].
        progress: float32 [Q], NaN where it was not recorded.
    """

    episode: NDArray[np.int64]
    time: NDArray[np.int64]
    task: NDArray[np.int64]
    colour: NDArray[np.int64]
    success: NDArray[np.bool_]
    progress: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.episode)

    @classmethod
    def cat(cls, parts: Sequence[Questions]) -> Questions:
        """All of them, one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    @classmethod
    def none(cls) -> Questions:
        """No question at all."""
        index = np.empty(0, dtype=np.int64)
        return cls(index, index, index, index, np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.float32))

    def where(self, rows: NDArray[Any]) -> Questions:
        """Those of a bool mask [Q], or of indices."""
        return Questions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def recorded_questions(data: EpisodeArrays, config: JudgeConfig) -> Questions:
    """Every frame's own task and target, answered by the twin."""
    success, progress = data.stack("success").astype(bool), data.stack("progress").astype(np.float32)
    episodes, times = np.indices(success.shape).reshape(2, -1)
    task = np.array([_index(extras["task"], config.tasks) for extras in data.extras])[episodes]
    colour = np.array([_index(extras["target_colour"], config.colours) for extras in data.extras])[episodes]
    return Questions(episodes, times, task, colour, success.reshape(-1), progress.reshape(-1))


def added_questions(
    data: EpisodeArrays, config: JudgeConfig, goals: Sequence[Mapping[str, NDArray[Any]]] | None = None
) -> Questions:
    """Every task of every block, but the recorded one, wherever positions decide the answer.

    Args:
        data: Episodes; those without recorded positions are passed over.
        config: The judge's names.
        goals: Per episode the goal [3] of each task (`task_goals`); None knows the recorded task's alone.
    """
    parts = [Questions.none()]
    for e, extras in enumerate(data.extras):
        if "object_positions" not in extras or "object_colours" not in extras:
            continue
        positions = np.asarray(extras["object_positions"], dtype=np.float64)  # [T, blocks, 3]
        gripper = data.states[e, :, :3]
        known = goals[e] if goals is not None else {extras["task"]: np.asarray(extras["layout"]["goal"])}
        for block, colour in enumerate(extras["object_colours"]):
            for task in config.tasks:
                if task == extras["task"] and colour == extras["target_colour"]:
                    continue
                if task != "pick" and task not in known:
                    continue
                success, certain = answer(task, positions[:, block], known.get(task), gripper)
                times = np.flatnonzero(certain)
                same = np.ones(len(times), dtype=np.int64)
                names = _index(task, config.tasks) * same, _index(colour, config.colours) * same
                unknown_progress = np.full(len(times), np.nan, dtype=np.float32)
                parts.append(Questions(e * same, times, *names, success[times], unknown_progress))
    return Questions.cat(parts)


def answer(
    task: str, block: NDArray[np.float64], goal: NDArray[Any] | None, gripper: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a block at `block` [T, 3] has come to its goal [3], and where that is certain, each bool [T].

    What the recording does not say is whether the gripper touches the block; where that matters and its distance leaves
    it open, the answer is not certain. `gripper` is its position [T, 3].
    """
    if task == "pick":  # nothing else holds a block up
        above = block[:, 2] - BLOCK_HALF - LIFT_HEIGHT
        return above >= 0, np.abs(above) > 0.003
    assert goal is not None
    if task == "push":
        inside = (np.abs(block[:, :2] - goal[:2]) < ZONE_REACH).all(1) & (block[:, 2] < 2 * BLOCK_HALF)
        return inside, np.ones(len(block), dtype=bool)
    distance = np.hypot(*(block[:, :2] - goal[:2]).T)
    resting = (distance < PLATE_RADIUS) & (np.abs(block[:, 2] - BLOCK_HALF - goal[2]) < 0.008)
    far = np.linalg.norm(gripper - block, axis=1) > OUT_OF_REACH
    return resting & far, ~resting | far


def task_goals(data: EpisodeArrays, cache: Path) -> list[dict[str, NDArray[np.float64]]] | None:
    """The goal of every task in every episode's scene, from the twin; kept in the file `cache`.

    None where the episodes do not name their scene, or where the twin of today has another scene under that name.
    """
    if any("seed" not in extras or "layout" not in extras for extras in data.extras):
        return None
    seeds = np.array([extras["seed"] for extras in data.extras])
    tasks = sorted({extras["task"] for extras in data.extras})
    if cache.is_file():
        with np.load(cache) as kept:
            if np.array_equal(kept["seeds"], seeds) and kept["tasks"].tolist() == tasks:
                return [dict(zip(tasks, row, strict=True)) for row in kept["goals"]]
    import gymnasium as gym

    env = gym.make("wfm_sim/TabletopMuJoCo-v0", disable_env_checker=True)
    goals = np.empty((len(seeds), len(tasks), 3))
    for e, seed in enumerate(track(seeds.tolist(), description="goals of all tasks", transient=True)):
        for i, task in enumerate(tasks):
            _, info = env.reset(seed=seed, options={"task": task})
            goals[e, i] = info["layout"]["goal"]
        own = goals[e, tasks.index(data.extras[e]["task"])]
        if not np.allclose(own, data.extras[e]["layout"]["goal"], atol=1e-4):
            env.close()
            return None
    env.close()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(cache) as temporary, temporary.open("wb") as file:
        np.savez(file, seeds=seeds, tasks=np.array(tasks), goals=goals)
    return [dict(zip(tasks, row, strict=True)) for row in goals]


def _index(name: str, known: tuple[str, ...]) -> int:
    if name not in known:
        raise UserError(f"the data speak of {name!r}, which the judge does not know (only {', '.join(known)})")
    return known.index(name)
