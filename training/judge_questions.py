"""Questions about recorded frames that a judge learns from, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.bulk import EpisodeArrays
from wfm_sim.errors import UserError
from wfm_sim.judge import JudgeConfig

# Geometry of the scene, metres; a test holds it equal to assets/tabletop.py, which training does not import.
BLOCK_HALF, ZONE_REACH, PLATE_RADIUS, LIFT_HEIGHT = 0.021, 0.035, 0.052, 0.05


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


def added_questions(data: EpisodeArrays, config: JudgeConfig) -> Questions:
    """Other tasks and blocks, where the block positions decide the answer; not at all for data without positions."""
    rows: list[tuple[Any, ...]] = []
    for e, extras in enumerate(data.extras):
        if "object_positions" not in extras or "object_colours" not in extras:
            continue
        positions = np.asarray(extras["object_positions"], dtype=np.float64)  # [T, blocks, 3]
        goal, own_task = np.asarray(extras["layout"]["goal"]), extras["task"]
        for block, colour in enumerate(extras["object_colours"]):
            xyz, own = positions[:, block], colour == extras["target_colour"]
            answers: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}  # success, and where it is certain
            if not (own and own_task == "pick"):
                height = xyz[:, 2] - BLOCK_HALF - LIFT_HEIGHT
                answers["pick"] = height >= 0, np.abs(height) > 0.003
            if own_task == "push" and not own:
                inside = (np.abs(xyz[:, :2] - goal[:2]) < ZONE_REACH).all(1) & (xyz[:, 2] < 2 * BLOCK_HALF)
                answers["push"] = inside, np.ones(len(xyz), dtype=bool)
            if own_task == "place" and not own:
                off = np.hypot(*(xyz[:, :2] - goal[:2]).T) > PLATE_RADIUS
                answers["place"] = np.zeros(len(xyz), dtype=bool), off  # on the plate, the gripper decides: not asked
            for task, (success, certain) in answers.items():
                times = np.flatnonzero(certain)
                names = _index(task, config.tasks), _index(colour, config.colours)
                rows += [(e, t, *names, success[t], np.nan) for t in times]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = (np.int64, np.int64, np.int64, np.int64, np.bool_, np.float32)
    return Questions(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def _index(name: str, known: tuple[str, ...]) -> int:
    if name not in known:
        raise UserError(f"the data speak of {name!r}, which the judge does not know (only {', '.join(known)})")
    return known.index(name)
