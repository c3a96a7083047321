"""Depth of every pixel from one image: a small U-Net, trained on rendered rooms (wfm_sim.training.camera).

It is told the ray of every pixel, so that one network serves several fields of view. Depth is in metres along the
optical axis; from one picture alone, its scale is what the training rooms taught.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class DepthConfig:
    """channels: Of the levels at 1/2, 1/4, 1/8 and 1/16 of the resolution (whose sides 16 must divide)."""

    channels: tuple[int, ...] = (32, 64, 128, 192)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return out


class DepthNet(nn.Module):
    """Images and rays in, logarithm of depth out."""

    def __init__(self, cfg: DepthConfig) -> None:
        super().__init__()
        c = cfg.channels
        # pixels are taken 2 x 2 together: at full resolution, thin layers would cost as much as all others
        self.stem = nn.Conv2d(4 * 3 + 2, c[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.encode = nn.ModuleList(_Residual(b) for b in c[1:])
        self.everywhere = nn.Sequential(nn.Linear(c[-1], c[-1]), nn.SiLU(), nn.Linear(c[-1], c[-1]))
        self.deep = _Residual(c[-1])
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(c))
        self.decode = nn.ModuleList(_Residual(a) for a in c[:-1])
        self.head = nn.Conv2d(c[0], 4, 3, padding=1)
        nn.init.ones_(self.head.bias)  # type: ignore[arg-type]  # exp(1) = 2.7 m: the middle of a room

    def forward(self, image: Tensor, intrinsics: Tensor) -> Tensor:
        """image: float [B, 3, H, W] in [-1, 1]; intrinsics: [B, 4] fx, fy, cx, cy in pixels -> log depth [B, H, W]."""
        b, _, h, w = image.shape
        fx, fy, cx, cy = (a[:, None, None] for a in intrinsics.to(image).unbind(-1))
        v, u = torch.meshgrid(torch.arange(h // 2).to(image), torch.arange(w // 2).to(image), indexing="ij")
        rays = [((2 * u + 1 - cx) / fx).expand(b, -1, -1), ((2 * v + 1 - cy) / fy).expand(b, -1, -1)]
        x = torch.cat([F.pixel_unshuffle(image, 2), torch.stack(rays, dim=1)], dim=1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = [x]
        for down, block in zip(self.down, self.encode, strict=True):
            x = block(down(x))
            skips.append(x)
        x = self.deep(x + self.everywhere(x.mean(dim=(2, 3)))[:, :, None, None])
        for level in reversed(range(len(self.decode))):
            x = F.interpolate(self.up[level](x), scale_factor=2, mode="bilinear", align_corners=False) + skips[level]
            x = self.decode[level](x)
        out: Tensor = F.pixel_shuffle(self.head(x), 2)[:, 0]
        return out
