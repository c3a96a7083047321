"""An action-conditioned diffusion model behind the WorldModel contract: one clip of frames per step.

Predict1 (one action, one frame), Predict2 and Predict2.5 (12 actions, 12 frames) denoise a whole clip that begins with
the newest frame and follows the actions. The newest frame is all that a step remembers, so a state is small and a step
costs the same at any time; for frame-by-frame simulation with a memory see causal_world.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.generation import WorldGenerator, generate
from wfm_sim.models.rollout import clip_actions
from wfm_sim.world_model import WorldModelSpec, check_condition, check_start


@dataclass(frozen=True)
class ClipState:
    """B imagined worlds: the newest frames uint8 [B, H, W, 3], and int64 [B] seeds and clips made so far."""

    frames: NDArray[np.uint8]
    seeds: NDArray[np.int64]
    clock: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: Any) -> ClipState:
        index = rows if isinstance(rows, slice) else np.arange(len(self))[np.asarray(rows)].reshape(-1)
        return ClipState(self.frames[index].copy(), self.seeds[index].copy(), self.clock[index].copy())

    def clone(self) -> ClipState:
        return self[slice(None)]

    @classmethod
    def cat(cls, states: Sequence[ClipState]) -> ClipState:
        return cls(*(np.concatenate([getattr(s, name) for s in states]) for name in ("frames", "seeds", "clock")))


class DiffusionWorldModel:
    """See the module docstring; satisfies `wfm_sim.world_model.WorldModel`.

    Args:
        generator: Network, tokenizer and settings; its clips are 1 + `spec.frames_per_step` frames.
        spec: What it takes and gives.
        scale: float [A], conditions times this are what the network sees.
        offset: float [A], added after that.
        context: [1, K, D] text embedding, None for a network without text.
    """

    def __init__(
        self,
        generator: WorldGenerator,
        spec: WorldModelSpec,
        *,
        scale: Sequence[float],
        offset: Sequence[float],
        context: Tensor | None = None,
    ) -> None:
        self.generator, self.spec, self.context = generator, spec, context
        self._scale, self._offset = torch.tensor(scale), torch.tensor(offset)
        if generator.settings.frames != 1 + spec.frames_per_step:
            raise UserError(
                f"{spec.name!r} makes clips of {generator.settings.frames} frames, so a step has "
                f"{generator.settings.frames - 1} of them, not {spec.frames_per_step}"
            )

    def start(self, frames: NDArray[np.uint8], *, seeds: Sequence[int] | None = None) -> ClipState:
        """See WorldModel.start; the last frame given is the one that counts."""
        frames = check_start(frames, seeds, self.spec)
        rows = [0] * len(frames) if seeds is None else [int(seed) for seed in seeds]
        return ClipState(frames[:, -1].copy(), np.array(rows, np.int64), np.zeros(len(frames), np.int64))

    def step(self, state: ClipState, condition: NDArray[np.float32]) -> tuple[ClipState, NDArray[np.uint8]]:
        """See WorldModel.step. Rows are denoised one by one, so that none depends on its neighbours."""
        condition = check_condition(condition, len(state), self.spec)
        actions = torch.from_numpy(condition) * self._scale + self._offset
        rows = []
        for i in range(len(state)):
            clip = generate(
                self.generator,
                seeds=[int(state.seeds[i])],
                context=self.context,
                given=state.frames[i : i + 1, None],
                conditions={"action": clip_actions(self.generator.net.cfg, actions[i : i + 1])},
                chunk=int(state.clock[i]),
            )
            rows.append(clip[:, 1:])
        frames = np.concatenate(rows)
        return ClipState(frames[:, -1].copy(), state.seeds, state.clock + 1), frames
