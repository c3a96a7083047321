"""Layers of the diffusion transformer: attention, MLP, AdaLN with a low-rank modulation, and the block made of them.

arXiv 2501.03575 section 5.1. Shapes: B rows, T latent frames, N tokens per frame, D model channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.positions import Rope, rotate

# An attention mask: whole, or in strips (see `strip_attention`).
Mask = Tensor | tuple[Tensor, ...] | None
# Keys and values of one attention, [B, heads, K, head_dim] each.
KeysValues = tuple[Tensor, Tensor]

UNSPLIT = 256  # terms of a sum that the CPU's bfloat16 kernels never split
FEW = 32  # rows below which oneDNN's set-up costs more than it saves


def product(x: Tensor, layer: nn.Linear, gelu: bool = False) -> Tensor:
    """The layer, or GELU of the layer, by the fastest kernel there is.

    That is oneDNN's for float32 on CPUs, where F.linear takes MKL's: as fast on Intel, 10 to 15 % faster on AMD.
    """
    here = x.device.type == "cpu" and not torch.is_grad_enabled()
    few = x.numel() < FEW * x.shape[-1]
    if not here or x.dtype != torch.float32 or few or not torch.backends.mkldnn.is_available():
        out: Tensor = layer(x)
        if gelu:
            # overwritten in place: on a CPU, fresh memory costs more than GELU
            out = torch.ops.aten.gelu_(out) if here else F.gelu(out)
        return out
    after = ("gelu", "none") if gelu else ("none", "")
    fast: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, after[0], [], after[1])
    return fast


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
        # a third of the time there, where rms_norm is a chain of passes over memory
        squares = torch.einsum("...d,...d->...", x, x)[..., None]
        return (x * squares.mul_(1 / x.shape[-1]).add_(self.eps).rsqrt_()).mul_(self.weight)


def strip_attention(q: Tensor, k: Tensor, v: Tensor, strips: tuple[Tensor, ...]) -> Tensor:
    """Attention under a causal mask cut into strips: strip i is [queries, keys up to their end], 0 or -1e9.

    What a later strip would mask is not computed. For training on CPUs, where the backward pass of the fused kernel
    takes twice as long as these products.
    """
    out, first = [], 0
    for strip in strips:
        rows, seen = strip.shape
        score = q[:, :, first : first + rows] @ k[:, :, :seen].transpose(-1, -2) * q.shape[-1] ** -0.5 + strip
        out.append(score.softmax(dim=-1).to(v.dtype) @ v[:, :, :seen])
        first += rows
    return torch.cat(out, dim=2)


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys; rotary embedding where given."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(context_dim, dim, bias=False)
        self.v_proj = nn.Linear(context_dim, dim, bias=False)
        self.q_norm = RMSNorm(dim // heads)
        self.k_norm = RMSNorm(dim // heads)
        self.output_proj = nn.Linear(dim, dim, bias=False)

    def _split(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """[B, S, D] -> [B, heads, S, head_dim]; normalised while a head's numbers still lie together."""
        x = x.unflatten(-1, (self.heads, -1))
        return (x if norm is None else norm(x)).transpose(1, 2)

    def keys_values(self, context: Tensor, rope: Rope | None = None) -> KeysValues:
        """Of a context [B, K, Dc]; reusable as long as the context stays (a text, over all denoising steps)."""
        k = self._split(product(context, self.k_proj), self.k_norm)
        return k if rope is None else rotate(k, *rope), self._split(product(context, self.v_proj))

    def forward(self, x: Tensor, seen: KeysValues, rope: Rope | None = None, mask: Mask = None) -> Tensor:
        """x: [B, S, D] looks at `seen` -> [B, S, D]."""
        q = self._split(product(x, self.q_proj), self.q_norm)
        if rope is not None:
            q = rotate(q, *rope)
        if isinstance(mask, tuple):
            out = strip_attention(q, *seen, mask)
        else:
            out = F.scaled_dot_product_attention(q, *seen, attn_mask=mask)
        return product(out.transpose(1, 2).flatten(2), self.output_proj)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """The layer; in bfloat16 on a CPU summed in an order that does not depend on the number of rows.

    There kernels split long sums by the shape of the whole batch, so that a rollout would depend, in its last bit and
    then in more, on how many others run beside it.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled():
        return product(x, layer)
    parts = zip(x.split(UNSPLIT, dim=-1), layer.weight.split(UNSPLIT, dim=-1), strict=True)
    total = torch.zeros(()) if layer.bias is None else layer.bias.float()
    for a, w in parts:
        total = total + F.linear(a, w)
    return total.to(x.dtype)


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(dim, hidden, bias=False)
        self.layer2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(product(x, self.layer1, gelu=True), self.layer2)


class TimestepProjection(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim, dim, bias=False)
        self.linear_2 = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


def modulation(dim: int, lora: int, chunks: int) -> nn.Sequential:
    """SiLU, then a Linear of low rank: embedding -> `chunks` vectors of D."""
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, lora, bias=False), nn.Linear(lora, chunks * dim, bias=False))


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm without affine, then scale and shift. x: [B, T, N, D]; scale, shift: [B, T, D], or T = 1."""
    x = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    if torch.is_grad_enabled():
        return x * (1 + scale[:, :, None]) + shift[:, :, None]
    return torch.addcmul(shift[:, :, None], x, 1 + scale[:, :, None])


