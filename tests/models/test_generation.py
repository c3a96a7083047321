"""Clips at tiny sizes from random weights: what is promised of them does not depend on training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.dit import DiT
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.generation import WorldGenerator, generate, image2world, row_noise, text2world, video2world
from wfm_sim.models.guidance import guide, guided
from wfm_sim.models.rollout import action_rollout, clip_actions, long_rollout
from wfm_sim.models.sampling import (
    DistilledSettings,
    Given,
    Predict1Settings,
    Predict2Settings,
    Predict25Settings,
    Settings,
    predict2_action_settings,
    predict25_action_settings,
)
from wfm_sim.models.schedules import edm_scaling
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

SIZE = (16, 24)

TOKENIZER = TokenizerConfig(
    temporal_compression=4,
    spatial_compression=4,
    patch_size=2,
    channels=8,
    channels_mult=(1, 2, 2),
    num_res_blocks=1,
    z_channels=8,
    latent_channels=4,
    attn_resolutions=(),
    resolution=64,
)

DIT = DiTConfig(
    in_channels=4,
    out_channels=4,
    model_channels=24,
    num_blocks=2,
    num_heads=2,
    adaln_lora_dim=8,
    context_channels=12,
    rope_ratio=(1.0, 1.0, 1.0),
    max_size=32,
)

TINY: dict[str, Any] = {"frames": 9, "frame_size": SIZE, "guidance": 0.5, "given_frames": 5}
FAMILIES: dict[str, Settings] = {
    "predict1": Predict1Settings(steps=3, **TINY),
    "predict2": Predict2Settings(steps=3, **TINY),
    "predict2.5": Predict25Settings(steps=3, **TINY),
    "predict2.5-karras": Predict25Settings(steps=3, karras=True, conditional_timestep=0.1, **TINY),
    "distilled": DistilledSettings(**{**TINY, "guidance": 0.0}),
}


def make_world(settings: Settings, dit: DiTConfig = DIT) -> WorldGenerator:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer, net = Tokenizer(TOKENIZER).eval(), DiT(dit).eval()
    with torch.no_grad():  # the gates and the output start at zero, so that nothing would depend on anything
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15)
    mean = torch.tensor([0.1, -0.2, 0.3, 0.0])
    return WorldGenerator(net, tokenizer, settings, mean, torch.tensor([0.5, 0.6, 0.7, 0.8]))


@pytest.fixture(params=list(FAMILIES))
def world(request: pytest.FixtureRequest) -> WorldGenerator:
    return make_world(FAMILIES[request.param])


def clip(batch: int, frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, frames, *SIZE, 3), np.uint8)


def texts(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 5, 12, generator=torch.Generator().manual_seed(seed))


def test_text2world_makes_a_clip_that_follows_its_text_and_seed(world: WorldGenerator) -> None:
    calls: list[tuple[int, int]] = []
    out = text2world(world, texts(1), seeds=[3], progress=lambda *a: calls.append(a))
    assert out.shape == (1, 9, *SIZE, 3) and out.dtype == np.uint8
    assert calls[-1][0] == calls[-1][1] == len(calls)
    assert np.array_equal(out, text2world(world, texts(1), seeds=[3]))
    assert not np.array_equal(out, text2world(world, texts(1), seeds=[4]))
    assert not np.array_equal(out, text2world(world, texts(1, seed=1), seeds=[3]))


def test_given_frames_come_back_and_the_rest_depends_on_them(world: WorldGenerator) -> None:
    given = clip(1, 5)
    out = video2world(world, np.concatenate((clip(1, 4, seed=9), given), axis=1), texts(1), seeds=[0])
    expected = given[:, -world.settings.given_frames :]
    assert np.array_equal(out[:, : expected.shape[1]], expected)
    image = image2world(world, given[:, 0], texts(1), seeds=[0])
    assert np.array_equal(image[:, 0], given[:, 0])
    other = image2world(world, clip(1, 1, seed=5)[:, 0], texts(1), seeds=[0])
    assert not np.array_equal(image[:, 1:], other[:, 1:])


def test_given_latents_come_back_exactly(world: WorldGenerator) -> None:
    noise = row_noise([0, 1], world.latent_shape())
    given = Given(torch.randn(noise.shape), torch.tensor([True, True, False]))

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.tanh(x.roll(1, dims=2)) + timesteps.cos().mean()

    out = world.settings.sample(network, noise, given)
    assert torch.equal(out[:, :, :2], given.latents[:, :, :2])
    assert torch.isfinite(out).all() and not torch.equal(out[:, :, 2], given.latents[:, :, 2])


@pytest.mark.parametrize(
    ("family", "held"),
    [("predict2", 1e-4), ("predict2.5", None), ("predict2.5-karras", 0.1), ("distilled", 1e-4)],
)
def test_the_network_sees_given_frames_as_published(family: str, held: float | None) -> None:
    settings = FAMILIES[family]
    noise = row_noise([0], (4, 3, 4, 6))
    given = Given(torch.randn(noise.shape), torch.tensor([True, False, False]))
    inputs: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        inputs.append((x, timesteps))
        return torch.zeros_like(x)

    settings.sample(network, noise, given)
    for x, timesteps in inputs:
        assert torch.equal(x[:, :, 0], given.latents[:, :, 0])
        if held is None:
            assert timesteps.shape == (1, 1)
        else:
            assert timesteps[0, 0] == pytest.approx(held, rel=1e-3)
            assert timesteps[0, 1] == timesteps[0, 2] > held


GAUSSIAN: list[Settings] = [Predict1Settings(steps=150), Predict2Settings(), Predict25Settings()]


@pytest.mark.parametrize("settings", GAUSSIAN, ids=lambda s: type(s).__name__)
def test_the_best_network_for_a_gaussian_gives_that_gaussian(settings: Settings) -> None:
    """Parameterisation, schedule, solver and initial noise fit each other: noise becomes mean + std * noise."""
    mean, std = 0.8, 0.5

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        t = float(timesteps[0, 0]) / (1000 if isinstance(settings, Predict25Settings) else 1)
        if isinstance(settings, Predict1Settings):
            sigma = np.exp(4 * t)
            skip, out, scale, _ = (float(c) for c in edm_scaling(torch.tensor(sigma)))
            x = x / scale
        else:  # rectified flow at time t
            sigma, skip, out = t / (1 - t), 1.0, -t
        noisy = x if isinstance(settings, Predict1Settings) else x / (1 - t)
        x0 = mean + std**2 / (std**2 + sigma**2) * (noisy - mean)
        return (x0 - skip * x) / out

    noise = row_noise([0], (4, 2, 4, 6))
    assert (settings.sample(network, noise) - (mean + std * noise)).abs().max() < 0.05


def test_predict1_lets_go_of_given_frames_below_the_noise_it_shows_them_with() -> None:
    settings = Predict1Settings(steps=12, **TINY)
    noise = row_noise([0], (4, 2, 4, 6))
    given = Given(torch.randn(noise.shape), torch.tensor([True, False]))
    seen: list[tuple[float, bool]] = []
    as_shown = (given.latents + settings.augment_sigma * noise) / np.hypot(settings.augment_sigma, settings.sigma_data)

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        seen.append((float(timesteps[0, 0]), torch.allclose(x[:, :, 0], as_shown[:, :, 0])))
        return torch.zeros_like(x)

    settings.sample(network, noise, given)
    for c_noise, held in seen:
        assert held == (np.exp(4 * c_noise) > settings.augment_sigma)
    assert not seen[-1][1]


@pytest.mark.parametrize("family", ["predict1", "predict2.5"])
def test_a_row_depends_on_its_seed_alone(family: str) -> None:
    world = make_world(FAMILIES[family])
    given, context = clip(3, 1), texts(3)
    together = generate(world, seeds=[5, 6, 7], context=context, given=given)
    alone = generate(world, seeds=[6], context=context[1:2], given=given[1:2])
    assert np.array_equal(together[1:2], alone)
    at_once = generate(world, seeds=[5, 6, 7], context=context, given=given, rows_at_once=2)
    assert np.abs(at_once.astype(int) - together).max() <= 1


def test_guidance_of_zero_is_no_guidance(world: WorldGenerator) -> None:
    zero = replace(world, settings=replace(world.settings, guidance=0.0))
    a = generate(zero, seeds=[0], context=texts(1), negative=texts(1, seed=1))
    assert np.array_equal(a, generate(zero, seeds=[0], context=texts(1)))
    strong = replace(world, settings=replace(world.settings, guidance=3.0))
    assert not np.array_equal(a, generate(strong, seeds=[0], context=texts(1), negative=texts(1, seed=1)))


def test_guidance_in_one_pass_equals_two() -> None:
    world = make_world(FAMILIES["predict2"])
    one, two = (
        generate(world, seeds=[0, 1], context=texts(2), negative=texts(1, seed=1), given=clip(2, 1), one_pass=one_pass)
        for one_pass in (True, False)
    )
    assert np.abs(one.astype(int) - two).max() <= 1


def test_guidance_follows_the_papers_convention() -> None:
    def network(x: Tensor, timesteps: Tensor, *, context: Tensor, keys: list[tuple[Tensor, ...]], fps: float) -> Tensor:
        return x * 0 + context.sum(dim=1)[:, None] + keys[0][0] + fps

    x, t = torch.zeros(2, 3), torch.zeros(2, 1)
    cond = {"context": torch.tensor([[1.0], [2.0]]), "keys": [(torch.full((2, 3), 5.0),)], "fps": 24.0}
    uncond = {**cond, "context": torch.zeros(2, 1), "keys": [(torch.zeros(2, 3),)]}
    expected = torch.tensor([[24 + 6 + 2 * 6.0] * 3, [24 + 7 + 2 * 7.0] * 3])
    for one_pass in (True, False):
        assert torch.allclose(guided(network, cond, uncond, 2.0, one_pass=one_pass)(x, t), expected)
    assert torch.equal(guide(torch.tensor(3.0), torch.tensor(1.0), 0.5), torch.tensor(4.0))
    with pytest.raises(UserError, match="context: \\[2, 1\\] with the condition and \\[2, 4\\] without"):
        guided(network, cond, {**uncond, "context": torch.zeros(2, 4)}, 2.0)


def test_a_long_rollout_is_its_chunks() -> None:
    world = make_world(FAMILIES["predict2.5"])
    given, context = clip(2, 1), texts(2)
    calls: list[tuple[int, int]] = []
    out = long_rollout(
        world, 3, seeds=[1, 2], given=given, context=context, progress=lambda *a: calls.append(a), rows_at_once=2
    )
    assert out.shape == (2, 9 + 2 * 4, *SIZE, 3)
    expected = generate(world, seeds=[1, 2], given=given, context=context, rows_at_once=2)
    for i in (1, 2):
        part = generate(world, seeds=[1, 2], given=expected[:, -5:], context=context, chunk=i, rows_at_once=2)
        expected = np.concatenate((expected, part[:, 5:]), axis=1)
    assert np.array_equal(out, expected)
    assert calls[-1][0] == calls[-1][1] == len(calls)


def test_every_chunk_has_noise_of_its_own() -> None:
    first, second = (row_noise([7], (2, 3), chunk) for chunk in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, row_noise([8, 7], (2, 3))[1:])


@pytest.mark.parametrize(
    ("settings", "dit"),
    [
        (replace(predict25_action_settings(), steps=2), replace(DIT, action_dim=7, actions_per_latent=4)),
        (replace(predict2_action_settings(), steps=2), replace(DIT, action_dim=7, action_chunk=12)),
    ],
    ids=["per latent frame", "whole chunk"],
)
def test_action_chunks_go_on_from_the_last_frame(settings: Settings, dit: DiTConfig) -> None:
    world = make_world(replace(settings, frame_size=SIZE), dit)
    frames = clip(2, 1)[:, 0]
    actions = torch.randn(2, 24, 7, generator=torch.Generator().manual_seed(0))
    out = action_rollout(world, frames, actions, seeds=[0, 1], context=texts(2))
    assert out.shape == (2, 25, *SIZE, 3) and np.array_equal(out[:, 0], frames)
    again = action_rollout(world, frames, actions[:, :12], seeds=[0, 1], context=texts(2))
    assert np.array_equal(out[:, :13], again)
    second = generate(
        world,
        seeds=[0, 1],
        given=again[:, -1:],
        context=texts(2),
        chunk=1,
        conditions={"action": clip_actions(dit, actions[:, 12:])},
    )
    assert np.array_equal(out[:, 13:], second[:, 1:])
    changed = actions.clone()
    changed[:, 20] += 1
    other = action_rollout(world, frames, changed, seeds=[0, 1], context=texts(2))
    assert np.array_equal(other[:, :13], out[:, :13]) and not np.array_equal(other[:, 13:], out[:, 13:])


def test_latents_are_normalised_per_channel_or_per_frame() -> None:
    world = make_world(FAMILIES["predict1"])
    frames = clip(1, 5)
    plain = replace(world, latent_mean=None, latent_std=None).encode(frames) / 0.5
    for shape in ((4,), (4, 3)):
        mean, std = torch.randn(shape), torch.rand(shape) + 0.5
        normal = replace(world, latent_mean=mean, latent_std=std)
        by_frame = [a.reshape(4, -1)[:, :2].expand(4, 2)[..., None, None] for a in (mean, std)]
        assert torch.allclose(normal.encode(frames), (plain - by_frame[0]) / by_frame[1] * 0.5, atol=1e-6)
        back = world.decode(world.encode(frames))
        assert np.abs(normal.decode(normal.encode(frames)).astype(int) - back).max() <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: generate(w, seeds=[0], given=clip(1, 4)), "4 frames: this tokenizer takes 1 \\+ a multiple of 4"),
        (lambda w: generate(w, seeds=[0], given=clip(1, 9)), "a clip has 9, and 9 of them are given"),
        (lambda w: generate(w, seeds=[0, 1], given=clip(1, 1)), "expected uint8 \\[2, T, 16, 24, 3\\], got uint8"),
        (lambda w: generate(w, seeds=[0, 1, 2], context=texts(2)), "context: expected 3 rows, one per seed, got 2"),
        (lambda w: long_rollout(w, 2, seeds=[0], overlap=9), "overlap of 9 frames"),
        (lambda w: action_rollout(w, clip(1, 1)[:, 0], torch.zeros(1, 9, 7), seeds=[0]), "in chunks of 8"),
        (
            lambda w: action_rollout(w, clip(1, 1)[:, 0], torch.zeros(1, 8, 7), seeds=[0]),
            "takes 0 numbers per action, got 7",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(call: Callable[[WorldGenerator], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(make_world(FAMILIES["predict2.5"]))


def test_a_text2world_network_takes_no_frames() -> None:
    world = make_world(FAMILIES["predict1"], replace(DIT, condition_mask=False))
    assert text2world(world, texts(1), seeds=[0]).shape == (1, 9, *SIZE, 3)
    with pytest.raises(UserError, match="this network is Text2World"):
        image2world(world, clip(1, 1)[:, 0], texts(1), seeds=[0])


def test_published_settings() -> None:
    assert (Predict1Settings().steps, Predict1Settings().guidance, Predict1Settings().frames) == (35, 7.0, 121)
    assert (Predict2Settings().steps, Predict2Settings().sigma_min, Predict2Settings().frames) == (35, 0.002, 93)
    assert (Predict25Settings().shift, Predict25Settings().fps) == (5.0, 16.0)
    action = predict25_action_settings()
    assert (action.frames, action.frame_size, action.fps, action.given_frames) == (13, (256, 320), 4.0, 1)
