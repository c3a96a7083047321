"""Parameter names of published diffusion transformers <-> ours, which are those of Predict2 / Predict2.5.

A table is a list of (beginning of their name, beginning of ours); `#` stands for a block's number, and a name that no
entry fits is the same in both. Each table is read in both directions, so one is the inverse of the other. Tensors are
the same but for one: Predict1's training code has the patch embedding as a convolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from torch import Tensor

from wfm_sim.models.dit_config import DiTConfig

Layout = Literal["predict1", "predict1-training", "predict2", "predict2-multiview", "diffusers"]
Table = list[tuple[str, str]]

# Computed from the configuration, so a file may lack them (and layouts other than Predict2's do).
DERIVED = "pos_embedder."
PREFIXES = ("net.", "model.net.", "module.net.")  # of the network in a file that holds more
# No weights of the network: training counters, Transformer Engine's state, and what else is in Predict1's files.
_DROPPED = re.compile(
    r"accum_.*|(.*\.)?_extra_state|logvar\..*|conditioner\..*|pos_embedder_options\.n_cameras_\d+\..*"
)


def _attention(theirs: str, ours: str, names: tuple[str, ...]) -> Table:
    own = ("q_proj", "q_norm", "k_proj", "k_norm", "v_proj", "output_proj")
    return [(f"{theirs}.{a}.", f"{ours}.{b}.") for a, b in zip(names, own, strict=True)]


def _predict1() -> Table:
    table = [("affline_norm.", "t_embedding_norm."), ("final_layer.adaLN_modulation.", "final_layer.adaln_modulation.")]
    for i, part in enumerate(("self_attn", "cross_attn", "mlp")):
        theirs, ours = f"blocks.block#.blocks.{i}", f"blocks.#.{part}"
        table.append((f"{theirs}.adaLN_modulation.", f"blocks.#.adaln_modulation_{part}."))
        names = ("to_q.0", "to_q.1", "to_k.0", "to_k.1", "to_v.0", "to_out.0")
        table += (
            [(f"{theirs}.block.", f"{ours}.")] if part == "mlp" else _attention(f"{theirs}.block.attn", ours, names)
        )
    return table


def _diffusers() -> Table:
    table = [
        ("patch_embed.proj.", "x_embedder.proj.1."),
        ("learnable_pos_embed.", "extra_pos_embedder."),
        ("time_embed.norm.", "t_embedding_norm."),
        ("time_embed.t_embedder.", "t_embedder.1."),
        ("norm_out.linear_", "final_layer.adaln_modulation."),
        ("proj_out.", "final_layer.linear."),
        ("transformer_blocks.#.ff.net.0.proj.", "blocks.#.mlp.layer1."),
        ("transformer_blocks.#.ff.net.2.", "blocks.#.mlp.layer2."),
    ]
    for i, part in enumerate(("self_attn", "cross_attn", "mlp"), start=1):
        table.append((f"transformer_blocks.#.norm{i}.linear_", f"blocks.#.adaln_modulation_{part}."))
    names = ("to_q", "norm_q", "to_k", "norm_k", "to_v", "to_out.0")
    for i, part in enumerate(("self_attn", "cross_attn"), start=1):
        table += _attention(f"transformer_blocks.#.attn{i}", f"blocks.#.{part}", names)
    return table


TABLES: dict[str, Table] = {
    "predict1": _predict1(),
    "predict1-training": [*_predict1(), ("x_embedder.proj.", "x_embedder.proj.1.")],
    "predict2": [],
    "predict2-multiview": [("pos_embedder_options.n_cameras_1.", "pos_embedder.")],
    "diffusers": _diffusers(),
}


def _rename(name: str, table: Iterable[tuple[str, str]]) -> str:
    for old, new in table:
        found = re.match(re.escape(old).replace(r"\#", r"(\d+)"), name)
        if found:
            number = found.group(1) if "#" in old else ""
            return new.replace("#", number) + name[found.end() :]
    return name


def layout_of(names: Iterable[str]) -> Layout:
    """Which layout the names of a network (without the file's prefix) are in."""
    names = set(names)
    if any(n.startswith("transformer_blocks.") for n in names):
        return "diffusers"
    if any(n.startswith("blocks.block0.") for n in names):
        return "predict1-training" if "x_embedder.proj.weight" in names else "predict1"
    return "predict2-multiview" if any(n.startswith("pos_embedder_options.") for n in names) else "predict2"


def without_prefix(name: str) -> str:
    """The name inside the network."""
    return next((name[len(prefix) :] for prefix in PREFIXES if name.startswith(prefix)), name)


def to_ours(name: str, layout: Layout) -> str | None:
    """Our name of a published tensor (without the file's prefix), or None where it is no weight of the network."""
    ours = _rename(name, TABLES[layout])
    return None if ours == name and _DROPPED.fullmatch(name) else ours


def from_ours(name: str, layout: Layout, cfg: DiTConfig) -> list[str]:
    """The published names of one of our tensors: none where the layout computes it, several where it has copies."""
    if name.startswith(DERIVED):
        buffer = name.removeprefix(DERIVED)
        if layout == "predict2-multiview":
            return [f"pos_embedder_options.n_cameras_{n}.{buffer}" for n in range(1, cfg.num_views + 1)]
        if layout != "predict2" and (layout == "diffusers" or buffer != "seq"):
            return []
    return [_rename(name, ((ours, theirs) for theirs, ours in TABLES[layout]))]


def tensor_to_ours(name: str, value: Tensor) -> Tensor:
    """The tensor of our name as we have it: a convolution over patches is a matrix."""
    return value.flatten(1) if name == "x_embedder.proj.1.weight" else value


def tensor_from_ours(name: str, value: Tensor, layout: Layout, cfg: DiTConfig) -> Tensor:
    """Inverse of `tensor_to_ours`."""
    if layout == "predict1-training" and name == "x_embedder.proj.1.weight":
        return value.unflatten(1, (-1, cfg.patch_temporal, cfg.patch, cfg.patch))
    return value


def state_to_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A whole published state with our names; what is no weight of the network is left out."""
    state = {without_prefix(name): value for name, value in state.items()}
    layout = layout_of(state)
    out = {}
    for name, value in state.items():
        ours = to_ours(name, layout)
        if ours is not None:
            out[ours] = tensor_to_ours(ours, value)
    return out


def state_from_ours(state: dict[str, Tensor], layout: Layout, cfg: DiTConfig) -> dict[str, Tensor]:
    """Our state with the names of a published layout."""
    return {
        theirs: tensor_from_ours(name, value, layout, cfg)
        for name, value in state.items()
        for theirs in from_ours(name, layout, cfg)
    }
