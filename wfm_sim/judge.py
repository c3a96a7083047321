"""The pixel judge: success and progress of a task, read off a frame, real or imagined, beside the episode's first.

    judge = load_judge("nano-tabletop-judge")
    # uint8 [B, 64, 64, 3] twice -> float64 [B], float64 [B]
    probability, progress = judge(frames, first_frames, ["push"] * B, ["red"] * B)
    judge.quality                                                        # as measured on held-out frames of the twin

A small residual convolutional network (float32, group norm), modulated by the task and by the target's colour. Pixels
alone decide, so that it judges an imagined frame just as a real one. The first frame says where things lay: progress is
a share of the way from there. It is trained by training/judge.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError, unknown
from wfm_sim.weights import shipped

FORMAT = "wfm-sim judge 1"


@dataclass(frozen=True)
class JudgeConfig:
    """The network's sizes, and the names it was trained on (their order is the order of the embeddings)."""

    tasks: tuple[str, ...]
    colours: tuple[str, ...]
    frame_size: tuple[int, int] = (64, 64)
    stem: int = 24
    widths: tuple[int, ...] = (64, 72, 64)  # at 1/4, 1/8 and 1/16 of the frame
    depths: tuple[int, ...] = (2, 1, 1)  # residual blocks at each
    embedding: int = 16
    hidden: int = 64


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm; the condition scales and shifts the second's input (FiLM)."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class JudgeNetwork(nn.Module):
    """Success logit [B] and progress logit [B] from frames float32 [B, 6, H, W] in -1..1 (this and the first) and
    the indices of task and colour, int64 [B]."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.task = nn.Embedding(len(config.tasks), config.embedding)
        self.colour = nn.Embedding(len(config.colours), config.embedding)
        self.stem = nn.Conv2d(6, config.stem, 4, stride=2, padding=1)
        before = (config.stem, *config.widths)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(before, config.widths, strict=False)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, config.embedding) for _ in range(depth))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        # Where things are is what matters: the last map is flattened, not averaged.
        cells = math.prod(size // 2 ** len(before) for size in config.frame_size)
        self.read = nn.Linear(config.widths[-1] * cells, config.hidden)
        self.out = nn.Linear(config.hidden, 2)

    def forward(self, frames: Tensor, task: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        condition = F.silu(self.task(task) + self.colour(colour))
        x = self.stem(frames)
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = down(F.silu(x))
            for block in stage.children():
                x = block(x, condition)
        success, progress = self.out(F.silu(self.read(F.silu(x).flatten(1)))).unbind(1)
        return success, progress


class Judge:
    """A trained judge, ready to use.

    Attributes:
        config: See `JudgeConfig`.
        quality: What its training measured on held-out frames (balanced_accuracy, precision, recall, ...), and
            `confusion`, its errors on whole episodes, once `wfm-sim eval judge --write` has counted them.
    """

    def __init__(self, network: JudgeNetwork, quality: dict[str, Any] | None = None) -> None:
        self.network = network.eval()
        self.config = network.config
        self.quality = quality or {}

    def __call__(
        self,
        frames: NDArray[np.uint8],
        first_frames: NDArray[np.uint8],
        tasks: Sequence[str],
        colours: Sequence[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Judge B frames.

        Args:
            frames: uint8 [B, H, W, 3]; another size than the judge's is resized.
            first_frames: uint8 [B, H, W, 3], the first of each row's episode.
            tasks: B names of `config.tasks`.
            colours: B names of `config.colours`, the target's.

        Returns:
            float64 [B], probability of success; float64 [B], progress in [0, 1].

        Raises:
            UserError: unknown task or colour, or frames of another rank or dtype.
        """
        for name, given in (("frames", frames), ("first_frames", first_frames)):
            if given.dtype != np.uint8 or given.ndim != 4 or given.shape[-1] != 3:
                raise UserError(f"{name} must be uint8 [B, H, W, 3], not {given.dtype} {list(given.shape)}")
        task = [_index("task", name, self.config.tasks) for name in tasks]
        colour = [_index("target colour", name, self.config.colours) for name in colours]
        pixels = to_network(torch.from_numpy(frames), torch.from_numpy(first_frames))
        if pixels.shape[-2:] != self.config.frame_size:
            pixels = F.interpolate(pixels, self.config.frame_size, mode="bilinear", antialias=True)
        with torch.inference_mode():
            success, progress = self.network(pixels, torch.tensor(task), torch.tensor(colour))
        return torch.sigmoid(success).double().numpy(), torch.sigmoid(progress).double().numpy()


def to_network(frames: Tensor, first_frames: Tensor) -> Tensor:
    """Twice uint8 [B, H, W, 3] -> float32 [B, 6, H, W] in -1..1."""
    return torch.cat([frames, first_frames], dim=3).permute(0, 3, 1, 2).float() / 127.5 - 1


def _index(kind: str, name: str, known: tuple[str, ...]) -> int:
    if name not in known:
        raise unknown(kind, name, known)
    return known.index(name)


def save_judge(path: str | Path, network: JudgeNetwork, quality: dict[str, Any]) -> None:
    """Write a self-describing safetensors file: the weights, and as metadata the config and the measured quality."""
    with atomic_path(path) as partial:
        _write(partial, network, quality)


def _write(path: Path, network: JudgeNetwork, quality: dict[str, Any]) -> None:
    weights = {name: value.detach().float().contiguous() for name, value in network.state_dict().items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(network.config)), "quality": json.dumps(quality)}
    save_file(weights, path, metadata)


def write_quality(path: str | Path, found: dict[str, Any]) -> None:
    """Add to what a judge's file says of its quality; its weights, hence its hash, stay as they are.

    Raises:
        UserError: not the file of a judge, or a folder that cannot be written to.
    """
    path = Path(path)
    judge = load_judge(path)
    mode = path.stat().st_mode & 0o777
    try:
        with atomic_path(path) as partial:
            _write(partial, judge.network, {**judge.quality, **found})
            partial.chmod(mode)  # safetensors makes files that nobody else may read
    except OSError as error:
        raise UserError(f"{path} cannot be written to ({error.strerror}); copy it, and name the copy") from None


def load_judge(name_or_path: str | Path) -> Judge:
    """A judge by shipped name ('nano-tabletop-judge') or from its file.

    Raises:
        UserError: no such file, or not one that `save_judge` wrote.
    """
    path = shipped().get(str(name_or_path)) or Path(name_or_path)
    if not path.is_file():
        raise UserError(f"no judge at {path}; train one with `wfm-sim train judge` or pass judge=None")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path} is not a judge: its metadata says {metadata.get('format')!r}, not {FORMAT!r}")
        raw: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(metadata["config"]).items()
        }
        network = JudgeNetwork(JudgeConfig(**raw))
        network.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a judge that can be read: {str(error).splitlines()[0]}") from None
    return Judge(network, json.loads(metadata.get("quality", "{}")))
