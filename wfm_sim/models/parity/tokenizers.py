"""Reference cases of the tokenizers."""

from typing import Any

import torch
from torch import Tensor

from wfm_sim.models.haar import patch_image, patch_video
from wfm_sim.models.parity.case import Case, Comparison, Runner, Tensors, compare, same
from wfm_sim.models.published.names_wan import to_ours
from wfm_sim.models.streaming import VideoTokenizer
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig
from wfm_sim.models.wan_vae import WanConfig, WanVAE


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
        latent_channels=config["embedding_dim"] if "levels" in config else config["latent_channels"],
        num_groups=32 if image else 1,  # fixed in the published networks, whatever their settings say
        attn_resolutions=tuple(config["attn_resolutions"]),
        resolution=config["resolution"],
        in_channels=config["in_channels"],
        fsq_levels=tuple(config.get("levels", ())),
    )


def streamed(tokenizer: VideoTokenizer, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Latents of clip x and pixels of latents z, both computed one latent frame at a time."""
    t = tokenizer.temporal_compression
    latent, state = tokenizer.encode_stream(x[:, :, :1])
    latents = [latent]
    for i in range(1, x.shape[2], t):
        latent, state = tokenizer.encode_stream(x[:, :, i : i + t], state)
        latents.append(latent)
    frames, state = tokenizer.decode_stream(z[:, :, :1])
    clips = [frames]
    for i in range(1, z.shape[2]):
        frames, state = tokenizer.decode_stream(z[:, :, i : i + 1], state)
        clips.append(frames)
    return torch.cat(latents, dim=2), torch.cat(clips, dim=2)


def _tokenizer(case: Case) -> list[Comparison]:
    x = case.given["x"]
    image = x.ndim == 4
    cfg = tokenizer_config(case.config, image)
    model = Tokenizer(cfg).eval()
    model.load_state_dict(case.state)
    out: Tensors = {"moments": model.moments(x)}
    out["patched"] = patch_image(x, cfg.patch_size) if image else patch_video(x, cfg.patch_size)
    if cfg.fsq_levels:
        out["indices"], latent = model.tokenize(x)
        out["codes"] = latent
        out["recon_from_indices"] = model.decode_indices(out["indices"])
    else:
        out["latent"] = latent = model.encode(x)
    out["recon"] = model.decode(latent)
    if image:
        return compare(case, out)
    out["latent_T1"] = model.encode(x[:, :, :1])
    out["recon_T1"] = model.decode(out["latent_T1"])
    latents, clip = streamed(model, x, latent)
    return [
        *compare(case, out),
        same("encode frame by frame", latents, latent),
        same("decode frame by frame", clip, out["recon"]),
    ]


def _wan(case: Case) -> list[Comparison]:
    config, x = case.config, case.given["x"]
    cfg = WanConfig(
        dim=config["dim"],
        z_dim=config["z_dim"],
        dim_mult=tuple(config["dim_mult"]),
        num_res_blocks=config["num_res_blocks"],
        temporal_downs=tuple(config["temperal_downsample"]),
        mean=tuple(case.given["mean"].tolist()),
        std=tuple((1 / case.given["inv_std"].double()).tolist()),
    )
    model = WanVAE(cfg).eval()
    model.load_state_dict({to_ours(k, len(cfg.dim_mult), cfg.num_res_blocks): v for k, v in case.state.items()})
    latent, first = model.encode_video(x), model.encode_video(x[:, :, :1])
    recon = model.decode_video(latent)
    out = {"latent": latent, "recon": recon, "latent_T1": first, "recon_T1": model.decode_video(first)}
    latents, clip = streamed(model, x, latent)
    return [
        *compare(case, out),
        same("encode frame by frame", latents, latent),
        same("decode frame by frame", clip, recon),
    ]


RUNNERS: dict[str, Runner] = {
    "ContinuousImageTokenizer": _tokenizer,
    "DiscreteImageTokenizer": _tokenizer,
    "CausalContinuousVideoTokenizer": _tokenizer,
    "CausalDiscreteVideoTokenizer": _tokenizer,
    "WanVAE_": _wan,
}
