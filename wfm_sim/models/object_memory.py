"""A simulator's memory of objects: what a scene holds, where it is now, and how it gets into the frames.

A network that predicts frames alone must say in every frame anew where a block is; where the outcome of a contact is
unsure, the least error is a ghost, and the next frame is predicted from that. Here the given frame is read once
(`object_reader`), positions are moved on by a small network of their own (`object_dynamics`), which has to commit
itself to one place, and at that place the object is painted into what the denoiser predicts (`object_painter`), with
the look that it had in the given frame. Objects that nothing touches cannot fade, and one that was hidden comes back.

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
from wfm_sim.models.object_painter import ObjectPainter, marked, stamp
from wfm_sim.models.object_reader import ObjectReader


@dataclass(frozen=True)
class ObjectConfig:
    """Of a simulator with a memory of objects.

    Attributes:
        slots: Most objects that are kept.
        width: Channels of the reader's finest maps.
        hidden: Width of the dynamics.
        painter: Channels of the painter.
        threshold: Least likelihood with which an object is taken for one.
    """

    slots: int = 4
    width: int = 64
    hidden: int = 256
    painter: int = 96
    threshold: float = 0.3


class ObjectModel(nn.Module):
    """Reader, dynamics, painter and camera of a simulator with a memory of objects.

    Attributes:
        projection: float32 [3, 4], from the base frame (metres, homogeneous) to pixels (x, y, homogeneous): the usual
            camera. Where an object was seen corrects it for the camera at hand.
    """

    projection: Tensor

    def __init__(self, cfg: ObjectConfig, frame_size: tuple[int, int], latent_channels: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.reader = ObjectReader(frame_size, cfg.width)
        self.dynamics = ObjectDynamics(cfg.hidden)
        self.painter = ObjectPainter(latent_channels, cfg.painter)
        self.register_buffer("projection", torch.eye(4)[:3])

    def begin(self, frames: Tensor) -> ObjectMemory:
        """What frames [B, 3, H, W] in -1..1 show, at rest."""
        # one row at a time: convolutions round differently in a batch, and a row must not depend on its neighbours
        read = [self.reader.read(row[None], self.cfg.slots, self.cfg.threshold) for row in frames]
        gripper, present, place, position, yaw = (
            torch.cat([getattr(r, name) for r in read]) for name in ("gripper", "present", "place", "position", "yaw")
        )
        return ObjectMemory.at_rest(gripper, present, place, position, yaw, frames)

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

    def stamped(self, memory: ObjectMemory, frames: Tensor) -> Tensor:
        """Frames [B, 3, H, W] in -1..1 with the objects pasted where they are now."""
        return stamp(frames, memory.frame, self.places(memory), memory.place, memory.present)

    def paint(
        self,
        memory: ObjectMemory,
        before: ObjectMemory,
        predicted: Tensor,
        stamped: Tensor,
        previous: Tensor,
        anchor: Tensor,
        cell: float,
    ) -> Tensor:
        """A predicted latent frame with the objects in it.

        Args:
            memory, before: Now and a step ago.
            predicted, stamped, previous, anchor: [B, C, h, w], what the denoiser predicts, that with the stamps, the
                frame before and the given one.
            cell: Pixels of a latent cell.
        """
        grid = (predicted.shape[2], predicted.shape[3])
        places, height = (self.places(memory), self.places(before)), memory.position[..., 2]
        marks, regions = marked(*places, memory.place, height, memory.present, grid, cell)
        out: Tensor = self.painter(predicted, stamped, previous, anchor, marks, regions)
        return out
