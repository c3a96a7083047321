"""Tokenizers piece by piece: what a causal network needs of the past, as a value to be kept, forked and regrouped.

A causal convolution needs the last frames of its input, attention over time the keys and values of every earlier
frame. `StreamState` holds these for all layers, in the order in which the network runs them; a step reads one state
and makes a new one, and never changes the old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class VideoTokenizer(Protocol):
    """What the Cosmos tokenizers and the WAN autoencoder have in common. Pixels are float in [-1, 1]."""

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent along height and width."""

    @property
    def temporal_compression(self) -> int:
        """Frames per latent frame after the first (1 for an image tokenizer)."""

    @property
    def latent_channels(self) -> int: ...

    def encode_video(self, x: Tensor) -> Tensor:
        """[B, 3, 1 + k * t, H, W] -> [B, C, 1 + k, H / s, W / s]."""

    def decode_video(self, z: Tensor) -> Tensor:
        """[B, C, 1 + k, h, w] -> [B, 3, 1 + k * t, H, W]."""

    def encode_stream(
        self, x: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """The next piece of a clip. With no state the first one, [B, 3, 1 + k * t, H, W]; after that k * t frames."""

    def decode_stream(
        self, z: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """The next latent frames [B, C, k, h, w] -> t * k frames, or 1 + t * (k - 1) with no state (the first ones)."""


@dataclass(frozen=True)
class AttentionPast:
    """Keys and values of earlier frames of one layer.

    Attributes:
        keys, values: [B, positions, frames, channels], newest last.
        valid: bool [B, frames]; a row that began later than its neighbours has fewer.
    """

    keys: Tensor
    values: Tensor
    valid: Tensor

    def rows(self, index: Any) -> AttentionPast:
        return AttentionPast(self.keys[index], self.values[index], self.valid[index])

    @classmethod
    def cat(cls, parts: Sequence[AttentionPast]) -> AttentionPast:
        longest = max(p.valid.shape[1] for p in parts)

        def aligned(t: Tensor, dim: int) -> Tensor:
            shape = list(t.shape)
            shape[dim] = longest - shape[dim]
            return torch.cat((t.new_zeros(shape), t), dim=dim)  # zeros are masked out

        return cls(
            torch.cat([aligned(p.keys, 2) for p in parts]),
            torch.cat([aligned(p.values, 2) for p in parts]),
            torch.cat([aligned(p.valid, 1) for p in parts]),
        )

    def clone(self) -> AttentionPast:
        return AttentionPast(self.keys.clone(), self.values.clone(), self.valid.clone())


Entry = Tensor | AttentionPast


@dataclass(frozen=True)
class StreamState:
    """The past of B clips: one entry a layer, rows first.

    `window` bounds the earlier frames that attention over time looks at (counted at its own layer). None is exact, as
    published: the memory and the cost of those layers then grow with the number of frames seen. All else is constant.
    """

    entries: tuple[Entry, ...]
    batch: int
    window: int | None = None

    def __len__(self) -> int:
        return self.batch

    def __getitem__(self, index: Any) -> StreamState:
        """The chosen rows: a slice, a list or a tensor of indices (repeat a row to fork it)."""
        chosen = torch.arange(self.batch)[index].reshape(-1)
        rows = tuple(e.rows(chosen) if isinstance(e, AttentionPast) else e[chosen] for e in self.entries)
        return StreamState(rows, len(chosen), self.window)

    @classmethod
    def cat(cls, states: Sequence[StreamState]) -> StreamState:
        """All rows in order; they may be of different age."""
        entries: list[Entry] = []
        for parts in zip(*(s.entries for s in states), strict=True):
            if isinstance(parts[0], AttentionPast):
                entries.append(AttentionPast.cat(parts))
            else:
                entries.append(torch.cat(parts))
        return cls(tuple(entries), sum(s.batch for s in states), states[0].window)

    def clone(self) -> StreamState:
        return StreamState(tuple(e.clone() for e in self.entries), self.batch, self.window)

    @property
    def bytes(self) -> int:
        """Memory held."""
        tensors = [
            t for e in self.entries for t in ((e.keys, e.values, e.valid) if isinstance(e, AttentionPast) else (e,))
        ]
        return sum(t.numel() * t.element_size() for t in tensors)


class Tape:
    """One step's reader and writer: layers take the entry that the last step left them and keep one for the next."""

    def __init__(self, state: StreamState | None, window: int | None) -> None:
        self.first = state is None
        self.window = window if state is None else state.window
        self._past = iter(() if state is None else state.entries)
        self._kept: list[Entry] = []

    def frames(self, x: Tensor, count: int) -> Tensor:
        """x: [B, T, ...] preceded by the `count` frames before it; at the start of a clip its first frame, repeated."""
        past = x[:, :1].expand(-1, count, *x.shape[2:]) if self.first else next(self._past)
        assert isinstance(past, Tensor)
        whole = torch.cat((past, x), dim=1)
        self._kept.append(whole[:, -count:].clone())  # a view would hold on to the whole piece
        return whole

    def attention(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values [B, positions, T, C] after all earlier ones, and the mask: bool [B, 1, T, past + T]."""
        t = keys.shape[2]
        valid = torch.ones(keys.shape[0], t, dtype=torch.bool, device=keys.device)
        causal = torch.ones(t, t, dtype=torch.bool, device=keys.device).tril().expand(keys.shape[0], t, t)
        if self.first:
            mask = causal
        else:
            past = next(self._past)
            assert isinstance(past, AttentionPast)
            keys, values = torch.cat((past.keys, keys), dim=2), torch.cat((past.values, values), dim=2)
            mask = torch.cat((past.valid[:, None].expand(-1, t, -1), causal), dim=2)
            valid = torch.cat((past.valid, valid), dim=1)
        if self.window is not None:
            earlier = keys.shape[2] - t - torch.arange(keys.shape[2], device=keys.device)  # of the piece's first frame
            mask = mask & (earlier[None] + torch.arange(t, device=keys.device)[:, None] <= self.window)
        keep = slice(None) if self.window is None else slice(max(keys.shape[2] - self.window, 0), None)
        self._kept.append(AttentionPast(keys[:, :, keep], values[:, :, keep], valid[:, keep]))
        return keys, values, mask[:, None]

    def state(self, batch: int) -> StreamState:
        """What the layers kept."""
        return StreamState(tuple(self._kept), batch, self.window)
