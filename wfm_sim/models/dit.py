"""The Cosmos diffusion transformer, in the layout and with the parameter names of Predict2 / Predict2.5.

arXiv 2501.03575 section 5.1 (architecture), arXiv 2511.00062 section 3 (Predict2.5: per-frame timesteps, text
projection, action conditioning added to the time embedding). One class; what a variant has is a flag of its config.

Shapes: B rows, T latent frames, h x w latent pixels, N = (h / p) * (w / p) tokens per frame, D model channels.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.models.kv_cache import KVCache


@dataclass(frozen=True)
class DiTConfig:
    """Sizes and flags. Defaults are Predict2.5-2B Video2World without its conditions.

    Attributes:
        in_channels, out_channels: Latent channels.
        patch: Spatial patch; a token is patch x patch latent pixels of one latent frame.
        condition_mask: One channel that says which frames are given.
        padding_mask: One channel that says which pixels are padding.
        extra_channels: Further channels concatenated between the two masks (Plücker rays, the previous latent frame).
        cross_attention: Attend to a text context; nano models that take no text leave it out.
        context_channels: Width of that context.
        context_projection: Input width of the Linear + GELU applied to the context first (Reason1), or None.
        timestep_scale: Multiplies the timestep before its embedding.
        action_dim, actions_per_latent: Action conditioning per latent frame; 0 for none.
        rope_ratio: NTK ratios (t, h, w) of the rotary embedding's base.
    """

    in_channels: int = 16
    out_channels: int = 16
    patch: int = 2
    condition_mask: bool = True
    padding_mask: bool = True
    extra_channels: int = 0
    model_channels: int = 2048
    num_blocks: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    adaln_lora_dim: int = 256
    cross_attention: bool = True
    context_channels: int = 1024
    context_projection: int | None = None
    timestep_scale: float = 1.0
    action_dim: int = 0
    actions_per_latent: int = 4
    rope_ratio: tuple[float, float, float] = (1.0, 3.0, 3.0)
    max_size: int = 240

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def patch_inputs(self) -> int:
        channels = self.in_channels + self.condition_mask + self.extra_channels + self.padding_mask
        return channels * self.patch**2


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-rotation rotary embedding. x: [B, heads, S, d]; cos, sin: [S, d] or [B, 1, S, d]."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


# An attention mask: whole, or in strips (see `_strip_attention`).
Mask = Tensor | tuple[Tensor, ...] | None


def _strip_attention(q: Tensor, k: Tensor, v: Tensor, strips: tuple[Tensor, ...]) -> Tensor:
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

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Mask = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """x: [B, S, D], context: [B, K, Dc] -> [B, S, D]. With a cache, keys and values of past frames come from it."""
        q, k, v = (
            a.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for a in (self.q_proj(x), self.k_proj(context), self.v_proj(context))
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = _rotate(q, *rope), _rotate(k, *rope)
        if cache is not None:
            k, v = cache.write(layer, k, v)
            mask = cache.mask()
        if isinstance(mask, tuple):
            out = _strip_attention(q, k, v, mask)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output_proj(out.transpose(1, 2).flatten(2))


UNSPLIT = 256  # terms of a sum that the CPU's bfloat16 kernels never split


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """The layer; in bfloat16 on a CPU summed in an order that does not depend on the number of rows.

    There kernels split long sums by the shape of the whole batch, so that a rollout would depend, in its last bit and
    then in more, on how many others run beside it.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled():
        out: Tensor = layer(x)
        return out
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
        return _linear(F.gelu(self.layer1(x)), self.layer2)


def _modulation(dim: int, lora: int, chunks: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, lora, bias=False), nn.Linear(lora, chunks * dim, bias=False))


def _modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm without affine, then scale and shift per frame. x: [B, T, N, D]; scale, shift: [B, T, D]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, :, None]) + shift[:, :, None]


