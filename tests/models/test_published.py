"""Networks from files: published names and layouts, our own format, strictness, and what loading costs in memory."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.autoregressive_layers import TransformerConfig, Yarn
from wfm_sim.models.dit import DiT
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.published import names_dit, names_tokenizer, names_wan
from wfm_sim.models.published.loading import latent_statistics, load_files, load_network
from wfm_sim.models.published.network_files import on_meta, parameter_count, save_network
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig
from wfm_sim.models.wan_vae import WanConfig, WanVAE

DIT = DiTConfig(
    in_channels=4,
    out_channels=4,
    model_channels=48,
    num_blocks=2,
    num_heads=2,
    adaln_lora_dim=8,
    context_channels=16,
    context_projection=40,
    action_dim=7,
    max_size=16,
)
PREDICT1 = replace(
    DIT,
    context_projection=None,
    action_dim=0,
    condition_mask=False,
    rope_fps=True,
    absolute_positions="learnable",
    max_positions=(16, 8, 8),
)
AR = TransformerConfig(
    dim=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=12,
    ffn_hidden=24,
    vocab=40,
    embeddings=44,
    yarn=Yarn(original=(1, 3), scale=2, beta_fast=4, beta_slow=1),
    latent_shape=(2, 3, 4),
    bov=True,
    max_len=32,
    context_dim=16,
    absolute=True,
)


def randomised(network: nn.Module) -> Any:
    """With every parameter drawn anew: zero-initialised ones would hide what was mixed up."""
    torch.manual_seed(0)
    for value in network.parameters():
        nn.init.normal_(value, std=0.3)
    return network.eval().requires_grad_(False)


def same_state(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype, name
        assert torch.equal(value, theirs[name]), name


@torch.no_grad()
def dit_output(network: DiT) -> Tensor:
    cfg = network.cfg
    torch.manual_seed(1)
    x = torch.randn(1, 4, 3, 8, 8)
    context = torch.randn(1, 5, cfg.context_projection or cfg.context_channels)
    mask = torch.zeros(1, 1, 3, 8, 8) if cfg.condition_mask else None
    action = torch.randn(1, 3, cfg.action_inputs) if cfg.action_dim else None
    return network(x, torch.tensor([[0.3, 0.5, 0.7]]), context=context, condition_mask=mask, action=action)


# ------------------------------------------------------------------------------------------------ published layouts


def published_file(layout: str, network: DiT, folder: Path) -> Path:
    """A file of a layout as NVIDIA or diffusers publish it, with what else is in it."""
    state = names_dit.state_from_ours(network.state_dict(), layout, network.cfg)  # type: ignore[arg-type]
    if layout == "diffusers":
        (folder / "transformer").mkdir()
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "transformer" / "model.safetensors")
        return folder / "transformer"
    content: dict[str, Any] = {f"net.{name}": value for name, value in state.items()}
    if layout.startswith("predict1"):
        content |= {"logvar.0.freqs": torch.ones(3), "logvar.1.weight": torch.ones(1, 3)}
    else:
        content |= {"net.accum_video_sample_counter": torch.zeros(1), "net.blocks.0._extra_state": torch.zeros(0)}
    torch.save(content, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize(
    ("layout", "cfg"),
    [
        ("predict1", PREDICT1),
        ("predict1-training", PREDICT1),
        ("predict2", DIT),
        ("predict2", replace(DIT, context_projection=None, action_dim=0)),
        ("diffusers", PREDICT1),
        ("diffusers", replace(DIT, context_projection=None, action_dim=0)),
    ],
)
def test_a_published_dit_computes_what_was_saved(layout: str, cfg: DiTConfig, tmp_path: Path) -> None:
    network = randomised(DiT(cfg))
    loaded: Any = load_files("dit", cfg, [published_file(layout, network, tmp_path)])
    same_state(loaded, network)
    assert torch.equal(dit_output(loaded), dit_output(network))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_published_autoregressive_transformer(prefix: str, tmp_path: Path) -> None:
    network = randomised(CausalTransformer(AR))
    content = {f"{prefix}{k}": v.to(torch.bfloat16) for k, v in network.state_dict().items()}
    torch.save(content, tmp_path / "model.pt")
    loaded = load_files("autoregressive", AR, [tmp_path / "model.pt"], dtype=torch.float32)
    tokens, context = torch.arange(25)[None] + 5, torch.randn(1, 5, 16)
    rounded = CausalTransformer(AR)
    rounded.load_state_dict({k: v.to(torch.bfloat16).float() for k, v in network.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(loaded(tokens, context), rounded(tokens, context))


CV = TokenizerConfig(channels=8, num_res_blocks=1)
DV = replace(CV, spatial_compression=16, latent_channels=6, fsq_levels=(8, 8, 8, 5, 5, 5))
CI = TokenizerConfig(None, 8, 2, 32, (1, 1, 1), 1, num_groups=32)
DI = replace(CI, spatial_compression=16, z_channels=32, latent_channels=6, fsq_levels=(8, 8, 8, 5, 5, 5))


class Part(nn.Module):
    """Some modules of a tokenizer, under the names that encoder.jit, decoder.jit or autoencoder.jit have for them."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return x


