"""A simulator's memory of objects: what a scene holds, where it is now, and how that is shown to the denoiser.

A network that predicts frames alone must say in every frame anew where a block is; where the outcome of a contact is
unsure, the least error is a ghost, and the next frame is predicted from that. Here the given frame is read once
(`object_reader`), positions are moved on by a small network of their own (`object_dynamics`), which has to commit
itself to one place, and the denoiser is told that place by extra channels, with the look that the object had in the
given frame: what is left to it is to draw. Objects that nothing touches cannot fade, and one that was hidden comes
back.

This is for action-conditioned simulators with a static camera what the spatial memory is for those with a moving one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wfm_sim.actions import apply_action
from wfm_sim.models.object_dynamics import ObjectDynamics, ObjectMemory
from wfm_sim.models.object_reader import ObjectReader

MARKS = 3  # channels beside the look: there, height, where it was given
SIGMA = 0.8  # of an object's mark, latent cells


@dataclass(frozen=True)
class ObjectConfig:
    """Of a simulator with a memory of objects.

    Attributes:
        slots: Most objects that are kept.
        width: Channels of the reader's finest maps.
        hidden: Width of the dynamics.
        threshold: Least likelihood with which an object is taken for one.
    """

    slots: int = 4
    width: int = 64
    hidden: int = 256
    threshold: float = 0.3

    def channels(self, latent_channels: int) -> int:
        """Extra channels of the denoiser."""
        return latent_channels + MARKS


class ObjectModel(nn.Module):
    """Reader, dynamics and camera of a simulator with a memory of objects.

    Attributes:
        projection: float32 [3, 4], from the base frame (metres, homogeneous) to pixels (x, y, homogeneous): the usual
            camera. Where an object was seen corrects it for the camera at hand.
    """

    projection: Tensor

    def __init__(self, cfg: ObjectConfig, frame_size: tuple[int, int]) -> None:
        super().__init__()
        self.cfg = cfg
        self.reader = ObjectReader(frame_size, cfg.width)
        self.dynamics = ObjectDynamics(cfg.hidden)
        self.register_buffer("projection", torch.eye(4)[:3])

    def begin(self, frames: Tensor) -> ObjectMemory:
        """What frames [B, 3, H, W] in -1..1 show, at rest."""
        # one row at a time: convolutions round differently in a batch, and a row must not depend on its neighbours
        read = [self.reader.read(row[None], self.cfg.slots, self.cfg.threshold) for row in frames]
        gripper, present, place, position, yaw = (
            torch.cat([getattr(r, name) for r in read]) for name in ("gripper", "present", "place", "position", "yaw")
        )
        return ObjectMemory.at_rest(gripper, present, place, position, yaw)

    def advance(self, memory: ObjectMemory, action: NDArray[np.float32]) -> ObjectMemory:
        """After canonical actions [B, 7]."""
        after = torch.from_numpy(apply_action(memory.gripper.cpu().numpy(), action)).to(memory.gripper)
        return self.dynamics(memory, after)[0]

    def places(self, memory: ObjectMemory) -> Tensor:
        """[B, K, 2], pixels: where the objects are now."""
        return memory.place + self.project(memory.position) - self.project(memory.given)

    def project(self, positions: Tensor) -> Tensor:
        """[..., 3] metres -> [..., 2] pixels through the usual camera."""
        seen = positions @ self.projection[:, :3].T + self.projection[:, 3]
        return seen[..., :2] / seen[..., 2:].clamp(min=1e-3)

    def shown(self, memory: ObjectMemory, anchor: Tensor, cell: float) -> Tensor:
        """What the denoiser gets to see, [B, C + MARKS, 1, h, w]; anchor: [B, C, h, w], cell: pixels of its cells."""
        return draw(
            self.places(memory)[:, None],
            memory.position[:, None, :, 2],
            memory.place,
            memory.present,
            anchor,
            cell,
        )


def marks(places: Tensor, grid: tuple[int, int], cell: float) -> Tensor:
    """[..., h, w], soft spots of height 1 at places [..., 2] in pixels."""
    at = (places + 0.5) / cell - 0.5
    x, y = torch.arange(grid[1]).to(at), torch.arange(grid[0]).to(at)
    near_x = torch.exp(-((x - at[..., :1]) ** 2) / (2 * SIGMA**2))
    near_y = torch.exp(-((y - at[..., 1:]) ** 2) / (2 * SIGMA**2))
    return near_y[..., :, None] * near_x[..., None, :]


def draw(places: Tensor, heights: Tensor, given: Tensor, present: Tensor, anchor: Tensor, cell: float) -> Tensor:
    """Objects as channels [B, C + MARKS, T, h, w]: a spot each, filled with its look in the anchor, and what else is
    known of it.

    Args:
        places: [B, T, K, 2], pixels, where they are.
        heights: [B, T, K], metres above the base.
        given: [B, K, 2], pixels, where they are in the anchor.
        present: [B, K].
        anchor: [B, C, h, w].
        cell: Pixels of a latent cell.
    """
    grid = (anchor.shape[2], anchor.shape[3])
    there = marks(given, grid, cell) * present[..., None, None]
    look = torch.einsum("bkhw,bchw->bkc", there, anchor) / there.sum(dim=(2, 3)).clamp(min=0.5)[..., None]
    spots = marks(places, grid, cell) * present[:, None, :, None, None]  # [B, T, K, h, w]
    told = torch.stack((torch.ones_like(heights), 10 * heights), dim=-1)
    filled = torch.cat((look[:, None].expand(-1, told.shape[1], -1, -1), told), dim=-1)
    out = torch.einsum("btkhw,btkc->bcthw", spots, filled)
    home = there.sum(dim=1)[:, None, None].expand(-1, -1, out.shape[2], -1, -1)
    return torch.cat((out, home), dim=1)
