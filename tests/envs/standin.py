"""A small deterministic world model and judge, so that the environments are tested without trained weights.

Frames shift with the action and carry noise that depends on the row's seed and clock alone. Pixel (0, 0) of every
imagined frame says (clock, seed, MARK), from which the judge reads when the row succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, UNITS
from wfm_sim.errors import UserError
from wfm_sim.world_model import WorldModelSpec

MARK = 123


@dataclass(frozen=True)
class StandInState:
    frames: np.ndarray  # [B, H, W, 3]
    seeds: np.ndarray  # [B]
    clocks: np.ndarray  # [B]

    def __post_init__(self):
        for array in (self.frames, self.seeds, self.clocks):
            array.flags.writeable = False  # a state that somebody changed in place would raise

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, rows):
        return StandInState(self.frames[rows].copy(), self.seeds[rows].copy(), self.clocks[rows].copy())

    def clone(self):
        return self[:]

    @classmethod
    def cat(cls, states):
        return cls(*(np.concatenate([getattr(s, k) for s in states]) for k in ("frames", "seeds", "clocks")))


@dataclass
class StandInModel:
    size: tuple[int, int] = (64, 64)
    frames_per_step: int = 1
    condition: str = "action"
    units: tuple[str, ...] = UNITS
    step_rows: list[int] = field(default_factory=list)  # the batch size of every step so far

    @property
    def spec(self):
        low, high = (ACTION_LOW.tolist(), ACTION_HIGH.tolist()) if len(self.units) == 7 else ([-1.0] * 2, [1.0] * 2)
        return WorldModelSpec(
            "stand-in", self.size, 5.0, self.condition, tuple(low), tuple(high), self.units, self.frames_per_step, 1,
            (3, *self.size),
        )  # fmt: skip

    def start(self, frames, *, seeds=None):
        if frames.dtype != np.uint8 or frames.shape[2:] != (*self.size, 3):
            raise UserError(f"wrong frames: {frames.dtype} {frames.shape}")
        rows = len(frames)
        return StandInState(frames[:, -1].copy(), np.array(seeds or [0] * rows), np.zeros(rows, int))

    def step(self, state, condition):
        if condition.shape != (len(state), self.frames_per_step, len(self.units)) or condition.dtype != np.float32:
            raise UserError(f"wrong condition: {condition.dtype} {condition.shape}")
        self.step_rows.append(len(state))
        frames, clocks, out = state.frames, state.clocks, []
        for n in range(self.frames_per_step):
            clocks = clocks + 1
            frames = np.stack(
                [self._imagine(*row) for row in zip(frames, state.seeds, clocks, condition[:, n], strict=True)]
            )
            out.append(frames)
        return StandInState(frames.copy(), state.seeds.copy(), clocks), np.stack(out, axis=1)

    @staticmethod
    def _imagine(frame, seed, clock, action):
        noise = np.random.default_rng([int(seed), int(clock)]).integers(-6, 7, frame.shape)
        shift = round(float(action[0]) * 60), round(float(action[1]) * 60)
        frame = np.clip(np.roll(frame, shift, (0, 1)).astype(int) + noise, 0, 255).astype(np.uint8)
        frame[0, 0] = clock, seed % 256, MARK
        return frame


class StandInJudge:
    """Progress is the clock over 10; a success from clock 3 + seed % 4 on. Only imagined frames can succeed."""

    def __call__(self, frames, first_frames, tasks, colours):
        assert len(frames) == len(first_frames) == len(tasks) == len(colours)
        clock, seed, mark = (frames[:, 0, 0, i].astype(int) for i in range(3))
        probability = ((mark == MARK) & (clock >= 3 + seed % 4)).astype(float)
        return probability, np.where(mark == MARK, np.minimum(clock / 10, 1.0), 0.0)