def trace(part: Part) -> Any:
    return torch.jit.trace(part, torch.ones(1), check_trace=False)


@pytest.mark.parametrize(("kind", "cfg"), [("parts", CV), ("parts", DV), ("whole", CI), ("whole", DV), ("state", DI)])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_published_tokenizer(kind: str, cfg: TokenizerConfig, tmp_path: Path) -> None:
    network = randomised(Tokenizer(cfg))
    quantizer = {"quantizer": network.quantizer} if cfg.fsq_levels else {}
    encoder = {"encoder": network.encoder, "quant_conv": network.quant_conv, **quantizer}
    decoder = {"post_quant_conv": network.post_quant_conv, "decoder": network.decoder}
    if kind == "state":
        files = [tmp_path / "model.pt"]
        torch.save({"model": {f"network.{k}": v for k, v in network.state_dict().items()}, "iteration": 3}, files[0])
    elif kind == "whole":
        files = [tmp_path / "autoencoder.jit"]
        trace(Part(**encoder, **decoder)).save(files[0])
    else:
        files = [tmp_path / "encoder.jit", tmp_path / "decoder.jit"]
        trace(Part(**encoder)).save(files[0])
        wrapped = {"inv_quant": Part(**quantizer)} if quantizer else {}
        trace(Part(**wrapped, **decoder)).save(files[1])
    loaded: Any = load_files("tokenizer", cfg, files)
    same_state(loaded, network)
    for ours, theirs in zip(network.parameters(), loaded.parameters(), strict=True):
        assert ours.stride() == theirs.stride()  # the order in memory that makes it fast
    x = torch.rand(1, 3, 32, 32) if cfg.is_image else torch.rand(1, 3, 9, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.decode(loaded.encode(x)), network.decode(network.encode(x)))
    if kind == "parts":
        with pytest.raises(UserError, match=r"missing: decoder\.conv_in"):
            load_files("tokenizer", cfg, files[:1])


