"""Trust: the calibrated probability that an imagined state is still within a stated tolerance of the truth.

    trust = load_trust("nano-tabletop-trust")
    state = trust.start(frames, poses)                     # the given first frames, uint8 [B, H, W, 3]
    state = trust.step(state, frames, actions, poses)      # after each imagined frame; doubts=world_state.doubts
    state.trust, state.horizon, state.lowest               # float64 [B]: now, for the next steps, least so far

Which tolerance is in `trust.tolerance` (wfm_sim/tolerance.py). A small recurrent network looks at every imagined frame
beside the one before and the episode's first, and at the executed action and the dead-reckoned pose. It has two eyes:
convolutions, and how much there is of each hue and where, each hue with a memory of its own (all hues share weights, so
that what is learnt of a red block holds for a green one). A ghost is seen at once, and a block that was hit askew stays
doubtful through the memory. Of a world model that remembers objects it is also told how far off that model expects
itself to be. Its two logits are calibrated (Platt 1999) on episodes that it was not trained on. It is trained by
training/trust.py, for one world model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
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
from wfm_sim.errors import UserError
from wfm_sim.judge import ResidualBlock
from wfm_sim.weights import shipped

FORMAT = "wfm-sim trust 1"
# About what makes an action (m, rad, 1 = open) and a pose numbers of size one.
ACTION_SCALE = (20.0, 20.0, 20.0, 4.0, 4.0, 4.0, 1.0)
POSE_SCALE = (5.0, 5.0, 10.0, 1.0, 1.0, 1.0, 1.0)
DOUBT_SCALE = (0.01, 0.001)  # metres, about what is usual: since the start, and in a step
DOUBT_MOST = 1.0  # metres
MUTED = 0.12  # of a chroma of 0..1
HUE_FEATURES = 10


@dataclass(frozen=True)
class TrustConfig:
    """The network's sizes.

    Attributes:
        frame_size: Height and width of the frames that it looks at.
        widths: Of the maps at 1/4, 1/8 and 1/16 of the frame; none: no convolutions, the hues alone.
        depths: Residual blocks at each.
        embedding: Of action and pose, which modulate the blocks.
        read: Numbers that a frame is summed up in.
        hidden: Of the GRU.
        hues: Parts of the colour circle that are counted.
        hue_hidden: Of the GRU that each of them has.
        dropout: In training, of what the outputs are read from.
        horizon: How many steps ahead the second output speaks of.
        levels: Multiples of the tolerance's distance that training asks about: how far off a block is says more than
            whether it is too far. One of them is 1, and only that is put out in use.
        doubts: Whether it is told the world model's own doubts (see `motion`).
    """

    frame_size: tuple[int, int] = (64, 64)
    widths: tuple[int, ...] = (32, 48, 40)
    depths: tuple[int, ...] = (1, 1, 0)
    embedding: int = 32
    read: int = 64
    hidden: int = 64
    hues: int = 18
    hue_hidden: int = 32
    dropout: float = 0.2
    horizon: int = 5
    levels: tuple[float, ...] = (0.4, 0.6, 1.0, 1.6, 4.0)
    doubts: bool = False

    @property
    def motion(self) -> int:
        """Numbers that are told beside each frame."""
        return 16 if self.doubts else 14

    @property
    def memory(self) -> int:
        """Numbers that are remembered per episode."""
        return self.hidden + self.hues * self.hue_hidden


class TrustNetwork(nn.Module):
    """Logits [B, T, 2, levels] (within so many tolerances now; at each of the next steps), and the memory [B, hidden].

    Of frames, float32 [B, T, 9, H, W] in -1..1 (each, the one before, the first), their hues, float32 [B, T, 3, K, 3]
    (see `hues`), motion, float32 [B, T, config.motion] (see `motion`), and the memory so far, [B, config.memory].
    """

    def __init__(self, config: TrustConfig) -> None:
        super().__init__()
        self.config = config
        self.motion = nn.Linear(config.motion, config.embedding)
        before = (9, *config.widths)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=4) if i == 0 else nn.Conv2d(a, b, 3, stride=2, padding=1)
            for i, (a, b) in enumerate(zip(before, config.widths, strict=False))
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, config.embedding) for _ in range(depth))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        # Where things are is what matters: the last map is flattened, not averaged.
        if config.widths:
            cells = math.prod(size // 2 ** (len(config.widths) + 1) for size in config.frame_size)
            self.read = nn.Linear(config.widths[-1] * cells, config.read)
        self.hue = nn.Linear(HUE_FEATURES + config.motion, config.hue_hidden)
        self.hue_memory = nn.GRU(config.hue_hidden, config.hue_hidden, batch_first=True)
        told = 2 * config.hue_hidden + (config.read if config.widths else 0)
        self.memory = nn.GRU(told + config.embedding, config.hidden, batch_first=True)
        self.out = nn.Linear(config.hidden + told, 2 * len(config.levels))
        self.drop = nn.Dropout(config.dropout)
        self.level = config.levels.index(1.0)

    def forward(self, frames: Tensor, colours: Tensor, motion: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        rows, steps = frames.shape[:2]
        condition = F.silu(self.motion(motion))
        own, shared = memory[:, : self.config.hidden], memory[:, self.config.hidden :]
        counted, hue_last = self._count(colours, motion, shared)
        read = counted
        if self.config.widths:
            seen = self._look(frames.flatten(0, 1), condition.flatten(0, 1)).unflatten(0, (rows, steps))
            read = torch.cat([seen, counted], dim=2)
        read = self.drop(read)
        told = torch.cat([read, condition], dim=2)
        remembered, last = self.memory(told, own[None].contiguous())
        out = self.out(torch.cat([self.drop(remembered), read], dim=2)).unflatten(2, (2, -1))
        return out, torch.cat([last[0], hue_last], dim=1)

    def _look(self, x: Tensor, condition: Tensor) -> Tensor:
        """What the convolutions read from frames [N, 9, H, W], [N, read]."""
        for i, (down, stage) in enumerate(zip(self.downs, self.stages, strict=True)):
            x = down(F.silu(x) if i else x)
            for block in stage.children():
                x = block(x, condition)
        return F.silu(self.read(F.silu(x).flatten(1)))

    def _count(self, colours: Tensor, motion: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What the hues' memories say, [B, T, 2 hue_hidden]: the most and the mean; and these memories, flat."""
        rows, _, _, parts, _ = colours.shape
        told = torch.cat([_hue_features(colours), motion[:, :, None].expand(-1, -1, parts, -1)], dim=3)
        told = F.silu(self.hue(told)).transpose(1, 2).flatten(0, 1)  # [B K, T, hue_hidden]
        remembered, last = self.hue_memory(told, memory.reshape(1, rows * parts, -1).contiguous())
        remembered = remembered.unflatten(0, (rows, parts))
        return torch.cat([remembered.amax(1), remembered.mean(1)], dim=2), last[0].reshape(rows, -1)


