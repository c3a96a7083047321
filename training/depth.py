"""Training of the network that reads depth off one frame, on clips whose depth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.camera_world import CameraWorldModel
from wfm_sim.models.causal_world import frames_to_tensor
from wfm_sim.models.checkpoint import load, save
from wfm_sim.training.camera_frames import load_camera_frames
from wfm_sim.training.loop import LoopConfig

SHAPE = 1.0  # weight of the error without each frame's own scale
EDGES = 0.5  # weight of the error of differences between neighbouring pixels


@dataclass(frozen=True)
class DepthRecipe:
    """What the depth stage of `wfm-sim train camera` runs.

    Attributes:
        data, out, cache: A data set with depth, the run's folder, and where arrays are kept.
        init: The world model file whose depth network is trained; the rest of it is passed on.
        batch: Frames per step and rank.
    """

    data: Path
    out: Path
    cache: Path
    init: Path
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1500))
    batch: int = 24
    split: str | None = "train"
    val_split: str | None = "val"


class DepthTask:
    """Loss: absolute error of log depth, with and without its mean per frame, and of differences between neighbours."""

    def __init__(self, recipe: DepthRecipe) -> None:
        self.recipe = recipe
        world = load(recipe.init, dtype=torch.float32)
        if not isinstance(world, CameraWorldModel) or world.depth is None:
            raise UserError(f"{recipe.init}: a world model without a depth network")
        self.world, self.model = world, world.depth.requires_grad_(True)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        size = world.spec.frame_size
        self.data = load_camera_frames(recipe.data, size, recipe.cache, recipe.split)
        try:
            self.val = load_camera_frames(recipe.data, size, recipe.cache, recipe.val_split)
        except UserError:  # too few clips for a split
            self.val = self.data

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        pick = torch.randint(len(self.data.frames), (self.recipe.batch,), generator=generator).sort().values.numpy()
        image = frames_to_tensor(np.stack([self.data.frames[i] for i in pick])[:, None])[:, :, 0]
        depth = torch.from_numpy(np.stack([self.data.depth[i] for i in pick]).astype(np.float32))
        clip = np.searchsorted(self.data.offsets, pick, side="right") - 1
        k = torch.from_numpy(np.array(self.data.intrinsics[clip]))
        # The same picture mirrored, and in another light: what gives depth away is neither.
        mirrored = torch.rand(len(image), generator=generator) < 0.5
        image[mirrored], depth[mirrored] = image[mirrored].flip(-1), depth[mirrored].flip(-1)
        k[mirrored, 2] = image.shape[3] - k[mirrored, 2]
        gain = torch.exp(0.2 * torch.randn(len(image), 3, 1, 1, generator=generator))
        image = ((image + 1) * gain - 1).clamp(-1, 1)
        error = self.model(image, k) - depth.clamp(min=0.05).log()
        known = depth > 0
        count = known.sum(dim=(1, 2), keepdim=True).clamp(min=1)
        flat = ((error.abs() * known).sum(dim=(1, 2), keepdim=True) / count).mean()
        # one picture says more of shape than of scale
        shape = error - (error * known).sum(dim=(1, 2), keepdim=True) / count
        bent = ((shape.abs() * known).sum(dim=(1, 2), keepdim=True) / count).mean()
        edges = torch.zeros(())
        for d in (1, 2):
            both = known.narrow(d, 1, known.shape[d] - 1) & known.narrow(d, 0, known.shape[d] - 1)
            edges = edges + (error.diff(dim=d).abs() * both).sum() / both.sum().clamp(min=1)
        return flat + SHAPE * bent + EDGES * edges, {"log_error": float(flat.detach()), "bent": float(bent.detach())}

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """On validation frames: median relative error, as predicted and with the best scale per frame."""
        pick = np.linspace(0, len(self.val.frames) - 1, 48).astype(int)
        frames, truth = self.val.frames[pick], self.val.depth[pick].astype(np.float32)
        clip = np.searchsorted(self.val.offsets, pick, side="right") - 1
        guess = self.world.depth_of(frames, torch.from_numpy(np.array(self.val.intrinsics[clip]))).numpy()
        known = truth > 0
        ratio = np.where(known, guess / np.maximum(truth, 1e-3), np.nan)
        scale = np.nanmedian(ratio, axis=(1, 2), keepdims=True)
        rows = []
        for i in range(0, 48, 6):
            pair = [np.clip(255 / np.maximum(d[i], 0.5) / 2, 0, 255).astype(np.uint8) for d in (truth, guess)]
            rows.append(np.concatenate([frames[i][..., ::-1], *(np.repeat(p[..., None], 3, 2) for p in pair)], axis=1))
        cv2.imwrite(str(out / f"depth_{step:06d}.png"), np.concatenate(rows))
        return {
            "relative": float(np.nanmedian(np.abs(ratio - 1))),
            "relative_scaled": float(np.nanmedian(np.abs(ratio / scale - 1))),
        }

    def export(self, path: Path, about: dict[str, Any]) -> None:
        save(self.world, path, about=about)

    def extra_state(self) -> dict[str, Tensor]:
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        pass
