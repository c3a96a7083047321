"""Puts remembered objects into a predicted latent frame.

A stamp first: each object is cut out of the given frame and pasted, to a fraction of a pixel, where it is now. Then a
small convolutional network decides, near the objects alone, how much of the stamp shows (the arm may be in front of it)
and takes away what the denoiser made of the object, a ghost mostly. Everywhere else the prediction stays as it is: arm
and background are the denoiser's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.models.object_reader import Residual

RADIUS, EDGE = 4.6, 0.5  # of a stamp and its soft edge, pixels of a 64 px frame
CORE, REACH = 1.2, 4.0  # of the regions that a stamp may show in, and that may be painted over, latent cells
MARKS = 4  # where each object is, its height, where it was a step ago, where it was given
OPEN = 2.0  # logit of how much of a stamp shows, before training


class ObjectPainter(nn.Module):
    """[B, C, h, w] predicted, stamped (see `stamp`), the frame before and the anchor; `marks` of the objects and the
    regions, [B, 2, h, w] (see `marked`) -> [B, C, h, w] painted."""

    def __init__(self, channels: int, width: int = 96, blocks: int = 3) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * channels + MARKS, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels + 1, 3, padding=1))
        nn.init.zeros_(self.leave[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.leave[2].bias)  # type: ignore[arg-type]

    def forward(
        self, predicted: Tensor, stamped: Tensor, previous: Tensor, anchor: Tensor, marks: Tensor, regions: Tensor
    ) -> Tensor:
        x = self.enter(torch.cat((predicted, stamped, previous, anchor, marks), dim=1))
        change = self.leave(self.blocks(x))
        core, reach = regions[:, :1], regions[:, 1:]
        shows = core * (change[:, -1:] + OPEN).sigmoid()
        out: Tensor = predicted + shows * (stamped - predicted) + reach * change[:, :-1]
        return out


def spots(places: Tensor, grid: tuple[int, int], cell: float, sigma: float) -> Tensor:
    """[..., h, w], soft spots of height 1 at places [..., 2] in pixels; cell: pixels of a cell, sigma: in cells."""
    at = (places + 0.5) / cell - 0.5
    x, y = torch.arange(grid[1]).to(at), torch.arange(grid[0]).to(at)
    near_x = torch.exp(-((x - at[..., :1]) ** 2) / (2 * sigma**2))
    near_y = torch.exp(-((y - at[..., 1:]) ** 2) / (2 * sigma**2))
    return near_y[..., :, None] * near_x[..., None, :]


def stamp(frames: Tensor, given: Tensor, places: Tensor, origins: Tensor, present: Tensor) -> Tensor:
    """Frames [B, 3, H, W] with each object cut out of the given ones and pasted where it is.

    Args:
        given: [B, 3, H, W].
        places, origins: [B, K, 2], pixels, where objects are, and are in the given frames.
        present: [B, K].
    """
    h, w = frames.shape[2:]
    y, x = torch.meshgrid(torch.arange(h).to(frames), torch.arange(w).to(frames), indexing="ij")
    scale = h / 64
    out = frames
    for k in range(places.shape[1]):
        dx, dy = (x - places[:, k, 0, None, None]), (y - places[:, k, 1, None, None])  # [B, H, W]
        mask = ((RADIUS * scale - torch.hypot(dx, dy)) / (EDGE * scale)).sigmoid() * present[:, k, None, None]
        from_x, from_y = dx + origins[:, k, 0, None, None], dy + origins[:, k, 1, None, None]
        where = torch.stack(((2 * from_x + 1) / w - 1, (2 * from_y + 1) / h - 1), dim=-1)
        cut = F.grid_sample(given, where, padding_mode="border", align_corners=False)
        out = out + mask[:, None] * (cut - out)
    return out


def marked(
    places: Tensor,
    before: Tensor,
    origins: Tensor,
    heights: Tensor,
    present: Tensor,
    grid: tuple[int, int],
    cell: float,
) -> tuple[Tensor, Tensor]:
    """What the painter is told of objects: marks [B, MARKS, h, w] and regions [B, 2, h, w] in [0, 1], where a stamp may
    show and where it may paint at all.

    Args:
        places, before, origins: [B, K, 2], pixels, where they are, were a step ago, and are in the given frame.
        heights: [B, K], metres above the base.
        present: [B, K].
        grid, cell: Latent cells in height and width, and the pixels of one.
    """
    there = present[..., None, None]
    now, last, home = (spots(p, grid, cell, 0.8) * there for p in (places, before, origins))
    marks = torch.stack((now.sum(1), (now * 10 * heights[..., None, None]).sum(1), last.sum(1), home.sum(1)), dim=1)
    core = (spots(places, grid, cell, CORE) * there).amax(dim=1)
    reach = torch.stack([spots(p, grid, cell, REACH) * there for p in (places, before)]).amax(dim=(0, 2))
    return marks, (2 * torch.stack((core, reach), dim=1)).clamp(max=1)