class Block(nn.Module):
    """Self-attention, cross-attention (where configured) and MLP, each behind AdaLN with a low-rank modulation."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        d, lora = cfg.model_channels, cfg.adaln_lora_dim
        self.self_attn = Attention(d, d, cfg.num_heads)
        self.adaln_modulation_self_attn = _modulation(d, lora, 3)
        if cfg.cross_attention:
            self.cross_attn = Attention(d, cfg.context_channels, cfg.num_heads)
            self.adaln_modulation_cross_attn = _modulation(d, lora, 3)
        self.has_cross = cfg.cross_attention
        self.mlp = FeedForward(d, int(d * cfg.mlp_ratio))
        self.adaln_modulation_mlp = _modulation(d, lora, 3)

    def forward(
        self,
        x: Tensor,
        emb: Tensor,
        lora: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Mask,
        context: Tensor | None,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        shape = x.shape
        shift, scale, gate = (self.adaln_modulation_self_attn(emb) + lora).chunk(3, dim=-1)
        h = _modulate(x, scale, shift).flatten(1, 2)
        x = x + gate[:, :, None] * self.self_attn(h, h, rope, mask, cache, layer).view(shape)
        if self.has_cross:
            assert context is not None
            shift, scale, gate = (self.adaln_modulation_cross_attn(emb) + lora).chunk(3, dim=-1)
            h = _modulate(x, scale, shift).flatten(1, 2)
            x = x + gate[:, :, None] * self.cross_attn(h, context).view(shape)
        shift, scale, gate = (self.adaln_modulation_mlp(emb) + lora).chunk(3, dim=-1)
        return x + gate[:, :, None] * self.mlp(_modulate(x, scale, shift))


class _TimestepProjection(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim, dim, bias=False)
        self.linear_2 = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class _ActionEmbedder(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return _linear(F.gelu(self.fc1(x), approximate="tanh"), self.fc2)


class _FinalLayer(nn.Module):
    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        d = cfg.model_channels
        self.linear = nn.Linear(d, cfg.patch**2 * cfg.out_channels, bias=False)
        self.adaln_modulation = _modulation(d, cfg.adaln_lora_dim, 2)

    def forward(self, x: Tensor, emb: Tensor, lora: Tensor) -> Tensor:
        shift, scale = (self.adaln_modulation(emb) + lora[..., : 2 * x.shape[-1]]).chunk(2, dim=-1)
        return self.linear(_modulate(x, scale, shift))


class _RoPEBuffers(nn.Module):
    """The published buffers of the rotary embedding; angles are computed where they are needed."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        head = cfg.model_channels // cfg.num_heads
        spatial = head // 6 * 2
        temporal = head - 2 * spatial
        self.dims = (temporal, spatial, spatial)
        self.ratio = cfg.rope_ratio
        self.register_buffer("seq", torch.arange(cfg.max_size, dtype=torch.float32))
        self.register_buffer("dim_spatial_range", torch.arange(0, spatial, 2).float() / spatial)
        self.register_buffer("dim_temporal_range", torch.arange(0, temporal, 2).float() / temporal)

    def angles(self, frames: Tensor, h: int, w: int) -> Tensor:
        """frames: [..., T] frame indices -> float32 [..., T * h * w, head_dim] angles, order (t, h, w) twice."""
        ranges = (self.dim_temporal_range, self.dim_spatial_range, self.dim_spatial_range)
        freqs = [
            1.0 / (1e4 * ratio ** (dim / (dim - 2))) ** r
            for dim, ratio, r in zip(self.dims, self.ratio, ranges, strict=True)
        ]
        lead, t = frames.shape[:-1], frames.shape[-1]
        device = frames.device
        a_t = frames.float()[..., None] * freqs[0]
        a_h = torch.arange(h, device=device).float()[:, None] * freqs[1]
        a_w = torch.arange(w, device=device).float()[:, None] * freqs[2]
        grid = (*lead, t, h, w)
        parts = (
            a_t[..., :, None, None, :].expand(*grid, -1),
            a_h[:, None, :].expand(*grid, -1),
            a_w[None, :, :].expand(*grid, -1),
        )
        half = torch.cat(parts, dim=-1).flatten(-4, -2)
        return torch.cat((half, half), dim=-1)


