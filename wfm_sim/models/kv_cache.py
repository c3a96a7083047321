"""A rolling window of attention keys and values over past frames, shared by all causal networks.

A frame is a latent frame of the causal DiT (many tokens) or one token of the autoregressive transformer. States of a
world model must be immutable, cheap to keep and cheap to extend. So a cache is a *view* (start, end) of an append-only
buffer: extending the newest view writes in place, extending an older one (a fork) copies first. When the buffer is
full, the window moves to a fresh one; with twice the window as capacity that costs O(1) per step. A cache whose window
is the whole sequence never moves, so it needs no more capacity than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wfm_sim.errors import UserError


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
        new: How many of the newest frames were added together (prefill); they see each other causally.
        ragged: Whether rows may differ in `lengths` (where they cannot, no mask is looked for).
    """

    window: int
    tokens: int
    buffer: _Buffer
    start: int
    end: int
    lengths: Tensor
    position: Tensor
    new: int = 1
    ragged: bool = False
    _mask: Tensor | None = field(default=None, repr=False)
    _mask_known: bool = field(default=False, repr=False)

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
        capacity: int | None = None,
    ) -> KVCache:
        """Nothing seen yet. `capacity` is the number of slots, by default twice what a rolling window needs."""
        slots = 2 * (window + 1) if capacity is None else capacity
        data = torch.empty(layers, 2, batch, heads, slots * tokens, head_dim, device=device, dtype=dtype)
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        return cls(window, tokens, _Buffer(data, 0), 0, 0, zeros, zeros.clone())

    @property
    def slots(self) -> int:
        return self.buffer.data.shape[4] // self.tokens

    @property
    def from_nothing(self) -> bool:
        """Whether the newest frames are all there is, so that plain causal attention needs no mask."""
        return self.end - self.start == self.new

    def extended(self, frames: int = 1) -> KVCache:
        """A cache with more slots, which the next network pass writes (`write`); this one stays as it is.

        Raises:
            UserError: more than one frame at once where some would fall out of the window, or no room for them.
        """
        start = max(self.start, self.end - self.window)
        kept = self.end - start
        if frames > 1 and kept + frames > self.window + 1:
            raise UserError(f"KV cache: {frames} frames at once after {kept} do not fit a window of {self.window}")
        buffer, end = self.buffer, self.end
        if buffer.filled != end or end + frames > self.slots:  # an older view (fork), or a full buffer: move the window
            if kept + frames > self.slots:
                raise UserError(f"KV cache: full, {frames} more after {kept} exceed its capacity of {self.slots}")
            data = torch.empty_like(buffer.data)
            data[..., : kept * self.tokens, :] = buffer.data[..., start * self.tokens : end * self.tokens, :]
            buffer, start, end = _Buffer(data, kept), 0, kept
        buffer.filled = end + frames
        lengths = self.lengths.clamp(max=self.window) + frames
        ragged = self.ragged and not (self._mask_known and self._mask is None)  # old enough rows are alike again
        position = self.position + frames
        return KVCache(self.window, self.tokens, buffer, start, end + frames, lengths, position, frames, ragged)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the newest frames' keys and values [B, heads, new * tokens, head_dim]; returns all visible ones."""
        newest = slice((self.end - self.new) * self.tokens, self.end * self.tokens)
        self.buffer.data[layer, 0, :, :, newest] = keys
        self.buffer.data[layer, 1, :, :, newest] = values
        seen = self.buffer.data[layer, :, :, :, self.start * self.tokens : self.end * self.tokens]
        return seen[0], seen[1]

    def mask(self) -> Tensor | None:
        """bool [B or 1, 1, queries or 1, visible tokens], True where attention may look; None when all see all."""
        if not self._mask_known:
            self._find_mask()
        return self._mask

    def _find_mask(self) -> None:
        self._mask_known = True
        visible = self.end - self.start
        young = self.ragged and bool((self.lengths < visible).any())
        if self.new == 1 and not young:
            return
        frame = torch.arange(visible, device=self.lengths.device)
        mask = frame[None] <= frame[visible - self.new :, None]
        mask = mask.repeat_interleave(self.tokens, dim=0)[None, None] if self.new > 1 else mask[None, None]
        if young:
            mask = mask & (frame[None] >= visible - self.lengths[:, None])[:, None, None]
        self._mask = mask.repeat_interleave(self.tokens, dim=-1)

    def padded(self, frames: int) -> KVCache:
        """This cache with `frames` slots to be seen at least, the oldest of them empty and masked out."""
        count = self.end - self.start
        missing = (frames - count) * self.tokens
        if missing <= 0:
            return self
        data = torch.empty_like(self.buffer.data)
        data[..., :missing, :] = 0  # masked out, but attention multiplies it, so it must be finite
        data[..., missing : frames * self.tokens, :] = self._visible()
        buffer = _Buffer(data, frames)
        return KVCache(self.window, self.tokens, buffer, 0, frames, self.lengths, self.position, ragged=True)

    def retracted(self, frames: int) -> KVCache:
        """This cache without its newest `frames`, whose slots the next extension writes over (speculative decoding).

        Unlike the other methods it gives up something: this view and others of these frames must not be used again.
        Only the newest view of a buffer can be retracted, and only within what was added last.
        """
        assert self.buffer.filled == self.end and 0 <= frames <= self.new
        self.buffer.filled = end = self.end - frames
        lengths, position = self.lengths - frames, self.position - frames
        return KVCache(self.window, self.tokens, self.buffer, self.start, end, lengths, position, ragged=self.ragged)

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
        return KVCache(self.window, self.tokens, _Buffer(data, count), 0, count, lengths, position, ragged=self.ragged)

    @classmethod
    def cat(cls, caches: Sequence[KVCache]) -> KVCache:
        """All rows in order, windows aligned at their newest frame."""
        first = caches[0]
        visible = max(c.end - c.start for c in caches)
        shape = list(first.buffer.data.shape)
        shape[2] = sum(c.buffer.data.shape[2] for c in caches)
        shape[4] = max(c.buffer.data.shape[4] for c in caches)
        data = first.buffer.data.new_empty(shape)
        row = 0
        for c in caches:
            part, seen = data[:, :, row : row + len(c.lengths)], c._visible()
            missing = visible * c.tokens - seen.shape[4]
            part[..., :missing, :] = 0  # masked out, but attention multiplies it, so it must be finite
            part[..., missing : visible * c.tokens, :] = seen
            row += len(c.lengths)
        lengths, position = (torch.cat([getattr(c, name) for c in caches]) for name in ("lengths", "position"))
        ragged = any(c.ragged or c.end - c.start != visible for c in caches)
        return cls(first.window, first.tokens, _Buffer(data, visible), 0, visible, lengths, position, ragged=ragged)

    def exchanged(self, rows: Sequence[int], other: KVCache) -> KVCache:
        """This cache with the given rows taken from `other`, in order: what `cat` and `rows` give, copied once."""
        visible = max(self.end - self.start, other.end - other.start)
        shape = list(self.buffer.data.shape)
        shape[4] = max(shape[4], other.buffer.data.shape[4])
        data = self.buffer.data.new_empty(shape)
        origin: list[tuple[KVCache, int]] = [(self, row) for row in range(len(self.lengths))]
        lengths, position = self.lengths.clone(), self.position.clone()
        for place, row in enumerate(rows):
            origin[row] = other, place
            lengths[row], position[row] = other.lengths[place], other.position[place]
        for row, (cache, place) in enumerate(origin):
            missing = (visible - (cache.end - cache.start)) * self.tokens
            data[:, :, row, :, :missing] = 0  # masked out, but attention multiplies it, so it must be finite
            data[:, :, row, :, missing : visible * self.tokens] = cache._visible()[:, :, place]
        ragged = any(c.ragged or c.end - c.start != visible for c in (self, other))
        return KVCache(self.window, self.tokens, _Buffer(data, visible), 0, visible, lengths, position, ragged=ragged)
