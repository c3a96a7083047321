"""Run our networks on reference cases: files holding `state.*`, `in.*`, `out.*` and the configuration as metadata."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

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


# case -> how to run it: (config, state, inputs) -> our outputs, under the reference's names
CASES: dict[str, Callable[[dict[str, Any], Tensors, Tensors], Tensors]] = {
    "p1_tok_ci8x8": _tokenizer,
    "p1_tok_cv8x8x8": _tokenizer,
    "p1_tok_cv4x8x8": _tokenizer,
    "p1_tok_cv8x8x8_attn": _tokenizer,
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