class DiT(nn.Module):
    """The network: noisy latents, per-frame timesteps and conditions in, its raw output (velocity) out."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.cfg = cfg
        d = cfg.model_channels
        self.x_embedder = nn.ModuleDict(
            {"proj": nn.Sequential(nn.Identity(), nn.Linear(cfg.patch_inputs, d, bias=False))}
        )
        self.pos_embedder = _RoPEBuffers(cfg)
        self.t_embedder = nn.Sequential(nn.Identity(), _TimestepProjection(d))
        self.t_embedding_norm = RMSNorm(d)
        if cfg.action_dim:
            inputs = cfg.action_dim * cfg.actions_per_latent
            self.action_embedder_B_D = _ActionEmbedder(inputs, 4 * d, d)
            self.action_embedder_B_3D = _ActionEmbedder(inputs, 4 * d, 3 * d)
        if cfg.context_projection:
            self.crossattn_proj = nn.Sequential(nn.Linear(cfg.context_projection, cfg.context_channels), nn.GELU())
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.num_blocks))
        self.final_layer = _FinalLayer(cfg)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gates, modulations and output start at zero: every block is the identity (DiT's adaLN-zero)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=1 / math.sqrt(module.in_features), a=-3, b=3)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, module in self.named_modules():
            if name.endswith(("_modulation", "_self_attn", "_cross_attn", "_mlp")) and isinstance(
                module, nn.Sequential
            ):
                nn.init.zeros_(module[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.final_layer.linear.weight)

    # ---------------------------------------------------------------------------------------------- parts of a pass

    def _tokens(self, x: Tensor, condition_mask: Tensor | None, extra: Tensor | None, padding: Tensor | None) -> Tensor:
        """Latents and mask channels -> [B, T, N, D]."""
        b, _, t, h, w = x.shape
        channels = [x]
        if self.cfg.condition_mask:
            channels.append(x.new_zeros(b, 1, t, h, w) if condition_mask is None else condition_mask)
        if self.cfg.extra_channels:
            assert extra is not None, "this network takes extra condition channels"
            channels.append(extra)
        if self.cfg.padding_mask:
            if padding is None:
                channels.append(x.new_zeros(b, 1, t, h, w))
            else:
                resized = F.interpolate(padding, size=(h, w), mode="nearest")
                channels.append(resized[:, :, None].expand(-1, -1, t, -1, -1))
        p = self.cfg.patch
        x = torch.cat([c.to(x.dtype) for c in channels], dim=1)
        c = x.shape[1]
        x = x.reshape(b, c, t, h // p, p, w // p, p).permute(0, 2, 3, 5, 1, 4, 6)
        return self.x_embedder["proj"](x.reshape(b, t, (h // p) * (w // p), c * p * p))

    def _embedding(
        self, timesteps: Tensor, t: int, action: Tensor | None, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Time (and action) embedding [B, T, D] and its AdaLN part [B, T, 3D].

        action: [B, T, A * k] per latent frame, zeros where there is none; `given` [B, T] is 1 for conditioning frames,
        whose action is masked out.
        """
        d = self.cfg.model_channels
        freqs = torch.exp(-math.log(1e4) * torch.arange(d // 2, device=timesteps.device).float() / (d // 2))
        angle = (timesteps.float() * self.cfg.timestep_scale)[..., None] * freqs
        emb = torch.cat((angle.cos(), angle.sin()), dim=-1).expand(-1, t, -1)
        emb = emb.to(self.t_embedding_norm.weight.dtype)
        lora = self.t_embedder[1](emb)
        if self.cfg.action_dim and action is not None:
            keep = torch.ones_like(emb[..., :1]) if given is None else (1 - given)[..., None].to(emb.dtype)
            action = action.to(emb.dtype)
            emb = emb + self.action_embedder_B_D(action) * keep
            lora = lora + self.action_embedder_B_3D(action) * keep
        return self.t_embedding_norm(emb), lora

    def _untokens(self, x: Tensor, h: int, w: int) -> Tensor:
        p = self.cfg.patch
        b, t = x.shape[:2]
        x = x.reshape(b, t, h // p, w // p, p, p, self.cfg.out_channels).permute(0, 6, 1, 2, 4, 3, 5)
        return x.reshape(b, self.cfg.out_channels, t, h, w)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        *,
        context: Tensor | None = None,
        condition_mask: Tensor | None = None,
        extra: Tensor | None = None,
        padding_mask: Tensor | None = None,
        action: Tensor | None = None,
        attention_mask: Mask = None,
        cache: KVCache | None = None,
        rope: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """One network pass over a clip, or, with a cache, over its newest latent frame.

        Args:
            x: [B, C, T, h, w] noisy latents (given frames clean).
            timesteps: [B, T] or [B, 1].
            context: [B, K, context_channels] (or context_projection wide) text embedding.
            condition_mask: [B, 1, T, h, w], 1 on given frames.
            extra: [B, extra_channels, T, h, w].
            padding_mask: [B, 1, H, W] at pixel resolution, 1 on padding.
            action: [B, T, action_dim * actions_per_latent], row t leading to latent frame t.
            attention_mask: Broadcast to [B, heads, T * N, T * N] (see `block_causal_mask`), or its strips; None lets
                all see all.
            cache: From `KVCache.extended()`; T is then 1 and the frame's index is taken from the cache.
            rope: Precomputed (cos, sin) for a clip, to save time in training.

        Returns:
            [B, out_channels, T, h, w].
        """
        t, h, w = x.shape[2:]
        tokens = self._tokens(x, condition_mask, extra, padding_mask)
        given = None if condition_mask is None else condition_mask.amax(dim=(1, 3, 4))
        emb, lora = self._embedding(timesteps, t, action, given)
        if rope is None:
            rope = self.rope(t, h, w, cache, x.dtype, x.device)
        if context is not None and self.cfg.context_projection:
            context = self.crossattn_proj(context)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, emb, lora, rope, attention_mask, context, cache, i)
        return self._untokens(self.final_layer(tokens, emb, lora), h, w)

    def rope(
        self, t: int, h: int, w: int, cache: KVCache | None, dtype: torch.dtype, device: Any
    ) -> tuple[Tensor, Tensor]:
        """cos and sin [T * N, d] for a clip, [B, 1, N, d] for the newest frame of a cache (rows differ in age)."""
        p = self.cfg.patch
        if cache is None:
            angles = self.pos_embedder.angles(torch.arange(t, device=device), h // p, w // p)
        else:
            angles = self.pos_embedder.angles((cache.position - 1)[:, None], h // p, w // p)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def block_causal_mask(t: int, tokens: int, window: int | None = None, device: torch.device | str = "cpu") -> Tensor:
    """bool [T * N, T * N]: a frame sees itself and the `window` frames before it (all, if None)."""
    frame = torch.arange(t, device=device).repeat_interleave(tokens)
    age = frame[:, None] - frame[None]
    return (age >= 0) if window is None else (age >= 0) & (age <= window)
