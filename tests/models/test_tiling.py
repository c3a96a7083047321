"""Tiles: exact where a network sees no further than the overlap, close where it looks at whole frames."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.streaming import StreamState
from wfm_sim.models.tiling import decode_tiled, encode_tiled
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

SMALL = TokenizerConfig(channels=8, num_res_blocks=1)


class _Pooling:
    """A tokenizer that sees no neighbours, and notes the largest piece it was given."""

    spatial_compression, temporal_compression, latent_channels = 4, 1, 3
    largest = 0

    def encode_video(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, x.shape[-1] * x.shape[-2])
        return torch.nn.functional.avg_pool3d(x, (1, 4, 4))

    def decode_video(self, z: Tensor) -> Tensor:
        return z.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)

    def encode_stream(
        self, x: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        return self.encode_video(x), StreamState((), len(x))

    def decode_stream(
        self, z: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        return self.decode_video(z), StreamState((), len(z))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (52, 100), (16, 72), (12, 16)])
@pytest.mark.parametrize("overlap", [0, 8])
def test_tiles_of_a_local_tokenizer_give_the_whole_and_are_no_larger_than_asked(
    height: int, width: int, overlap: int
) -> None:
    tokenizer = _Pooling()
    x = torch.rand(2, 3, 2, height, width)
    z = encode_tiled(tokenizer, x, tile=24, overlap=overlap)
    assert tokenizer.largest <= 24 * 24
    assert torch.allclose(z, tokenizer.encode_video(x), atol=1e-6)
    assert torch.allclose(decode_tiled(tokenizer, z, tile=24, overlap=overlap), tokenizer.decode_video(z), atol=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
def test_tiles_of_a_published_tokenizer_are_near_the_whole(discrete: bool) -> None:
    torch.manual_seed(0)
    cfg = replace(SMALL, latent_channels=3, fsq_levels=(8, 5, 5)) if discrete else SMALL
    model = Tokenizer(cfg).eval().requires_grad_(False)
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 24, 32) * 2 - 1, size=(9, 96, 128))
    whole, tiled = model.encode_video(x), encode_tiled(model, x, tile=64, overlap=32)
    assert torch.equal(encode_tiled(model, x, tile=128, overlap=32), whole)
    if discrete:  # rounded after blending, so every code is one
        assert torch.equal(model.quantizer.indices_to_codes(model.quantizer.codes_to_indices(tiled)), tiled)
        assert (tiled - whole).abs().mean() < 0.1
    else:
        assert (tiled - whole).square().mean() < 0.02 * whole.var()
        frames = model.decode_video(whole)
        assert (decode_tiled(model, whole, tile=64, overlap=32) - frames).square().mean() < 0.05 * frames.var()


def test_sizes_that_do_not_fit_are_one_sentence() -> None:
    model = Tokenizer(SMALL)
    with pytest.raises(UserError, match="multiples of 8"):
        encode_tiled(model, torch.zeros(1, 3, 1, 64, 64), tile=60)
    with pytest.raises(UserError, match="the first larger"):
        decode_tiled(model, torch.zeros(1, 16, 1, 8, 8), tile=32, overlap=32)
