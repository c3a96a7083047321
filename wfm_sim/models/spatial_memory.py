"""What an imagined place looks like, kept as coloured points in space: the memory of a camera world.

Every step, the points are drawn into the next camera; the network is shown that picture and where it has gaps, and
imagines the frame. What the frame shows where the memory had nothing becomes new points, at depths that a small network
reads off the frame and that are fitted to those around. So a place looks the same when one comes back to it, however
long that took, and a step costs the same at any time. This is the 3D cache of Gen3C (arXiv 2503.03751), which does the
same for Cosmos with clips of video.

Rows never mix: everything is done element by element, so that a row gives the same bits in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 0.05  # metres; points nearer to the camera than this are not drawn
_SAME_SURFACE = 0.05  # points up to this part of the distance behind the nearest one are of the same surface
_GAPS = 2  # factors of 2 by which drawn points may be spread before the space between them counts as unseen


@dataclass
class SpatialMemory:
    """Points of B places.

    Attributes:
        points: float32 [B, P, 3], metres, in the axes of the first camera (x right, y down, z forward).
        colours: float32 [B, P, 3], 0..255.
        known: bool [B, P].
        fixed: int64 [B], points that stay: those of the given frames. The others are a ring, the oldest goes first.
        next: int64 [B], where in the ring the next point goes, from 0.
    """

    points: Tensor
    colours: Tensor
    known: Tensor
    fixed: Tensor
    next: Tensor

    @classmethod
    def empty(cls, rows: int, size: int, device: torch.device | str = "cpu") -> SpatialMemory:
        """Room for `size` points in each of `rows` places."""
        return cls(
            torch.zeros(rows, size, 3, device=device),
            torch.zeros(rows, size, 3, device=device),
            torch.zeros(rows, size, dtype=torch.bool, device=device),
            torch.zeros(rows, dtype=torch.int64),
            torch.zeros(rows, dtype=torch.int64),
        )

    def _parts(self) -> tuple[Tensor, ...]:
        return self.points, self.colours, self.known, self.fixed, self.next

    def __getitem__(self, rows: Any) -> SpatialMemory:
        return SpatialMemory(*(part[rows].clone() for part in self._parts()))

    @classmethod
    def cat(cls, memories: Sequence[SpatialMemory]) -> SpatialMemory:
        return cls(*(torch.cat(parts) for parts in zip(*(m._parts() for m in memories), strict=True)))


@dataclass(frozen=True)
class Drawn:
    """A memory seen by a camera.

    Attributes:
        image: float32 [B, 3, H, W], 0..255; where nothing is known, what lies around is smeared over it.
        depth: float32 [B, H, W], metres; meaningless where nothing is known.
        seen: bool [B, H, W], where something is known.
    """

    image: Tensor
    depth: Tensor
    seen: Tensor


def draw(memory: SpatialMemory, w2c: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Drawn:
    """The memory as a camera sees it; the nearest surface hides what is behind it.

    Args:
        memory: Of B places.
        w2c: float32 [B, 4, 4], from the memory's axes to the camera's.
        intrinsics: float32 [B, 4], fx, fy, cx, cy in pixels.
        size: (H, W).
    """
    h, w = size
    b = len(memory.points)
    u, v, z = _project(memory.points, w2c, intrinsics)
    known = memory.known & (z > NEAR) & (u > -1) & (u < w + 1) & (v > -1) & (v < h + 1)
    left, top = (u - 0.5).floor(), (v - 0.5).floor()
    row = torch.arange(b, device=z.device)[:, None] * (h * w)
    where, share = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = left + dx, top + dy
            s = (1 - (u - 0.5 - x).abs()) * (1 - (v - 0.5 - y).abs())
            inside = known & (x >= 0) & (x < w) & (y >= 0) & (y < h) & (s > 0.05)
            where.append(torch.where(inside, row + (y * w + x).to(torch.int64), b * h * w))  # one bin for the rest
            share.append(torch.where(inside, s, 0))
    index, weight = torch.stack(where), torch.stack(share)
    depth = z.expand_as(weight)
    nearest = torch.full((b * h * w + 1,), torch.inf, device=z.device)
    nearest.scatter_reduce_(0, index.flatten(), depth.flatten(), "amin")
    weight = torch.where(depth <= nearest[index] * (1 + _SAME_SURFACE), weight, 0).flatten()
    total = torch.zeros(5, b * h * w + 1, device=z.device)
    index = index.flatten()
    values = [*(memory.colours[..., i].expand_as(depth).flatten() for i in range(3)), depth.flatten(), None]
    for i, value in enumerate(values):
        total[i].scatter_add_(0, index, weight if value is None else weight * value)
    sums = total[:, :-1].reshape(5, b, h, w).transpose(0, 1)
    filled, seen = _fill(sums)
    return Drawn(filled[:, :3], filled[:, 3], seen)


def _project(points: Tensor, w2c: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel coordinates u, v and depth, each [B, P]. Written out: a matrix product rounds by the size of the batch."""
    x, y, z = points.unbind(-1)
    m = w2c.to(points)[:, :3, :, None]
    cam = [m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] * z + m[:, i, 3] for i in range(3)]
    fx, fy, cx, cy = (a[:, None] for a in intrinsics.to(points).unbind(-1))
    depth = cam[2].clamp(min=1e-6)
    return fx * cam[0] / depth + cx, fy * cam[1] / depth + cy, cam[2]


