"""`wfm-sim generate` at tiny sizes."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from wfm_sim.cli import main
from wfm_sim.cli_generate import first_frames
from wfm_sim.data.video import read_video, write_video
from wfm_sim.models.autoregressive_layers import TransformerConfig
from wfm_sim.models.generators import GENERATORS, load_generator
from wfm_sim.models.published import registry
from wfm_sim.models.published.presets_dit import DITS
from wfm_sim.models.published.presets_tokenizer import TOKENIZERS
from wfm_sim.models.wan_vae import WanConfig

FSQ = {"fsq_levels": (4, 4, 4), "latent_channels": 3}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="the WAN2.1 autoencoder needs diffusers (extra 'cosmos')")

    def tiny(name: str):  # type: ignore[no-untyped-def]
        cfg = DITS[name]
        small = {"in_channels": 4, "out_channels": 4, "model_channels": 48, "num_blocks": 1, "num_heads": 2}
        made = replace(cfg(), **small, adaln_lora_dim=8, context_channels=16)
        return replace(made, context_projection=40 if made.context_projection else None)

    for name in ("predict1-7b-video2world", "predict2-2b-text2image", "predict2.5-2b"):
        monkeypatch.setitem(
            registry.PRESETS, name, replace(registry.PRESETS[name], config=lambda name=name: tiny(name))
        )
    wan = replace(
        registry.PRESETS["wan2.1-vae"],
        config=lambda: WanConfig(dim=8, z_dim=4, num_res_blocks=1, mean=(0.0,) * 4, std=(1.0,) * 4),
    )
    monkeypatch.setitem(registry.PRESETS, "wan2.1-vae", wan)
    cv8 = "cosmos-tokenize1-cv8x8x8-720p"
    small_cv8 = replace(
        registry.PRESETS[cv8], config=lambda: replace(TOKENIZERS["cv8x8x8-720p"](), channels=8, latent_channels=4)
    )
    monkeypatch.setitem(registry.PRESETS, cv8, small_cv8)


def test_a_token_model_continues_a_picture(image: Path, tmp_path: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    transformer = TransformerConfig(
        vocab=64, dim=32, layers=1, heads=2, kv_heads=1, head_dim=16, ffn_hidden=48, latent_shape=(3, 2, 3), max_len=18
    )
    for name, config in (
        ("predict1-4b", lambda: transformer),
        ("cosmos-tokenize1-dv8x16x16-720p", lambda: replace(TOKENIZERS["dv8x16x16-720p"](), channels=8, **FSQ)),
    ):
        monkeypatch.setitem(registry.PRESETS, name, replace(registry.PRESETS[name], config=config))
    fixed = ["--checkpoint", "random", "--device", "cpu"]
    out = tmp_path / "clip.mp4"
    assert main(["generate", "predict1-4b", "--out", str(out), "--begin", str(image), "--frames", "20", *fixed]) == 0
    assert read_video(out).shape == (20, 32, 48, 3) and "random weights" in capsys.readouterr().out
    assert main(["generate", "predict1-4b", "--out", str(out), *fixed]) == 2
    assert "give --begin" in capsys.readouterr().err
    assert main(["generate", "predict1-4b", "--out", str(out), "--begin", str(image), "--steps", "3", *fixed]) == 2
    assert "no setting 'steps'" in capsys.readouterr().err


def run(*arguments: str | Path) -> int:
    fixed = ["--checkpoint", "random", "--device", "cpu", "--size", "32x48", "--steps", "2"]
    return main(["generate", *map(str, arguments), *fixed])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "first.png"
    cv2.imwrite(str(path), RNG.integers(0, 256, (64, 80, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize(("name", "frames"), [("predict1-7b-video2world", 9), ("predict2.5-2b", 5)])
def test_a_clip_from_an_image(name: str, frames: int, image: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "new" / "clip.mp4"
    options = ["--frames", str(frames), "--begin", image]
    assert run(name, "--out", out, *options) == 0
    said = capsys.readouterr().out
    assert f"{frames} frames of 32x48" in said and "random weights" in said
    clip = read_video(out)
    assert clip.shape == (frames, 32, 48, 3)
    first = first_frames(image, (32, 48), 1)[0, 0]
    assert np.abs(clip[0].astype(int) - first).mean() < 12  # as far as the codec allows
    assert run(name, "--out", tmp_path / "again.mp4", *options) == 0
    assert np.array_equal(read_video(tmp_path / "again.mp4"), clip)
    assert run(name, "--out", tmp_path / "other.mp4", *options, "--seed", "1") == 0
    assert not np.array_equal(read_video(tmp_path / "other.mp4"), clip)


def test_chunks_continue_each_other_and_a_video_gives_its_last_frames(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    video = tmp_path / "given.mp4"
    write_video(video, RNG.integers(0, 256, (7, 32, 48, 3), dtype=np.uint8), 10)
    out = tmp_path / "clip.mp4"
    assert run("predict2.5-2b", "--out", out, "--frames", "9", "--begin", video, "--chunks", "2") == 0
    assert "13 frames" in capsys.readouterr().out  # 9 + 9 - 5 that are handed on
    assert np.array_equal(first_frames(video, (32, 48), 5)[0], read_video(video)[2:])


def test_an_image_from_text(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", RNG.normal(size=(3, 16)).astype(np.float32))
    out = tmp_path / "picture.png"
    assert run("predict2-2b-text2image", "--out", out, "--embedding", tmp_path / "text.npy") == 0
    assert cv2.imread(str(out)).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict2.5-2bb", "--out", "x.mp4"], "did you mean 'predict2.5-2b'"),
        (["predict2.5-2b", "--out", "x.avi"], "makes a .mp4 file"),
        (["predict2.5-2b", "--out", "x.mp4", "--begin", "nowhere.png"], "no such video"),
        (["predict2.5-2b", "--out", "x.mp4", "--frames", "7"], "such as 5"),
        (["predict2.5-2b", "--out", "x.mp4", "--size", "32by48"], "HEIGHTxWIDTH"),
        (["predict2.5-2b", "--out", "x.mp4", "--size", "33x48"], "multiples of 16"),
    ],
)
def test_wrong_input_is_one_sentence(arguments: list[str], said: str, capsys, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    fixed = ["--checkpoint", "random", "--device", "cpu", "--steps", "2"]
    fixed += [] if "--size" in arguments else ["--size", "32x48"]
    assert main(["generate", *arguments, *fixed]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_weights_the_file_is_named(tmp_path: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert main(["generate", "predict2.5-2b", "--out", "x.mp4"]) == 2
    assert "81edfebe-bd6a-4039-8c1d-737df1a790bf_ema_bf16.pt" in capsys.readouterr().err


def test_every_generator_is_a_preset_with_settings_that_fit_its_tokenizer() -> None:
    for name, settings in GENERATORS.items():
        assert registry.PRESETS[name].family == "dit"
        ratio = 8 if name.startswith("predict1") else 4
        assert (settings().frames - 1) % ratio == 0, name
    world = load_generator("predict2.5-2b", "random", device="cpu", dtype=torch.float32)
    assert world.settings == GENERATORS["predict2.5-2b"]()
