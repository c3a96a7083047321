"""Streams: pieces give what the whole clip gives, and states are values (forked, regrouped, of different age)."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.parity.tokenizers import streamed
from wfm_sim.models.presets import nano_tokenizer
from wfm_sim.models.streaming import StreamState, VideoTokenizer
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig
from wfm_sim.models.wan_vae import WanConfig, WanVAE

SMALL = TokenizerConfig(channels=8, num_res_blocks=1)
CONFIGS: dict[str, Any] = {
    "cv8x8x8": SMALL,
    "cv4x8x8": replace(SMALL, patch_size=2, temporal_compression=4),
    "dv8x16x16": replace(SMALL, spatial_compression=16, latent_channels=6, fsq_levels=(8, 8, 8, 5, 5, 5)),
    "dv4x8x8": replace(SMALL, patch_size=2, temporal_compression=4, latent_channels=3, fsq_levels=(7, 5, 4)),
    "attention in levels": replace(SMALL, resolution=128),
    "image": replace(nano_tokenizer(), channels=32),
    "wan": WanConfig(
        dim=4,
        z_dim=2,
        dim_mult=(1, 2, 2),
        temporal_downs=(True, True),
        num_res_blocks=1,
        mean=(0.1,) * 2,
        std=(2.0,) * 2,
    ),
}


def _build(name: str) -> Any:
    if name == "wan":
        pytest.importorskip("diffusers")
    torch.manual_seed(0)
    cfg = CONFIGS[name]
    model = WanVAE(cfg) if isinstance(cfg, WanConfig) else Tokenizer(cfg)
    for p in model.parameters():  # norms and biases start as constants, which would hide errors
        p.data = p.data + torch.randn_like(p) * 0.05
    return model.eval().requires_grad_(False)


def _clip(model: Any, batch: int, latents: int) -> Tensor:
    return torch.rand(batch, 3, 1 + (latents - 1) * model.temporal_compression, 16, 32) * 2 - 1


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-5 * b.abs().max())


@pytest.mark.parametrize("name", CONFIGS)
def test_frame_by_frame_and_in_larger_pieces_equal_the_whole_clip(name: str) -> None:
    model = _build(name)
    assert isinstance(model, VideoTokenizer)
    t, x = model.temporal_compression, _clip(model, 2, 4)
    z = model.encode_video(x)
    y = model.decode_video(z)
    assert z.shape[:3] == (2, model.latent_channels, 4) and y.shape == x.shape
    latents, frames = streamed(model, x, z)
    assert _close(latents, z) and _close(frames, y)
    first, state = model.encode_stream(x[:, :, : 1 + t])
    assert _close(torch.cat((first, model.encode_stream(x[:, :, 1 + t :], state)[0]), dim=2), z)
    head, state = model.decode_stream(z[:, :, :2])
    assert _close(torch.cat((head, model.decode_stream(z[:, :, 2:], state)[0]), dim=2), y)


@pytest.mark.parametrize("name", ["cv8x8x8", "dv4x8x8", "attention in levels", "wan"])
def test_states_fork_and_rows_of_different_age_share_a_batch(name: str) -> None:
    model = _build(name).double()  # batches of other sizes round differently, which WAN's norms amplify
    t, x = model.temporal_compression, _clip(model, 2, 5).double()
    z = model.encode_video(x)
    y = model.decode_video(z)

    def both(frames: Tensor, states: tuple[Any, Any]) -> tuple[Tensor, tuple[StreamState, StreamState]]:
        latent, encoder = model.encode_stream(frames, states[0])
        clip, decoder = model.decode_stream(latent, states[1])
        return clip, (encoder, decoder)

    def piece(row: int, i: int) -> Tensor:
        return x[row : row + 1, :, :1] if i == 0 else x[row : row + 1, :, 1 + (i - 1) * t : 1 + i * t]

    old: Any = (None, None)
    for i in range(3):
        _, old = both(piece(0, i), old)
    _, young = both(piece(1, 0), (None, None))
    kept = tuple(s.clone() for s in old)
    mixed: Any = tuple(StreamState.cat([a, b]) for a, b in zip(old, young, strict=True))
    for i in range(2):
        clip, mixed = both(torch.cat((piece(0, 3 + i), piece(1, 1 + i))), mixed)
        assert _close(clip[0], y[0, :, 1 + (2 + i) * t : 1 + (3 + i) * t])
        assert _close(clip[1], y[1, :, 1 + i * t : 1 + (i + 1) * t])
    assert len(mixed[0]) == 2
    # the states gone through are as they were: their continuation is the same, from a fork too
    forked = tuple(s[[0, 0]] for s in old)
    clip, _ = both(torch.cat((piece(0, 3),) * 2), forked)
    again, _ = both(piece(0, 3), kept)
    last, _ = both(piece(1, 3), tuple(s[1:] for s in mixed))
    assert _close(clip, torch.cat((again, again))) and _close(again[0], y[0, :, 1 + 2 * t : 1 + 3 * t])
    assert _close(last[0], y[1, :, 1 + 2 * t : 1 + 3 * t])


def test_only_attention_over_time_grows_and_a_window_bounds_it() -> None:
    model = _build("cv8x8x8")
    z = torch.randn(1, 16, 8, 4, 4)
    exact = model.decode_video(z)

    def run(window: int | None) -> tuple[Tensor, list[int]]:
        state, frames, sizes = None, [], []
        for latent in z.split(1, dim=2):
            clip, state = model.decode_stream(latent, state, window=window)
            frames.append(clip)
            sizes.append(state.bytes)
        return torch.cat(frames, dim=2), sizes

    frames, sizes = run(None)
    grown = [b - a for a, b in pairwise(sizes)]
    per_latent = 2 * 4 * (4 * 4) * 32 + 1  # keys and values of 32 channels at each position, and one flag
    assert grown == [per_latent] * 7 and _close(frames, exact)
    frames, sizes = run(3)
    assert sizes[3] == sizes[7] and not _close(frames, exact)
    assert _close(frames[:, :, : 1 + 3 * 8], exact[:, :, : 1 + 3 * 8])  # nothing is beyond the window yet
    # several frames at once see the same window as one by one
    head, state = model.decode_stream(z[:, :, :5], window=3)
    assert _close(torch.cat((head, model.decode_stream(z[:, :, 5:], state)[0]), dim=2), frames)


def test_pieces_that_do_not_fit_are_one_sentence() -> None:
    model = _build("cv8x8x8")
    with pytest.raises(UserError, match=r"1 \+ a multiple of 8"):
        model.encode_stream(torch.zeros(1, 3, 8, 32, 32))
    _, state = model.encode_stream(torch.zeros(1, 3, 1, 32, 32))
    with pytest.raises(UserError, match="takes a multiple of 8"):
        model.encode_stream(torch.zeros(1, 3, 9, 32, 32), state)
    with pytest.raises(UserError, match="multiples of 8"):
        model.encode_stream(torch.zeros(1, 3, 1, 36, 32))
