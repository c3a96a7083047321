"""The Cosmos autoregressive transformer: video tokens (Predict1 4B, 5B, 12B, 13B) or text (the prompt upsampler).

arXiv 2501.03575 section 5.2. A Llama-style decoder with the published parameter names; what a variant has is a flag of
its `TransformerConfig`. It runs over a whole sequence (`forward`), or in pieces (`start`, `advance`) with the KV cache
it shares with the causal DiT.

Shapes: B rows, S tokens, V vocabulary, K context tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive_layers import (
    Attention,
    SwiGLU,
    TransformerConfig,
    absolute_embedding,
    grouped_attention,
    rotary_angles,
    rotate,
)
from wfm_sim.models.kv_cache import KVCache


@dataclass
class SequenceState:
    """B sequences as the network has read them so far; immutable.

    Attributes:
        cache: Keys and values of every token read.
        context: Keys and values of the text, [cross-attention layers, 2, B, kv_heads, K, head_dim], or None.
    """

    cache: KVCache
    context: Tensor | None

    def __len__(self) -> int:
        return len(self.cache.position)

    def __getitem__(self, rows: Any) -> SequenceState:
        if not isinstance(rows, slice):
            index = np.asarray(rows)
            rows = torch.as_tensor(np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64).reshape(-1))
        return SequenceState(self.cache.rows(rows), None if self.context is None else self.context[:, :, rows].clone())

    def clone(self) -> SequenceState:
        return self[slice(None)]

    @classmethod
    def cat(cls, states: Sequence[SequenceState]) -> SequenceState:
        """All rows in order; they may have read different numbers of tokens."""
        contexts = [s.context for s in states if s.context is not None]
        return cls(KVCache.cat([s.cache for s in states]), torch.cat(contexts, dim=2) if contexts else None)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention (where configured) and SwiGLU, each behind its own RMSNorm."""

    def __init__(self, cfg: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.interleaved = cfg.rope_interleaved
        self.attention = Attention(cfg, cfg.dim)
        self.attention_norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)
        self.has_cross = cfg.context_dim is not None and layer % cfg.cross_every == 0
        if self.has_cross:
            assert cfg.context_dim is not None
            self.cross_attention = Attention(cfg, cfg.context_dim)
            self.cross_attention_norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)
        self.feed_forward = SwiGLU(cfg.dim, cfg.ffn_hidden)
        self.ffn_norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], context: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """x: [B, S, dim]; context: keys and values [2, B, kv_heads, K, head_dim] of the text for this layer."""
        h = self.attention_norm(x)
        q = rotate(self.attention.queries(h), *rope, self.interleaved)
        k, v = self.attention.keys_values(h)
        k = rotate(k, *rope, self.interleaved)
        mask, causal = None, True
        if cache is not None:
            k, v = cache.write(layer, k, v)
            causal = cache.from_nothing
            mask = None if causal else cache.mask()
        x = x + self.attention.wo(grouped_attention(q, k, v, mask, causal))
        if self.has_cross:
            assert context is not None
            q = self.cross_attention.queries(self.cross_attention_norm(x))
            x = x + self.cross_attention.wo(grouped_attention(q, context[0], context[1]))
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class CausalTransformer(nn.Module):
    """The network: tokens (and a text context) in, logits of the next token out."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.tok_embeddings = nn.Embedding(cfg.embeddings or cfg.vocab, cfg.dim)
        self.layers = nn.ModuleList(TransformerBlock(cfg, i) for i in range(cfg.layers))
        self.norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)
        self.output = nn.Linear(cfg.dim, cfg.vocab, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.output.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """One pass over whole sequences, for training.

        Args:
            tokens: int64 [B, S], beginning with <bov> where the model has it.
            context: [B, K, context_dim] text embedding, for a model with cross-attention.

        Returns:
            [B, S, V] logits; those at s are of token s + 1.

        Raises:
            UserError: more tokens than the model has positions for, or no context where one is needed.
        """
        self._check_length(tokens.shape[1])
        logits: Tensor = self.output(self._layers(tokens, self.read_context(context, tokens.shape[0]), None))
        return logits

    # ---------------------------------------------------------------------------------------------- piece by piece

    def start(self, batch: int, context: Tensor | None = None, max_len: int | None = None) -> SequenceState:
        """Sequences of which nothing has been read yet.

        Args:
            batch: Rows.
            context: As for `forward`; its keys and values are computed here, once.
            max_len: Tokens that there will be room for; by default as many as the model can take.

        Raises:
            UserError: as `forward`.
        """
        length = self.cfg.max_len if max_len is None else max_len
        self._check_length(length)
        cache = KVCache.empty(
            layers=self.cfg.layers,
            batch=batch,
            heads=self.cfg.kv_heads,
            head_dim=self.cfg.head_dim,
            window=length,
            tokens=1,
            device=self.device,
            dtype=self.dtype,
            capacity=length,
        )
        return SequenceState(cache, self.read_context(context, batch))

    def advance(self, state: SequenceState, tokens: Tensor) -> tuple[SequenceState, Tensor]:
        """Read further tokens, many (prefill) or one at a time.

        Args:
            state: From `start` or an earlier call; it stays as it is and can be advanced again.
            tokens: int64 [B, n].

        Returns:
            The new state and the hidden states [B, n, dim]; `output(hidden[:, -1])` are the logits of the next token.

        Raises:
            UserError: there is no room for so many tokens.
        """
        state = SequenceState(state.cache.extended(tokens.shape[1]), state.context)
        return state, self._layers(tokens, state.context, state.cache)

    def read_context(self, context: Tensor | None, batch: int) -> Tensor | None:
        """Keys and values of the text, [cross-attention layers, 2, B, kv_heads, K, head_dim].

        Raises:
            UserError: a context of another shape, or none where the model needs one, or one where it takes none.
        """
        width = self.cfg.context_dim
        if context is None and width is None:
            return None
        shape = () if context is None else tuple(context.shape)
        if context is None or width is None or len(shape) != 3 or (shape[0], shape[2]) != (batch, width):
            expected = "none" if width is None else f"[{batch}, tokens, {width}]"
            raise UserError(f"text context: expected {expected}, got {shape or 'none'}")
        context = context.to(self.device, self.dtype)
        attentions: list[Any] = [layer.cross_attention for layer in self.layers if layer.has_cross]
        return torch.stack([torch.stack(attention.keys_values(context)) for attention in attentions])

    def _check_length(self, tokens: int) -> None:
        if tokens > self.cfg.max_len:
            raise UserError(f"transformer: at most {self.cfg.max_len} tokens, got {tokens}")

    def _layers(self, tokens: Tensor, context: Tensor | None, cache: KVCache | None) -> Tensor:
        """tokens: int64 [B, n] -> [B, n, dim] after the last norm."""
        x = self.tok_embeddings(tokens)
        position = torch.arange(tokens.shape[1], device=tokens.device)
        if cache is not None:  # rows may be of different age
            position = position + (cache.position - tokens.shape[1])[:, None]
        angles = rotary_angles(self.cfg, position)
        angles = angles if cache is None else angles[:, None]
        rope = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        absolute = absolute_embedding(self.cfg, position).to(x.dtype) if self.cfg.absolute else None
        cross = 0
        for i, layer in enumerate(self.layers):
            if absolute is not None:
                x = x + absolute
            text = None
            if context is not None and layer.has_cross:
                text, cross = context[cross], cross + 1
            x = layer(x, rope, text, cache, i)
        out: Tensor = self.norm(x)
        return out
