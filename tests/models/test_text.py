"""Text encoders: tiny random ones of transformers beside what diffusers' pipelines compute, files, and zeros."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wfm_sim.errors import UserError
from wfm_sim.models import text

WORDS = ["<pad>", "</s>", "<unk>", "<s>", "<u>", "<e>", "a", "robot", "arm", "pushes", "the", "red", "block", "You"]
PROMPTS = ["a robot arm pushes the red block", "the block", ""]
TEMPLATE = (
    "{% for m in messages %}{{ '<s> ' if m.role == 'system' else '<u> ' }}"
    "{% for c in m.content %}{{ c.text }}{% endfor %} <e> {% endfor %}"
)


def tokenizer(**options: Any) -> Any:
    """A word-level tokenizer; with `end`, T5's closing token."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if options.pop("end", False):
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", **options
    )


@pytest.fixture(scope="module")
def tiny_t5() -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    return transformers.T5EncoderModel(config).eval(), tokenizer(end=True)


@pytest.fixture(scope="module")
def tiny_reason1() -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(WORDS) + 4,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval(), tokenizer(chat_template=TEMPLATE)


def test_t5_is_zero_beyond_the_prompt(tiny_t5: tuple[Any, Any]) -> None:
    model, tok = tiny_t5
    encoder = text.t5(model, tok, length=12)
    got = encoder(PROMPTS)
    assert got.shape == (3, 12, 16)
    assert got.dtype == torch.float32
    assert (encoder.width, encoder.description) == (16, "T5 12 x 16")
    for row, words in zip(got, (7, 2, 0), strict=True):
        assert row[: words + 1].abs().sum(-1).min() > 0  # the words and the closing token
        assert row[words + 1 :].abs().max() == 0
    assert torch.allclose(encoder("the block"), got[1:2], atol=1e-6)
    assert encoder(["a robot"] * 2).shape == (2, 12, 16)
    assert encoder("a " * 40)[0, -1].abs().max() > 0  # truncated, not longer


def test_t5_as_the_predict1_pipeline(tiny_t5: tuple[Any, Any]) -> None:
    cosmos = pytest.importorskip("diffusers.pipelines.cosmos.pipeline_cosmos_text2world")
    model, tok = tiny_t5
    pipeline = SimpleNamespace(tokenizer=tok, text_encoder=model, _execution_device="cpu")
    theirs = cosmos.CosmosTextToWorldPipeline._get_t5_prompt_embeds(pipeline, PROMPTS, max_sequence_length=12)
    assert torch.allclose(text.t5(model, tok, length=12)(PROMPTS), theirs.detach(), atol=1e-6)


def test_reason1_concatenates_normalised_layers(tiny_reason1: tuple[Any, Any]) -> None:
    model, tok = tiny_reason1
    encoder = text.reason1(model, tok, length=20)
    got = encoder(PROMPTS)
    assert got.shape == (3, 20, 3 * 32)
    assert (encoder.width, encoder.description) == (96, "Cosmos-Reason1 20 x 96")
    layers = got.unflatten(-1, (3, 32))
    assert layers.mean(-1).abs().max() < 1e-5
    assert (layers.std(-1) - 1).abs().max() < 1e-4
    # Padding is computed like any token, and what follows a prompt does not change it (causal attention).
    assert got[1, -1].abs().max() > 0
    assert torch.allclose(text.reason1(model, tok, length=26)(PROMPTS)[:, :20], got, atol=1e-5)


def test_reason1_as_the_predict25_pipeline(tiny_reason1: tuple[Any, Any]) -> None:
    cosmos = pytest.importorskip("diffusers.pipelines.cosmos.pipeline_cosmos2_5_predict")
    model, tok = tiny_reason1
    pipeline = SimpleNamespace(tokenizer=tok, text_encoder=model, _execution_device="cpu")
    with torch.no_grad():
        theirs = cosmos.Cosmos2_5_PredictBasePipeline._get_prompt_embeds(pipeline, PROMPTS, max_sequence_length=24)
    assert torch.allclose(text.reason1(model, tok, length=24)(PROMPTS), theirs, atol=1e-5)


