"""The published action models as simulators, at tiny sizes: the same code with small networks in its places."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import wfm_sim  # noqa: F401
from wfm_sim.errors import UserError
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.published import registry
from wfm_sim.models.published.names_wan import from_ours
from wfm_sim.models.published.presets_dit import DITS
from wfm_sim.models.published.presets_tokenizer import TOKENIZERS
from wfm_sim.models.simulators import EMPTY_PROMPT, RANDOM_NOTICE, SIMULATORS, load_simulator
from wfm_sim.models.tokenizer import TokenizerConfig
from wfm_sim.models.wan_vae import WanConfig

SIZE = (32, 48)
SEVEN = [name for name in SIMULATORS if not name.endswith(("gr1", "g1"))]
CLIPS = [name for name in SEVEN if "interactive" not in name]
CAUSAL = "predict2.5-2b-action-interactive"
RNG = np.random.default_rng(0)


def tiny_dit(name: str) -> DiTConfig:
    cfg = DITS[name]()
    small = {"in_channels": 4, "out_channels": 4, "model_channels": 48, "num_blocks": 2, "num_heads": 2}
    return replace(
        cfg, **small, adaln_lora_dim=8, context_channels=16, context_projection=40 if cfg.context_projection else None
    )


def tiny_wan() -> WanConfig:
    return WanConfig(dim=8, z_dim=4, num_res_blocks=1, mean=(0.1,) * 4, std=(1.5,) * 4)


def tiny_cv() -> TokenizerConfig:
    return replace(TOKENIZERS["cv8x8x8-720p"](), channels=8, latent_channels=4)


@pytest.fixture(autouse=True)
def tiny_presets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All action presets, and what they stand on, small."""
    pytest.importorskip("diffusers", reason="the WAN2.1 autoencoder needs diffusers (extra 'cosmos')")
    for name in SIMULATORS:
        tiny = replace(registry.PRESETS[name], config=lambda name=name: tiny_dit(name))
        monkeypatch.setitem(registry.PRESETS, name, tiny)
    for name, config in (("wan2.1-vae", tiny_wan), ("cosmos-tokenize1-cv8x8x8-720p", tiny_cv)):
        monkeypatch.setitem(registry.PRESETS, name, replace(registry.PRESETS[name], config=config))
    yield


def simulator(name: str, **options: Any) -> Any:
    if name != CAUSAL and not name.startswith(CAUSAL):
        options = {"steps": 2, **options}
    return load_simulator(name, "random", device="cpu", dtype=torch.float32, frame_size=SIZE, **options)


def frames(rows: int, t: int = 1) -> np.ndarray:
    return RNG.integers(0, 256, (rows, t, *SIZE, 3), dtype=np.uint8)


def conditions(model: Any, rows: int) -> np.ndarray:
    spec = model.spec
    low, high = np.array(spec.condition_low), np.array(spec.condition_high)
    return RNG.uniform(low, high, (rows, spec.frames_per_step, len(low))).astype(np.float32)


@pytest.mark.parametrize("name", SIMULATORS)
def test_every_action_preset_keeps_the_contract(name: str) -> None:
    model = simulator(name)
    per_step = {"predict1-7b-action": 1, "predict2-2b-action": 12, "predict2.5-2b-action": 12}.get(name, 4)
    assert model.spec.frames_per_step == per_step and model.spec.notice == RANDOM_NOTICE
    first, told = frames(2), conditions(model, 2)
    state = model.start(first, seeds=[3, 4])
    new, clip = model.step(state, told)
    assert clip.shape == (2, per_step, *SIZE, 3) and clip.dtype == np.uint8
    again, same = model.step(state, told)  # a state is a value
    assert np.array_equal(clip, same)
    _, further = model.step(new, told)
    assert not np.array_equal(further, clip)
    # a fork, and a row that was regrouped, go on as they would have
    joined = type(new).cat([again[[1]], new[[0]]])
    _, regrouped = model.step(joined, told[::-1].copy())
    assert np.abs(regrouped[::-1].astype(int) - further).max() <= 1
    if hasattr(new, "exchanged"):
        mixed = new.exchanged([1], again[[0]])
        _, swapped = model.step(mixed, told[[0, 0]])
        assert np.abs(swapped[0].astype(int) - further[0]).max() <= 1
        assert np.abs(swapped[1].astype(int) - further[0]).max() <= 1
    # another seed, another action
    _, other = model.step(model.start(first, seeds=[3, 5]), told)
    assert np.abs(other[0].astype(int) - clip[0]).max() <= 1 and not np.array_equal(other[1], clip[1])
    _, moved = model.step(state, np.zeros_like(told))
    assert not np.array_equal(moved, clip)


@pytest.mark.parametrize("bad", ["shape", "nan", "frames"])
@pytest.mark.parametrize("name", ["predict2.5-2b-action", CAUSAL])
def test_wrong_input_is_told(name: str, bad: str) -> None:
    model = simulator(name)
    if bad == "frames":
        with pytest.raises(UserError, match="expected uint8"):
            model.start(frames(1)[:, :, :-8])
        return
    told = conditions(model, 1)
    told = told[:, 1:] if bad == "shape" else told * np.nan
    with pytest.raises(UserError, match=r"condition: (expected shape|every number)"):
        model.step(model.start(frames(1)), told)


