"""One recorded episode, whatever format it came from, and lazy sequences of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_DIM
from wfm_sim.errors import UserError, unknown

HOLD_OUT = 40  # one in so many is kept for validation where a data set has no split of its own
T = TypeVar("T")


def held_out(units: Sequence[T]) -> Sequence[T]:
    """Those of a sorted list (of episodes, of folders) that are kept for validation; none of fewer than half of 40."""
    return units[HOLD_OUT // 2 :: HOLD_OUT]


@dataclass(frozen=True)
class Episode:
    """T frames and the T-1 actions between them.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, T >= 1.
        actions: float32 [T-1, 7], canonical (wfm_sim.actions); actions[t] leads from frame t to frame t+1. Finite.
        states: float32 [T, 7] poses x, y, z [m], roll, pitch, yaw [rad], gripper (1 = open); None where not recorded.
        instruction: What the robot was told, '' where not recorded.
        fps: Frames per second of real time (not what a file's header says).
        id: Unique within its data set.
        source: Where it was read from, for messages.
        extras: Anything more, e.g. 'success' bool [T], 'progress' float32 [T], 'task', 'seed'.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    states: NDArray[np.float32] | None = None
    instruction: str = ""
    fps: float = 5.0
    id: str = ""
    source: str = ""
    extras: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = self.source or f"episode {self.id!r}"
        shape, count = self.frames.shape, len(self.frames)
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or not count:
            raise UserError(f"{where}: frames are {self.frames.dtype} {list(shape)}, expected uint8 [T, H, W, 3]")
        if self.actions.shape != (count - 1, ACTION_DIM):
            expected = [count - 1, ACTION_DIM]
            raise UserError(f"{where}: actions are {list(self.actions.shape)}, expected {expected} for {count} frames")
        if self.states is not None and self.states.shape != (count, ACTION_DIM):
            expected = [count, ACTION_DIM]
            raise UserError(f"{where}: states are {list(self.states.shape)}, expected {expected} for {count} frames")
        for name, values in (("actions", self.actions), ("states", self.states)):
            if values is not None and not np.isfinite(values).all():
                raise UserError(f"{where}: {name} hold a value that is not finite")
        if not self.fps > 0:
            raise UserError(f"{where}: fps is {self.fps}, expected a positive number")

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.frames)


class EpisodeDataset(Sequence[Episode]):
    """Episodes read one at a time when asked for, by position or by id.

    Subclasses set `ids` (sorted, unique) and read one episode.
    """

    ids: tuple[str, ...]

    @abstractmethod
    def read(self, episode_id: str) -> Episode:
        """The episode of this id, which is one of `ids`."""

    def get(self, episode_id: str) -> Episode:
        """The episode of this id. UserError, with the nearest id, when there is none."""
        if episode_id not in self.ids:
            raise unknown("episode", episode_id, self.ids)
        return self.read(episode_id)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self.read(episode_id) for episode_id in self.ids[index]]
        return self.read(self.ids[index])

    def __iter__(self) -> Iterator[Episode]:
        return map(self.read, self.ids)
