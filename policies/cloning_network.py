"""The networks of behaviour cloning: state or pixels in, a chunk of the next actions out.

Both forms end in the same head: from the gripper's pose and where target and goal are, a small MLP gives for each of
the next `chunk` steps the median and scale of a Laplace distribution over the six displacements, and a logit for the
gripper. The state form is told where target and goal are (the `layout` of the info at reset); the pixel form reads it
off the first and the present frame (64 x 64): by keypoints (spatial softmax, Finn et al. 2016, arXiv:1509.06113) that
task and colour choose (FiLM), and by the middle of the pixels that have the target's colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wfm_sim.actions import ACTION_HIGH
from wfm_sim.errors import UserError, unknown

FORMS = ("state", "pixels")
LENGTH = 0.1  # metres that count as 1 in the networks
WAVES = (1.0, 2.5)  # half turns per LENGTH, so that an MLP sees millimetres (Tancik et al. 2020, arXiv:2006.10739)
FEATURES = 18 + 12 * len(WAVES)  # of `geometry`
SAME = 0.08  # distance in chromaticity at which a pixel is no longer of a colour
# Middle and half width of what the pixel form's estimate of the layout is measured in: x, y, z, yaw of the target, then
# x, y, z of the goal. Metres, radians.
LAYOUT_MIDDLE = (0.29, 0.0, 0.021, 0.0, 0.29, 0.0, 0.0)
LAYOUT_SCALE = (0.1, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1)


@dataclass(frozen=True)
class CloningConfig:
    """Sizes of the network, and the names it was trained on (their order is the order of the embeddings).

    Attributes:
        form: 'state' or 'pixels'.
        tasks: As in the layout's index.
        colours: Of targets; empty in the state form.
        palette: Red, green and blue in 0..1 of each of the colours.
        chunk: Actions predicted at once.
        execute: How many of them are carried out before it is asked again, by default.
        width: Of the MLPs.
        frame_size: Height and width of the frames (pixels alone, as what follows).
        channels: Of the three convolutions; each of the first two halves the frame.
        keypoints: Per frame.
        embedding: Of task, colour and which frame it is.
    """

    form: str
    tasks: tuple[str, ...]
    colours: tuple[str, ...] = ()
    palette: tuple[tuple[float, float, float], ...] = ()
    chunk: int = 6
    execute: int = 3
    width: int = 128
    frame_size: tuple[int, int] = (64, 64)
    channels: tuple[int, int, int] = (12, 24, 32)
    keypoints: int = 16
    embedding: int = 12

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form of policy", self.form, FORMS)
        if len(self.palette) != len(self.colours):
            raise UserError(f"{len(self.colours)} colours, but a palette of {len(self.palette)}")
        if not 1 <= self.execute <= self.chunk:
            raise UserError(f"a policy that predicts {self.chunk} actions cannot carry out {self.execute} of them")


class ActionChunk(NamedTuple):
    """A distribution over the next actions.

    Attributes:
        median: float32 [B, chunk, 6], displacements in units of ACTION_HIGH.
        scale: float32 [B, chunk, 6], scale b > 0 of the Laplace distribution, in the same units.
        gripper: float32 [B, chunk], logit of 'open'.
    """

    median: Tensor
    scale: Tensor
    gripper: Tensor


def geometry(pose: Tensor, layout: Tensor) -> Tensor:
    """Where target and goal are, seen from the gripper.

    Args:
        pose: float32 [B, 7], x, y, z [m], roll, pitch, yaw [rad], gripper.
        layout: float32 [B, 7], target's x, y, z, yaw and goal's x, y, z.

    Returns:
        float32 [B, FEATURES]. Vectors are turned by -yaw, as the actions are.
    """
    yaw = pose[:, 5]
    cos, sin = torch.cos(yaw), torch.sin(yaw)

    def turned(v: Tensor) -> tuple[Tensor, Tensor]:
        return cos * v[:, 0] + sin * v[:, 1], cos * v[:, 1] - sin * v[:, 0]

    target, goal = (layout[:, :3] - pose[:, :3]) / LENGTH, (layout[:, 4:] - pose[:, :3]) / LENGTH
    way = layout[:, 4:6] - layout[:, :2]
    distance = way.norm(dim=1).clamp_min(1e-6)
    along = turned(way / distance[:, None])
    # A cube and a closed gripper look the same after a quarter turn, so a push needs its angle modulo one alone.
    quarter = torch.pi / 2
    heading = torch.remainder(torch.atan2(way[:, 1], way[:, 0]) + quarter / 2, quarter) - quarter / 2
    # Target and goal in the gripper's frame, and the target in the frame of the way from it to the goal.
    seen = [*turned(target), target[:, 2], *turned(goal), goal[:, 2]]
    ahead = (target[:, :2] * way).sum(1) / distance
    aside = (target[:, 0] * way[:, 1] - target[:, 1] * way[:, 0]) / distance
    waves = [wave(torch.pi * f * x) for f in WAVES for x in seen for wave in (torch.sin, torch.cos)]
    return torch.stack(
        [
            *seen,
            *along,
            distance / LENGTH,
            2 * (layout[:, 3] - yaw),
            2 * (heading - yaw),
            pose[:, 2] / LENGTH,
            pose[:, 3],
            pose[:, 4],
            pose[:, 5],
            2 * pose[:, 6] - 1,
            ahead,
            aside,
            *waves,
        ],
        dim=1,
    )


class ChunkHead(nn.Module):
    """The MLP that both forms end in: features float32 [B, n] -> ActionChunk."""

    def __init__(self, inputs: int, width: int, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.out = nn.Linear(width, chunk * 13)

    def forward(self, features: Tensor) -> ActionChunk:
        h = F.silu(self.first(features))
        h = h + F.silu(self.second(h))
        out = self.out(h).view(-1, self.chunk, 13)
        return ActionChunk(out[..., :6], torch.exp(out[..., 6:12].clamp(-5.0, 1.0)), out[..., 12])


class StateNetwork(nn.Module):
    """pose float32 [B, 7], layout float32 [B, 7] (see `geometry`), task int64 [B] -> ActionChunk."""

    def __init__(self, config: CloningConfig) -> None:
        super().__init__()
        self.config = config
        self.head = ChunkHead(FEATURES + len(config.tasks), config.width, config.chunk)

    def forward(self, pose: Tensor, layout: Tensor, task: Tensor) -> ActionChunk:
        return self.head(torch.cat([geometry(pose, layout), F.one_hot(task, len(self.config.tasks)).float()], dim=1))


class PixelNetwork(nn.Module):
    """Frames and poses in, ActionChunk out, and on the way an estimate of the layout.

    `look` is called once per frame, so that the first frame of an episode is looked at once.
    """

    layout_middle: Tensor
    layout_scale: Tensor
    palette: Tensor
    grid: Tensor
    fine_grid: Tensor

    def __init__(self, config: CloningConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.channels
        self.task = nn.Embedding(len(config.tasks), config.embedding)
        self.colour = nn.Embedding(len(config.colours), config.embedding)
        self.which = nn.Embedding(2, config.embedding)
        self.conv1 = nn.Conv2d(4, a, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(b, c, 3, padding=1)
        self.film1, self.film2 = nn.Linear(config.embedding, 2 * a), nn.Linear(config.embedding, 2 * b)
        self.film3 = nn.Linear(config.embedding, 2 * c)
        self.points = nn.Conv2d(c, config.keypoints, 1)
        seen = 4 * config.keypoints + 3
        self.see1 = nn.Linear(2 * seen + 14 + len(config.tasks), config.width)
        self.see2 = nn.Linear(config.width, 7)
        self.head = ChunkHead(FEATURES + len(config.tasks) + seen, config.width, config.chunk)
        self.register_buffer("layout_middle", torch.tensor(LAYOUT_MIDDLE), persistent=False)
        self.register_buffer("layout_scale", torch.tensor(LAYOUT_SCALE), persistent=False)
        self.register_buffer("palette", _chroma(torch.tensor(config.palette)[:, :, None, None]), persistent=False)
        self.register_buffer("grid", _grid(config.frame_size, 4), persistent=False)
        self.register_buffer("fine_grid", _grid(config.frame_size, 1), persistent=False)

    def look(self, frames: Tensor, task: Tensor, colour: Tensor, which: int) -> Tensor:
        """Keypoints of frames.

        Args:
            frames: float32 [B, 3, H, W] in -1..1.
            task, colour: int64 [B].
            which: 0 for the first frame of an episode, 1 for the present one.

        Returns:
            float32 [B, 4 * keypoints + 3]: (row, column) of each in -1..1, their spread, how strongly it is there; then
            (row, column) of the pixels of the target's colour, and their number.
        """
        # A pixel counts as far as its chromaticity, which light changes little, is the target's.
        like = torch.exp(-(_chroma((frames + 1) / 2) - self.palette[colour]).square().sum(1, keepdim=True) / SAME**2)
        number = like.sum((2, 3))
        middle = (like.flatten(1) ** 2) @ self.fine_grid / (like.square().sum((2, 3)) + 1.0)
        condition = F.silu(self.task(task) + self.colour(colour) + self.which.weight[which])
        x = torch.cat([frames, 2 * like - 1], dim=1)
        for conv, film in ((self.conv1, self.film1), (self.conv2, self.film2), (self.conv3, self.film3)):
            scale, shift = film(condition)[:, :, None, None].chunk(2, dim=1)
            x = F.silu(conv(x) * (1 + scale) + shift)
        maps = self.points(x).flatten(2)
        weights = torch.softmax(maps, dim=2)
        place = weights @ self.grid
        spread = (weights @ (self.grid**2).sum(1) - (place**2).sum(2)).clamp_min(0.0)
        strength = torch.logsumexp(maps, dim=2) / 10
        return torch.cat([place.flatten(1), spread, strength, middle, number / 50], dim=1)

    def forward(
        self, first: Tensor, now: Tensor, start: Tensor, pose: Tensor, task: Tensor
    ) -> tuple[ActionChunk, Tensor]:
        """From keypoints of the first and the present frame, the poses [B, 7] they were seen from, and the task.

        Returns:
            The actions, and the estimated layout float32 [B, 7] (see `geometry`).
        """
        chosen = F.one_hot(task, len(self.config.tasks)).float()
        poses = torch.cat([start, pose], dim=1)
        h = F.silu(self.see1(torch.cat([first, now, poses, chosen], dim=1)))
        layout = self.layout_middle + self.layout_scale * self.see2(h)
        return self.head(torch.cat([geometry(pose, layout), chosen, now], dim=1)), layout


def _chroma(rgb: Tensor) -> Tensor:
    """[B, 3, H, W] in 0..1 -> the same, each channel as a share of their sum."""
    return rgb / (rgb.sum(1, keepdim=True) + 0.1)


def _grid(frame_size: tuple[int, int], stride: int) -> Tensor:
    """[H / stride * W / stride, 2], (row, column) of each cell in -1..1."""
    rows, columns = (torch.linspace(-1, 1, size // stride) for size in frame_size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).view(-1, 2)


def to_network(frames: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in -1..1."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def make_network(config: CloningConfig) -> StateNetwork | PixelNetwork:
    """The network of a form, with random weights."""
    return StateNetwork(config) if config.form == "state" else PixelNetwork(config)


def action_scale() -> Tensor:
    """float32 [6]: what a displacement of 1 in an ActionChunk is, in metres and radians."""
    return torch.from_numpy(ACTION_HIGH[:6].copy())