def test_a_stream_of_latents_decodes_as_the_whole_clip_does() -> None:
    model = simulator(CAUSAL)
    first = frames(2, 5)  # two latent frames
    state = model.start(first, seeds=[0, 1])
    latents, clip = [model.encode(first)], []
    for _ in range(3):
        state, new = model.step(state, conditions(model, 2))
        latents.append(state.latent[:, :, None])
        clip.append(new)
    whole = model.decode(torch.cat(latents, dim=2))
    assert np.abs(np.concatenate(clip, axis=1).astype(int) - whole[:, 5:]).max() <= 1


def test_context_frames_count_from_the_end_in_whole_latents() -> None:
    model = simulator(CAUSAL)
    given = frames(1, 11)
    told = conditions(model, 1)
    _, a = model.step(model.start(given), told)
    _, b = model.step(model.start(given[:, 2:]), told)  # 9 = 1 + 2 * 4 frames
    assert np.array_equal(a, b)


def test_published_scale_of_actions() -> None:
    model = simulator(CAUSAL)
    action = np.array([[[0.01, -0.02, 0.03, 0.1, -0.1, 0.05, 1.0]]], np.float32)
    assert torch.allclose(model.scale_actions(action)[0, 0], torch.tensor([0.2, -0.4, 0.6, 2.0, -2.0, 1.0, 0.0]))
    joints = simulator("predict2.5-2b-action-interactive-gr1")
    row = np.linspace(-1, 1, 29, dtype=np.float32)
    assert torch.equal(joints.scale_actions(row), torch.from_numpy(row)) and set(joints.spec.condition_units) == {"rad"}


@pytest.mark.parametrize("name", ["predict1-7b-action", "predict2.5-2b-action", CAUSAL])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gym_make(name: str) -> None:
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, "frame_size": SIZE}
    if name != CAUSAL:
        options["steps"] = 1
    env = gym.make(
        "wfm_sim/ActionWorld-v0", world_model=name, checkpoint="random", model_options=options, max_episode_steps=24
    )
    image = frames(1)[0, 0]
    obs, info = env.reset(seed=0, options={"image": image})
    assert np.array_equal(obs["pixels"], image) and info["model_notice"] == RANDOM_NOTICE
    n = env.unwrapped.world.model.spec.frames_per_step
    assert env.action_space.shape == ((7,) if n == 1 else (n, 7))
    obs, *_, info = env.step(env.action_space.sample())
    assert obs in env.observation_space and info["model_notice"] == RANDOM_NOTICE
    if n > 1:
        assert np.array_equal(info["frames"][-1], obs["pixels"])


def test_the_checker_passes_on_a_chunk_environment(tmp_path: Path) -> None:
    model = simulator(CAUSAL)
    from wfm_sim.data import Episode
    from wfm_sim.data.bridge import write_episode

    episode = Episode(
        frames=frames(1, 6)[0], actions=np.zeros((5, 7), np.float32), states=np.zeros((6, 7), np.float32), id="0"
    )
    write_episode(tmp_path, "train", "0", episode)
    env = gym.make("wfm_sim/ActionWorld-v0", world_model=model, dataset=tmp_path, disable_env_checker=True)
    check_env(env.unwrapped, skip_render_check=True)


def test_without_a_checkpoint_the_expected_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        gym.make("wfm_sim/ActionWorld-v0", world_model="predict2.5-2b-action")
    said = str(caught.value)
    assert "38c6c645-7d41-4560-8eeb-6f4ddc0e6574_ema_bf16.pt" in said and str(tmp_path) in said
    with pytest.raises(UserError, match="does not exist"):
        load_simulator("predict2.5-2b-action", tmp_path / "nowhere")


def test_names_and_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean 'predict2.5-2b-action'"):
        gym.make("wfm_sim/ActionWorld-v0", world_model="predict2.5-2b-acton")
    with pytest.raises(UserError, match="takes no checkpoint"):
        gym.make("wfm_sim/ActionWorld-v0", world_model="nano-tabletop", checkpoint="random")
    with pytest.raises(UserError, match="multiples of 16"):
        load_simulator(CAUSAL, "random", device="cpu", frame_size=(40, 48))
    with pytest.raises(UserError, match="distilled"):
        load_simulator(CAUSAL, "random", device="cpu", frame_size=SIZE, steps=3)


def test_a_folder_of_published_files_is_loaded(tmp_path: Path) -> None:
    """Network, autoencoder and text under the names they were published with."""
    name = "predict2.5-2b-action"
    net, vae = simulator(name).generator.net, simulator(name).generator.tokenizer
    file = tmp_path / registry.PRESETS[name].files[0]
    file.parent.mkdir(parents=True)
    torch.save({f"net.{k}": v for k, v in net.state_dict().items()}, file)
    cfg = vae.cfg
    state = {from_ours(k, len(cfg.dim_mult), cfg.num_res_blocks): v for k, v in vae.state_dict().items()}
    torch.save(state, tmp_path / registry.PRESETS["wan2.1-vae"].files[0])
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float32, "frame_size": SIZE, "steps": 2}
    with pytest.raises(UserError, match=EMPTY_PROMPT):
        load_simulator(name, tmp_path, **options)
    context = torch.randn(1, 3, 40)
    torch.save(context, tmp_path / EMPTY_PROMPT)
    model: Any = load_simulator(name, tmp_path, **options)
    assert model.spec.notice == "" and torch.equal(model.context, context)
    by_hand = simulator(name)
    by_hand.context = context
    first, told = frames(1), conditions(model, 1)
    ours, reference = (m.step(m.start(first), told)[1] for m in (model, by_hand))
    assert np.array_equal(ours, reference)
