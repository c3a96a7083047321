"""Training of a Video2World model's tokenizer: reconstruction of short clips, with more weight on edges and motion."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from wfm_sim.models.causal_world import frames_to_tensor
from wfm_sim.models.checkpoint import is_path, load, shipped_weights
from wfm_sim.models.presets import nano_rigid
from wfm_sim.models.video_world import VideoConfig, VideoModel, is_video, load_video, save_video
from wfm_sim.training.clips import load_clips, split_videos
from wfm_sim.training.loop import LoopConfig


@dataclass(frozen=True)
class VideoTokenizerRecipe:
    """What the first part of `wfm-sim train video` runs.

    Attributes:
        data, out: A folder of videos, and the run's folder.
        world: Whose tokenizer is trained (the rest is saved untrained beside it).
        clip, batch: Frames per clip, and clips per step and rank.
        detail, motion: Extra loss weight of pixels that differ from a blurred copy of the frame (edges, small objects),
            and of those that differ from the frame before.
        starts: Where in a video clips for the second part begin; here windows of these clips are drawn.
        init: World model or video model (name or file) whose tokenizer is tuned on. A new one is slow to learn colours.
        cache: Where the clips are kept; None for `cache` beside the run's folder.
    """

    data: Path
    out: Path
    world: VideoConfig = field(default_factory=nano_rigid)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2000))
    clip: int = 2
    batch: int = 16
    detail: float = 4.0
    motion: float = 4.0
    starts: tuple[int, ...] = (0,)
    init: Path | str | None = None
    cache: Path | None = None


def _tokenizer_state(init: Path | str) -> dict[str, Tensor]:
    if str(init) in shipped_weights() or (is_path(str(init)) and not is_video(Path(init))):
        return load(init, dtype=torch.float32).tokenizer.state_dict()
    return load_video(init, dtype=torch.float32).tokenizer.state_dict()


class VideoTokenizerTask:
    """Loss: Charbonnier on pixels, weighted as the recipe says, plus a small one on image gradients."""

    def __init__(self, recipe: VideoTokenizerRecipe) -> None:
        self.recipe, cfg = recipe, recipe.world
        self.world = VideoModel(cfg)
        if recipe.init is not None:
            self.world.tokenizer.load_state_dict(_tokenizer_state(recipe.init))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.world.to(self.device)
        self.model = self.world.tokenizer
        train, val = split_videos(recipe.data)
        cache = recipe.cache or recipe.out.parent / "cache"
        self.train = load_clips(train, cfg.frame_size, cfg.frames, recipe.starts, cache)
        self.val = load_clips(val or train[:8], cfg.frame_size, cfg.frames, (0,), cache)
        self.reconstruct = torch.compile(self._reconstruct) if recipe.loop.compile else self._reconstruct

    def _reconstruct(self, x: Tensor) -> Tensor:
        return self.model.decode_video(self.model.encode_video(x))

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        r = self.recipe
        which = torch.randint(len(self.train), (r.batch,), generator=generator).tolist()
        begin = torch.randint(self.train.shape[1] - r.clip + 1, (r.batch,), generator=generator).tolist()
        clips = np.stack([self.train[i, b : b + r.clip] for i, b in zip(which, begin, strict=True)])
        if torch.rand((), generator=generator) < 0.5:
            clips = clips[:, :, :, ::-1]
        x = frames_to_tensor(np.ascontiguousarray(clips)).to(self.device)
        y = self.reconstruct(x).float()
        frames = x.transpose(1, 2).flatten(0, 1)
        blurred = torch.nn.functional.avg_pool2d(frames, 9, stride=1, padding=4, count_include_pad=False)
        detail = (frames - blurred).abs().amax(dim=1).clamp(max=1).unflatten(0, x.shape[::2][:2])[:, None]
        motion = torch.zeros_like(detail)
        motion[:, :, 1:] = (x[:, :, 1:] - x[:, :, :-1]).abs().amax(dim=1, keepdim=True).clamp(max=1)
        weight = 1 + r.detail * detail + r.motion * motion
        pixel = (weight * ((x - y).square() + 1e-4).sqrt()).mean()
        edges = (x.diff(dim=4) - y.diff(dim=4)).abs().mean() + (x.diff(dim=3) - y.diff(dim=3)).abs().mean()
        return pixel + 0.5 * edges, {"mse": float((x - y).square().mean().detach())}

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        frames = np.array(self.val[np.linspace(0, len(self.val) - 1, min(16, len(self.val))).astype(int)])
        again = np.concatenate([self.world.decode(self.world.encode(clip[None])) for clip in frames])
        mse = ((frames.astype(np.float32) - again) ** 2).mean(axis=(2, 3, 4))
        rows = [np.concatenate(list(a[i, ::4]), axis=1) for i in range(min(6, len(frames))) for a in (frames, again)]
        cv2.imwrite(str(out / "samples.png"), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
        return {"psnr": float((10 * np.log10(255**2 / mse.clip(min=1e-3))).mean())}

    @torch.no_grad()
    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Also measures the latents' mean and deviation, which the denoiser is trained on."""
        self.world.latent_mean.zero_()
        self.world.latent_std.fill_(1)
        picks = np.linspace(0, len(self.train) - 1, min(64, len(self.train))).astype(int)
        z = torch.cat([self.world.encode(np.array(self.train[i : i + 1])) for i in picks])
        self.world.latent_mean.copy_(z.mean(dim=(0, 2, 3, 4)))
        self.world.latent_std.copy_(z.std(dim=(0, 2, 3, 4)))
        save_video(self.world, path, about=about)

    def extra_state(self) -> dict[str, Tensor]:
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None: ...
