"""Discrete tokenizers: codes and indices are two names of one thing."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.errors import UserError
from wfm_sim.models.fsq import FSQ
from wfm_sim.models.presets import nano_tokenizer
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

VIDEO = TokenizerConfig(channels=8, num_res_blocks=1, latent_channels=3, fsq_levels=(7, 5, 4))


@pytest.mark.parametrize("levels", [(8, 8, 8, 5, 5, 5), (7, 5, 4), (2, 3)])
def test_every_index_is_one_code_and_every_code_is_reached(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels)
    every = torch.arange(int(torch.tensor(levels).prod())).reshape(1, -1)
    codes = fsq.indices_to_codes(every)
    assert torch.equal(fsq.codes_to_indices(codes), every.int())
    assert torch.equal(codes[0].T, fsq.implicit_codebook) and codes.min() == -1 and codes.max() <= 1
    assert len(fsq.implicit_codebook.unique(dim=0)) == every.numel()
    # inputs from far below to far above go through all levels of each channel
    line = torch.linspace(-4, 4, 4001).expand(1, len(levels), -1)
    indices, reached = fsq(line)
    assert indices.dtype == torch.int32 and torch.equal(fsq.indices_to_codes(indices), reached)
    assert tuple(len(channel.unique()) for channel in reached[0]) == levels


def test_gradients_pass_the_rounding() -> None:
    z = torch.zeros(1, 3, 4, requires_grad=True)
    FSQ((7, 5, 4))(z)[1].sum().backward()
    assert z.grad is not None and z.grad.min() > 0.5


@pytest.mark.parametrize("cfg", [VIDEO, replace(nano_tokenizer(), channels=32, latent_channels=2, fsq_levels=(5, 4))])
def test_pictures_to_tokens_and_back(cfg: TokenizerConfig) -> None:
    torch.manual_seed(0)
    model = Tokenizer(cfg).eval()
    x = torch.rand(2, 3, 32, 32) * 2 - 1 if cfg.is_image else torch.rand(2, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        indices, codes = model.tokenize(x)
        assert indices.shape == (codes.shape[0], *codes.shape[2:]) and indices.max() < model.quantizer._levels.prod()
        assert torch.equal(model.encode(x), codes)
        assert torch.allclose(model.decode_indices(indices), model.decode(codes), atol=1e-4)


def test_a_state_may_lack_the_codebook_and_nothing_else() -> None:
    model = Tokenizer(VIDEO)
    state = model.state_dict()
    codebook = state.pop("quantizer.implicit_codebook")
    other = Tokenizer(VIDEO)
    other.quantizer.implicit_codebook.zero_()
    other.load_state_dict(state)
    assert torch.equal(other.quantizer.implicit_codebook, codebook)
    del state["quantizer._levels"]
    with pytest.raises(RuntimeError, match="_levels"):
        other.load_state_dict(state)


def test_levels_and_channels_must_agree_and_a_continuous_tokenizer_has_no_tokens() -> None:
    with pytest.raises(UserError, match="give as many"):
        TokenizerConfig(fsq_levels=(8, 8))
    with pytest.raises(UserError, match="no tokens"):
        Tokenizer(replace(nano_tokenizer(), channels=32)).tokenize(torch.zeros(1, 3, 32, 32))
