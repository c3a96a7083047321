"""Published parameter names <-> ours."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.models.dit import DiT
from wfm_sim.models.published.names_dit import TABLES, Layout, layout_of, state_from_ours, state_to_ours, to_ours
from wfm_sim.models.published.presets_dit import DITS

SMALL = {"model_channels": 48, "num_heads": 2, "num_blocks": 2, "adaln_lora_dim": 8, "context_channels": 16}
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "predict1-7b-video2world": ("predict1", "predict1-training", "diffusers"),
    "predict1-7b-text2world-multiview": ("predict1",),
    "predict1-7b-action": ("predict1-training",),
    "predict2-2b-video2world": ("predict2", "diffusers"),
    "predict2.5-2b": ("predict2", "diffusers"),
    "predict2.5-2b-camera": ("predict2",),
    "predict2.5-2b-multiview-cross": ("predict2-multiview",),
}


@pytest.mark.parametrize(("preset", "layout"), [(name, layout) for name, ls in LAYOUTS.items() for layout in ls])
def test_there_and_back(preset: str, layout: Layout) -> None:
    cfg = DITS[preset]()
    cfg = replace(cfg, **SMALL, context_projection=40 if cfg.context_projection else None, camera_channels=12)
    state = DiT(cfg).state_dict()
    published = state_from_ours(state, layout, cfg)
    assert layout_of(published) == layout
    back = state_to_ours({f"net.{name}": value for name, value in published.items()})
    kept = {name for name in state if name in back or not name.startswith("pos_embedder.")}
    assert set(back) == kept
    assert all(torch.equal(back[name], state[name]) for name in back)
    assert state_from_ours(back, layout, cfg).keys() == published.keys()


@pytest.mark.parametrize(
    ("layout", "theirs", "ours"),
    [
        ("predict1", "blocks.block27.blocks.1.block.attn.to_k.1.weight", "blocks.27.cross_attn.k_norm.weight"),
        ("predict1", "blocks.block3.blocks.2.adaLN_modulation.2.weight", "blocks.3.adaln_modulation_mlp.2.weight"),
        ("predict1", "affline_norm.weight", "t_embedding_norm.weight"),
        ("diffusers", "transformer_blocks.11.attn1.to_out.0.weight", "blocks.11.self_attn.output_proj.weight"),
        ("diffusers", "norm_out.linear_1.weight", "final_layer.adaln_modulation.1.weight"),
        ("predict2-multiview", "pos_embedder_options.n_cameras_1.seq", "pos_embedder.seq"),
        ("predict2-multiview", "pos_embedder_options.n_cameras_2.seq", None),
        ("predict2", "blocks.0.self_attn.attn_op._extra_state", None),
        ("predict2", "accum_iteration", None),
        ("predict1", "logvar.1.weight", None),
    ],
)
def test_names_as_published(layout: Layout, theirs: str, ours: str | None) -> None:
    assert to_ours(theirs, layout) == ours


def test_no_two_entries_of_a_table_collide() -> None:
    for table in TABLES.values():
        assert len({a for a, _ in table}) == len({b for _, b in table}) == len(table)
