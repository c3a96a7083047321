"""Training of the painter: along the simulator's own rollouts, with the true places of the objects told.

Groups of rollouts advance in turn. In each step the frozen denoiser predicts a group's next frame, the painter paints
the objects in, and what it painted is what the rollout goes on from; its loss is against the recorded frame. So it sees
what it will see in use, however the rollouts change as it learns. Beside the newest samples it learns from older ones.

All rollouts begin anew every `Painting.cycle` steps, and nothing is kept over that: a run that is checkpointed there
resumes bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from wfm_sim.models.causal_world import CausalState, CausalWorldModel, frames_to_tensor
from wfm_sim.models.object_painter import ObjectPainter, marked, spots, stamp
from wfm_sim.training.object_data import Bodies
from wfm_sim.video_metrics import psnr


@dataclass(frozen=True)
class Painting:
    """How the painter is trained.

    Attributes:
        groups, rows: Groups of so many rollouts.
        steps: Of a rollout, before it begins anew.
        again: Earlier samples in a batch, beside the newest `rows`.
        objects: Extra loss weight where an object is, or was a step ago.
        contact: Chance of rollouts in which an object moves, relative to 1 for others.
    """

    groups: int = 4
    rows: int = 16
    steps: int = 24
    again: int = 16
    objects: float = 10.0
    contact: float = 6.0

    @property
    def cycle(self) -> int:
        """Training steps after which all rollouts begin anew."""
        return self.groups * self.steps


@dataclass
class _Group:
    """Rollouts: their state, first frames' indices [B], steps taken, and which objects are told [B, K]."""

    state: CausalState
    first: np.ndarray
    taken: int
    told: Tensor


@dataclass
class _Sample:
    """What the painter gets, and what it is to give: [B, ...] each."""

    predicted: Tensor
    stamped: Tensor
    previous: Tensor
    anchor: Tensor
    marks: Tensor
    regions: Tensor
    truth: Tensor
    weight: Tensor

    def painted(self, painter: ObjectPainter) -> Tensor:
        """What a painter makes of it."""
        out: Tensor = painter(self.predicted, self.stamped, self.previous, self.anchor, self.marks, self.regions)
        return out

    def where(self, rows: Any) -> _Sample:
        return _Sample(**{k: v[rows] for k, v in vars(self).items()})

    @staticmethod
    def cat(parts: list[_Sample]) -> _Sample:
        return _Sample(**{k: torch.cat([getattr(p, k) for p in parts]) for k in vars(parts[0])})


