"""Replays recorded actions, open loop: `replay:DATASET#EPISODE`.

parse_replay("replay:datasets/tabletop#000003")       # one episode, for every row
parse_replay("replay:datasets/tabletop@val#000003")   # of the split 'val'
parse_replay("replay:datasets/tabletop")              # each row an episode that its seed draws
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation, Slerp

from wfm_sim.actions import ACTION_DIM, ACTION_HIGH, ACTION_LOW, RATE_HZ, actions_from_states, dead_reckoning
from wfm_sim.data import Episode, open_dataset
from wfm_sim.errors import UserError
from wfm_sim.policies.base import ready_rows, rows_to_reset

PREFIX = "replay:"


@dataclass
class _Row:
    """What is replayed in one row, and how far it is."""

    actions: NDArray[np.float32]
    step: int = 0

    def act(self, gripper: float) -> NDArray[np.float32]:
        if self.step < len(self.actions):
            self.step += 1
            return self.actions[self.step - 1]
        # A recording that has ended stands still and holds what it held.
        still = np.zeros(ACTION_DIM, dtype=np.float32)
        still[6] = self.actions[-1, 6] if len(self.actions) else np.clip(gripper, 0.0, 1.0)
        return still


class ReplayPolicy:
    """Replays episodes' actions in the canonical convention, which every reader of wfm_sim.data converts to.

    A recording of another rate than 5 Hz is resampled along the path it commands; actions are clipped to the action
    box (`clipped` counts). Once a recording has ended its row holds still, the gripper as last commanded.
    """

    uses_pixels = False

    def __init__(self, episodes: Sequence[Episode], name: str = "replay") -> None:
        """Set up.

        Args:
            episodes: What is replayed. With several, each row's seed draws one; they are read when they are drawn, so
                that a data set costs nothing.
            name: What reports call it.

        Raises:
            UserError: no episodes.
        """
        if not len(episodes):
            raise UserError("nothing to replay: no episodes")
        self.name = name
        self.clipped = 0  # actions out of the box, of the recordings drawn so far
        self._episodes = episodes
        self._rows: list[_Row | None] = []

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset; `info` is not used."""
        if len(self._rows) != len(seeds):
            self._rows = [None] * len(seeds)
        for i in rows_to_reset(len(seeds), mask):
            count = len(self._episodes)
            drawn = int(np.random.default_rng([int(seeds[i]), 13]).integers(count)) if count > 1 else 0
            episode = self._episodes[drawn]
            wanted = resample(episode.actions, episode.fps)
            actions = np.clip(wanted, ACTION_LOW, ACTION_HIGH)
            self.clipped += int((np.abs(wanted - actions) > 1e-6).any(axis=1).sum())
            self._rows[i] = _Row(actions)

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See Policy.act; the observation is used by recordings without any action alone (for the gripper)."""
        poses = np.asarray(observation["agent_pos"])
        rows = ready_rows(self._rows, len(poses))
        return np.stack([row.act(float(pose[6])) for row, pose in zip(rows, poses, strict=True)])


def resample(actions: ArrayLike, rate_hz: float, wanted_hz: float = RATE_HZ) -> NDArray[np.float32]:
    """Canonical actions at another rate: the same commanded path, sampled at other times.

    Args:
        actions: [N, 7], canonical but for their rate.
        rate_hz: Theirs.
        wanted_hz: That of the result.

    Returns:
        float32 [M, 7], M = ceil(N * wanted_hz / rate_hz); the input itself where the rates agree. The gripper command
        of a step is the one in force in the middle of it.
    """
    given = np.asarray(actions, dtype=np.float32)
    if len(given) == 0 or abs(rate_hz - wanted_hz) < 0.01 * wanted_hz:
        return given
    poses = dead_reckoning(given)
    times = np.arange(len(poses)) / rate_hz
    count = int(np.ceil(len(given) * wanted_hz / rate_hz - 1e-6))
    at = np.minimum(np.arange(count + 1) / wanted_hz, times[-1])
    path = np.zeros((count + 1, ACTION_DIM))
    for axis in range(3):
        path[:, axis] = np.interp(at, times, poses[:, axis])
    path[:, 3:6] = Slerp(times, Rotation.from_euler("xyz", poses[:, 3:6]))(at).as_euler("xyz")
    middle = np.minimum(((at[:-1] + at[1:]) / 2 * rate_hz).astype(int), len(given) - 1)
    return actions_from_states(path, given[middle, 6])


def parse_replay(name: str) -> ReplayPolicy:
    """The policy of a name 'replay:DATASET[@SPLIT][#EPISODE]'.

    Raises:
        UserError: no data set named, or no such data set, split or episode.
    """
    where, _, episode_id = name.removeprefix(PREFIX).partition("#")
    root, _, split = where.rpartition("@")
    if not root or "/" in split:
        root, split = where, ""
    if not root:
        raise UserError(f"policy {name!r} names no data set; expected {PREFIX}DATASET#EPISODE")
    dataset = open_dataset(root, split or None)
    if "#" in name:
        return ReplayPolicy([dataset.get(episode_id)], name)
    return ReplayPolicy(dataset, name)
