"""The video tokenizers against diffusers' AutoencoderKLCosmos with the same freshly drawn weights."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.models.parity.case import relative_error
from wfm_sim.models.published.names_tokenizer import (
    config_from_diffusers,
    derived,
    diffusers_config,
    from_diffusers,
    is_buffer,
    layout_of,
    to_diffusers,
    to_ours,
)
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

SMALL = TokenizerConfig(channels=8)
CONFIGS = {
    "cv8x8x8": SMALL,
    "cv4x8x8": replace(SMALL, patch_size=2, temporal_compression=4, num_res_blocks=1),
    "16x16": replace(SMALL, spatial_compression=16, channels_mult=(1, 2, 4)),
    "attention in levels": replace(SMALL, resolution=256, attn_resolutions=(32, 16), num_res_blocks=1),
    "four levels": replace(SMALL, patch_size=2, channels_mult=(1, 2, 2, 4), num_res_blocks=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_same_latents_and_pixels_as_diffusers(name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    cfg = CONFIGS[name]
    levels = len(cfg.channels_mult)
    torch.manual_seed(0)
    model = Tokenizer(cfg).eval().requires_grad_(False)
    for p in model.parameters():
        p.data = p.data + torch.randn_like(p) * 0.05
    theirs = diffusers.AutoencoderKLCosmos(**diffusers_config(cfg)).eval()
    named = {to_diffusers(name, levels): value for name, value in model.state_dict().items() if not is_buffer(name)}
    theirs.load_state_dict(named)
    x = torch.rand(2, 3, 1 + 2 * model.temporal_compression, 32, 48) * 2 - 1
    with torch.no_grad():
        z = theirs.encode(x).latent_dist.mode()
        assert relative_error(model.encode(x), z) < 1e-5
        assert relative_error(model.decode(z), theirs.decode(z).sample) < 1e-5
        assert relative_error(model.decode(z[:, :, :1]), theirs.decode(z[:, :, :1]).sample) < 1e-5
    # and back, from diffusers' folder to ours
    assert layout_of(named) == "diffusers" and layout_of(model.state_dict()) == "published"
    assert config_from_diffusers(dict(theirs.config)) == cfg
    state = {from_diffusers(key, levels): value for key, value in theirs.state_dict().items()}
    again = Tokenizer(cfg).eval().requires_grad_(False)
    again.load_state_dict({**state, **derived(cfg)})
    with torch.no_grad():
        assert torch.equal(again.encode(x), model.encode(x))


def test_names_of_the_published_files_are_ours_but_for_the_wrapped_quantizer() -> None:
    assert to_ours("inv_quant.quantizer._levels", "published", 3) == "quantizer._levels"
    assert to_ours("decoder.up.0.block.1.norm1.norm.weight", "published", 3) == "decoder.up.0.block.1.norm1.norm.weight"
    cfg = replace(SMALL, latent_channels=2, fsq_levels=(5, 4))
    model = Tokenizer(cfg)
    buffers = {name: value for name, value in model.state_dict().items() if is_buffer(name)}
    expected = derived(cfg)
    assert set(buffers) == set(expected) == {n for n, _ in model.named_buffers()}
    assert all(torch.equal(buffers[name], expected[name]) for name in buffers)
    assert all(to_diffusers(name, 3) is None for name in buffers)


def test_loading_keeps_kernels_over_time_where_they_are_multiplied_without_a_copy() -> None:
    with torch.device("meta"):
        model = Tokenizer(SMALL)
    state = {name: value.contiguous() for name, value in Tokenizer(SMALL).state_dict().items()}
    model.load_state_dict(state, assign=True)
    weight = model.decoder.conv_in[1].conv3d.weight  # type: ignore[index]
    assert weight.shape[2:] == (3, 1, 1) and weight[:, :, 1, 0, 0].is_contiguous()
    assert torch.equal(weight, state["decoder.conv_in.1.conv3d.weight"])
