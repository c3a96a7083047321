"""The Cosmos diffusion transformer, in the layout and with the parameter names of Predict2 / Predict2.5.

arXiv 2501.03575 section 5.1 (architecture; Predict1), arXiv 2511.00062 section 3 (Predict2.5: per-frame timesteps, text
projection, action conditioning added to the time embedding). One class; what a variant has is a flag of its config
(`dit_config`), its layers are in `dit_layers`, its conditions in `dit_conditions`, its positions in `positions`.

Shapes: B rows, T latent frames, h x w latent pixels, N = (h / p) * (w / p) tokens per frame, D model channels. Several
views follow each other along T: T = V * t.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.dit_conditions import ActionEmbedder, given_channels, neighbours, token_channels, view_channels
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.dit_layers import (
    Block,
    FinalLayer,
    KeysValues,
    Mask,
    Pass,
    RMSNorm,
    TimestepProjection,
)
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.positions import BASE_FPS, LearnablePositions, Rope, RotaryPositions, sincos_positions

__all__ = ["DiT", "DiTConfig", "Mask", "block_causal_mask"]


class DiT(nn.Module):
    """The network: noisy latents, timesteps and conditions in, its raw output (velocity, for Predict2.5) out."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.cfg = cfg
        d = cfg.model_channels
        self.x_embedder = nn.ModuleDict(
            {"proj": nn.Sequential(nn.Identity(), nn.Linear(cfg.patch_inputs, d, bias=False))}
        )
        self.pos_embedder = RotaryPositions(cfg.head_dim, cfg.rope_ratio, cfg.max_size)
        if cfg.absolute_positions == "learnable":
            self.extra_pos_embedder = LearnablePositions(d, cfg.max_positions)
        self.t_embedder = nn.Sequential(nn.Identity(), TimestepProjection(d))
        self.t_embedding_norm = RMSNorm(d)
        if cfg.action_dim:
            self.action_embedder_B_D = ActionEmbedder(cfg.action_inputs, 4 * d, d)
            self.action_embedder_B_3D = ActionEmbedder(cfg.action_inputs, 4 * d, 3 * d)
        if cfg.view_channels:
            self.view_embeddings = nn.Embedding(cfg.num_views, cfg.view_channels)
        if cfg.frame_repeat:
            self.repeat_frame_embedding = nn.Linear(1, cfg.view_channels)
        if cfg.view_adaln:
            self.adaln_view_embedder = nn.Embedding(cfg.num_views, d)
            self.adaln_view_proj = nn.Linear(d, 9 * d)
        if cfg.token_vocabulary:
            self.token_embedder = nn.Embedding(cfg.token_vocabulary, cfg.token_channels)
        if cfg.context_projection:
            self.crossattn_proj = nn.Sequential(nn.Linear(cfg.context_projection, cfg.context_channels), nn.GELU())
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.num_blocks))
        self.final_layer = FinalLayer(cfg)
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
            if name.endswith(("cross_view_attn.output_proj", "adaln_view_proj")):
                nn.init.zeros_(module.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.final_layer.linear.weight)

    # ---------------------------------------------------------------------------------------------- parts of a pass

    def patchify(self, x: Tensor) -> Tensor:
        """[B, C, T, h, w] with all condition channels -> tokens [B, T, N, D]."""
        b, c, t, h, w = x.shape
        p, r = self.cfg.patch, self.cfg.patch_temporal
        x = x.reshape(b, c, t // r, r, h // p, p, w // p, p).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return self.x_embedder["proj"](x.reshape(b, t // r, (h // p) * (w // p), c * r * p * p))

    def unpatchify(self, x: Tensor, h: int, w: int) -> Tensor:
        """[B, T, N, numbers per token] -> [B, out_channels, T, h, w]; the order within a token is (p, p, time, C)."""
        p, r = self.cfg.patch, self.cfg.patch_temporal
        b, t = x.shape[:2]
        x = x.reshape(b, t, h // p, w // p, p, p, r, self.cfg.out_channels).permute(0, 7, 1, 6, 2, 4, 3, 5)
        return x.reshape(b, self.cfg.out_channels, t * r, h, w)

    def time_embedding(
        self, timesteps: Tensor, t: int = 1, action: Tensor | None = None, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Time (and action) embedding [B, T, D] and its AdaLN part [B, T, 3D]; T is 1 where all frames share them.

        Args:
            timesteps: [B, T] or [B, 1].
            t: T.
            action: As for `forward`.
            given: [B, T], 1 for conditioning frames, whose action (where there is one per frame) is masked out.
        """
        d = self.cfg.model_channels
        freqs = torch.exp(-math.log(1e4) * torch.arange(d // 2, device=timesteps.device).float() / (d // 2))
        angle = (timesteps.float() * self.cfg.timestep_scale)[..., None] * freqs
        emb = torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.t_embedding_norm.weight.dtype)
        lora = self.t_embedder[1](emb)
        if self.cfg.action_dim and action is not None:
            action = action.to(emb.dtype)
            keep = None if self.cfg.action_chunk or given is None else (1 - given)[..., None].to(emb.dtype)

            def embedded(embedder: ActionEmbedder) -> Tensor:
                x = embedder(action)
                x = x if self.cfg.action_chunk else F.pad(x, (0, 0, t - x.shape[1], 0))
                return x if keep is None else x * keep

            lora = lora + embedded(self.action_embedder_B_3D)
            if not self.cfg.action_adaln_only:
                emb = emb + embedded(self.action_embedder_B_D)
        return self.t_embedding_norm(emb), lora

    def absolute_positions(self, t: int, h: int, w: int, device: Any) -> Tensor | None:
        """[t, N, D] for the tokens of t frames of h x w latent pixels, where the network has such positions."""
        p, r = self.cfg.patch, self.cfg.patch_temporal
        grid = (t // r, h // p, w // p)
        if self.cfg.absolute_positions == "learnable":
            return self.extra_pos_embedder(*grid)
        if self.cfg.absolute_positions == "sincos":
            return sincos_positions(self.cfg.model_channels, *grid, device)
        return None

    def rope(
        self,
        t: int,
        h: int,
        w: int,
        cache: KVCache | None,
        dtype: torch.dtype,
        device: Any,
        fps: Tensor | float | None = None,
    ) -> Rope:
        """cos and sin [T * N, d] for a clip, [B, 1, N, d] for the newest frame of a cache (rows differ in age).

        fps: Frame rate, or one per row [B]: [B, 1, T * N, d] then.
        """
        p = self.cfg.patch
        if cache is None:
            frames = torch.arange(t // self.cfg.patch_temporal, device=device)
        else:
            frames = (cache.position - 1)[:, None]
        if self.cfg.rope_fps and fps is not None:
            per_row = fps[:, None] if isinstance(fps, Tensor) and fps.ndim else fps
            frames = frames.float() / per_row * BASE_FPS
        angles = self.pos_embedder.angles(frames, h // p, w // p)
        if angles.ndim == 3:
            angles = angles[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def text_keys(self, context: Tensor, views: int = 1) -> list[KeysValues]:
        """Keys and values of a text for every block: compute them once, give them to `forward` at every step.

        context: [B, V * K, channels], a text per view one after the other.

        Raises:
            UserError: this network takes no text.
        """
        attentions = [block.cross_attn for block in self.blocks if isinstance(block, Block)]
        if not self.cfg.cross_attention:
            raise UserError("this network takes no text (cross_attention is off), got a context")
        if self.cfg.context_projection:
            context = self.crossattn_proj(context)
        context = context.unflatten(1, (views, -1)).flatten(0, 1)
        return [attention.keys_values(context) for attention in attentions if attention is not None]

    def _view_channels(self, order: Tensor, frame_repeat: Tensor | None, x: Tensor) -> Tensor:
        """[B, view_channels, T, h, w] for the clip x whose views are order, int64 [B, V]."""
        t, h, w = x.shape[2:]
        repeated = None
        if self.cfg.frame_repeat:
            count = order.new_zeros(order.shape) if frame_repeat is None else frame_repeat
            repeated = self.repeat_frame_embedding(count[..., None].to(self.repeat_frame_embedding.weight.dtype))
        return view_channels(self.view_embeddings, order, (t // order.shape[1], h, w), repeated)

    def _place(
        self, shared: Pass, x: Tensor, order: Tensor | None, fps: Tensor | float | None, rope: Rope | None
    ) -> None:
        """Tell `shared` where tokens are: rotary and absolute positions, and the views, order: int64 [B, V]."""
        t, h, w = x.shape[2:]
        shared.views = views = 1 if order is None else order.shape[1]
        shared.rope = self.rope(t // views, h, w, shared.cache, x.dtype, x.device, fps) if rope is None else rope
        shared.positions = self.absolute_positions(t // views, h, w, x.device)
        if shared.positions is not None:
            shared.positions = shared.positions.to(x.dtype).repeat(views, 1, 1)
        if order is None:
            return
        shared.apart = self.cfg.views_apart
        if self.cfg.view_neighbours:
            shared.neighbours = neighbours(order, self.cfg.view_neighbours)
        if self.cfg.view_adaln:
            per_view = self.adaln_view_proj(self.adaln_view_embedder(order))
            shared.view_lora = per_view.repeat_interleave(t // views, dim=1).chunk(3, dim=-1)
        if not self.cfg.views_apart:
            cos, sin = shared.rope
            repeats = (1,) * (cos.ndim - 2) + (views, 1)
            shared.rope = cos.repeat(repeats), sin.repeat(repeats)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        *,
        context: Tensor | list[KeysValues] | None = None,
        condition_mask: Tensor | None = None,
        extra: Tensor | None = None,
        padding_mask: Tensor | None = None,
        fps: Tensor | float | None = None,
        action: Tensor | None = None,
        camera: Tensor | None = None,
        views: Tensor | None = None,
        frame_repeat: Tensor | None = None,
        tokens: Tensor | None = None,
        attention_mask: Mask = None,
        cache: KVCache | None = None,
        rope: Rope | None = None,
    ) -> Tensor:
        """One network pass over a clip, or, with a cache, over its newest latent frame.

        Args:
            x: [B, C, T, h, w] noisy latents (given frames clean).
            timesteps: [B, T] or [B, 1]; Predict1 takes 0.25 * log(sigma).
            context: [B, K, context_channels] (or context_projection wide) text embedding, one text per view after the
                other; or what `text_keys` made of it.
            condition_mask: [B, 1, T, h, w], 1 on given frames.
            extra: [B, extra_channels, T, h, w].
            padding_mask: [B or 1, 1, H, W] at pixel resolution, 1 on padding.
            fps: Frame rate, for networks whose rotary time depends on it.
            action: Row i leads to latent frame i: [B, T, action_dim * actions_per_latent], or T - 1 rows where nothing
                leads to the first; of a network with an action_chunk, [B, 1, action_dim * action_chunk].
            camera: [B, T, N, camera_channels] (`plucker.ray_tokens`).
            views: int64 [B, V] or [V], which view stands where in the clip; all of them in order, if None.
            frame_repeat: [B, V], how often each view's first frame is repeated, none if None.
            tokens: int64 [B, T, h', w'] discrete tokens.
            attention_mask: Broadcast to [B, heads, T * N, T * N] (see `block_causal_mask`), or its strips; None lets
                all see all.
            cache: From `KVCache.extended()`; T is then 1 and the frame's index is taken from the cache.
            rope: Precomputed (cos, sin) for a clip, to save time in training.

        Returns:
            [B, out_channels, T, h, w].

        Raises:
            UserError: a condition that this network needs is missing, or one that it cannot take is given.
        """
        if self.cfg.num_views and views is None:
            views = torch.arange(self.cfg.num_views, device=x.device)
        order = None if views is None else views.expand(x.shape[0], -1)
        h, w = x.shape[3:]
        if self.cfg.token_vocabulary:
            extra = token_channels(self.token_embedder, _needed(tokens, "tokens"), (h, w))
        inputs = given_channels(self.cfg, x, condition_mask, extra, padding_mask)
        if self.cfg.view_channels:
            inputs.append(self._view_channels(_needed(order, "views"), frame_repeat, x))
        given = None if condition_mask is None else condition_mask.amax(dim=(1, 3, 4))
        sequence = self.patchify(torch.cat([c.to(x.dtype) for c in inputs], dim=1))
        emb, lora = self.time_embedding(timesteps, sequence.shape[1], action, given)
        shared = Pass(emb, lora, mask=attention_mask, cache=cache, camera=camera)
        self._place(shared, x, order, fps, rope)
        if self.cfg.cross_attention and context is None:
            raise UserError("this network cannot run without its text (context=...); zeros are one too")
        texts = self.text_keys(context, shared.views) if isinstance(context, Tensor) else context
        for i, block in enumerate(self.blocks):
            sequence = block(sequence, shared, None if texts is None else texts[i], i)
        return self.unpatchify(self.final_layer(sequence, emb, lora), h, w)


def _needed(condition: Tensor | None, name: str) -> Tensor:
    if condition is None:
        raise UserError(f"this network cannot run without its condition {name!r}; got None")
    return condition


def block_causal_mask(t: int, tokens: int, window: int | None = None, device: torch.device | str = "cpu") -> Tensor:
    """bool [T * N, T * N]: a frame sees itself and the `window` frames before it (all, if None)."""
    frame = torch.arange(t, device=device).repeat_interleave(tokens)
    age = frame[:, None] - frame[None]
    return (age >= 0) if window is None else (age >= 0) & (age <= window)