def _fill(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums [B, 4 + 1, H, W] (the last are the weights) -> means [B, 4, H, W] everywhere, and bool [B, H, W]
    where they are known: at pixels that were hit or that lie between pixels that were."""
    levels = [sums]
    seen = sums[:, 4] > 1e-3
    hit = seen
    for level in range(1, 1 + max(_GAPS, int(min(sums.shape[2:])).bit_length() - 1)):
        coarse = F.avg_pool2d(levels[-1], 2, ceil_mode=True)
        levels.append(coarse)
        if level <= _GAPS:
            # between pixels that were hit: its block has some, and so have the blocks around it
            share = F.avg_pool2d(hit[:, None].float(), 2**level, ceil_mode=True)
            dense = -F.max_pool2d(-F.pad(share, (1, 1, 1, 1), mode="replicate"), 3, stride=1) > 0
            between = dense.repeat_interleave(2**level, 2).repeat_interleave(2**level, 3)
            seen = seen | between[:, 0, : seen.shape[1], : seen.shape[2]]
    out = levels[-1]
    for fine in reversed(levels[:-1]):
        wide = F.interpolate(out, size=fine.shape[2:], mode="bilinear", align_corners=False)
        # a pixel that was hit keeps its own colour; others take it from the next coarser level
        own = (fine[:, 4:] * 4).clamp(max=1)
        mean = wide[:, :4] / wide[:, 4:].clamp(min=1e-12)
        mine = fine[:, :4] / fine[:, 4:].clamp(min=1e-12)
        value = own * mine + (1 - own) * mean
        weight = torch.maximum(fine[:, 4:], wide[:, 4:] * 0.25).clamp(min=1e-6)
        out = torch.cat((value * weight, weight), dim=1)
    return out[:, :4] / out[:, 4:], seen


def unproject(depth: Tensor, c2w: Tensor, intrinsics: Tensor) -> Tensor:
    """Points [B, H * W, 3] of depth [B, H, W] seen by cameras c2w [B, 4, 4], intrinsics [B, 4]."""
    b, h, w = depth.shape
    fx, fy, cx, cy = (a[:, None, None] for a in intrinsics.to(depth).unbind(-1))
    v, u = torch.meshgrid(torch.arange(h).to(depth) + 0.5, torch.arange(w).to(depth) + 0.5, indexing="ij")
    cam = ((u - cx) / fx * depth, (v - cy) / fy * depth, depth)
    m = c2w.to(depth)[:, :3, :, None, None]
    world = [m[:, i, 0] * cam[0] + m[:, i, 1] * cam[1] + m[:, i, 2] * cam[2] + m[:, i, 3] for i in range(3)]
    return torch.stack(world, dim=-1).reshape(b, h * w, 3)


def fitted(depth: Tensor, drawn: Drawn) -> Tensor:
    """The depth [B, H, W] of a frame, stretched smoothly so that it continues what the memory knows around it."""
    ratio = (drawn.depth.clamp(min=NEAR) / depth.clamp(min=NEAR)).log().clamp(-1.5, 1.5)
    trusted = drawn.seen.to(depth)[:, None]
    sums = torch.cat((ratio[:, None] * trusted, trusted), dim=1)
    total = sums.mean(dim=(2, 3), keepdim=True)
    out = total[:, :1] / total[:, 1:].clamp(min=1e-6)
    for factor in (64, 32, 16, 8):  # from coarse to fine, the finer where it has something to go by
        level = F.avg_pool2d(sums, factor, ceil_mode=True)
        mean = level[:, :1] / level[:, 1:].clamp(min=1e-6)
        out = F.interpolate(out, size=mean.shape[2:], mode="bilinear", align_corners=False)
        share = (level[:, 1:] * 2).clamp(max=1)
        out = share * mean + (1 - share) * out
    stretch = F.interpolate(out, size=depth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return torch.where(drawn.seen, drawn.depth, depth * stretch.exp())


def remember(
    memory: SpatialMemory,
    image: Tensor,
    depth: Tensor,
    c2w: Tensor,
    intrinsics: Tensor,
    new: Tensor,
    fixed: bool = False,
) -> SpatialMemory:
    """The memory with the chosen pixels of a frame.

    Args:
        image: [B, 3, H, W], 0..255.
        depth: [B, H, W], metres.
        c2w, intrinsics: Of the camera, [B, 4, 4] and [B, 4].
        new: bool [B, H, W], which pixels.
        fixed: Whether they stay for good (given frames). As many as the memory holds; a quarter of it is kept free.
    """
    points = unproject(depth, c2w, intrinsics)
    colours = image.permute(0, 2, 3, 1).reshape(len(image), -1, 3)
    out = memory[:]
    size = out.points.shape[1]
    for i in range(len(image)):
        chosen = new[i].flatten().nonzero()[:, 0]
        base, at = int(out.fixed[i]), int(out.next[i])
        if fixed:
            chosen = chosen[: max(0, size * 3 // 4 - base)]
            slots = torch.arange(base, base + len(chosen), device=chosen.device)
            out.fixed[i] = base + len(chosen)
            out.next[i] = 0
        else:
            ring = size - base
            chosen = chosen[:ring]
            slots = base + (at + torch.arange(len(chosen), device=chosen.device)) % ring
            out.next[i] = (at + len(chosen)) % ring
        out.points[i, slots] = points[i, chosen]
        out.colours[i, slots] = colours[i, chosen].float()
        out.known[i, slots] = True
    return out
