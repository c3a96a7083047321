"""Training of the camera-conditioned causal simulator.

One network pass covers a clip of T frames with block-causal attention. Every frame after the given one is predicted in
one step (flow time 1), as rollouts do it, from what a rollout would be told there: the Plücker rays, the frame before
and, of a model with a spatial memory, the memory's picture (wfm_sim.models.camera_world).

What a rollout would be told depends on what the memory holds, so clips are walked through: a pool keeps them, and some
are made anew all the time. In part of them the place grows with the true frames, in part with what the model itself
imagines there, so that it learns to go on from its own frames (dataset aggregation; as self-forcing, arXiv 2506.08009,
without gradients through the rollout).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wfm_sim.camera import inverse, motion_between
from wfm_sim.errors import UserError
from wfm_sim.models.camera_world import CameraWorldModel, View
from wfm_sim.models.checkpoint import load, save
from wfm_sim.models.dit import block_causal_mask
from wfm_sim.training.action import logit_normal_times
from wfm_sim.training.camera_frames import CameraFrames, load_camera_frames
from wfm_sim.training.camera_recipe import CameraRecipe
from wfm_sim.video_metrics import psnr

_STRIDES = (1, 1, -1, -1, 2, -2)
_POOLED = ("truth", "reference", "seen", "previous", "rays")


class CameraTask:
    """See the module docstring."""

    def __init__(self, recipe: CameraRecipe) -> None:
        self.recipe = recipe
        world = load(recipe.init, dtype=torch.float32)
        if not isinstance(world, CameraWorldModel):
            raise UserError(f"{recipe.init}: no camera world")
        self.world, self.model = world, world.net.requires_grad_(True)
        cfg, t = world.cfg, recipe.clip
        self.data = load_camera_frames(recipe.data, cfg.frame_size, recipe.cache, recipe.split)
        c, h, w = cfg.latent_shape
        shapes = {"truth": (c, t, h, w), "reference": (c, t, h, w), "seen": (1, t, h, w), "previous": (c, t, h, w)}
        shapes["rays"] = (t, h, w, 6)
        self.pool = {k: torch.zeros(recipe.pool, *shape, dtype=torch.float16) for k, shape in shapes.items()}
        self.full = torch.zeros((), dtype=torch.int64)  # clips in the pool
        self.turn = torch.zeros((), dtype=torch.int64)  # which is made anew next
        self.network = torch.compile(self.model, dynamic=False) if recipe.loop.compile else self.model
        tokens = cfg.tokens
        allowed = block_causal_mask(t, tokens, window=cfg.window)
        hidden = allowed.clone()
        hidden[tokens:, :tokens] = False  # in a rollout the given frame leaves the window
        self.masks = [torch.zeros(a.shape).masked_fill(~a, -1e9) for a in (allowed, hidden)]
        self.rope = self.model.rope(t, h, w, None, torch.float32, torch.device("cpu"))

    # ------------------------------------------------------------------------------------------------------- the pool

    @torch.no_grad()
    def _walk(self, count: int, own: bool, generator: torch.Generator) -> dict[str, Tensor]:
        """`count` clips, walked through."""
        world, r = self.world, self.recipe
        frames, poses, k, depth = self._draw(count, generator)
        if not bool(torch.rand((), generator=generator) < r.given_depth):
            depth = None
        seeds = torch.randint(2**31, (count,), generator=generator).tolist()
        truth = torch.cat([world.encode(row[None]) for row in frames])
        blank, packed = torch.zeros_like(truth[:, :, :1]), world.spec.frames_per_step
        if not world.camera.points and not own:  # nothing is remembered: the truth can be told at once
            previous = torch.cat((blank, truth[:, :, :-1]), dim=2)
            seen_from_first = inverse(poses[:, :1]) @ poses[:, ::packed]
            intrinsics = torch.from_numpy(k)
            rays = torch.stack([world.rays(seen_from_first[:, i], intrinsics) for i in range(r.clip)], dim=1)
            return {
                "truth": truth,
                "reference": previous,
                "seen": previous[:, :1] * 0,
                "previous": previous,
                "rays": rays,
            }
        state = world.start(frames[:, :1], seeds=seeds, intrinsics=k, depth=depth)
        motions = motion_between(poses[:, :-1], poses[:, 1:]).astype(np.float32)
        rays = world.rays(state.pose, state.intrinsics)[:, None]
        views = [View(state.pose, blank, blank[:, :1], blank, blank, rays, None)]
        for i in range(r.clip - 1):
            view = world.look(state, motions[:, i * packed : (i + 1) * packed])
            clean, cache = truth[:, :, i + 1 : i + 2], None
            if own:
                clean, cache = world.imagined(state, view)
            state, _ = world.arrive(state, view, clean, cache)
            views.append(view)
        out = {name: torch.cat([getattr(v, name) for v in views], dim=2) for name in ("reference", "seen", "previous")}
        out["rays"] = torch.cat([v.rays for v in views], dim=1)
        return {**out, "truth": truth}

    def _draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32] | None]:
        """Frames [n, T, H, W, 3], poses [n, T, 4, 4], intrinsics [n, 4] and the first frames' depth [n, 1, H, W] of
        random clips: at several speeds, forward and backward, some of them mirrored."""
        data = self.data
        t = 1 + (self.recipe.clip - 1) * self.world.spec.frames_per_step
        out: tuple[list[Any], list[Any], list[Any], list[Any]] = ([], [], [], [])
        strides = [s for s in _STRIDES if (t - 1) * abs(s) < int(np.diff(data.offsets).max())]
        while len(out[0]) < count:
            e, s, at = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
            mirrored = bool(torch.rand((), generator=generator) < 0.5)
            clip = int(e * (len(data.offsets) - 1))
            a, b = int(data.offsets[clip]), int(data.offsets[clip + 1])
            stride = strides[int(s * len(strides))]
            span = (t - 1) * abs(stride)
            if span >= b - a:
                continue
            first = a + int(at * (b - a - span))
            index = np.arange(first, first + span + 1, abs(stride))[:: int(np.sign(stride))]
            frames, poses = np.stack([data.frames[i] for i in index]), np.array(data.poses[index])
            k, depth = np.array(data.intrinsics[clip]), np.array(data.depth[index[:1]], np.float32)
            if mirrored:
                flip = np.diag([-1.0, 1, 1, 1])
                frames, poses, depth = frames[:, :, ::-1], flip @ poses @ flip, depth[:, :, ::-1]
                k[2] = frames.shape[2] - k[2]
            for kept, value in zip(out, (frames, poses, k, depth), strict=True):
                kept.append(np.ascontiguousarray(value))
        known = all((d > 0).mean() > 0.5 for d in out[3])
        return np.stack(out[0]), np.stack(out[1]), np.stack(out[2]), np.stack(out[3]) if known else None

    @torch.no_grad()
    def _renew(self, step: int, generator: torch.Generator) -> None:
        r = self.recipe
        begun = step >= r.own_after * r.loop.steps
        self.model.eval()
        while True:
            own = begun and bool(torch.rand((), generator=generator) < r.own)
            fresh = self._walk(r.fresh, own, generator)
            slots = (int(self.turn) + torch.arange(r.fresh)) % r.pool
            for name in _POOLED:
                self.pool[name][slots] = fresh[name].half()
            self.turn.fill_((int(self.turn) + r.fresh) % r.pool)
            self.full.fill_(min(r.pool, int(self.full) + r.fresh))
            if int(self.full) >= min(r.pool, 4 * r.batch):
                break
        self.model.train()

    # ----------------------------------------------------------------------------------------------------------- loss

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        r, world = self.recipe, self.world
        if step % r.fresh_every == 0 or not int(self.full):
            self._renew(step, generator)
        pick = torch.randperm(int(self.full), generator=generator)[: r.batch]
        part = {name: self.pool[name][pick].float() for name in _POOLED}
        z, t = part["truth"], r.clip
        noise = torch.randn(z.shape, generator=generator)
        time = logit_normal_times((len(z), t), r.shift, generator)
        time = torch.where(torch.rand(len(z), t, generator=generator) < r.one_step, torch.ones(()), time)
        time[:, 0] = 0
        w = time[:, None, :, None, None]
        given = torch.zeros(len(z), 1, t, *z.shape[3:])
        given[:, :, 0] = 1
        anchor = z[:, :, :1].expand_as(z)
        view = View(np.zeros(0), part["reference"], part["seen"], part["previous"], anchor, part["rays"], None)
        mask = self.masks[bool(torch.rand((), generator=generator) < 0.5)]
        if torch.is_autocast_enabled("cpu"):
            mask = mask.to(torch.bfloat16)
        output = self.network(
            (1 - w) * z + w * noise,
            time,
            context=world.prompt.expand(len(z), -1, -1) if world.camera.prompt_tokens else None,
            condition_mask=given,
            extra=world.channels(view),
            camera=world.tokens_of_rays(view.rays),
            attention_mask=mask,
            rope=self.rope,
        ).float()
        if world.camera.gate:
            output = output * (1 - part["seen"])
        # of the clean frame, or of the velocity
        start = part["reference"] if world.cfg.prediction == "residual" else noise
        error = (start + output - z if world.cfg.prediction == "residual" else noise - z - output)[:, :, 1:]
        unseen = 1 - part["seen"][:, :, 1:] if world.camera.points else torch.zeros_like(error[:, :1])
        weight = 1 + r.gap * unseen
        loss = (weight * ((error.square() + 0.01).sqrt() - 0.1)).sum() / (weight.sum() * z.shape[1])
        with torch.no_grad():
            squared = error.square().mean(dim=1, keepdim=True)
            before = (start - z)[:, :, 1:].square().mean(dim=1, keepdim=True)
            metrics = {"mse": float(squared.mean()), "mse_reference": float(before.mean())}
            for name, share in (("seen", 1 - unseen), ("unseen", unseen)):
                if share.sum() > 0:
                    metrics[f"mse_{name}"] = float((squared * share).sum() / share.sum())
        return loss, metrics

    # ----------------------------------------------------------------------------------------------------- validation

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Rollouts of up to 16 steps on validation clips: PSNR, beside the memory's alone and the first frame's."""
        if not hasattr(self, "val"):
            r = self.recipe
            try:
                self.val = load_camera_frames(r.data, r.world.frame_size, r.cache, r.val_split)
            except UserError:
                self.val = self.data
        frames, poses, k = validation_clips(self.val, 16, 17)
        self.world.eval()
        packed = self.world.spec.frames_per_step
        frames = frames[:, : 1 + (frames.shape[1] - 1) // packed * packed]
        state = self.world.start(frames[:, :1], seeds=list(range(len(frames))), intrinsics=k)
        motions = motion_between(poses[:, :-1], poses[:, 1:]).astype(np.float32)
        imagined, drawn = [frames[:, :1]], [frames[:, :1]]
        for i in range(0, frames.shape[1] - 1, packed):
            view = self.world.look(state, motions[:, i : i + packed])
            state, f = self.world.arrive(state, view, *self.world.imagined(state, view))
            imagined.append(f)
            if self.world.camera.points:
                drawn.append(self.world.decode(view.reference))
        guess, memory = np.concatenate(imagined, axis=1), np.concatenate(drawn, axis=1)
        rows = []
        for i in range(min(5, len(frames))):
            picks = range(0, frames.shape[1], 2)
            shown = (frames, guess, memory) if self.world.camera.points else (frames, guess)
            rows += [np.concatenate([a[i, j] for j in picks], axis=1) for a in shown]
        cv2.imwrite(str(out / f"samples_{step:06d}.png"), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
        result = {}
        for at in sorted({min(8, frames.shape[1] - 1), frames.shape[1] - 1}):
            result[f"psnr_{at}"] = float(psnr(frames[:, at], guess[:, at]).mean())
            if self.world.camera.points:
                result[f"reference_psnr_{at}"] = float(psnr(frames[:, at], memory[:, at]).mean())
        result["repeat_psnr"] = float(psnr(frames[:, -1], frames[:, 0]).mean())
        return result

    def export(self, path: Path, about: dict[str, Any]) -> None:
        save(self.world, path, about=about, dtype=torch.bfloat16)

    def extra_state(self) -> dict[str, Tensor]:
        return {"full": self.full.clone(), "turn": self.turn.clone(), **{k: v.clone() for k, v in self.pool.items()}}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        if "full" in state:
            self.full.copy_(state["full"])
            self.turn.copy_(state["turn"])
            for name in _POOLED:
                self.pool[name].copy_(state[name])


def validation_clips(
    data: CameraFrames, count: int, length: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float32]]:
    """The first `length` frames (or all of the shortest) of up to `count` clips, their poses and intrinsics."""
    length = min(length, int(np.diff(data.offsets).min()))
    picks = np.unique(np.linspace(0, len(data.offsets) - 2, min(count, len(data.offsets) - 1)).astype(int))
    starts = data.offsets[picks]
    frames = np.stack([data.frames[s : s + length] for s in starts])
    poses = np.stack([data.poses[s : s + length] for s in starts])
    return frames, poses, np.array(data.intrinsics[picks])
