"""Every preset: its exact size, where its weights are looked for, and its line in docs/models.md."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wfm_sim.errors import UserError
from wfm_sim.models.published import loading
from wfm_sim.models.published.families import FAMILIES
from wfm_sim.models.published.loading import find_checkpoint, load_preset, random_preset
from wfm_sim.models.published.network_files import save_network
from wfm_sim.models.published.registry import PRESETS, Preset, preset

# As published, in the digits that are: facts of the papers, model cards and NVIDIA's own code.
PUBLISHED = {
    "predict1-7b-text2world": "7.236B",
    "predict1-14b-text2world": "14.267B",
    "predict1-4b": "4.01B",
    "predict1-5b-video2world": "4.58B",
    "predict1-12b": "11.56B",
    "predict1-13b-video2world": "13.32B",
    "predict2-2b-video2world": "1.956B",
    "predict2-14b-video2world": "14.265B",
    "predict2.5-2b": "2.059B",
    "predict2.5-2b-pre-trained": "2.059B",
    "predict2.5-2b-action": "2.127B",
    "predict2.5-14b": "14.368B",
    "cosmos-tokenize1-cv8x8x8-720p": "105.7M",
    "cosmos-tokenize1-cv4x8x8-360p": "110.2M",
    "cosmos-tokenize1-dv8x16x16-720p": "110.9M",
    "cosmos-tokenize1-dv4x8x8-360p": "112.6M",
    "cosmos-tokenize1-ci8x8-360p": "81.4M",
    "cosmos-tokenize1-di16x16-360p": "86.5M",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    said = PUBLISHED[name]
    digits = len(said.partition(".")[2]) - 1
    count = preset(name).parameters / {"B": 1e9, "M": 1e6}[said[-1]]
    assert f"{count:.{digits}f}{said[-1]}" == said


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_whole(name: str) -> None:
    kind = PRESETS[name]
    assert kind.family in FAMILIES
    assert kind.files
    assert kind.inputs
    assert kind.paper
    assert kind.parity
    assert kind.text in ("", "t5", "reason1")
    config = kind.config()
    assert FAMILIES[kind.family].read_config(_json(config.to_dict())) == config


def _json(value: Any) -> Any:
    """After a trip through JSON: tuples are lists."""
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    return [_json(v) for v in value] if isinstance(value, (list, tuple)) else value


def test_memory_is_more_than_the_weights() -> None:
    for name in ("predict1-7b-text2world", "predict1-4b", "cosmos-tokenize1-cv8x8x8-720p", "wan2.1-vae"):
        assert PRESETS[name].memory > 2 * PRESETS[name].parameters


def test_an_unknown_preset() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'predict2\.5-2b-acton'; did you mean 'predict2\.5-2b-action'"):
        load_preset("predict2.5-2b-acton")


def test_what_is_expected_and_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as error:
        load_preset("predict2.5-2b-action")
    assert "robot/action-cond/38c6c645-7d41-4560-8eeb-6f4ddc0e6574_ema_bf16.pt" in str(error.value)
    assert str(tmp_path / "models--nvidia--Cosmos-Predict2.5-2B") in str(error.value)
    with pytest.raises(UserError, match="no weights of this network were published; give a checkpoint"):
        load_preset("predict1-7b-camera")


def test_which_files_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    tokenizer, dit = preset("cosmos-tokenize1-cv8x8x8-720p"), preset("predict2-2b-video2world")
    encoder = made("parts/encoder.jit")
    with pytest.raises(UserError, match=r"decoder\.jit"):
        find_checkpoint(tokenizer, encoder.parent)
    parts = [encoder, made("parts/decoder.jit")]
    assert find_checkpoint(tokenizer, encoder.parent) == parts
    assert find_checkpoint(tokenizer, encoder) == parts  # one of two: the other lies beside it
    whole = made("whole/autoencoder.jit")
    assert find_checkpoint(tokenizer, whole.parent) == find_checkpoint(tokenizer, whole) == [whole]
    mine = made("mine.pt")
    assert find_checkpoint(dit, mine) == [mine]
    made("pipeline/transformer/diffusion_pytorch_model.safetensors")
    assert find_checkpoint(dit, tmp_path / "pipeline") == [tmp_path / "pipeline" / "transformer"]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cached = made("models--nvidia--Cosmos-Predict2-2B-Video2World/snapshots/abc/model-480p-10fps.pt")
    assert find_checkpoint(dit) == [cached]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Preset:
    """predict2.5-2b-action at a size that can be loaded."""
    big = preset("predict2.5-2b-action")
    small = {"model_channels": 48, "num_heads": 2, "num_blocks": 2, "adaln_lora_dim": 8, "context_projection": 40}
    made = dataclasses.replace(big, config=lambda: dataclasses.replace(big.config(), **small))
    monkeypatch.setitem(PRESETS, "predict2.5-2b-action", made)
    return made


def test_a_preset_with_random_weights(tiny: Preset) -> None:
    a, b, c = (random_preset("predict2.5-2b-action", seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    weight = "blocks.1.mlp.layer2.weight"
    assert not torch.equal(a.state_dict()[weight], c.state_dict()[weight])
    fresh: nn.Module = FAMILIES["dit"].build(tiny.config())
    assert all(torch.equal(buffer, fresh.get_buffer(name)) for name, buffer in a.named_buffers())
    assert all(value.isfinite().all() for value in a.state_dict().values())
    assert {p.dtype for p in random_preset("predict2.5-2b-action", dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }


def test_a_preset_loads_from_the_hub_cache(tiny: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    network = random_preset("predict2.5-2b-action")
    path = tmp_path / "models--nvidia--Cosmos-Predict2.5-2B" / "snapshots" / "0" / tiny.files[0]
    path.parent.mkdir(parents=True)
    torch.save({f"net.{k}": v for k, v in network.state_dict().items()}, path)
    loaded = load_preset("predict2.5-2b-action")
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in network.state_dict().items())
    # The same, saved as ours and given by path.
    saved = save_network(loaded, tmp_path / "x.safetensors", family="dit", config=tiny.config().to_dict())
    again = load_preset("predict2.5-2b-action", saved, dtype=torch.float64)
    assert again.state_dict()["final_layer.linear.weight"].dtype == torch.float64
    assert loading.load_network(saved).state_dict().keys() == loaded.state_dict().keys()


def test_docs_have_every_preset(root: Path) -> None:
    rows = {}
    for line in (root / "docs" / "models.md").read_text().splitlines():
        found = re.match(r"\| `([^`]+)` \| (.*) \| (.*) \| (.*) \| (.*) \|$", line)
        if found:
            rows[found.group(1)] = found.groups()[1:]
    assert [name for name in rows if name in PRESETS] == list(PRESETS)
    for name, kind in PRESETS.items():
        weights, count, paper, parity = rows[name]
        if kind.repository:
            assert weights == f"`{kind.repository}`: `{', '.join(kind.files)}`"
        else:
            assert weights == "not published"
        scale = 1e9 if count.endswith("B") else 1e6
        assert float(count[:-1]) == pytest.approx(kind.parameters / scale, rel=1e-3)
        assert paper == kind.paper
        assert re.findall(r"`([^`]+)`", parity) == list(kind.parity)


def test_docs_name_every_reference_case(root: Path) -> None:
    folder = Path(os.environ.get("WFM_SIM_REAL_DATA", root / ".." / "shared" / "data")) / "parity"
    names = [path.stem for path in folder.glob("*.safetensors")]
    if not names:
        pytest.skip("the reference cases are not here (set WFM_SIM_REAL_DATA)")
    text = (root / "docs" / "models.md").read_text()
    assert [name for name in names if f"`{name}`" not in text] == []
