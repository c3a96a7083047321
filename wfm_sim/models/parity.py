"""Run our networks on reference cases: files holding `state.*`, `in.*`, `out.*` and the configuration as metadata."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

Tensors = dict[str, Tensor]


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest absolute difference over the reference's largest absolute value (at least 1)."""
    if ours.shape != reference.shape:
        return float("inf")
    return float((ours - reference).abs().max() / reference.abs().max().clamp(min=1.0))


def _load_strict(module: nn.Module, state: Tensors) -> None:
    module.load_state_dict(state, strict=True)
    module.eval()


def tokenizer_config(config: dict[str, Any], image: bool) -> TokenizerConfig:
    """From the published names of a tokenizer's settings."""
    return TokenizerConfig(
        temporal_compression=None if image else config["temporal_compression"],
        spatial_compression=config["spatial_compression"],
        patch_size=config["patch_size"],
        channels=config["channels"],
        channels_mult=tuple(config["channels_mult"]),
        num_res_blocks=config["num_res_blocks"],
        z_channels=config["z_channels"],
        latent_channels=config["latent_channels"],
        num_groups=config.get("num_groups", 32),
        attn_resolutions=tuple(config["attn_resolutions"]),
        resolution=config["resolution"],
        in_channels=config["in_channels"],
    )


def _tokenizer(config: dict[str, Any], state: Tensors, given: Tensors) -> Tensors:
    model = Tokenizer(tokenizer_config(config, image=given["x"].ndim == 4))
    _load_strict(model, state)
    out = {"latent": model.encode(given["x"])}
    out["recon"] = model.decode(out["latent"])
    if given["x"].ndim == 5:
        out["latent_T1"] = model.encode(given["x"][:, :, :1])
        out["recon_T1"] = model.decode(out["latent_T1"])
    return out


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
    _load_strict(model, {k: v for k, v in state.items() if not k.startswith("accum_")})
    return model


def actions_per_latent_frame(action: Tensor, per_latent: int) -> Tensor:
    """[B, k * per_latent, A] -> [B, 1 + k, per_latent * A]; the first latent frame has none (zeros)."""
    rows = action.unflatten(1, (-1, per_latent)).flatten(2)
    return torch.cat((torch.zeros_like(rows[:, :1]), rows), dim=1)


def _dit(config: dict[str, Any], state: Tensors, given: Tensors) -> Tensors:
    model = _dit_model(config, state)
    action = given.get("action")
    y = model(
        given["x_B_C_T_H_W"],
        given["timesteps_B_T"],
        context=given["crossattn_emb"],
        condition_mask=given["condition_video_input_mask_B_C_T_H_W"],
        padding_mask=given["padding_mask"],
        action=None if action is None else actions_per_latent_frame(action, model.cfg.actions_per_latent),
    )
    return {"y": y}


def _dit_causal(config: dict[str, Any], state: Tensors, given: Tensors) -> Tensors:
    model = _dit_model(config, state)
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
    return {"y_full_cache": rollout(t), "y_window2": rollout(3)}


# case -> how to run it: (config, state, inputs) -> our outputs, under the reference's names
CASES: dict[str, Callable[[dict[str, Any], Tensors, Tensors], Tensors]] = {
    "p1_tok_ci8x8": _tokenizer,
    "p1_tok_cv8x8x8": _tokenizer,
    "p1_tok_cv4x8x8": _tokenizer,
    "p1_tok_cv8x8x8_attn": _tokenizer,
    "p2_dit_v2w": _dit,
    "p2_dit_v2w_pertime": _dit,
    "p25_dit_v2w": _dit,
    "p25_dit_14b_ratios": _dit,
    "p25_dit_action_chunk": _dit,
    "p25_dit_action_chunk_2cond": _dit,
    "p25_dit_action_causal_kv": _dit_causal,
}


@torch.no_grad()
def run_case(path: Path) -> dict[str, float]:
    """Relative error of every output of one case that we compute."""
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (a safe_open handle is no dict)
        config = json.loads(file.metadata()["config"])
    groups: dict[str, Tensors] = {"state": {}, "in": {}, "out": {}}
    for key, value in tensors.items():
        group, name = key.split(".", 1)
        groups[group][name] = value
    ours = CASES[path.stem](config, groups["state"], groups["in"])
    return {name: relative_error(value, groups["out"][name]) for name, value in ours.items() if name in groups["out"]}
