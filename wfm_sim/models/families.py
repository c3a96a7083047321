"""The kinds of networks that are published: how each is built from its configuration, and how its files name things."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from wfm_sim.errors import UserError, unknown
from wfm_sim.models import names_dit
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.autoregressive_layers import TransformerConfig
from wfm_sim.models.dit import DiT
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.network_files import Source
from wfm_sim.models.positions import RotaryPositions
from wfm_sim.models.stored_tensor import StoredTensor
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

Stored = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Family:
    """One kind of network.

    Attributes:
        title: For messages.
        parse: What its configuration's `to_dict` gave, after a trip through JSON -> configuration.
        build: Configuration -> network.
        rename: Tensors of published files -> sources by our names. What it does not know keeps its name, and so is
            reported as unexpected; what is known to be no weight is left out.
        derived: Configuration -> buffers that files may lack.
        mark: A name that only files of this family have.
    """

    title: str
    parse: Callable[[dict[str, Any]], Any]
    build: Callable[[Any], nn.Module]
    rename: Callable[[Stored], dict[str, Source]]
    derived: Callable[[Any], dict[str, Tensor]]
    mark: re.Pattern[str]

    def read_config(self, content: dict[str, Any]) -> Any:
        """From JSON. UserError where it is not one of this version's."""
        try:
            return self.parse(content)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"not a configuration of {self.title} in this version of wfm-sim ({error})") from None


def _rename_dit(stored: Stored) -> dict[str, Source]:
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


def _rename_autoregressive(stored: Stored) -> dict[str, Source]:
    """The published names are ours; training's files have them under `model.`."""
    found = {}
    for name, tensor in stored.items():
        inside = name.removeprefix("model.").removeprefix("model.")
        if not inside.endswith("_extra_state"):
            found[inside] = Source(tensor)
    return found


def _rename_tokenizer(stored: Stored) -> dict[str, Source]:
    """encoder.jit and decoder.jit have parts of our names; a decoder's copy of the quantizer is left out."""
    found = {}
    for name, tensor in stored.items():
        inside = name.removeprefix("model.").removeprefix("network.")
        if not inside.startswith("inv_quant."):
            found[inside] = Source(tensor)
    return found


def _parse_tokenizer(content: dict[str, Any]) -> TokenizerConfig:
    return TokenizerConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


def _derived_tokenizer(cfg: TokenizerConfig) -> dict[str, Tensor]:
    """Buffers do not depend on widths, so those of the thinnest tokenizer are the same."""
    thin = replace(cfg, channels=cfg.num_groups, channels_mult=(1,) * len(cfg.channels_mult), num_res_blocks=1)
    return dict(Tokenizer(thin).named_buffers())


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
    "tokenizer": Family(
        "a wavelet tokenizer",
        _parse_tokenizer,
        Tokenizer,
        _rename_tokenizer,
        _derived_tokenizer,
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
