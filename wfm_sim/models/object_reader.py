"""Where is the gripper in this frame, and which objects lie where? A small convolutional network.

Objects are found as peaks of a map (CenterNet, arXiv 1904.07850), so their number and order are free: each cell says
how likely an object's centre is in it, and, if so, where exactly, where that is in space, and how it is turned. The
gripper is found likewise. Both are read where they are seen: so what cannot be known of the camera shifts them alike,
and where an object is *from the gripper*, which is what decides its fate, is not touched by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.actions import ACTION_DIM

CELL = 4  # pixels of a cell's side
# Of a cell's outputs: an object's, and the gripper's.
CENTRE, PLACE, POSITION, YAW, HAND, POSE = 0, slice(1, 3), slice(3, 6), slice(6, 8), 8, slice(9, 16)
OUTPUTS = 16
POSITION_SCALE = 0.1  # metres


@dataclass
class Reading:
    """What N frames show.

    Attributes:
        gripper: float64 [N, 7], its pose in the robot's base frame, as in wfm_sim/actions.py.
        present: float32 [N, K], 1 for the slots that hold an object, 0 for the others.
        place: float32 [N, K, 2], x and y of its centre, pixels.
        position: float32 [N, K, 3], metres, base frame.
        yaw: float32 [N, K, 2], cosine and sine of four times its heading in the base frame (a cube's symmetry).
    """

    gripper: Tensor
    present: Tensor
    place: Tensor
    position: Tensor
    yaw: Tensor


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class ObjectReader(nn.Module):
    """Frames float32 [N, 3, H, W] in -1..1 -> cells [N, OUTPUTS, H/4, W/4].

    Positions are in units of 0.1 m from the gripper's usual place, poses in deviations from the usual pose.
    """

    pose_mean: Tensor
    pose_std: Tensor

    def __init__(self, frame_size: tuple[int, int], width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(5, 32, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(32, width, 3, stride=2, padding=1)
        )
        self.fine = nn.Sequential(Residual(width), Residual(width))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(*(Residual(2 * width) for _ in range(3)))
        cells = (frame_size[0] // 8) * (frame_size[1] // 8)
        self.narrow = nn.Conv2d(2 * width, 32, 1)
        self.whole = nn.Sequential(nn.Linear(32 * cells, 192), nn.SiLU())
        self.join = nn.Conv2d(2 * width, width, 1)
        self.told = nn.Linear(192, width)
        self.head = nn.Sequential(Residual(width), nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, OUTPUTS, 1))
        self.register_buffer("pose_mean", torch.zeros(ACTION_DIM))
        self.register_buffer("pose_std", torch.ones(ACTION_DIM))

    def forward(self, frames: Tensor) -> Tensor:
        n, _, h, w = frames.shape
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        where = torch.stack((x, y)).to(frames).expand(n, -1, -1, -1)
        fine = self.fine(self.stem(torch.cat((frames, where), dim=1)))
        coarse = self.coarse(self.down(fine))
        whole = self.whole(F.silu(self.narrow(coarse)).flatten(1))
        up = F.interpolate(self.join(coarse), scale_factor=2, mode="bilinear")
        out: Tensor = self.head(fine + up + self.told(whole)[..., None, None])
        return out

    def read(self, frames: Tensor, slots: int, threshold: float = 0.3) -> Reading:
        """What frames [N, 3, H, W] show: up to `slots` objects each, the likeliest first."""
        cells = self(frames)
        hand = cells[:, HAND].flatten(1).argmax(dim=1)
        pose = cells[:, POSE].flatten(2)[torch.arange(len(cells)), :, hand]
        gripper = (pose * self.pose_std + self.pose_mean).double()
        likely = cells[:, CENTRE].sigmoid()
        peak = likely == F.max_pool2d(likely[:, None], 3, stride=1, padding=1)[:, 0]
        best, index = (likely * peak).flatten(1).topk(slots, dim=1)
        chosen = cells.flatten(2).transpose(1, 2).gather(1, index[..., None].expand(-1, -1, OUTPUTS))
        columns = torch.stack((index % cells.shape[3], index // cells.shape[3]), dim=-1).to(chosen)
        place = (columns + 0.5 + chosen[..., PLACE]) * CELL - 0.5
        position = chosen[..., POSITION] * POSITION_SCALE + self.pose_mean[:3]
        return Reading(gripper, (best > threshold).float(), place, position, F.normalize(chosen[..., YAW], dim=-1))
