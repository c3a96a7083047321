"""The WAN2.1 autoencoder behind our interface, against diffusers' own way of running it."""

import pytest
import torch

from wfm_sim.errors import UserError
from wfm_sim.models.parity.case import relative_error
from wfm_sim.models.published.names_wan import from_ours, to_ours
from wfm_sim.models.wan_vae import WanConfig, WanVAE, diffusers_vae

pytest.importorskip("diffusers")

CONFIGS = [
    WanConfig(dim=4, z_dim=4, mean=(0.5, 0.0, -0.3, 0.1), std=(2.0, 1.0, 0.5, 3.0)),
    WanConfig(dim=4, z_dim=2, dim_mult=(1, 2, 2), temporal_downs=(True, True), mean=(0.0,) * 2, std=(1.5,) * 2),
]


@pytest.mark.parametrize("cfg", CONFIGS)
def test_streams_and_clips_equal_diffusers(cfg: WanConfig) -> None:
    torch.manual_seed(0)
    model = WanVAE(cfg).eval().requires_grad_(False)
    theirs = diffusers_vae(cfg).eval()
    theirs.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 13, 16, 24) * 2 - 1
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (cfg.mean, cfg.std))
    with torch.no_grad():
        z = theirs.encode(x).latent_dist.mode()
        y = theirs.decode(z).sample  # clipped
    z = (z - mean) / std
    assert relative_error(model.encode_video(x), z) < 1e-5
    assert relative_error(model.decode_video(z).clamp(-1, 1), y) < 1e-5
    state, latents, clips, shapes = None, [], [], []
    for i in (0, 1, 5, 9):
        latent, state = model.encode_stream(x[:, :, i : i + (4 if i else 1)], state)
        latents.append(latent)
        shapes.append([tuple(e.shape) for e in state.entries if isinstance(e, torch.Tensor)])
    state = None
    for i in range(4):
        clip, state = model.decode_stream(z[:, :, i : i + 1], state)
        clips.append(clip)
        shapes.append([tuple(e.shape) for e in state.entries if isinstance(e, torch.Tensor)])
    assert relative_error(torch.cat(latents, dim=2), z) < 1e-5
    assert relative_error(torch.cat(clips, dim=2).clamp(-1, 1), y) < 1e-5
    # a state is of one size at any age
    assert all(s == shapes[0] for s in shapes[:4]) and all(s == shapes[4] for s in shapes[4:])


@pytest.mark.parametrize("cfg", [*CONFIGS, WanConfig(dim=8)])
def test_names_have_an_inverse(cfg: WanConfig) -> None:
    with torch.device("meta"):
        names = list(WanVAE(cfg).state_dict())
    sizes = len(cfg.dim_mult), cfg.num_res_blocks
    published = [from_ours(name, *sizes) for name in names]
    assert len(set(published)) == len(names) and not set(published) & set(names)
    assert [to_ours(name, *sizes) for name in published] == names
    assert "decoder.upsamples.3.resample.1.weight" in published or cfg.num_res_blocks != 2


def test_the_published_size_and_bad_sizes() -> None:
    with torch.device("meta"):
        model = WanVAE(WanConfig())
    assert sum(p.numel() for p in model.parameters()) == 126_892_531
    assert (model.spatial_compression, model.temporal_compression, model.latent_channels) == (8, 4, 16)
    with pytest.raises(UserError, match="latent channels"):
        WanConfig(z_dim=4)
    with pytest.raises(UserError, match=r"1 \+ a multiple of 4"):
        WanVAE(CONFIGS[0]).encode_video(torch.zeros(1, 3, 4, 32, 32))