class PainterTask:
    """See the module docstring."""

    def __init__(
        self, world: CausalWorldModel, bodies: Bodies, val: Bodies, latents: np.ndarray, painting: Painting, width: int
    ) -> None:
        """Of a world without a memory of objects; latents: [N, C, h, w] of all frames of `bodies`."""
        self.world, self.bodies, self.val, self.latents, self.painting = world, bodies, val, latents, painting
        self.model = ObjectPainter(world.cfg.dit.in_channels, width)
        self.cell = float(world.cfg.tokenizer.spatial_compression)
        t, offsets = painting.steps, bodies.frames.offsets
        self.starts = np.concatenate([np.arange(a, b - t) for a, b in pairwise(offsets) if b - a > t])
        moved = np.concatenate(([0], np.cumsum(bodies.frames.moved() > 0.3)))
        busy = moved[self.starts + t] - moved[self.starts] > 0
        chance = np.where(busy, painting.contact, 1.0) * np.where(np.isin(self.starts, offsets), t / 4, 1.0)
        self.chance = np.cumsum(chance) / chance.sum()
        self.groups: list[_Group | None] = [None] * painting.groups
        self.seen: list[_Sample] = []

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        p = self.painting
        if step % p.cycle == 0:
            self.groups, self.seen = [None] * p.groups, []
        which = step % p.groups
        group = self.groups[which] or self._begun(generator)
        state, new = self._sample(group)
        batch = [new]
        if self.seen:
            picks = torch.randint(len(self.seen), (p.again,), generator=generator).tolist()
            rows = torch.randint(p.rows, (p.again,), generator=generator).tolist()
            batch += [self.seen[i].where([j]) for i, j in zip(picks, rows, strict=True)]
        sample = _Sample.cat(batch)
        painted = sample.painted(self.model)
        error = painted - sample.truth
        robust = (error.square() + 0.01).sqrt() - 0.1
        loss = (sample.weight * robust).sum() / (sample.weight.sum() * error.shape[1])
        with torch.no_grad():
            self.groups[which] = self._advanced(group, state, painted[: p.rows].detach())
            near = (sample.weight > 0.5 * p.objects).float()
            before = (sample.predicted - sample.truth).square().mean(dim=1, keepdim=True)
            after = error.square().mean(dim=1, keepdim=True)
            count = near[: p.rows].sum().clamp(min=1)
            metrics = {
                "before": float((before * near)[: p.rows].sum() / count),
                "after": float((after * near)[: p.rows].sum() / count),
                "age": float(group.taken),
            }
        self.seen.append(new)
        return loss, metrics

    def _begun(self, generator: torch.Generator) -> _Group:
        u = torch.rand(self.painting.rows, generator=generator, dtype=torch.float64).numpy()
        first = self.starts[np.searchsorted(self.chance, u).clip(max=len(self.starts) - 1)]
        return begun(self.world, self.bodies, first)

    @torch.no_grad()
    def _sample(self, group: _Group) -> tuple[CausalState, _Sample]:
        """A group a step on as the denoiser has it, and what the painter is to make of that."""
        at = group.first + group.taken
        new, sample = predicted(self.world, self.bodies, group, self.cell)
        truth = torch.from_numpy(np.array(self.latents[at + 1], dtype=np.float32))
        here = group.told * torch.from_numpy(self.bodies.seen[at + 1]).float()
        places = torch.from_numpy(self.bodies.place[at + 1]).nan_to_num(0.0)
        there = (spots(places, (truth.shape[2], truth.shape[3]), self.cell, 1.0) * here[..., None, None]).sum(1)
        weight = sample.regions[:, 1:] + self.painting.objects * (there[:, None] + 0.5 * sample.marks[:, 2:3])
        return new, replace(sample, truth=truth, weight=weight)

    def _advanced(self, group: _Group, state: CausalState, painted: Tensor) -> _Group | None:
        """The group a step on, from the denoiser's state and what was painted; None where its rollouts end."""
        if group.taken + 1 >= self.painting.steps:
            return None
        return replace(group, state=replace(state, latent=painted), taken=group.taken + 1)

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Rollouts of validation episodes with the true places told: PSNR at their end, and a picture."""
        self.model.eval()
        steps = min(24, int(np.diff(self.val.frames.offsets).min()) - 1)
        first = self.val.frames.offsets[:-1][:16]
        group = begun(self.world, self.val, first)
        frames = [np.array(self.val.frames.frames[first])]
        for k in range(steps):
            new, shown = predicted(self.world, self.val, group, self.cell)
            painted = shown.painted(self.model)
            group = replace(group, state=replace(new, latent=painted), taken=k + 1)
            frames.append(self.world.decode(painted[:, :, None])[:, 0])
        self.model.train()
        truth = np.stack([np.array(self.val.frames.frames[first + k]) for k in range(steps + 1)], axis=1)
        guess = np.stack(frames, axis=1)
        rows = [np.concatenate(list(a[i, ::3]), axis=1) for i in range(min(8, len(first))) for a in (truth, guess)]
        cv2.imwrite(str(out / f"samples_{step:06d}.png"), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
        return {"val_psnr": float(psnr(truth[:, -1], guess[:, -1]).mean())}


def begun(world: CausalWorldModel, bodies: Bodies, first: np.ndarray) -> _Group:
    """Rollouts from the frames `first`, with the objects told that are seen there."""
    frames = np.array(bodies.frames.frames[first])[:, None]
    state = world.start(frames, seeds=first.tolist())
    return _Group(state, first, 0, torch.from_numpy(bodies.present[first] & bodies.seen[first]).float())


def predicted(world: CausalWorldModel, bodies: Bodies, group: _Group, cell: float) -> tuple[CausalState, _Sample]:
    """A group a step on as the denoiser has it, and what the painter gets of that (truth and weight are not in it)."""
    at = group.first + group.taken
    new = world.step_latent(group.state, np.array(bodies.frames.actions[at])[:, None])
    now, before, given = (torch.from_numpy(bodies.place[i]).nan_to_num(0.0) for i in (at + 1, at, group.first))
    heights = torch.from_numpy(bodies.position[at + 1][..., 2]).nan_to_num(0.0)
    frames = frames_to_tensor(np.array(bodies.frames.frames[group.first])[:, None])[:, :, 0]
    stamped = world.encoded(stamp(world.decoded(new.latent), frames, now, given, group.told))
    grid = (new.latent.shape[2], new.latent.shape[3])
    marks, regions = marked(now, before, given, heights, group.told, grid, cell)
    none = torch.zeros(())
    parts = (new.latent, stamped, group.state.latent, group.state.anchor, marks, regions, none, none)
    return new, _Sample(*(a.clone() for a in parts))
