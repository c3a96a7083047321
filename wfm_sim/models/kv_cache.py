"""A rolling window of attention keys and values over past latent frames.

States of a world model must be immutable, cheap to keep and cheap to extend. So a cache is a *view* (start, end) of an
append-only buffer: extending the newest view writes in place, extending an older one (a fork) copies first. When the
buffer is full, the window moves to a fresh one; with twice the window as capacity that costs O(1) per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class _Buffer:
    """Storage shared by the views of one line of descent.

    data: [layers, 2 (keys, values), B, heads, slots * tokens, head_dim]; `filled` counts the slots written.
    """

    data: Tensor
    filled: int


@dataclass
class KVCache:
    """Keys and values of the last `window` frames of B rollouts.

    Attributes:
        window: Past frames that the next one may attend to.
        tokens: Tokens per frame.
        start, end: The visible slots of the buffer.
        lengths: int64 [B], how many of them are valid per row (rows that began later have fewer), newest last.
        position: int64 [B], index of the next frame of each row since its start (for rotary embedding).
    """

    window: int
    tokens: int
    buffer: _Buffer
    start: int
    end: int
    lengths: Tensor
    position: Tensor
    _mask: Tensor | None = field(default=None, repr=False)

    @classmethod
    def empty(
        cls,
        *,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        window: int,
        tokens: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> KVCache:
        data = torch.empty(layers, 2, batch, heads, 2 * (window + 1) * tokens, head_dim, device=device, dtype=dtype)
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        return cls(window, tokens, _Buffer(data, 0), 0, 0, zeros, zeros.clone())

    @property
    def slots(self) -> int:
        return self.buffer.data.shape[4] // self.tokens

    def extended(self) -> KVCache:
        """A cache with one more slot, which the next network pass writes (`write`); this one stays as it is."""
        start = max(self.start, self.end - self.window)
        buffer, end = self.buffer, self.end
        if buffer.filled != end or end == self.slots:  # an older view (fork), or a full buffer: move the window
            data = torch.empty_like(buffer.data)
            kept = end - start
            data[..., : kept * self.tokens, :] = buffer.data[..., start * self.tokens : end * self.tokens, :]
            buffer, start, end = _Buffer(data, kept), 0, kept
        buffer.filled = end + 1
        lengths = (self.lengths.clamp(max=self.window)) + 1
        return KVCache(self.window, self.tokens, buffer, start, end + 1, lengths, self.position + 1)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the newest frame's keys and values [B, heads, tokens, head_dim]; returns all visible ones."""
        last = slice((self.end - 1) * self.tokens, self.end * self.tokens)
        self.buffer.data[layer, 0, :, :, last] = keys
        self.buffer.data[layer, 1, :, :, last] = values
        seen = self.buffer.data[layer, :, :, :, self.start * self.tokens : self.end * self.tokens]
        return seen[0], seen[1]

    def mask(self) -> Tensor | None:
        """bool [B, 1, 1, visible tokens], True where attention may look; None when every row sees everything."""
        visible = self.end - self.start
        if self._mask is None and bool((self.lengths < visible).any()):
            frame = torch.arange(visible, device=self.lengths.device)
            valid = frame[None] >= visible - self.lengths[:, None]
            self._mask = valid.repeat_interleave(self.tokens, dim=1)[:, None, None]
        return self._mask

    def _visible(self) -> Tensor:
        """The keys and values that can be seen, as a view of the buffer."""
        return self.buffer.data[..., self.start * self.tokens : self.end * self.tokens, :]

    def rows(self, index: Any) -> KVCache:
        """The chosen rows in storage of their own (what cannot be seen is not copied)."""
        seen = self._visible()[:, :, index]
        shape = list(self.buffer.data.shape)
        shape[2] = seen.shape[2]
        data = seen.new_empty(shape)
        data[..., : seen.shape[4], :] = seen
        count = self.end - self.start
        lengths, position = self.lengths[index].clone(), self.position[index].clone()
        return KVCache(self.window, self.tokens, _Buffer(data, count), 0, count, lengths, position)

    @classmethod
    def cat(cls, caches: Sequence[KVCache]) -> KVCache:
        """All rows in order, windows aligned at their newest frame."""
        first = caches[0]
        visible = max(c.end - c.start for c in caches)
        shape = list(first.buffer.data.shape)
        shape[2] = sum(c.buffer.data.shape[2] for c in caches)
        data = first.buffer.data.new_empty(shape)
        row = 0
        for c in caches:
            part, seen = data[:, :, row : row + len(c.lengths)], c._visible()
            missing = visible * c.tokens - seen.shape[4]
            part[..., :missing, :] = 0  # masked out, but attention multiplies it, so it must be finite
            part[..., missing : visible * c.tokens, :] = seen
            row += len(c.lengths)
        lengths, position = (torch.cat([getattr(c, name) for c in caches]) for name in ("lengths", "position"))
        return cls(first.window, first.tokens, _Buffer(data, visible), 0, visible, lengths, position)
