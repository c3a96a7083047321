"""Parts of the autoregressive transformer: where a token is, grouped-query attention, SwiGLU.

arXiv 2501.03575 section 5.2: 3-D rotary embedding over the latent frames' (t, h, w), YaRN to lengthen it (arXiv
2309.00071), 3-D sin-cos absolute embedding, RMS-normalised queries and keys.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.errors import UserError

QK_NORM_EPS = 1e-5  # the published attention keeps it, whatever `norm_eps` says


@dataclass(frozen=True)
class Yarn:
    """How a rotary embedding was stretched after pre-training: slow frequencies are divided by `scale`.

    Attributes:
        original: Length before: (frames, rows) for video, rows also serving for columns; (tokens,) for text.
        scale: Lengthening factor.
        beta_fast, beta_slow: Turns within the original length above which a frequency is kept, below which it is fully
            scaled.
    """

    original: tuple[int, ...]
    scale: float
    beta_fast: float
    beta_slow: float


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and flags. Defaults are Predict1-4B.

    Attributes:
        head_dim: Independent of dim / heads (12B: 128 with dim 5120 and 32 heads).
        ffn_hidden: Width of the SwiGLU.
        vocab: Tokens that can be predicted.
        embeddings: Tokens that can be given, if more (those with <bov>: the first id after the vocabulary).
        latent_shape: Latent frames, rows and columns of the video that positions run over; None for text (1-D).
        bov: The sequence begins with <bov>, whose rotary angle and absolute embedding are zero.
        max_len: Longest sequence, <bov> and padding included.
        rope_interleaved: Pairs (0, 1), (2, 3), ... are rotated, as in Mistral's own weights, not (0, d / 2), ...
        context_dim: Width of the text context of the cross-attention, None for no cross-attention.
        cross_every: Every which layer attends to it, beginning with the first.
        absolute: A 3-D sin-cos embedding is added before every layer.
    """

    dim: int = 4096
    layers: int = 16
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    ffn_hidden: int = 14336
    vocab: int = 64000
    embeddings: int | None = None
    norm_eps: float = 1e-5
    qk_norm: bool = True
    rope_theta: float = 500_000.0
    rope_interleaved: bool = False
    yarn: Yarn | None = None
    latent_shape: tuple[int, int, int] | None = (5, 40, 64)
    bov: bool = False
    max_len: int = 12_800
    context_dim: int | None = None
    cross_every: int = 1
    absolute: bool = False

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise UserError(f"transformer: {self.heads} query heads cannot share {self.kv_heads} key heads evenly")
        if self.yarn and self.rope_interleaved:
            raise UserError("transformer: YaRN with interleaved rotary embedding is not supported (no published model)")
        if self.absolute and self.latent_shape is None:
            raise UserError("transformer: the absolute embedding is 3-D, so it needs a latent_shape")

    @property
    def video_tokens(self) -> int:
        """Tokens of one whole video window."""
        if self.latent_shape is None:
            raise UserError("transformer: this is a text model, it has no video window")
        return math.prod(self.latent_shape)

    @property
    def positions(self) -> int:
        """Tokens that have a position; what comes after is padding."""
        return self.max_len if self.latent_shape is None else self.video_tokens + self.bov

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> TransformerConfig:
        """Inverse of `to_dict` after a trip through JSON (lists become tuples again)."""

        def tuples(part: dict[str, Any]) -> dict[str, Any]:
            return {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}

        yarn = d.get("yarn")
        return cls(**{**tuples(d), "yarn": Yarn(**tuples(yarn)) if yarn else None})


# ------------------------------------------------------------------------------------------------------- positions


def axis_split(width: int) -> tuple[int, int, int]:
    """How many of `width` channels tell frame, row and column: the spatial ones get a third each, rounded down to even.

    Published heads: 128 -> 44, 42, 42.
    """
    spatial = width // 6 * 2
    return width - 2 * spatial, spatial, spatial


def _frequencies(width: int, theta: float, yarn: Yarn | None, original: int, device: torch.device) -> Tensor:
    """float32 [width / 2] rotary frequencies of one axis, slow ones scaled down where YaRN says so."""
    freqs = 1.0 / theta ** (torch.arange(0, width, 2, device=device).float() / width)
    if yarn is None:
        return freqs
    fast, slow = (2 * math.pi * beta / original for beta in (yarn.beta_fast, yarn.beta_slow))
    keep = ((freqs - slow) / (fast - slow)).clamp(0, 1)
    return freqs * ((1 - keep) / yarn.scale + keep)