def residual(x: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """x + gate * change, in place where no gradient is wanted. x, change: [B, T, N, D]; gate: [B, T, D], or T = 1."""
    if torch.is_grad_enabled():
        return x + gate[:, :, None] * change
    return x.addcmul_(gate[:, :, None], change)


@dataclass
class Neighbours:
    """slots: int64 [B, V, M], where in the clip a view's neighbours are; valid: bool [B, V, M], False on fillers."""

    slots: Tensor
    valid: Tensor


class CrossViewAttention(Attention):
    """Every view attends to its neighbours' frames of the same time; one without neighbours gets zeros."""

    def of_views(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """x: [B, V * t, N, D], views one after the other -> the same shape."""
        b, views, m = neighbours.slots.shape
        n, t = x.shape[2], x.shape[1] // views
        rows = torch.arange(b, device=x.device)[:, None, None]
        k, v = self.keys_values(x.flatten(0, 1))  # [B * V * t, heads, N, d]

        def gather(a: Tensor) -> Tensor:
            """[B * V * t, heads, N, d] -> [B * V * t, heads, M * N, d]."""
            a = a.unflatten(0, (b, views, -1))[rows, neighbours.slots]  # [B, V, M, t, heads, N, d]
            return a.permute(0, 1, 3, 4, 2, 5, 6).flatten(4, 5).flatten(0, 2)

        mask = neighbours.valid.repeat_interleave(n, dim=2)[:, :, None].expand(-1, -1, t, -1)
        out = self(x.flatten(0, 1), (gather(k), gather(v)), mask=mask.reshape(b * views * t, 1, 1, m * n))
        return out.view(x.shape)


@dataclass
class Pass:
    """What all blocks share in one pass of the network.

    Attributes:
        emb, lora: [B, T, D] and [B, T, 3D] (or T = 1: the same for all frames), time and what is added to it.
        rope: Of the tokens that see each other in self-attention.
        mask: Of self-attention.
        cache: Past frames' keys and values, or None.
        views: Views that follow each other along T.
        positions: [T, N, D] absolute positions added at the input of every block, or None.
        camera: [B, T, N, camera_channels], or None.
        view_lora: Per sub-block (self-attention, cross-attention, MLP) [B, T, 3D] from the view embedding, or None.
        apart: Views see only themselves in self-attention.
        neighbours: Where the neighbours are that each view attends to besides, or None.
    """

    emb: Tensor
    lora: Tensor
    rope: Rope | None = None
    mask: Mask = None
    cache: KVCache | None = None
    views: int = 1
    positions: Tensor | None = None
    camera: Tensor | None = None
    view_lora: tuple[Tensor, ...] | None = None
    apart: bool = False
    neighbours: Neighbours | None = None

    def modulation(self, layers: nn.Sequential, sub_block: int) -> tuple[Tensor, ...]:
        """Shift, scale and gate of a sub-block, [B, T, D] each."""
        lora = self.lora if self.view_lora is None else self.lora + self.view_lora[sub_block]
        return (layers(self.emb) + lora).chunk(3, dim=-1)


class Block(nn.Module):
    """Self-attention, cross-attention (where configured) and MLP, each behind AdaLN with a low-rank modulation."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        d, lora = cfg.model_channels, cfg.adaln_lora_dim
        self.self_attn = Attention(d, d, cfg.num_heads)
        self.adaln_modulation_self_attn = modulation(d, lora, 3)
        self.cam_encoder = nn.Linear(cfg.camera_channels, d, bias=False) if cfg.camera_channels else None
        self.cross_view_attn: CrossViewAttention | None = None
        if cfg.view_neighbours:
            self.layer_norm_cross_view_attn = nn.LayerNorm(d, eps=1e-6)
            self.cross_view_attn = CrossViewAttention(d, d, cfg.num_heads)
        self.cross_attn = Attention(d, cfg.context_channels, cfg.num_heads) if cfg.cross_attention else None
        if cfg.cross_attention:
            self.adaln_modulation_cross_attn = modulation(d, lora, 3)
        self.mlp = FeedForward(d, int(d * cfg.mlp_ratio))
        self.adaln_modulation_mlp = modulation(d, lora, 3)

    def forward(self, x: Tensor, shared: Pass, text: KeysValues | None, layer: int) -> Tensor:
        """x: [B, T, N, D] -> the same; text: keys and values of the context, one row per (row, view)."""
        shape = x.shape
        if shared.positions is not None:
            x = x + shared.positions
        shift, scale, gate = shared.modulation(self.adaln_modulation_self_attn, 0)
        h = modulate(x, scale, shift)
        if self.cam_encoder is not None:
            h = h + self.cam_encoder(shared.camera)
        x = residual(x, gate, self._attend_to_self(h, shared, layer))
        if self.cross_view_attn is not None:
            assert shared.neighbours is not None
            x = x + self.cross_view_attn.of_views(self.layer_norm_cross_view_attn(x), shared.neighbours)
        if self.cross_attn is not None:
            assert text is not None
            shift, scale, gate = shared.modulation(self.adaln_modulation_cross_attn, 1)
            h = modulate(x, scale, shift)
            x = residual(x, gate, self.cross_attn(h.view(text[0].shape[0], -1, shape[-1]), text).view(shape))
        shift, scale, gate = shared.modulation(self.adaln_modulation_mlp, 2)
        return residual(x, gate, self.mlp(modulate(x, scale, shift)))

    def _attend_to_self(self, h: Tensor, shared: Pass, layer: int) -> Tensor:
        """Self-attention over all tokens of a row, or of a view where views see only themselves."""
        rows = h.reshape(h.shape[0] * (shared.views if shared.apart else 1), -1, h.shape[-1])
        keys, values = self.self_attn.keys_values(rows, shared.rope)
        mask = shared.mask
        if shared.cache is not None:
            keys, values = shared.cache.write(layer, keys, values)
            mask = shared.cache.mask()
        return self.self_attn(rows, (keys, values), shared.rope, mask).view(h.shape)


class FinalLayer(nn.Module):
    """AdaLN without a gate, then the projection to latent pixels."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        d = cfg.model_channels
        self.linear = nn.Linear(d, cfg.patch_volume * cfg.out_channels, bias=False)
        self.adaln_modulation = modulation(d, cfg.adaln_lora_dim, 2)

    def forward(self, x: Tensor, emb: Tensor, lora: Tensor) -> Tensor:
        shift, scale = (self.adaln_modulation(emb) + lora[..., : 2 * x.shape[-1]]).chunk(2, dim=-1)
        return self.linear(modulate(x, scale, shift))
