"""The kinds of networks that are published: how each is built from its configuration, and how its files name things."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from wfm_sim.errors import UserError, unknown
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.autoregressive_layers import TransformerConfig
from wfm_sim.models.dit import DiT
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.positions import RotaryPositions
from wfm_sim.models.published import names_dit, names_tokenizer, names_wan
from wfm_sim.models.published.network_files import Source
from wfm_sim.models.published.stored_tensor import StoredTensor
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig
from wfm_sim.models.wan_vae import WanConfig, WanVAE

Stored = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Family:
    """One kind of network.

    Attributes:
        title: For messages.
        parse: What its configuration's `to_dict` gave, after a trip through JSON -> configuration.
        build: Configuration -> network.
        rename: Tensors of published files, configuration -> sources by our names. What it does not know keeps its name,
            and so is reported as unexpected; what is known to be no weight is left out.
        derived: Configuration -> buffers that files may lack.
        mark: A name that only files of this family have.
    """

    title: str
    parse: Callable[[dict[str, Any]], Any]
    build: Callable[[Any], nn.Module]
    rename: Callable[[Stored, Any], dict[str, Source]]
    derived: Callable[[Any], dict[str, Tensor]]
    mark: re.Pattern[str]

    def read_config(self, content: dict[str, Any]) -> Any:
        """From JSON. UserError where it is not one of this version's."""
        try:
            return self.parse(content)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"not a configuration of {self.title} in this version of wfm-sim ({error})") from None


def _rename_dit(stored: Stored, _: DiTConfig) -> dict[str, Source]:
    inside = {names_dit.without_prefix(name): tensor for name, tensor in stored.items()}
    layout = names_dit.layout_of(inside)
    found = {}
    for name, tensor in inside.items():
        ours = names_dit.to_ours(name, layout)
        if ours is not None:
            flat = layout == "predict1-training"
            found[ours] = Source(tensor, partial(names_dit.tensor_to_ours, ours) if flat else None)
    return found


def _derived_dit(cfg: DiTConfig) -> dict[str, Tensor]:
    positions = RotaryPositions(cfg.head_dim, cfg.rope_ratio, cfg.max_size)
    return {f"{names_dit.DERIVED}{name}": value for name, value in positions.state_dict().items()}


def _rename_autoregressive(stored: Stored, _: TransformerConfig) -> dict[str, Source]:
    """The published names are ours; training's files have them under `model.`."""
    found = {}
    for name, tensor in stored.items():
        inside = name.removeprefix("model.").removeprefix("model.")
        if not inside.endswith("_extra_state"):
            found[inside] = Source(tensor)
    return found


def _rename_tokenizer(stored: Stored, cfg: TokenizerConfig) -> dict[str, Source]:
    inside = {name.removeprefix("model.").removeprefix("network."): tensor for name, tensor in stored.items()}
    layout, levels = names_tokenizer.layout_of(inside), len(cfg.channels_mult)
    return {names_tokenizer.to_ours(name, layout, levels): Source(tensor) for name, tensor in inside.items()}


def _rename_wan(stored: Stored, cfg: WanConfig) -> dict[str, Source]:
    levels, blocks = len(cfg.dim_mult), cfg.num_res_blocks
    return {names_wan.to_ours(name, levels, blocks): Source(tensor) for name, tensor in stored.items()}


def _with_tuples(config: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    """JSON makes lists of tuples; here they become tuples again."""
    return lambda content: config(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


FAMILIES: dict[str, Family] = {
    "dit": Family(
        "a diffusion transformer",
        lambda content: DiTConfig(**content),
        DiT,
        _rename_dit,
        _derived_dit,
        re.compile(r"(.*\.)?(x_embedder\.proj|patch_embed\.proj)\..*"),
    ),
    "autoregressive": Family(
        "an autoregressive transformer",
        TransformerConfig.from_dict,
        CausalTransformer,
        _rename_autoregressive,
        lambda _: {},
        re.compile(r"(.*\.)?tok_embeddings\.weight"),
    ),
    "wan": Family(
        "the WAN2.1 autoencoder",
        _with_tuples(WanConfig),
        WanVAE,
        _rename_wan,
        lambda _: {},
        re.compile(r".*\.gamma"),
    ),
    "tokenizer": Family(
        "a wavelet tokenizer",
        _with_tuples(TokenizerConfig),
        Tokenizer,
        _rename_tokenizer,
        names_tokenizer.derived,
        re.compile(r"(.*\.)?(encoder\.patcher(3d)?\.wavelets|(post_)?quant_conv\..*)"),
    ),
}


def family(name: str) -> Family:
    """By its key. UserError where there is none."""
    if name not in FAMILIES:
        raise unknown("family of networks", name, FAMILIES)
    return FAMILIES[name]


def family_of(names: Mapping[str, Any]) -> str | None:
    """The family whose files have such names, None where none is recognised."""
    return next((key for key, kind in FAMILIES.items() if any(kind.mark.fullmatch(name) for name in names)), None)
