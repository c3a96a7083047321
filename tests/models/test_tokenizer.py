"""Properties of the tokenizers that hold without reference data: invertible wavelets, causality, shapes."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.models.haar import patch_image, patch_video, unpatch_image, unpatch_video
from wfm_sim.models.presets import nano_tokenizer
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

VIDEO = TokenizerConfig(channels=8, num_res_blocks=1)


@pytest.mark.parametrize("patch", [2, 4])
def test_haar_patching_is_inverted_exactly_and_keeps_the_range_of_a_flat_picture(patch: int) -> None:
    image, video = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 1 + 2 * patch, 16, 24)
    assert torch.allclose(unpatch_image(patch_image(image, patch), patch), image, atol=1e-6)
    assert torch.allclose(unpatch_video(patch_video(video, patch), patch), video, atol=1e-5)
    flat = patch_image(torch.full((1, 1, 8, 8), 0.5), patch)
    assert torch.allclose(flat[:, :1], torch.tensor(0.5), atol=1e-6) and flat[:, 1:].abs().max() < 1e-6


def test_a_video_latent_does_not_see_later_frames() -> None:
    torch.manual_seed(0)
    model = Tokenizer(VIDEO).eval()
    a = torch.randn(1, 3, 17, 32, 32)
    b = a.clone()
    b[:, :, 9:] = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        za, zb = model.encode(a), model.encode(b)
        ya, yb = model.decode(za), model.decode(zb)
    assert za.shape == (1, 16, 3, 4, 4)
    assert torch.allclose(za[:, :, :2], zb[:, :, :2], atol=1e-5) and not torch.allclose(za[:, :, 2], zb[:, :, 2])
    assert torch.allclose(ya[:, :, :9], yb[:, :, :9], atol=1e-5)


def test_an_image_tokenizer_runs_a_clip_frame_by_frame() -> None:
    model = Tokenizer(replace(nano_tokenizer(), channels=32)).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        z = model.encode_video(clip)
        assert z.shape == (2, 8, 4, 8, 8)
        assert torch.allclose(z[:, :, 1], model.encode(clip[:, :, 1]), atol=1e-5)
        assert model.decode_video(z).shape == clip.shape


@pytest.mark.parametrize(("spatial", "temporal", "patch"), [(8, 8, 4), (8, 4, 2), (16, 8, 4)])
def test_shapes_of_every_published_compression(spatial: int, temporal: int, patch: int) -> None:
    cfg = replace(VIDEO, spatial_compression=spatial, temporal_compression=temporal, patch_size=patch)
    model = Tokenizer(cfg).eval()
    x = torch.randn(1, 3, 1 + 2 * temporal, 32, 32)
    with torch.no_grad():
        z = model.encode(x)
        assert z.shape == (1, 16, 3, 32 // spatial, 32 // spatial)
        assert model.decode(z).shape == x.shape
