"""Reference cases of the diffusion transformers."""

from typing import Any

import torch
from torch import Tensor

from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.parity.case import Case, Comparison, Runner, Tensors, compare


def dit_config(config: dict[str, Any]) -> DiTConfig:
    """From the published names of a Predict2 / Predict2.5 network's settings."""
    return DiTConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        patch=config["patch_spatial"],
        padding_mask=config["concat_padding_mask"],
        model_channels=config["model_channels"],
        num_blocks=config["num_blocks"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        adaln_lora_dim=config["adaln_lora_dim"],
        context_channels=config["crossattn_emb_channels"],
        context_projection=config["crossattn_proj_in_channels"] if config.get("use_crossattn_projection") else None,
        timestep_scale=config.get("timestep_scale", 1.0),
        action_dim=config.get("action_dim", 0),
        actions_per_latent=config.get("temporal_compression_ratio", 4),
        rope_ratio=tuple(config[f"rope_{axis}_extrapolation_ratio"] for axis in "thw"),
        max_size=max(config["max_img_h"], config["max_img_w"], config["max_frames"]),
    )


def _dit_model(config: dict[str, Any], state: Tensors) -> DiT:
    model = DiT(dit_config(config))
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("accum_")})
    return model.eval()


def actions_per_latent_frame(action: Tensor, per_latent: int) -> Tensor:
    """[B, k * per_latent, A] -> [B, 1 + k, per_latent * A]; the first latent frame has none (zeros)."""
    rows = action.unflatten(1, (-1, per_latent)).flatten(2)
    return torch.cat((torch.zeros_like(rows[:, :1]), rows), dim=1)


def _dit(case: Case) -> list[Comparison]:
    given = case.given
    model = _dit_model(case.config, case.state)
    action = given.get("action")
    y = model(
        given["x_B_C_T_H_W"],
        given["timesteps_B_T"],
        context=given["crossattn_emb"],
        condition_mask=given["condition_video_input_mask_B_C_T_H_W"],
        padding_mask=given["padding_mask"],
        action=None if action is None else actions_per_latent_frame(action, model.cfg.actions_per_latent),
    )
    return compare(case, {"y": y})


def _dit_causal(case: Case) -> list[Comparison]:
    given = case.given
    model = _dit_model(case.config, case.state)
    x, mask = given["x"], given["mask"]
    action = actions_per_latent_frame(given["action"], model.cfg.actions_per_latent)
    b, _, t, h, w = x.shape

    def rollout(window: int) -> Tensor:
        cache = KVCache.empty(
            layers=model.cfg.num_blocks,
            batch=b,
            heads=model.cfg.num_heads,
            window=window,
            head_dim=model.cfg.model_channels // model.cfg.num_heads,
            tokens=h * w // model.cfg.patch**2,
        )
        frames = []
        for i in range(t):
            cache = cache.extended()
            frames.append(
                model(
                    x[:, :, i : i + 1],
                    given["timesteps"][i].expand(b, 1),
                    context=given["crossattn_emb"],
                    condition_mask=mask[:, :, i : i + 1],
                    padding_mask=given["padding_mask"],
                    action=action[:, i : i + 1] if i else None,
                    cache=cache,
                )
            )
        return torch.cat(frames, dim=2)

    # The reference moves its window after use: a cache of 2 frames lets a frame see 3 earlier ones.
    return compare(case, {"y_full_cache": rollout(t), "y_window2": rollout(3)})


RUNNERS: dict[str, Runner] = {
    "MinimalV1LVGDiT": _dit,
    "ActionChunkConditionedMinimalV1LVGDiT": _dit,
    "ActionChunkCausalDITwithConditionalMask.forward_seq": _dit_causal,
}
