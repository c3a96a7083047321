"""The one contract everything hangs on: a world model is a pure function on an explicit, batched state.

    state         = model.start(frames, seeds=[0, 1])     # uint8 [B, T, H, W, 3] -> State
    state, frames = model.step(state, condition)           # float32 [B, n, A] -> State, uint8 [B, n, H, W, 3]
    state[rows], State.cat([...]), state.clone()           # fork, restore, regroup

`step` never changes the state it was given, so keeping a reference to a state *is* a snapshot of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError

ConditionKind = Literal["action", "camera", "text", "none"]


@dataclass(frozen=True)
class WorldModelSpec:
    """What a world model takes and gives.

    Attributes:
        name: Preset name, e.g. 'nano-tabletop'.
        frame_size: (height, width) in pixels of every frame in and out.
        fps: Frames per second of simulated time.
        condition: What drives a step.
        condition_low: float32 [A], lower bounds of one condition row, in the units named in `condition_units`.
        condition_high: float32 [A], upper bounds.
        condition_units: One unit per dimension, e.g. ('m', 'm', 'm', 'rad', 'rad', 'rad', '1=open').
        frames_per_step: n, the frames that one `step` produces (the tokenizer's temporal compression); it takes n rows.
        context_frames: How many past latent frames the rolling cache holds.
        views: Camera views per frame.
        latent_shape: (channels, height, width) of one latent frame.
        notice: What every user must know of its frames (that the weights are random, say), or "".
    """

    name: str
    frame_size: tuple[int, int]
    fps: float
    condition: ConditionKind
    condition_low: tuple[float, ...]
    condition_high: tuple[float, ...]
    condition_units: tuple[str, ...]
    frames_per_step: int
    context_frames: int
    latent_shape: tuple[int, int, int]
    views: int = 1
    notice: str = ""


class State(Protocol):
    """The imagined world of B rollouts. Immutable by convention: `step` returns a new one."""

    def __len__(self) -> int:
        """B, the number of rows."""

    def __getitem__(self, rows: Sequence[int] | NDArray[Any] | slice) -> Self:
        """The chosen rows (a list, an index or bool array, or a slice), as a state of their own."""

    def clone(self) -> Self:
        """A copy that shares no memory with this state."""

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """The rows of all `states`, in order; each row keeps its own seed, clock and cache."""


@runtime_checkable
class WorldModel(Protocol):
    """A learned simulator. See the module docstring for the three calls."""

    spec: WorldModelSpec

    def start(self, frames: NDArray[np.uint8], *, seeds: Sequence[int] | None = None) -> Any:
        """Begin B rollouts.

        Args:
            frames: uint8 [B, T>=1, H, W, 3], the context, oldest first.
            seeds: One integer per row; row i's randomness depends on seeds[i] and its own step count alone.
                None means 0 for every row.

        Raises:
            UserError: wrong dtype, rank or size.
        """

    def step(self, state: Any, condition: NDArray[np.float32]) -> tuple[Any, NDArray[np.uint8]]:
        """Imagine the next n frames.

        Args:
            state: From `start` or an earlier `step`; left unchanged.
            condition: float32 [B, n, A] in `spec.condition_units`, finite.

        Returns:
            The new state and uint8 [B, n, H, W, 3].

        Raises:
            UserError: wrong shape, or a value that is not finite.
        """


def check_start(frames: NDArray[np.uint8], seeds: Sequence[int] | None, spec: WorldModelSpec) -> NDArray[np.uint8]:
    """What `WorldModel.start` was given, as an array. UserError unless uint8 [B, T>=1, H, W, 3] with a seed per row."""
    frames = np.asarray(frames)
    h, w = spec.frame_size
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[2:] != (h, w, 3) or 0 in frames.shape[:2]:
        raise UserError(f"start frames: expected uint8 [B, T>=1, {h}, {w}, 3], got {frames.dtype} {list(frames.shape)}")
    if seeds is not None and len(seeds) != len(frames):
        raise UserError(f"seeds: expected {len(frames)}, one per row, got {len(seeds)}")
    return frames


def check_condition(condition: NDArray[np.float32], rows: int, spec: WorldModelSpec) -> NDArray[np.float32]:
    """What `WorldModel.step` was given, as float32. UserError unless finite and [rows, frames_per_step, A]."""
    condition = np.asarray(condition, dtype=np.float32)
    expected = (rows, spec.frames_per_step, len(spec.condition_low))
    if condition.shape != expected:
        raise UserError(
            f"condition: expected shape {list(expected)} [rows, frames, numbers], got {list(condition.shape)}"
        )
    if not np.isfinite(condition).all():
        raise UserError("condition: every number must be finite, got NaN or infinity")
    return condition
