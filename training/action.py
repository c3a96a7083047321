"""Training of the action-conditioned causal simulator.

One network pass covers a clip of T frames with block-causal attention. Frame k gets the clean frame k - 1 as extra
channels and a noisy version of itself at its own flow time (diffusion forcing, arXiv 2407.01392): time 1 is the
one-step prediction that rollouts use, other times are flow matching with shifted logit-normal times (arXiv 2511.00062,
section 3.1), which let it sample in more steps too.

Against drift, it is trained on its own frames: a pool keeps clips of running rollouts. Each time such a clip is drawn,
all its frames are predicted in one pass from those it held; the predictions, moved on by one frame, are what it holds
next. So a clip that was drawn n times has drifted for n steps at every frame, as in self-forcing (arXiv 2506.08009),
for the price of an ordinary step. (It is a Jacobi iteration along the rollout; the weights change slowly meanwhile.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from wfm_sim.actions import ACTION_DIM, dead_reckoning
from wfm_sim.errors import UserError
from wfm_sim.models.causal_world import CausalWorldModel
from wfm_sim.models.checkpoint import load, save
from wfm_sim.models.dit import block_causal_mask
from wfm_sim.training.action_recipe import ActionRecipe, encode_all, probe_path
from wfm_sim.training.frames import Frames, load_frames
from wfm_sim.training.object_probe import SEEN_AREA, cover, load_probe, object_errors
from wfm_sim.video_metrics import moving_psnr, psnr


def logit_normal_times(shape: tuple[int, ...], shift: float, generator: torch.Generator) -> Tensor:
    """Flow times in (0, 1): sigmoid of a standard normal, shifted towards noise: s t / (1 + (s - 1) t)."""
    t = torch.randn(shape, generator=generator).sigmoid()
    return shift * t / (1 + (shift - 1) * t)


def _strips(allowed: Tensor, rows: int) -> tuple[Tensor, ...]:
    """A block-causal mask, bool [S, S], as additive strips of `rows` queries that end where they can see no further."""
    size = len(allowed)
    ends = [min(a + rows, size) for a in range(0, size, rows)]
    return tuple(
        torch.zeros(e - a, e, device=allowed.device).masked_fill(~allowed[a:e, :e], -1e9)
        for a, e in zip(range(0, size, rows), ends, strict=True)
    )


@dataclass(frozen=True)
class _Batch:
    """B clips of T frames.

    Attributes:
        first, anchor, row: int64 [B], indices of first frames and anchors; the pool's row, or -1.
        z: True latents [B, C, T, h, w].
        clean: The same, but what the clip really begins with in place of the first.
        previous: The frame before each as the network gets to see it (its own, or the true one with noise on it).
        shown: The anchors [B, C, 1, h, w].
        noise, time: Of the flow; time [B, T], 0 for given frames.
        given: bool [B, T].
        condition: Actions and poses [B, T, A].
        hide_given: Whether later frames may not look at the first.
    """

    first: np.ndarray
    anchor: np.ndarray
    row: np.ndarray
    z: Tensor
    clean: Tensor
    previous: Tensor
    shown: Tensor
    noise: Tensor
    time: Tensor
    given: Tensor
    condition: Tensor
    hide_given: bool


class ActionTask:
    """See the module docstring."""

    def __init__(self, recipe: ActionRecipe) -> None:
        self.recipe = recipe
        start = load(recipe.init, dtype=torch.float32)
        cfg = recipe.world
        self.world = CausalWorldModel(cfg)
        self.world.tokenizer.load_state_dict(start.tokenizer.state_dict())
        self.world.latent_mean.copy_(start.latent_mean)
        self.world.latent_std.copy_(start.latent_std)
        if recipe.init_net:
            self.world.net.load_state_dict(start.net.state_dict())
        self.world.tokenizer.requires_grad_(False)
        self.model = self.world.net
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.world.to(self.device)
        self._cell = cfg.frame_size[1] / cfg.latent_shape[2]  # pixels of a latent cell
        cache = recipe.out.parent / "cache"
        self.data = load_frames(recipe.data, cfg.frame_size, cache, recipe.split, recipe.hold_out)
        self.latents = encode_all(self.world, self.data, recipe.loop.bf16)
        self.probe = None
        if recipe.asks_probe and self.data.objects.shape[1]:
            self.probe = load_probe(probe_path(self.data), cfg.latent_shape[0]).to(self.device)
        self.starts, self.chance = self._clips()
        self.network = torch.compile(self.model, dynamic=False) if recipe.loop.compile else self.model
        tokens, t = cfg.tokens, recipe.clip
        allowed = block_causal_mask(t, tokens, window=cfg.window, device=self.device)
        # In a rollout the given frame leaves the window: half of the steps are trained without it in sight.
        hidden = allowed.clone()
        hidden[tokens:, :tokens] = False
        self.masks = [_strips(a, 3 * tokens) for a in (allowed, hidden)]
        c, h, w = cfg.latent_shape
        self.rope = self.model.rope(t, h, w, None, torch.float32, self.device)
        # What the frames after each clip's first are predicted from, and: first frame's index, age, anchor's index.
        self.pool_latent = torch.zeros(recipe.pool if recipe.replay else 0, c, t - 1, h, w, dtype=torch.float16)
        self.pool_at = torch.full((recipe.pool, 3), -1, dtype=torch.int64)

    def _clips(self) -> tuple[np.ndarray, np.ndarray]:
        """First frames of all clips, and their chance; clips with contact count more."""
        t, offsets = self.recipe.clip, self.data.offsets
        firsts = [np.arange(a, b - t + 1) for a, b in pairwise(offsets) if b - a >= t]
        starts = np.concatenate(firsts) if firsts else np.zeros(0, np.int64)
        moved = np.concatenate(([0], np.cumsum(self.data.moved() > 0.3)))
        contact = moved[starts + t - 1] - moved[starts] > 0
        chance = np.where(contact, self.recipe.contact, 1.0)
        return starts, np.cumsum(chance) / chance.sum()

    # ------------------------------------------------------------------------------------------------------- batches

    def _draw(self, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First frames of the batch's clips, their anchors and, for clips from the pool, the pool row (else -1)."""
        r = self.recipe
        u = torch.rand(r.batch, generator=generator, dtype=torch.float64).numpy()
        first = self.starts[np.searchsorted(self.chance, u).clip(max=len(self.starts) - 1)]
        begin = self.data.offsets[np.searchsorted(self.data.offsets, first, side="right") - 1]
        kind, where = torch.rand(2, r.batch, generator=generator, dtype=torch.float64).numpy()
        anchor = begin + ((first - begin) * np.where(kind < 0.4, 1.0, np.where(kind < 0.7, 0.0, where))).astype(
            np.int64
        )
        row = np.full(r.batch, -1)
        live = np.flatnonzero((self.pool_at[:, 0] >= 0).numpy())
        n = min(int(r.batch * r.replay), len(live))
        if n:
            chosen = live[torch.randperm(len(live), generator=generator)[:n].numpy()]
            row[:n], first[:n], anchor[:n] = chosen, self.pool_at[chosen, 0].numpy(), self.pool_at[chosen, 2].numpy()
        return first, anchor, row

    def _poses(self, first: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        """Dead-reckoned poses [B, T, 7] of the clips' frames; zeros before the anchor."""
        t = self.recipe.clip
        steps = first + t - 1 - anchor
        actions = np.zeros((len(first), int(steps.max()), ACTION_DIM))
        for i, n in enumerate(steps):
            actions[i, :n] = self.data.actions[anchor[i] : anchor[i] + n]
        index = (first - anchor)[:, None] + np.arange(t)
        poses = dead_reckoning(actions)[np.arange(len(first))[:, None], index.clip(min=0)]
        return np.where(index[..., None] >= 0, poses, 0.0)

    def _moved_objects(self, first: np.ndarray, anchor: np.ndarray) -> Tensor:
        """[B, 1, T, h, w], 1 at the true place of visible objects that move or have moved since the anchor, 0 away."""
        _, h, w = self.recipe.world.latent_shape
        now = self.data.objects[first[:, None] + np.arange(self.recipe.clip)][..., :2]
        moved = self._moved(first, anchor)
        place = torch.from_numpy(np.where(moved[..., None], now, np.inf)) / self._cell - 0.5
        x, y = torch.arange(w, dtype=torch.float32), torch.arange(h, dtype=torch.float32)
        near_x = torch.exp(-((x - place[..., :1]) ** 2) / 2)  # [B, T, K, w]
        near_y = torch.exp(-((y - place[..., 1:]) ** 2) / 2)
        return torch.einsum("btkh,btkw->bthw", near_y, near_x)[:, None].to(self.device)

    def _moved(self, first: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        """bool [B, T, K], objects seen in a frame that move or have moved since the anchor."""
        index = first[:, None] + np.arange(self.recipe.clip)
        now, before, begun = (self.data.objects[i][..., :2] for i in (index, np.maximum(index - 1, 0), anchor[:, None]))
        moved: np.ndarray = np.linalg.norm(now - begun, axis=-1) > 2
        return moved | (np.linalg.norm(now - before, axis=-1) > 0.3)

    def _object_errors(self, batch: _Batch, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Mean share missing and mean distance (latent cells) of moved objects, as the probe sees them."""
        index = batch.first[:, None] + np.arange(self.recipe.clip)
        seen = (self.data.objects[index][..., 2] >= SEEN_AREA) & self._moved(batch.first, batch.anchor)
        seen &= (self.data.objects[batch.anchor][:, None, :, 2] >= SEEN_AREA) & ~batch.given.cpu().numpy()[..., None]
        clip, frame, which = np.nonzero(seen)
        if self.probe is None or not len(clip):
            return predicted.new_zeros(()), predicted.new_zeros(())
        there = cover(self.data.objects[batch.anchor[clip], which], self.recipe.world.latent_shape[1:], self._cell).to(
            self.device
        )
        queries = self.probe.queries(batch.shown[clip, :, 0], there)
        rows = torch.from_numpy(clip * self.recipe.clip + frame).to(self.device)
        frames, truth = (a.transpose(1, 2).flatten(0, 1) for a in (predicted, batch.z))
        missing, away = object_errors(self.probe, frames, truth, queries, rows)
        return missing.mean(), away.mean()

    def _batch(self, generator: torch.Generator) -> _Batch:
        r, t = self.recipe, self.recipe.clip
        first, anchor, row = self._draw(generator)
        z = torch.from_numpy(np.stack([self.latents[i : i + t] for i in first])).float().transpose(1, 2)
        b, own = len(first), torch.from_numpy(row >= 0)
        # given frames: the first, sometimes more (a simulator may be started with several frames)
        more = (torch.rand(b, generator=generator) < 0.15) & torch.from_numpy((anchor == first) & (row < 0))
        given_count = torch.where(more, torch.randint(1, t - 1, (b,), generator=generator), torch.tensor(1))
        anchor = anchor + given_count.numpy() - 1
        noise = torch.randn(z.shape, generator=generator)
        time = logit_normal_times((b, t), r.shift, generator)
        time = torch.where(torch.rand(b, t, generator=generator) < r.one_step, torch.ones(()), time)
        jitter = torch.randn(z.shape, generator=generator) * r.prev_noise
        jitter *= torch.rand(b, 1, 1, 1, 1, generator=generator)
        seen = z + jitter
        start = z[:, :, 0].clone()
        if own.any():
            history = self.pool_latent[row[row >= 0]].float()
            seen[own, :, :-1], start[own] = history, history[:, :, 0]
        given = torch.arange(t)[None] < given_count[:, None]
        actions = np.stack([self.data.actions[i : i + t - 1] for i in first])
        actions = np.concatenate((np.zeros_like(actions[:, :1]), actions), axis=1)
        condition = self.world.condition(actions, self._poses(first, anchor))
        condition[:, 0] = 0
        return _Batch(
            first=first,
            anchor=anchor,
            row=row,
            z=z.to(self.device),
            clean=torch.cat((start[:, :, None], z[:, :, 1:]), dim=2).to(self.device),
            previous=torch.cat((torch.zeros_like(z[:, :, :1]), seen[:, :, :-1]), dim=2).to(self.device),
            shown=torch.from_numpy(np.stack([self.latents[i] for i in anchor])).float()[:, :, None].to(self.device),
            noise=noise.to(self.device),
            time=(time * ~given).to(self.device),
            given=given.to(self.device),
            condition=condition.to(self.device),
            hide_given=bool(torch.rand((), generator=generator) < 0.5),
        )

    def _predict(self, batch: _Batch) -> Tensor:
        """Clean frames [B, C, T, h, w]; given ones as they were given."""
        g = batch.given[:, None, :, None, None].float()
        w = batch.time[:, None, :, None, None]
        extra = batch.previous
        if self.recipe.world.anchor:
            extra = torch.cat((extra, batch.shown.expand_as(extra)), dim=1)
        mask = self.masks[batch.hide_given]
        if torch.is_autocast_enabled(self.device.type):
            mask = tuple(strip.to(torch.bfloat16) for strip in mask)
        output = self.network(
            (1 - w) * batch.clean + w * batch.noise,
            batch.time,
            condition_mask=g.expand(-1, 1, -1, *batch.z.shape[3:]),
            extra=extra,
            action=batch.condition,
            attention_mask=mask,
            rope=self.rope,
        )
        return g * batch.clean + (1 - g) * (batch.previous + output.float())

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        r, batch = self.recipe, self._batch(generator)
        predicted = self._predict(batch)
        z, open_ = batch.z, (~batch.given)[:, None, :, None, None].float()
        moving = torch.zeros_like(z[:, :1])
        moving[:, :, 1:] = (z[:, :, 1:] - z[:, :, :-1]).square().mean(dim=1, keepdim=True).sqrt()
        changed = (z - batch.shown).square().mean(dim=1, keepdim=True).sqrt()
        objects = self._moved_objects(batch.first, batch.anchor) * open_
        weight = 1 + r.moving * (moving / 0.5).clamp(max=1) + r.changed * (changed / 0.5).clamp(max=1)
        weight = weight * open_ + r.objects * objects
        error = predicted - z
        loss = (weight * ((error.square() + 0.01).sqrt() - 0.1)).sum() / (weight.sum() * z.shape[1])
        metrics = {}
        if self.probe is not None:
            missing, away = self._object_errors(batch, predicted)
            loss = loss + r.presence * missing + r.place * away
            metrics = {"missing": float(missing.detach()), "away": float(away.detach())}
        with torch.no_grad():
            squared = error.square().mean(dim=1, keepdim=True)
            astray = (squared * objects).sum(dim=(1, 2, 3, 4)) / objects.sum(dim=(1, 2, 3, 4)).clamp(min=1)
        astray, squared = astray.cpu(), squared.mean(dim=(1, 3, 4)).cpu()
        one_step = ((batch.time == 1) & ~batch.given).cpu()
        for name, rows in (("", torch.from_numpy(batch.row < 0)), ("_own", torch.from_numpy(batch.row >= 0))):
            for metric, values in (
                ("mse1", squared[one_step & rows[:, None]]),
                ("objects", astray[rows & (astray > 0)]),
            ):
                if len(values):
                    metrics[metric + name] = float(values.mean())
        if r.replay:
            self._keep(batch, (batch.given.sum(dim=1).cpu() == 1) & (astray < r.astray), predicted)
        return loss, metrics

    @torch.no_grad()
    def _keep(self, batch: _Batch, usable: Tensor, frames: Tensor) -> None:
        """Put the predictions of `usable` clips into the pool, one frame on, where the episode has another frame."""
        t, first, row = self.recipe.clip, batch.first, batch.row
        episode_end = self.data.offsets[np.searchsorted(self.data.offsets, first, side="right")]
        for i in range(len(first)):
            slot = int(row[i])
            age = 1 + (int(self.pool_at[slot, 1]) if slot >= 0 else 0)
            at = int(first[i]) + 1
            fits = at + t <= int(episode_end[i]) and age <= self.recipe.pool_age and bool(usable[i])
            if slot < 0:
                free = (self.pool_at[:, 0] < 0).nonzero()
                if not len(free) or not fits:
                    continue
                slot = int(free[0])
            if fits:
                self.pool_latent[slot] = frames[i, :, 1:].half().cpu()
                self.pool_at[slot] = torch.tensor([at, age, int(batch.anchor[i])])
            else:
                self.pool_at[slot, 0] = -1

    # ---------------------------------------------------------------------------------------------------- validation

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Open-loop rollouts of up to 24 steps on validation episodes: PSNR at the end, beside repeating the start."""
        if not hasattr(self, "val"):
            r = self.recipe
            folder = r.data
            try:
                self.val = load_frames(folder, r.world.frame_size, r.out.parent / "cache", r.val_split)
            except UserError:
                self.val = self.data
        frames, actions = _validation_clips(self.val, 32, 25)
        self.world.eval()
        state = self.world.start(frames[:, :1], seeds=list(range(len(frames))))
        imagined = [frames[:, 0]]
        for k in range(frames.shape[1] - 1):
            state, f = self.world.step(state, actions[:, k : k + 1])
            imagined.append(f[:, 0])
        guess = np.stack(imagined, axis=1)
        rows = []
        for i in range(min(6, len(frames))):
            picks = range(0, frames.shape[1], 3)
            rows += [np.concatenate([a[i, k] for k in picks], axis=1) for a in (frames, guess)]
        cv2.imwrite(str(out / f"samples_{step:06d}.png"), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
        result = {}
        last = frames.shape[1] - 1
        still = np.repeat(frames[:, :1], last + 1, axis=1)
        for k in sorted({min(8, last), last}):
            result[f"psnr_{k}"] = float(psnr(frames[:, k], guess[:, k]).mean())
        result["repeat_psnr"] = float(psnr(frames[:, last], still[:, last]).mean())
        for name, clips in (("moving_psnr", guess), ("repeat_moving_psnr", still)):
            at_end = [moving_psnr(t, c)[-1] for t, c in zip(frames, clips, strict=True)]
            result[name] = float(np.nanmean(at_end)) if np.isfinite(at_end).any() else float("nan")
        return result

    def export(self, path: Path, about: dict[str, Any]) -> None:
        save(self.world, path, about=about, dtype=torch.bfloat16)

    def extra_state(self) -> dict[str, Tensor]:
        return {"pool_latent": self.pool_latent.clone(), "pool_at": self.pool_at.clone()} if self.recipe.replay else {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        if self.recipe.replay and "pool_at" in state:
            self.pool_latent.copy_(state["pool_latent"])
            self.pool_at.copy_(state["pool_at"])


def _validation_clips(data: Frames, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `length` frames (or all of the shortest) of up to `count` episodes, and their actions."""
    length = min(length, int(np.diff(data.offsets).min()))
    picks = np.unique(np.linspace(0, data.episodes - 1, min(count, data.episodes)).astype(int))
    starts = data.offsets[picks]
    frames = np.stack([data.frames[s : s + length] for s in starts])
    actions = np.stack([data.actions[s : s + length - 1] for s in starts])
    return frames, actions
