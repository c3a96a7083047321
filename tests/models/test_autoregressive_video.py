"""Video through tokens, with a tokenizer simple enough to be known exactly: a token is a grey level."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.tiny_transformer import BASE, TEXT, make
from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.causal_world import frames_to_tensor, tensor_to_frames
from wfm_sim.models.token_sampling import Sampling
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig
from wfm_sim.models.video_tokens import TokenLayout, encode_prompt, generate_long_video, generate_video

LEVELS = 16
SIDE = 4  # pixels per token


class GreyLevels:
    """Causal, 8 frames to one: the last frame of each group, its blocks' mean brightness in 16 levels."""

    def tokenize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        blocks = torch.nn.functional.avg_pool3d(x[:, :, ::8], (1, SIDE, SIDE)).mean(dim=1)
        return ((blocks + 1) / 2 * (LEVELS - 1)).round().int(), blocks

    def decode_indices(self, indices: Tensor) -> Tensor:
        level = indices / (LEVELS - 1) * 2 - 1
        x = level.repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)
        x = torch.cat((x[:, :1], x[:, 1:].repeat_interleave(8, 1)), dim=1)
        return x[:, None].expand(-1, 3, -1, -1, -1)


@pytest.fixture(scope="module", params=["plain", "bov", "offset"])
def parts(request: pytest.FixtureRequest) -> tuple[CausalTransformer, TokenLayout]:
    cfg = replace(BASE, vocab=LEVELS)
    if request.param == "bov":
        cfg = replace(cfg, bov=True, embeddings=LEVELS + 4, max_len=28)
    model = make(replace(cfg, vocab=LEVELS + 9) if request.param == "offset" else cfg)
    layout = TokenLayout((3, 2, 4), LEVELS, offset=5) if request.param == "offset" else TokenLayout.of(model)
    return model, layout


def clip(frames: int, rows: int = 2) -> np.ndarray:
    levels = np.random.default_rng(0).integers(0, LEVELS, (rows, frames, 2, 4)) * 17
    return levels.repeat(SIDE, 2).repeat(SIDE, 3)[..., None].repeat(3, -1).astype(np.uint8)


def test_layout_there_and_back(parts: tuple[CausalTransformer, TokenLayout]) -> None:
    model, layout = parts
    indices = torch.randint(0, LEVELS, (2, 3, 2, 4))
    tokens = layout.flatten(indices)
    assert tokens.shape == (2, 24 + layout.bov) and torch.equal(layout.unflatten(tokens), indices)
    assert torch.equal(tokens[0, -4:], indices[0, -1, -1] + layout.offset)  # columns run fastest, frames slowest
    low, high = layout.allowed
    assert bool(((tokens[:, int(layout.bov) :] >= low) & (tokens < high)[:, int(layout.bov) :]).all())
    if layout.bov:
        assert (tokens[:, 0] == LEVELS).all() and model.cfg.bov


