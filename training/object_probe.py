"""Where in a latent frame is this object, and how much of it is there? A small frozen network that training asks.

Predicted block by block, a frame in which the outcome is unsure is best served by a ghost: half a block here, half a
table there. An error per latent number does not tell a ghost from a block beside its place. Asked where an object is
and how much of it, it does: `object_errors` is zero only where a whole object stands in the right place, and it pulls a
misplaced one over instead of wiping it out.

The object is named by where it is in another frame, the anchor, so nothing about colours or shapes is built in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wfm_sim.data.files import atomic_path
from wfm_sim.training.frames import Frames

WIDTH = 64
STEPS, BATCH = 2000, 96
SEEN_AREA = 8.0  # pixels of a 64 px frame; smaller visible parts of an object are not asked for
EPS = 0.3  # latent cells
EDGE = 0.25  # softness of an object's edge, latent cells


class ObjectProbe(nn.Module):
    """Shares [N, h, w] of latent cells that an object covers, from frames [N, C, h, w], anchors and places there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 1),
        )
        self.query = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH + 1))

    def queries(self, anchors: Tensor, covers: Tensor) -> Tensor:
        """[N, WIDTH + 1] from anchors [N, C, h, w] and what the object covers there, [N, h, w]."""
        weight = covers / covers.sum(dim=(1, 2), keepdim=True).clamp(min=1e-3)
        found: Tensor = self.query(torch.einsum("nchw,nhw->nc", self.features(anchors), weight))
        return found

    def forward(self, features: Tensor, queries: Tensor) -> Tensor:
        """Shares in (0, 1) from `features` [N, WIDTH, h, w]."""
        score = torch.einsum("nchw,nc->nhw", features, queries[:, :-1]) * WIDTH**-0.5
        return (score + queries[:, -1:, None]).float().sigmoid()


def cover(objects: NDArray[np.floating] | Tensor, grid: tuple[int, int], cell: float) -> Tensor:
    """float32 [..., h, w]: about how much of each cell a disc of the object's place and visible area covers.

    Args:
        objects: [..., 3], x, y and area in pixels; NaN, NaN, 0 covers nothing.
        grid: Cells in height and width.
        cell: Pixels of a cell's side.
    """
    place = torch.as_tensor(objects, dtype=torch.float32)
    x = (place[..., 0, None, None] + 0.5) / cell - 0.5
    y = (place[..., 1, None, None] + 0.5) / cell - 0.5
    # a soft edge adds pi^3 s^2 / 3 to the area of a disc
    squared = place[..., 2, None, None].clamp(min=0) / (torch.pi * cell**2) - (torch.pi * EDGE) ** 2 / 3
    radius = squared.clamp(min=0.01).sqrt()
    rows, columns = torch.arange(grid[0])[:, None], torch.arange(grid[1])
    share = ((radius - torch.hypot(columns - x, rows - y)) / EDGE).sigmoid()
    return torch.where(place[..., 2, None, None] > 0, share.nan_to_num(0.0), torch.zeros(()))


def fit_probe(
    latents: NDArray[np.float16],
    data: Frames,
    path: Path,
    *,
    bf16: bool = False,
    seed: int = 0,
    steps: int = STEPS,
    batch: int = BATCH,
) -> Path:
    """Train a probe on a data set whose objects are known; the file is kept at `path`, and used again."""
    if path.is_file():
        return path
    probe, cell = _new(latents, seed), data.frames.shape[1] / latents.shape[2]
    optimiser = torch.optim.AdamW(probe.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    rng = np.random.default_rng(seed)
    seen = np.argwhere(data.objects[..., 2] >= SEEN_AREA)  # [M, 2], frame and object
    episode = np.searchsorted(data.offsets, np.arange(len(data.objects)), side="right") - 1
    for _ in track(range(steps), description="learning where objects are", transient=True):
        anchor, k = seen[rng.integers(len(seen), size=batch)].T
        begin, end = data.offsets[episode[anchor]], data.offsets[episode[anchor] + 1]
        now = rng.integers(begin, end)
        z, shown = (torch.from_numpy(latents[i].astype(np.float32)) for i in (now, anchor))
        truth, there = (cover(data.objects[i, k], latents.shape[2:], cell) for i in (now, anchor))
        # ghosts: two frames of one episode on top of each other, so that half an object counts as half
        ghost = torch.from_numpy(rng.integers(begin, end))
        share = torch.from_numpy(rng.uniform(0, 1, batch) * (rng.random(batch) < 0.5)).float()[:, None, None]
        z = (1 - share[..., None]) * z + share[..., None] * torch.from_numpy(latents[ghost].astype(np.float32))
        truth = (1 - share) * truth + share * cover(data.objects[ghost, k], latents.shape[2:], cell)
        z = z + 0.1 * torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = probe(probe.features(z), probe.queries(shown, there))
        loss = F.binary_cross_entropy(found, truth, weight=1 + truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with atomic_path(path) as partial:
        save_file(probe.state_dict(), partial)
    return path


def load_probe(path: Path, channels: int) -> ObjectProbe:
    """What `fit_probe` wrote, frozen."""
    probe = ObjectProbe(channels)
    probe.load_state_dict(load_file(path))
    return probe.requires_grad_(False)


def object_errors(
    probe: ObjectProbe, predicted: Tensor, truth: Tensor, queries: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """How wrong predicted frames are about n objects, [n] each: share of the object missing or too much, and how far
    it is from its place, in latent cells.

    Args:
        probe: Frozen.
        predicted, truth: Latents [N, C, h, w].
        queries: [n, WIDTH + 1], the objects.
        rows: int64 [n], the frame (0 .. N - 1) that each is asked for in.
    """
    with torch.no_grad():
        right, right_place = _measure(probe(probe.features(truth)[rows], queries))
    found, place = _measure(probe(probe.features(predicted)[rows], queries))
    missing = (found - right).abs() / (right + EPS)
    # an object that is hardly there has no place; one that is far off is a lost cause, and must not outweigh the rest
    away = (place - right_place).square().sum(dim=-1).add(1e-4).sqrt()
    away = (found / right.clamp(min=EPS)).detach().clamp(max=1) * away / (1 + away / 2)
    return missing, away


def _measure(share: Tensor) -> tuple[Tensor, Tensor]:
    """Area in cells [n] and centroid (x, y) [n, 2] of shares [n, h, w].

    Of squared shares: the doubtful ones, all over the picture, would pull the centroid to its middle, and half a
    block in each of two places is less than one.
    """
    share = share.square()
    area = share.sum(dim=(1, 2))
    x = torch.arange(share.shape[2], device=share.device, dtype=share.dtype)
    y = torch.arange(share.shape[1], device=share.device, dtype=share.dtype)
    total = area.clamp(min=1e-3)
    return area, torch.stack((share.sum(dim=1) @ x / total, share.sum(dim=2) @ y / total), dim=-1)


def _new(latents: NDArray[np.float16], seed: int) -> ObjectProbe:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ObjectProbe(latents.shape[1])
