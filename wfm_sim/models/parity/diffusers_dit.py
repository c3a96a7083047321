"""The diffusers implementation of our diffusion transformer: an oracle where no reference case is at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.dit import DiT
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.published.names_dit import state_from_ours, state_to_ours


def _transformer_module() -> Any:
    """diffusers' module of the Cosmos transformer, able to resize padding masks without torchvision."""
    try:
        from diffusers.models.transformers import transformer_cosmos
    except ImportError as error:
        raise UserError(f"comparing with diffusers needs it: pip install 'wfm-sim[cosmos]' ({error})") from None
    if not hasattr(transformer_cosmos, "transforms"):
        functional = SimpleNamespace(resize=lambda x, size, interpolation: F.interpolate(x, size, mode=interpolation))
        transformer_cosmos.transforms = SimpleNamespace(
            functional=functional, InterpolationMode=SimpleNamespace(NEAREST="nearest")
        )
    return transformer_cosmos


class DiffusersTwin(nn.Module):
    """CosmosTransformer3DModel with the weights of one of our networks, called as ours is.

    Raises:
        UserError: diffusers is not installed, or has no such network.
    """

    def __init__(self, ours: DiT) -> None:
        super().__init__()
        cfg = self.cfg = ours.cfg
        plain = DiTConfig()
        lacking = [
            name
            for name in ("action_dim", "camera_channels", "num_views", "token_vocabulary")
            if getattr(cfg, name) != getattr(plain, name)
        ]
        if lacking or cfg.absolute_positions == "sincos" or not cfg.cross_attention:
            raise UserError(f"diffusers has no such diffusion transformer ({', '.join(lacking) or 'positions, text'})")
        sizes = cfg.patch_temporal, cfg.patch, cfg.patch
        self.net = _transformer_module().CosmosTransformer3DModel(
            in_channels=cfg.in_channels + cfg.condition_mask + cfg.extra_channels,
            out_channels=cfg.out_channels,
            num_attention_heads=cfg.num_heads,
            attention_head_dim=cfg.head_dim,
            num_layers=cfg.num_blocks,
            mlp_ratio=cfg.mlp_ratio,
            text_embed_dim=cfg.context_channels,
            adaln_lora_dim=cfg.adaln_lora_dim,
            max_size=tuple(n * s for n, s in zip(cfg.max_positions, sizes, strict=True)),
            patch_size=sizes,
            rope_scale=cfg.rope_ratio,
            concat_padding_mask=cfg.padding_mask,
            extra_pos_embed_type="learnable" if cfg.absolute_positions == "learnable" else None,
            use_crossattn_projection=cfg.context_projection is not None,
            crossattn_proj_in_channels=cfg.context_projection or 1024,
            encoder_hidden_states_channels=cfg.context_channels,
        )
        self.net.load_state_dict(state_from_ours(ours.state_dict(), "diffusers", cfg))
        self.eval()

    def our_state(self) -> dict[str, Tensor]:
        """Its weights under our names."""
        return state_to_ours(self.net.state_dict())

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        *,
        context: Tensor,
        condition_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
        fps: int | None = None,
    ) -> Tensor:
        """As `DiT.forward`; padding_mask: [1, 1, H, W], fps the same for all rows."""
        b, _, t, _, _ = x.shape
        time = timesteps * self.cfg.timestep_scale
        out: Tensor = self.net(
            hidden_states=x,
            timestep=time[:, 0] if timesteps.shape[1] == 1 else time.view(b, 1, t, 1, 1),
            encoder_hidden_states=context,
            fps=fps if self.cfg.rope_fps else None,
            condition_mask=condition_mask,
            padding_mask=padding_mask,
            return_dict=False,
        )[0]
        return out


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Fresh weights of a size at which every part of a network shows in its output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            scale = 1.0 if p.ndim == 1 else p.shape[-1] ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * scale)