@dataclass(frozen=True)
class TrustState:
    """What trust remembers of B episodes. Nothing in it is ever changed in place."""

    first: NDArray[np.uint8]  # [B, H, W, 3], the given frames
    previous: NDArray[np.uint8]  # [B, H, W, 3], the latest frames
    first_hues: NDArray[np.float32]  # [B, K, 3], theirs
    previous_hues: NDArray[np.float32]  # [B, K, 3]
    memory: NDArray[np.float32]  # [B, config.memory]
    trust: NDArray[np.float64]  # [B], probability of being within tolerance now
    horizon: NDArray[np.float64]  # [B], of being within tolerance at each of the next steps
    lowest: NDArray[np.float64]  # [B], the least trust since the start

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, rows: Any) -> TrustState:
        """The chosen rows (a list, an index or bool array, or a slice)."""
        return TrustState(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def cat(cls, states: Sequence[TrustState]) -> TrustState:
        """The rows of all `states`, in order."""
        return cls(**{f.name: np.concatenate([getattr(s, f.name) for s in states]) for f in fields(cls)})

    def where(self, mask: NDArray[np.bool_], other: TrustState) -> TrustState:
        """This state's rows where `mask` [B], else the other's."""

        def pick(name: str) -> NDArray[Any]:
            a, b = getattr(self, name), getattr(other, name)
            return np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        return TrustState(**{f.name: pick(f.name) for f in fields(self)})


@dataclass(frozen=True)
class Calibration:
    """Slope and offset of the logits 'now' and 'at each of the next steps' (Platt scaling)."""

    now: tuple[float, float] = (1.0, 0.0)
    stays: tuple[float, float] = (1.0, 0.0)

    def __call__(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities from logits [..., 2]."""
        (a, b), (c, d) = self.now, self.stays
        return 1 / (1 + np.exp(-(logits * (a, c) + (b, d))))


class Trust:
    """A trained trust network, ready to use.

    Attributes:
        config: See `TrustConfig`.
        tolerance: What is meant by 'within tolerance' (`Tolerance.to_json`).
        world_model: Name, hash (`wfm_sim.weights.weights_hash`) and number of parameters of the model it is for.
        quality: What its training measured on the episodes that it was calibrated on, and how it came to be.
    """

    def __init__(
        self,
        network: TrustNetwork,
        calibration: Calibration | None = None,
        tolerance: dict[str, Any] | None = None,
        world_model: dict[str, Any] | None = None,
        quality: dict[str, Any] | None = None,
    ) -> None:
        self.network, self.config = network.eval(), network.config
        self.calibration = calibration or Calibration()
        self.tolerance, self.world_model, self.quality = tolerance or {}, world_model or {}, quality or {}

    def start(
        self, frames: NDArray[np.uint8], poses: NDArray[np.floating], doubts: NDArray[np.float64] | None = None
    ) -> TrustState:
        """Begin B episodes at given frames, which are within tolerance by definition: trust is 1.

        Args:
            frames: uint8 [B, H, W, 3]; another size than the network's is resized.
            poses: [B, 7], the gripper.
            doubts: float64 [B, 2], the world model's own (see `step`).
        """
        rows = len(frames)
        actions = np.zeros((rows, 7))
        actions[:, 6] = np.asarray(poses)[:, 6]
        sure = np.ones(rows)
        memory = np.zeros((rows, self.config.memory), np.float32)
        _check_frames(frames)
        seen = hues(frames, self.config.hues)
        state = TrustState(frames, frames, seen, seen, memory, sure, sure, sure)
        state = self.step(state, frames, actions, poses, doubts)
        return replace(state, trust=sure, lowest=sure)

    def step(
        self,
        state: TrustState,
        frames: NDArray[np.uint8],
        actions: NDArray[np.floating],
        poses: NDArray[np.floating],
        doubts: NDArray[np.float64] | None = None,
    ) -> TrustState:
        """After one more imagined frame.

        Args:
            state: Of B episodes; left unchanged.
            frames: uint8 [B, H, W, 3], imagined.
            actions: [B, 7], executed, that led to them.
            poses: [B, 7], the gripper now.
            doubts: float64 [B, 2], metres, of a world model that remembers objects: how far off it expects the one
                that it is least sure of to be, and what the last step added to that; None: no doubt at all. Left
                aside where `config.doubts` is not set.

        Raises:
            UserError: frames of another dtype or rank.
        """
        _check_frames(frames)
        seen = hues(frames, self.config.hues)
        colours = torch.from_numpy(np.stack([seen, state.previous_hues, state.first_hues], axis=1))
        pixels = to_network(*(torch.from_numpy(np.ascontiguousarray(f)) for f in (frames, state.previous, state.first)))
        if pixels.shape[-2:] != self.config.frame_size:
            pixels = F.interpolate(pixels, self.config.frame_size, mode="bilinear", antialias=True)
        if self.config.doubts and doubts is None:
            doubts = np.zeros((len(frames), 2))
        with torch.inference_mode():
            logits, memory = self.network(
                pixels[:, None],
                colours[:, None],
                motion(actions, poses, doubts if self.config.doubts else None)[:, None],
                torch.from_numpy(np.ascontiguousarray(state.memory)),
            )
        now, stays = self.calibration(logits[:, 0, :, self.network.level].double().numpy()).T
        return TrustState(
            state.first,
            frames,
            state.first_hues,
            seen,
            memory.numpy().copy(),
            now,
            stays,
            np.minimum(state.lowest, now),
        )


def _check_frames(frames: NDArray[Any]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UserError(f"frames must be uint8 [B, H, W, 3], not {frames.dtype} {list(frames.shape)}")


def hues(frames: NDArray[np.uint8], parts: int) -> NDArray[np.float32]:
    """How much there is of each part of the colour circle, and where: uint8 [B, H, W, 3] -> float32 [B, parts, 3].

    Each pixel counts as far as it is colourful, shared by the two parts nearest to its hue. Amounts are in pixels of a
    64 px frame; places, x and y of the centroid, in -1/2..1/2 (drawn to 0 where there is next to nothing).
    """
    red, green, blue = torch.from_numpy(np.ascontiguousarray(frames)).float().div(255).flatten(1, 2).unbind(-1)
    across, along = red - green, 1.1547 * ((red + green) / 2 - blue)
    # Below a chroma of MUTED everything is table, arm and shade.
    weight = (torch.hypot(across, along) - MUTED).clamp(min=0)
    place = torch.atan2(along, across) / (2 * torch.pi) % 1 * parts
    low = place.floor()
    which = torch.cat([low.long() % parts, (low.long() + 1) % parts], dim=1)
    share = torch.cat([(1 - place + low) * weight, (place - low) * weight], dim=1)
    height, width = frames.shape[1:3]
    y = (torch.arange(height) / height - 0.5).repeat_interleave(width).repeat(2)
    x = (torch.arange(width) / width - 0.5).repeat(2 * height)
    none = torch.zeros(len(frames), parts)
    sums = torch.stack([none.scatter_add(1, which, share * by) for by in (torch.ones_like(x), x, y)], dim=-1)
    sums *= 64 * 64 / (height * width)
    sums[..., 1:] /= sums[..., :1] + 0.5
    return sums.numpy()


def _hue_features(colours: Tensor) -> Tensor:
    """[B, T, 3, K, 3] (now, before, first; amount and place) -> [B, T, K, HUE_FEATURES] of about size one."""
    now, before, first = colours.unbind(2)
    amount, earlier, given = (torch.log(c[..., :1] + 0.5) for c in (now, before, first))
    here, there, begin = now[..., 1:], before[..., 1:], first[..., 1:]
    changes = [2 * (amount - given), 4 * (amount - earlier), 6 * (here - begin), 15 * (here - there)]
    return torch.cat([amount / 2, given / 2, *changes, 3 * here], dim=3)


def to_network(frames: Tensor, previous: Tensor, first: Tensor) -> Tensor:
    """Three times uint8 [..., H, W, 3] -> float32 [..., 9, H, W] in -1..1."""
    return torch.cat([frames, previous, first], dim=-1).movedim(-1, -3).float() / 127.5 - 1


def doubts_of(state: Any, rows: int) -> NDArray[np.float32]:
    """What a world model's state of so many rows says of its own doubts, float32 [rows, 2] in metres (see
    `Trust.step`); 0 where it says nothing."""
    doubts = getattr(state, "doubts", None)
    return np.zeros((rows, 2), np.float32) if doubts is None else np.asarray(doubts, np.float32)


def motion(
    actions: NDArray[np.floating], poses: NDArray[np.floating], doubts: NDArray[np.floating] | None = None
) -> Tensor:
    """Canonical actions and poses, [..., 7] each, and doubts in metres, [..., 2] (see `Trust.step`), where they are
    told -> float32 [..., 14] or [..., 16], scaled."""
    told = [np.asarray(actions) * ACTION_SCALE, np.asarray(poses) * POSE_SCALE]
    if doubts is not None:
        told.append(np.log(np.clip(doubts, 0, DOUBT_MOST) / DOUBT_SCALE + 0.01) / 2)
    return torch.from_numpy(np.concatenate(told, axis=-1).astype(np.float32))


def save_trust(path: str | Path, trust: Trust) -> None:
    """Write a self-describing safetensors file: float16 weights, and as metadata everything else."""
    weights = {name: value.detach().half().contiguous() for name, value in trust.network.state_dict().items()}
    about = {
        "config": asdict(trust.config),
        "calibration": asdict(trust.calibration),
        "tolerance": trust.tolerance,
        "world_model": trust.world_model,
        "quality": trust.quality,
    }
    with atomic_path(path) as partial:
        save_file(weights, partial, {"format": FORMAT, **{name: json.dumps(value) for name, value in about.items()}})


def load_trust(name_or_path: str | Path) -> Trust:
    """Trust by shipped name ('nano-tabletop-trust') or from its file.

    Raises:
        UserError: no such file, or not one that `save_trust` wrote.
    """
    path = shipped().get(str(name_or_path)) or Path(name_or_path)
    if not path.is_file():
        raise UserError(f"no trust network at {path}; train one with `wfm-sim train trust` or pass trust=None")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata.get("format") != FORMAT:
            raise UserError(
                f"{path} is not a trust network: its metadata says {metadata.get('format')!r}, not {FORMAT!r}"
            )
        network = TrustNetwork(TrustConfig(**_tuples(json.loads(metadata["config"]))))
        network.load_state_dict(weights)
        calibration = Calibration(**_tuples(json.loads(metadata["calibration"])))
        rest = {name: json.loads(metadata[name]) for name in ("tolerance", "world_model", "quality")}
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a trust network that can be read: {str(error).splitlines()[0]}") from None
    return Trust(network, calibration, **rest)


def shipped_trust() -> dict[str, dict[str, Any]]:
    """Name -> which world model it is for, of every shipped trust network; weights are not read."""
    found = {}
    for name, path in shipped().items():
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except (SafetensorError, OSError):
            continue
        if metadata.get("format") == FORMAT:
            found[name] = json.loads(metadata.get("world_model", "{}"))
    return found


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
