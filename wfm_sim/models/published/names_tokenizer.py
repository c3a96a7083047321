"""Parameter names of published tokenizers <-> ours.

Our names are those of NVIDIA's code, so its TorchScript files (encoder.jit, decoder.jit, autoencoder.jit) need next to
nothing; diffusers' AutoencoderKLCosmos (CV8x8x8, CV4x8x8) has its own. A table is read in both directions, so one is
the inverse of the other. Those of the WAN2.1 autoencoder are in names_wan.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from wfm_sim.models.fsq import FSQ
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

Layout = Literal["published", "diffusers"]

Table = list[tuple[str, str]]  # (beginning of diffusers' name, beginning of ours); # stands for a number


def _places() -> Table:
    table = []
    for side, way in (("encoder", "down"), ("decoder", "up")):
        a, b = f"{side}.{way}_blocks.#", f"{side}.{way}.#"
        table += [(f"{a}.resnets.#.", f"{b}.block.#."), (f"{a}.{way}samplers.0.", f"{b}.{way}sample.")]
        table += [(f"{side}.mid_block.resnets.{i}.", f"{side}.mid.block_{i + 1}.") for i in range(2)]
        for i, attention in enumerate(("attentions", "temp_attentions")):
            table.append((f"{a}.{attention}.#.", f"{b}.attn.#.{i}."))
            table.append((f"{side}.mid_block.{attention}.0.", f"{side}.mid.attn_1.{i}."))
        table.append((f"{side}.", f"{side}."))
    return table


def _parts() -> Table:
    """Layers within a place."""
    table = [("conv_shortcut.", "nin_shortcut.conv3d.")]
    for conv in ("conv1", "conv2", "conv_in", "conv_out"):  # factorised: over space, then over time
        table += [(f"{conv}.conv_s.", f"{conv}.0.conv3d."), (f"{conv}.conv_t.", f"{conv}.1.conv3d.")]
    names = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
    table += [(f"{theirs}.", f"{ours}.conv3d.") for ours, theirs in names.items()]
    same = ("conv1", "conv2", "conv3", "quant_conv", "post_quant_conv")
    return table + [(f"{conv}.", f"{conv}.conv3d.") for conv in same]


_PLACES, _PARTS = _places(), _parts()


def _rename(name: str, table: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """(its beginning by the first entry that fits, the rest); ('', name) if none does."""
    for old, new in table:
        found = re.match(re.escape(old).replace(r"\#", r"(\d+)"), name)
        if found:
            numbers = iter(found.groups())
            return re.sub("#", lambda _, n=numbers: next(n), new), name[found.end() :]  # type: ignore[misc]
    return "", name


def _turn_level(name: str, levels: int) -> str:
    """diffusers counts the decoder's levels in the order they run, the published networks from the finest."""
    found = re.match(r"(decoder\.(?:up|up_blocks)\.)(\d+)(.*)", name)
    return name if found is None else f"{found.group(1)}{levels - 1 - int(found.group(2))}{found.group(3)}"


def to_diffusers(name: str, levels: int) -> str | None:
    """The name of our parameter in AutoencoderKLCosmos, None for a buffer; `levels` is len(channels_mult)."""
    if is_buffer(name):
        return None
    place, rest = _rename(_turn_level(name, levels), ((ours, theirs) for theirs, ours in _PLACES))
    part, rest = _rename(rest, ((ours, theirs) for theirs, ours in _PARTS))
    return place + part + rest


def from_diffusers(name: str, levels: int) -> str:
    """Inverse of `to_diffusers`."""
    place, rest = _rename(_turn_level(name, levels), _PLACES)
    part, rest = _rename(rest, _PARTS)
    return place + part + rest


def is_buffer(name: str) -> bool:
    """Whether one of our names is computed from the configuration, so that a file may lack it."""
    return re.search(r"(^|\.)(un)?patcher(3d)?\.|^quantizer\.", name) is not None


def derived(cfg: TokenizerConfig) -> dict[str, Tensor]:
    """Those buffers."""
    buffers: dict[str, Tensor] = {}
    with torch.device("meta"):
        names = [name for name, _ in Tokenizer(cfg).named_buffers()]
    for name in names:
        kind = name.rpartition(".")[2]
        if kind == "wavelets":
            buffers[name] = torch.tensor([0.70710678, 0.70710678])
        elif kind == "_arange":
            buffers[name] = torch.arange(2)
        elif kind == "patch_size_buffer":
            buffers[name] = torch.ones(1, dtype=torch.int32)
    if cfg.fsq_levels:
        buffers |= {f"quantizer.{name}": value for name, value in FSQ(cfg.fsq_levels).state_dict().items()}
    return buffers


def layout_of(names: Iterable[str]) -> Layout:
    """Which layout the names of a file are in."""
    theirs = any(re.match(r"(en|de)coder\.(mid_block|down_blocks|up_blocks)\.", name) for name in names)
    return "diffusers" if theirs else "published"


def to_ours(name: str, layout: Layout, levels: int) -> str:
    """Our name of a published tensor. decoder.jit has its quantizer inside a wrapper, `inv_quant`."""
    if layout == "diffusers":
        return from_diffusers(name, levels)
    return re.sub(r"^inv_quant\.(quantizer\.)?", "quantizer.", name)


def diffusers_config(cfg: TokenizerConfig) -> dict[str, Any]:
    """The arguments of AutoencoderKLCosmos for a continuous video tokenizer."""
    widths = [cfg.channels * m for m in cfg.channels_mult]
    return {
        "in_channels": cfg.in_channels,
        "out_channels": cfg.in_channels,
        "latent_channels": cfg.latent_channels,
        "encoder_block_out_channels": (cfg.channels, *widths),
        "decode_block_out_channels": (*widths, widths[-1]),
        "attention_resolutions": cfg.attn_resolutions,
        "resolution": cfg.resolution,
        "num_layers": cfg.num_res_blocks,
        "patch_size": cfg.patch_size,
        "spatial_compression_ratio": cfg.spatial_compression,
        "temporal_compression_ratio": cfg.temporal_compression,
    }


def config_from_diffusers(config: dict[str, Any]) -> TokenizerConfig:
    """Inverse of `diffusers_config`, from the config.json beside the weights."""
    first, *widths = config["encoder_block_out_channels"]
    return TokenizerConfig(
        temporal_compression=config["temporal_compression_ratio"],
        spatial_compression=config["spatial_compression_ratio"],
        patch_size=config["patch_size"],
        channels=first,
        channels_mult=tuple(width // first for width in widths),
        num_res_blocks=config["num_layers"],
        z_channels=config["latent_channels"],
        latent_channels=config["latent_channels"],
        attn_resolutions=tuple(config["attention_resolutions"]),
        resolution=config["resolution"],
        in_channels=config["in_channels"],
    )
