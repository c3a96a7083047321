"""Training of the image tokenizer: reconstruction with more weight where the picture has edges and strong colour."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from wfm_sim.models.causal_world import WorldConfig, frames_to_tensor, tensor_to_frames
from wfm_sim.models.checkpoint import load, save, untrained
from wfm_sim.models.presets import nano_tabletop
from wfm_sim.training.frames import Frames, load_frames
from wfm_sim.training.loop import LoopConfig


@dataclass(frozen=True)
class TokenizerRecipe:
    """What `wfm-sim train tokenizer` runs.

    Attributes:
        world: Whose tokenizer is trained (the rest of the world model is saved untrained beside it).
        batch: Frames per step and rank.
        init: World model whose tokenizer is tuned on.
        normalise: Measure the latents' mean and deviation anew (always done without `init`); else they keep theirs, so
            that the network of `init` still understands them.
        hold_out: Episodes to leave out.
        detail: Extra loss weight of pixels that differ from a blurred copy of the frame (edges, small objects).
    """

    data: Path
    out: Path
    world: WorldConfig = field(default_factory=nano_tabletop)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000))
    batch: int = 32
    detail: float = 4.0
    split: str | None = "train"
    hold_out: tuple[str, ...] = ()
    init: Path | str | None = None
    normalise: bool = False


def prepare(recipe: TokenizerRecipe) -> TokenizerRecipe:
    """Read the data once, before the ranks start and would all do so; sizes come from `init` where there is one."""
    if recipe.init is not None:
        recipe = replace(recipe, world=load(recipe.init, dtype=torch.float32).cfg)
    _data(recipe)
    return recipe


def _data(recipe: TokenizerRecipe) -> Frames:
    cache = recipe.out.parent / "cache"
    return load_frames(recipe.data, recipe.world.frame_size, cache, recipe.split, recipe.hold_out)


class TokenizerTask:
    """Loss: Charbonnier on pixels, weighted by local contrast, plus a small one on image gradients."""

    def __init__(self, recipe: TokenizerRecipe) -> None:
        self.recipe = recipe
        self.world = untrained(recipe.world)
        if recipe.init is not None:
            self.world.load_state_dict(load(recipe.init, dtype=torch.float32).state_dict())
        self.world.net.requires_grad_(False)
        self.model = self.world.tokenizer
        self.data = _data(recipe)
        self.reconstruct = torch.compile(self._reconstruct) if recipe.loop.compile else self._reconstruct

    def _reconstruct(self, x: Tensor) -> Tensor:
        return self.model.decode(self.model.encode(x))

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        pick = torch.randint(len(self.data.frames), (self.recipe.batch,), generator=generator).sort().values
        x = frames_to_tensor(np.stack([self.data.frames[int(i)] for i in pick])[:, None])[:, :, 0]
        y = self.reconstruct(x.contiguous(memory_format=torch.channels_last)).float()
        blurred = torch.nn.functional.avg_pool2d(x, 9, stride=1, padding=4, count_include_pad=False)
        weight = 1 + self.recipe.detail * (x - blurred).abs().amax(dim=1, keepdim=True).clamp(max=1)
        pixel = (weight * ((x - y).square() + 1e-4).sqrt()).mean()
        dx = (x.diff(dim=3) - y.diff(dim=3)).abs().mean() + (x.diff(dim=2) - y.diff(dim=2)).abs().mean()
        return pixel + 0.5 * dx, {"mse": float((x - y).square().mean().detach())}

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        pick = np.linspace(0, len(self.data.frames) - 1, 64).astype(int)
        frames = np.stack([self.data.frames[i] for i in pick])
        x = frames_to_tensor(frames[:, None])[:, :, 0]
        y = tensor_to_frames(self._reconstruct(x)[:, :, None])[:, 0]
        mse = ((frames.astype(np.float32) - y) ** 2).mean(axis=(1, 2, 3))
        strip = np.concatenate([np.concatenate(list(a[:8]), axis=1) for a in (frames[::8], y[::8])], axis=0)
        cv2.imwrite(str(out / "samples.png"), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
        return {"psnr": float((10 * np.log10(255**2 / mse)).mean())}

    @torch.no_grad()
    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Also measures the latents' mean and deviation, which the dynamics model is trained on."""
        if self.recipe.init is not None and not self.recipe.normalise:
            save(self.world, path, about=about)
            return
        pick = np.linspace(0, len(self.data.frames) - 1, min(512, len(self.data.frames))).astype(int)
        z = self.model.encode(frames_to_tensor(np.stack([self.data.frames[i] for i in pick])[:, None])[:, :, 0])
        self.world.latent_mean.copy_(z.mean(dim=(0, 2, 3)))
        self.world.latent_std.copy_(z.std(dim=(0, 2, 3)))
        save(self.world, path, about=about)

    def extra_state(self) -> dict[str, Tensor]:
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None: ...
