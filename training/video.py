"""Training of a Video2World model: the rest of a clip from its first frames.

The network sees noisy latents of a whole clip, clean ones where frames are given, at one flow time for all others: time
1, where it must say the clip from what was given alone, or a shifted logit-normal one (flow matching, arXiv 2511.00062,
section 3.1), which lets it sample in several steps. How many frames are given is drawn for each clip from the numbers
that the model is made for. Its prediction is a difference from the newest given frame, so most of a clip with a static
camera costs nothing, and the loss weighs what moves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.presets import nano_rigid
from wfm_sim.models.sampling import Given
from wfm_sim.models.video_world import VideoConfig, VideoModel, load_video, save_video
from wfm_sim.training.action import logit_normal_times
from wfm_sim.training.clips import load_clips, split_videos
from wfm_sim.training.loop import LoopConfig, launch
from wfm_sim.training.video_tokenizer import VideoTokenizerRecipe, VideoTokenizerTask
from wfm_sim.video_metrics import moving_psnr, psnr


@dataclass(frozen=True)
class VideoRecipe:
    """What `wfm-sim train video` runs.

    Attributes:
        data, out: A folder of videos, and the run's folder.
        init: Video model (name or file) that it begins with: its tokenizer and, if `init_net`, its network.
        world: The model, where nothing says otherwise.
        batch: Clips per step and rank.
        starts: Where in a video training clips begin.
        mirror: Clips are also shown left and right exchanged.
        one_step: Share of clips trained at time 1; the others draw logit-normal times with `shift`.
        moving, changed: Extra loss weight where the clip moves, or differs from the newest given frame.
        tokenizer, tokenizer_init: Of the tokenizer's own training, which comes first where `init` is None, and the
            (world or video) model whose tokenizer it begins with, None for a new one.
        cache: Where what is made of the data is kept; None for `cache` beside the run's folder.
    """

    data: Path
    out: Path
    init: Path | str | None = None
    world: VideoConfig = field(default_factory=nano_rigid)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000))
    batch: int = 8
    starts: tuple[int, ...] = (0,)
    mirror: bool = True
    one_step: float = 0.6
    shift: float = 3.0
    moving: float = 4.0
    changed: float = 6.0
    init_net: bool = False
    tokenizer: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1500))
    tokenizer_init: Path | str | None = None
    cache: Path | None = None

    @property
    def kept(self) -> Path:
        return self.cache or self.out.parent / "cache"


def prepare(recipe: VideoRecipe) -> VideoRecipe:
    """Train the tokenizer where none is given, and read and encode the data, before the ranks start."""
    if recipe.init is None:
        out = recipe.out / "tokenizer"
        first = VideoTokenizerRecipe(
            recipe.data,
            out,
            recipe.world,
            recipe.tokenizer,
            starts=recipe.starts,
            init=recipe.tokenizer_init,
            cache=recipe.kept,
        )
        launch(partial(_tokenizer_task, first), first.loop, out, {"data": recipe.data.name})
        recipe = replace(recipe, init=out / "model.safetensors")
    assert recipe.init is not None
    start = load_video(recipe.init, dtype=torch.float32)
    world = start.cfg if recipe.init_net else replace(recipe.world, tokenizer=start.cfg.tokenizer)
    if world.latent_shape[0] != start.cfg.latent_shape[0]:
        raise UserError(f"{recipe.init}: its latents have {start.cfg.latent_shape[0]} channels")
    recipe = replace(recipe, world=world)
    _encoded(recipe, start)
    return recipe


def _tokenizer_task(recipe: VideoTokenizerRecipe, rank: int) -> VideoTokenizerTask:
    return VideoTokenizerTask(recipe)


def _clips(recipe: VideoRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Clips to train on and to validate on."""
    train, val = split_videos(recipe.data)
    cfg, cache = recipe.world, recipe.kept
    return (
        load_clips(train, cfg.frame_size, cfg.frames, recipe.starts, cache),
        load_clips(val or train[:8], cfg.frame_size, cfg.frames, (0,), cache),
    )


def _encoded(recipe: VideoRecipe, start: VideoModel) -> np.ndarray:
    """float16 [N, C, T + A, h, w], memory-mapped: a clip's latents, then, of a video tokenizer, each newest given frame
    encoded alone. With `mirror`, the second half of the array is the mirrored clips. Computed once."""
    clips, _ = _clips(recipe)
    cfg = recipe.world
    digest = hashlib.sha256(f"{clips.filename} {cfg.given} {recipe.mirror}".encode())  # type: ignore[attr-defined]
    for value in start.tokenizer.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    path = recipe.kept / f"latents-{digest.hexdigest()[:16]}.npy"
    if not path.is_file():
        sides = 1 + recipe.mirror
        c, t, h, w = cfg.latent_shape
        temporary = path.with_suffix(".tmp.npy")
        alone = () if cfg.tokenizer.is_image else cfg.given
        shape = (sides * len(clips), c, t + len(alone), h, w)
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        start = start.to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.loop.bf16):
            for a in track(range(0, len(clips), 16), description="encoding clips", transient=True):
                for side in range(sides):
                    part = np.array(clips[a : a + 16])
                    part = np.ascontiguousarray(part[:, :, :, ::-1]) if side else part
                    newest = [start.encode(part[:, n - 1 : n]) for n in alone]
                    z = torch.cat([start.encode(part), *newest], dim=2)
                    out[side * len(clips) + a : side * len(clips) + a + len(part)] = z.half().cpu().numpy()
        out.flush()
        temporary.rename(path)
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped


class VideoTask:
    """What training/loop.py trains."""

    def __init__(self, recipe: VideoRecipe) -> None:
        self.recipe = recipe
        assert recipe.init is not None, "prepare() first"
        start = load_video(recipe.init, dtype=torch.float32)
        self.world = VideoModel(recipe.world)
        self.world.tokenizer.load_state_dict(start.tokenizer.state_dict())
        self.world.latent_mean.copy_(start.latent_mean)
        self.world.latent_std.copy_(start.latent_std)
        if recipe.init_net:
            self.world.net.load_state_dict(start.net.state_dict())
        self.world.tokenizer.requires_grad_(False)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.world.to(self.device)
        self.model = self.world.net
        self.latents = _encoded(recipe, start)
        _, self.val = _clips(recipe)
        self.network = torch.compile(self.model, dynamic=False) if recipe.loop.compile else self.model

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        r, cfg = self.recipe, self.recipe.world
        # One number of given frames per step: the batch is then one tensor, and over steps all numbers come equally.
        kind = int(torch.randint(len(cfg.given), (), generator=generator))
        rows = torch.randint(len(self.latents), (r.batch,), generator=generator).tolist()
        stored = torch.from_numpy(np.stack([self.latents[i] for i in rows])).float()
        noise = torch.randn((r.batch, *cfg.latent_shape), generator=generator).to(self.device)
        time = logit_normal_times((r.batch, 1), r.shift, generator)
        time = torch.where(torch.rand(r.batch, 1, generator=generator) < r.one_step, torch.ones(()), time)
        count, frames = cfg.latent_frames(cfg.given[kind]), cfg.latent_shape[1]
        z = stored[:, :, :frames].to(self.device)
        newest = count - 1 if cfg.tokenizer.is_image else frames + kind
        anchor = stored[:, :, newest : newest + 1].to(self.device)
        mask = torch.arange(frames, device=self.device) < count
        at = time.to(self.device)[..., None, None, None]
        noisy = (1 - at) * z + at * noise
        predicted = self.world.denoise(noisy, time.to(self.device), Given(z, mask), anchor, self.network)
        moving = torch.zeros_like(z[:, :1])
        moving[:, :, 1:] = (z[:, :, 1:] - z[:, :, :-1]).square().mean(dim=1, keepdim=True).sqrt()
        changed = (z - anchor).square().mean(dim=1, keepdim=True).sqrt()
        weight = 1 + r.moving * (moving / 0.5).clamp(max=1) + r.changed * (changed / 0.5).clamp(max=1)
        weight = weight * (~mask)[:, None, None]
        error = predicted - z
        loss = (weight * ((error.square() + 0.01).sqrt() - 0.1)).sum() / (weight.sum() * z.shape[1])
        with torch.no_grad():
            squared = error.square().mean(dim=(1, 3, 4))[:, count:].mean(dim=1).cpu()
            ones = squared[time[:, 0] == 1]
        metrics = {f"mse1_given{cfg.given[kind]}": float(ones.mean())} if len(ones) else {}
        return loss, metrics

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """PSNR over the predicted frames of validation clips, per number of given frames, beside repeating the last."""
        picks = np.linspace(0, len(self.val) - 1, min(24, len(self.val))).astype(int)
        truth = np.array(self.val[picks])
        self.world.eval()
        result, rows = {}, []
        for given in self.recipe.world.given:
            guess = self.world.predict(truth[:, :given], seeds=list(range(len(truth))))
            still = np.repeat(truth[:, given - 1 : given], truth.shape[1] - given + 1, axis=1)
            for name, clips in (("", guess[:, given - 1 :]), ("repeat_", still)):
                seen = truth[:, given - 1 :]
                result[f"{name}psnr_{given}"] = float(psnr(seen[:, 1:], clips[:, 1:]).mean())
                moving = np.stack([moving_psnr(t, c)[1:] for t, c in zip(seen, clips, strict=True)])
                result[f"{name}moving_psnr_{given}"] = float(np.nanmean(moving))
            for i in range(0, len(truth), 4):
                rows += [np.concatenate([a[i, k] for k in range(0, truth.shape[1], 4)], axis=1) for a in (truth, guess)]
        cv2.imwrite(str(out / f"samples_{step:06d}.png"), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
        return result

    def export(self, path: Path, about: dict[str, Any]) -> None:
        save_video(self.world, path, about=about, dtype=torch.bfloat16)

    def extra_state(self) -> dict[str, Tensor]:
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None: ...