def test_a_published_tokenizer_of_diffusers(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(2)
    theirs = diffusers.AutoencoderKLCosmos(**names_tokenizer.diffusers_config(CV)).eval()
    theirs.save_pretrained(tmp_path)
    loaded: Any = load_files("tokenizer", CV, [tmp_path])
    x = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = theirs.encode(x).latent_dist.mode()
        assert torch.allclose(loaded.encode(x), expected, atol=1e-5)
        assert torch.allclose(loaded.decode(expected), theirs.decode(expected).sample, atol=1e-4)


@pytest.mark.parametrize("layout", ["published", "diffusers"])
def test_the_published_wan_autoencoder(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    cfg = WanConfig(dim=8, z_dim=4, mean=(0.1,) * 4, std=(2.0,) * 4)
    network = randomised(WanVAE(cfg))
    state = network.state_dict()
    if layout == "published":
        state = {names_wan.from_ours(name, 4, 2): value for name, value in state.items()}
        assert "encoder.middle.0.residual.0.gamma" in state
    torch.save(state, tmp_path / "tokenizer.pth")
    loaded: Any = load_files("wan", cfg, [tmp_path / "tokenizer.pth"])
    same_state(loaded, network)
    x = torch.rand(1, 3, 5, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.decode_video(loaded.encode_video(x)), network.decode_video(network.encode_video(x)))


def test_statistics_of_latents(tmp_path: Path) -> None:
    mean, deviation = torch.randn(1, 4, 3, 1, 1), torch.rand(1, 4, 3, 1, 1)
    torch.save((mean, deviation.to(torch.bfloat16)), tmp_path / "mean_std.pt")
    got = latent_statistics(tmp_path / "mean_std.pt", 4)
    assert torch.equal(got[0], mean[0, :, :, 0, 0])
    assert torch.equal(got[1], deviation.to(torch.bfloat16).float()[0, :, :, 0, 0])
    torch.save(mean, tmp_path / "one.pt")
    with pytest.raises(UserError, match="expected a mean and a deviation of 4 channels, got 1 tensors"):
        latent_statistics(tmp_path / "one.pt", 4)


def test_dtype_and_buffers(tmp_path: Path) -> None:
    path = published_file("predict2", randomised(DiT(DIT)), tmp_path)
    loaded = load_files("dit", DIT, [path], dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in loaded.buffers()} == {torch.float32}
    assert not any(p.requires_grad for p in loaded.parameters())


# -------------------------------------------------------------------------------------------------------- strictness


def test_every_key_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    network = randomised(DiT(DIT))
    path = published_file("predict2", network, tmp_path)
    content = torch.load(path)
    del content["net.blocks.0.mlp.layer1.weight"]
    del content["net.final_layer.linear.weight"]
    content["net.blocks.2.mlp.layer1.weight"] = torch.zeros(3, 2)
    content["net.t_embedding_norm.weight"] = torch.zeros(47)
    torch.save(content, path)
    with pytest.raises(UserError) as error:
        load_files("dit", DIT, [path])
    said = str(error.value)
    assert "2 missing: blocks.0.mlp.layer1.weight [192, 48], final_layer.linear.weight [16, 48];" in said
    assert "1 unexpected: blocks.2.mlp.layer1.weight [3, 2];" in said
    assert "1 of another shape: t_embedding_norm.weight [47] instead of [48]" in said


def test_long_lists_are_shortened_in_the_middle(tmp_path: Path) -> None:
    path = published_file("predict2", randomised(DiT(DIT)), tmp_path)
    deep = replace(DIT, num_blocks=8)
    with pytest.raises(UserError) as error:
        load_files("dit", deep, [path])
    count, more = map(int, re.findall(r"(\d+) missing: .* \.\.\. (\d+) more \.\.\., ", str(error.value))[0])
    expected = len(DiT(deep).state_dict()) - len(DiT(DIT).state_dict())
    assert (count, more) == (expected, expected - 40)
    assert "blocks.2.self_attn.q_proj.weight [48, 48]" in str(error.value)
    assert "blocks.7.adaln_modulation_mlp.2.weight [144, 8]" in str(error.value)


def test_the_wrong_family_is_named(tmp_path: Path) -> None:
    dit = published_file("predict2", randomised(DiT(DIT)), tmp_path)
    with pytest.raises(UserError, match=r"a diffusion transformer, where an autoregressive transformer is expected"):
        load_files("autoregressive", AR, [dit])
    torch.save(CausalTransformer(AR).state_dict(), tmp_path / "ar.pt")
    with pytest.raises(UserError, match=r"an autoregressive transformer, where a diffusion transformer is expected"):
        load_files("dit", DIT, [tmp_path / "ar.pt"])
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not the weights of a diffusion transformer: none of its 1 tensors"):
        load_files("dit", DIT, [tmp_path / "other.pt"])


# --------------------------------------------------------------------------------------------------------- our files


@pytest.mark.parametrize(
    ("family", "network"),
    [("dit", DiT(DIT)), ("dit", DiT(PREDICT1)), ("autoregressive", CausalTransformer(AR))],
    ids=["dit", "predict1", "autoregressive"],
)
@pytest.mark.parametrize("limit", [10**9, 60_000])
def test_round_trip(family: str, network: Any, limit: int, tmp_path: Path) -> None:
    randomised(network)
    config = network.cfg.to_dict()
    about = {"from": "a test"}
    saved = save_network(
        network, tmp_path / "x.safetensors", family=family, config=config, about=about, shard_bytes=limit
    )
    assert saved.name == ("x.safetensors" if limit == 10**9 else "x.safetensors.index.json")
    for source in (saved, tmp_path):
        loaded: Any = load_network(source)
        assert loaded.cfg == network.cfg
        same_state(loaded, network)
    if family == "dit":
        assert torch.equal(dit_output(loaded), dit_output(network))
    same_state(load_files(family, network.cfg, [saved]), network)


def test_shards_are_as_the_hub_has_them(tmp_path: Path) -> None:
    network = randomised(DiT(DIT))
    save_network(network, tmp_path / "m.safetensors", family="dit", config=DIT.to_dict(), shard_bytes=200_000)
    index = json.loads((tmp_path / "m.safetensors.index.json").read_text())
    files = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    assert files == [f"m-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    assert len(files) > 2
    state = network.state_dict()
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in state.values())
    read: dict[str, Tensor] = {}
    for file in files:
        tensors = load_file(tmp_path / file)  # by the safetensors package
        assert sum(v.nbytes for v in tensors.values()) <= 200_000
        assert all(index["weight_map"][name] == file for name in tensors)
        read |= tensors
        with safe_open(tmp_path / file, "pt") as opened:
            assert json.loads(opened.metadata()["config"])["model_channels"] == 48
    assert all(torch.equal(read[name], value) for name, value in state.items())
    (tmp_path / files[1]).unlink()
    with pytest.raises(UserError, match="1 of its shards are missing"):
        load_network(tmp_path / "m.safetensors.index.json")


def test_our_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = save_network(DiT(DIT), tmp_path / "x.safetensors", family="dit", config=DIT.to_dict())
    with pytest.raises(UserError, match="a network of the family 'dit', expected 'autoregressive'"):
        load_files("autoregressive", AR, [path])
    with pytest.raises(UserError, match="of another configuration: num_blocks 2 instead of 3"):
        load_files("dit", replace(DIT, num_blocks=3), [path])
    save_file({"a": torch.ones(1)}, tmp_path / "y.safetensors")
    with pytest.raises(UserError, match="does not say what network it holds"):
        load_network(tmp_path / "y.safetensors")


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    network = on_meta(lambda: DiT(DIT))  # has no values to save
    with pytest.raises((RuntimeError, NotImplementedError)):
        save_network(network, tmp_path / "x.safetensors", family="dit", config=DIT.to_dict())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"saved as \.safetensors files"):
        save_network(network, tmp_path / "x.pt", family="dit", config=DIT.to_dict())


def test_parameters_are_counted_without_memory() -> None:
    small = DiT(DIT)
    assert parameter_count(lambda: DiT(DIT)) == sum(p.numel() for p in small.parameters())
    huge = replace(DIT, model_channels=2**16, num_heads=2**9)  # hundreds of gigabytes
    assert parameter_count(lambda: DiT(huge)) > 10**11


LARGE = DiTConfig(model_channels=768, num_heads=6, num_blocks=10, adaln_lora_dim=64, cross_attention=False)
PEAK = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.published.loading import load_files

path, dtype, config = sys.argv[1:]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
before = peak()
network = load_files("dit", DiTConfig(**json.loads(config)), [Path(path)], dtype=getattr(torch, dtype))
print(sum(p.nbytes for p in network.parameters()), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux reports it")
@pytest.mark.parametrize(("kind", "dtype"), [("pt", "float32"), ("safetensors", "float32"), ("pt", "bfloat16")])
def test_loading_takes_less_than_a_fifth_more_than_the_model(kind: str, dtype: str, tmp_path: Path) -> None:
    # What it computes does not matter here, so that nothing needs to be drawn.
    state = {k: torch.zeros(v.shape) for k, v in on_meta(lambda: DiT(LARGE)).state_dict().items()}
    path = tmp_path / f"model.{kind}"
    if kind == "pt":
        torch.save({f"net.{k}": v for k, v in state.items()}, path)
    else:
        save_file(state, path)
    assert path.stat().st_size > 300e6
    command = [sys.executable, "-c", PEAK, str(path), dtype, json.dumps(LARGE.to_dict())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, extra = map(int, done.stdout.split())
    assert size > 150e6
    assert extra < 1.2 * size, f"{extra / size:.2f} times the model"