@pytest.mark.parametrize("frames", [1, 9])
def test_a_window_begins_with_the_given_frames(parts: tuple[CausalTransformer, TokenLayout], frames: int) -> None:
    model, layout = parts
    given = clip(frames)
    seen: list[tuple[int, int]] = []
    made = generate_video(
        model,
        GreyLevels(),
        given,
        sampling=Sampling(),
        seeds=[1, 2],
        layout=layout,
        progress=lambda done, count: seen.append((done, count)),
    )
    assert made.frames.shape == (2, 17, 8, 16, 3) and made.frames.dtype == np.uint8
    assert made.indices.min() >= 0 and made.indices.max() < LEVELS
    shown = made.frames[:, ::8][:, : (frames + 7) // 8]
    assert np.array_equal(shown, given[:, ::8])  # grey levels survive the tokenizer exactly
    count = 8 * (3 - (frames + 7) // 8)
    assert seen == [(i + 1, count) for i in range(count)]
    alone = generate_video(model, GreyLevels(), given[1:], sampling=Sampling(), seeds=[2], layout=layout)
    assert np.array_equal(alone.frames[0], made.frames[1])


def test_the_last_frames_of_a_window_prompt_the_next(parts: tuple[CausalTransformer, TokenLayout]) -> None:
    model, layout = parts
    given, tokenizer = clip(1), GreyLevels()
    seen: list[tuple[int, int]] = []
    video = generate_long_video(
        model,
        tokenizer,
        given,
        30,
        sampling=Sampling(),
        seeds=[1, 2],
        layout=layout,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert video.shape == (2, 30, 8, 16, 3) and np.array_equal(video[:, :1], given)
    assert seen == [(17, 30), (25, 30), (30, 30)]  # 16 new frames after 1 given, then 8 after 9
    first = generate_video(model, tokenizer, given, sampling=Sampling(), seeds=[1, 2], layout=layout)
    assert np.array_equal(video[:, 1:17], first.frames[:, 1:])
    prompt = video[:, 8:17]
    tokens = layout.shape[0] * layout.shape[1] * layout.shape[2]
    second = generate_video(model, tokenizer, prompt, sampling=Sampling(), seeds=[1, 2], layout=layout, first=tokens)
    assert np.array_equal(video[:, 17:25], second.frames[:, 9:])
    assert not torch.equal(first.indices[:, 2], second.indices[:, 2])  # other random numbers, other tokens


def test_a_text_context_reaches_the_tokens() -> None:
    cfg = replace(BASE, vocab=LEVELS, context_dim=10)
    model, given = make(cfg), clip(1)
    videos = [
        generate_video(model, GreyLevels(), given, sampling=Sampling(), seeds=[1, 2], context=c).indices
        for c in (torch.zeros(2, 3, 10), torch.randn(2, 3, 10) * 5)
    ]
    assert not torch.equal(videos[0], videos[1])


def test_with_a_discrete_tokenizer() -> None:
    """DV8x16x16 in small: what is kept of the prompt are its own tokens, and the frames are the tokenizer's."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        TokenizerConfig(
            temporal_compression=8,
            spatial_compression=16,
            patch_size=4,
            channels=4,
            channels_mult=(1, 2, 2),
            num_res_blocks=1,
            z_channels=4,
            latent_channels=2,
            num_groups=1,
            attn_resolutions=(),
            resolution=64,
            fsq_levels=(4, 4),
        )
    ).eval()
    model = make(replace(BASE, vocab=LEVELS))
    frames = np.random.default_rng(1).integers(0, 256, (1, 9, 32, 64, 3), dtype=np.uint8)
    made = generate_video(model, tokenizer, frames, sampling=Sampling(), seeds=[3])
    with torch.no_grad():
        whole = np.concatenate((frames, frames[:, -1:].repeat(8, 1)), axis=1)  # the published way: padded, then cut
        expected = tokenizer.tokenize(frames_to_tensor(whole))[0][:, :2]
        assert torch.equal(made.indices[:, :2], expected.long())
        assert np.array_equal(made.frames, tensor_to_frames(tokenizer.decode_indices(made.indices)))
    assert made.frames.shape == (1, 17, 32, 64, 3)


def test_bad_input_is_one_sentence() -> None:
    model = make(replace(BASE, vocab=LEVELS))
    layout = TokenLayout.of(model)
    with pytest.raises(UserError, match="uint8"):
        encode_prompt(GreyLevels(), clip(1).astype(np.float32), layout)
    with pytest.raises(UserError, match=r"8 x 8 pixels become \[2, 2\] tokens, but the model was made for \[2, 4\]"):
        encode_prompt(GreyLevels(), clip(1)[:, :, :, :8], layout)
    with pytest.raises(UserError, match="17 frames fill"):
        encode_prompt(GreyLevels(), clip(17), layout)
    with pytest.raises(UserError, match="no video tokens"):
        TokenLayout.of(make(TEXT))