def _coordinates(cfg: TransformerConfig, position: Tensor) -> tuple[list[Tensor], Tensor]:
    """Index along each axis of each position (one axis for text), and bool: it has one (not <bov>, not padding)."""
    index = position - int(cfg.bov and cfg.latent_shape is not None)
    placed = (index >= 0) & (position < cfg.positions)
    index = index.clamp(min=0)
    if cfg.latent_shape is None:
        return [index], placed
    t, h, w = cfg.latent_shape
    return [(index // (h * w)).clamp(max=t - 1), index // w % h, index % w], placed


def rotary_angles(cfg: TransformerConfig, position: Tensor) -> Tensor:
    """int64 [...] positions in the sequence -> float32 [..., head_dim] angles, zero for <bov> and padding."""
    axes, placed = _coordinates(cfg, position)
    widths = (cfg.head_dim,) if cfg.latent_shape is None else axis_split(cfg.head_dim)
    original = cfg.yarn.original if cfg.yarn else (0,)
    half = []
    for axis, (index, width) in enumerate(zip(axes, widths, strict=True)):
        before = original[min(axis, len(original) - 1, 1)]  # columns are stretched as rows are
        half.append(index[..., None].float() * _frequencies(width, cfg.rope_theta, cfg.yarn, before, position.device))
    angles = torch.cat(half, dim=-1) * placed[..., None]
    return angles.repeat_interleave(2, dim=-1) if cfg.rope_interleaved else torch.cat((angles, angles), dim=-1)


def absolute_embedding(cfg: TransformerConfig, position: Tensor) -> Tensor:
    """int64 [...] positions -> bfloat16 [..., dim] sin-cos embedding, zero for <bov> and padding.

    As published, it is rounded to bfloat16 whatever the network computes in.
    """
    axes, placed = _coordinates(cfg, position)
    parts = []
    for index, width in zip(axes, axis_split(cfg.dim), strict=True):
        steps = torch.arange(width // 2, dtype=torch.float64, device=position.device)
        angle = index[..., None].double() * 10_000.0 ** -(steps / (width / 2))
        parts += [angle.sin(), angle.cos()]
    return (torch.cat(parts, dim=-1) * placed[..., None]).to(torch.bfloat16)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Rotary embedding. x: [B, heads, S, d]; cos, sin: [S, d] or [B, 1, S, d]."""
    if interleaved:
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((-b, a), dim=-1).flatten(-2)
    else:
        a, b = x.chunk(2, dim=-1)
        turned = torch.cat((-b, a), dim=-1)
    return x * cos + turned * sin


# ---------------------------------------------------------------------------------------------------------- layers


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Attention in which several query heads share a key head.

    q: [B, heads, S, d]; k, v: [B, kv_heads, L, d]; mask: bool, broadcast to [B, 1, S, L]. Returns [B, S, heads * d].
    """
    groups = q.shape[1] // k.shape[1]
    if q.shape[2] == 1 and groups > 1:  # one token: the heads of a group are as good as rows, nothing is repeated
        out = F.scaled_dot_product_attention(q.unflatten(1, (-1, groups)).squeeze(3), k, v, attn_mask=mask)
        return out.flatten(1, 3)[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=groups > 1)
    return out.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Projections of grouped-query attention, with the published names; self- or cross-attention by who calls."""

    def __init__(self, cfg: TransformerConfig, context_dim: int) -> None:
        super().__init__()
        self.wq = nn.Linear(cfg.dim, cfg.heads * cfg.head_dim, bias=False)
        self.wk = nn.Linear(context_dim, cfg.kv_heads * cfg.head_dim, bias=False)
        self.wv = nn.Linear(context_dim, cfg.kv_heads * cfg.head_dim, bias=False)
        self.wo = nn.Linear(cfg.heads * cfg.head_dim, cfg.dim, bias=False)
        self.head_dim = cfg.head_dim
        if cfg.qk_norm:
            self.q_norm = nn.RMSNorm(cfg.head_dim, eps=QK_NORM_EPS)
            self.k_norm = nn.RMSNorm(cfg.head_dim, eps=QK_NORM_EPS)
        self.qk_norm = cfg.qk_norm

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """[B, S, dim] -> [B, heads, S, head_dim]."""
        q = self._heads(self.wq(x))
        return self.q_norm(q) if self.qk_norm else q

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """[B, L, context_dim] -> twice [B, kv_heads, L, head_dim]."""
        k, v = self._heads(self.wk(context)), self._heads(self.wv(context))
        return (self.k_norm(k) if self.qk_norm else k), v


class SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))