def test_the_normalisation_formula() -> None:
    x = torch.tensor([[1.0, 2.0, 6.0]])
    mean, deviation = 3.0, ((4 + 1 + 9) / 2) ** 0.5  # of a sample: n - 1
    assert torch.allclose(text.normalised(x), (x - mean) / (deviation + 1e-8))
    assert text.normalised(torch.ones(1, 4)).abs().max() == 0


def test_sizes_of_the_published_encoders() -> None:
    assert text.REASON1_WIDTH == 100_352
    assert text.zeros()(["a", "b"]).shape == (2, 512, 1024)
    assert text.zeros(8, 3)("a").abs().max() == 0


def test_precomputed_embeddings(tmp_path: Path) -> None:
    value = torch.randn(5, 8)
    torch.save(value[None].to(torch.bfloat16), tmp_path / "empty_string.pt")
    np.save(tmp_path / "one.npy", value.numpy())
    save_file({"push": value, "pull": -value}, tmp_path / "two.safetensors")
    got = text.precomputed(tmp_path / "empty_string.pt")(PROMPTS)
    assert got.shape == (3, 5, 8)
    assert torch.equal(got[2], value.to(torch.bfloat16).float())
    assert torch.equal(text.precomputed(tmp_path / "one.npy")("x"), value[None])
    two = text.precomputed(tmp_path / "two.safetensors")
    assert torch.equal(two(["pull", "push"]), torch.stack([-value, value]))
    assert (two.width, two.description) == (8, "precomputed in two.safetensors")
    with pytest.raises(UserError, match="unknown prompt 'pulll'; did you mean 'pull'"):
        two("pulll")


def test_bad_files_of_embeddings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of text embeddings"):
        text.precomputed(tmp_path / "absent.npy")
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"not a readable \.npy file of numbers"):
        text.precomputed(tmp_path / "evil.npy")
    np.save(tmp_path / "flat.npy", np.zeros(7))
    with pytest.raises(UserError, match=r"expected embeddings \[tokens, width\], got torch.float32 \(7,\)"):
        text.precomputed(tmp_path / "flat.npy")
    torch.save(torch.zeros(2, 3, dtype=torch.int64), tmp_path / "ids.pt")
    with pytest.raises(UserError, match=r"got torch\.int64"):
        text.precomputed(tmp_path / "ids.pt")
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)}, tmp_path / "mixed.safetensors")
    with pytest.raises(UserError, match=r"expected embeddings of one width, got \[3, 4\]"):
        text.precomputed(tmp_path / "mixed.safetensors")


@pytest.mark.parametrize("load", [text.load_t5, text.load_reason1])
def test_absent_weights_are_named(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"no config\.json of (google-t5/t5-11b|nvidia/Cosmos-Reason1-7B): looked for"):
        load()


def test_t5_loads_from_a_folder(tiny_t5: tuple[Any, Any], tmp_path: Path) -> None:
    model, tok = tiny_t5
    model.save_pretrained(tmp_path)
    tok.save_pretrained(tmp_path)
    loaded = text.load_t5(tmp_path, dtype=torch.float32)
    assert loaded("the block").shape == (1, 512, 16)
    assert torch.allclose(loaded("the block")[:, :12], text.t5(model, tok, length=12)("the block"), atol=1e-5)


def test_reason1_loads_from_a_folder(tiny_reason1: tuple[Any, Any], tmp_path: Path) -> None:
    model, tok = tiny_reason1
    model.save_pretrained(tmp_path)
    tok.save_pretrained(tmp_path)
    loaded = text.load_reason1(tmp_path, dtype=torch.float32)
    assert torch.allclose(loaded("the block")[:, :20], text.reason1(model, tok, length=20)("the block"), atol=1e-5)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'wfm-sim\[cosmos\]'"):
        text.load_t5()
