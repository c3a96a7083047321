"""Reference cases of the tokenizers."""

from typing import Any

from wfm_sim.models.parity.case import Case, Comparison, Runner, compare
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig


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


def _tokenizer(case: Case) -> list[Comparison]:
    given = case.given
    model = Tokenizer(tokenizer_config(case.config, image=given["x"].ndim == 4))
    model.load_state_dict(case.state)
    out = {"latent": model.encode(given["x"])}
    out["recon"] = model.decode(out["latent"])
    if given["x"].ndim == 5:
        out["latent_T1"] = model.encode(given["x"][:, :, :1])
        out["recon_T1"] = model.decode(out["latent_T1"])
    return compare(case, out)


RUNNERS: dict[str, Runner] = {
    "ContinuousImageTokenizer": _tokenizer,
    "CausalContinuousVideoTokenizer": _tokenizer,
}
