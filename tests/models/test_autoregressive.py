"""The autoregressive transformer: sizes, an independent oracle, and every way of reading a sequence in pieces."""

import json
from dataclasses import replace

import pytest
import torch

from tests.models.tiny_transformer import BASE, TEXT, VARIANTS, given, make
from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer, SequenceState
from wfm_sim.models.autoregressive_layers import TransformerConfig, absolute_embedding, rotary_angles
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.published.presets_autoregressive import AUTOREGRESSIVE, predict1_4b, predict1_12b


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("pieces", [(1,) * 16, (9, 1, 1, 5), (4, 6, 3, 3)])
def test_reading_in_pieces_equals_one_pass(name: str, pieces: tuple[int, ...]) -> None:
    model = make(VARIANTS[name])
    tokens, context = given(model.cfg)
    full = model(tokens, context)
    state = model.start(len(tokens), context)
    hidden = []
    for piece in tokens[:, : sum(pieces)].split(pieces, dim=1):
        state, h = model.advance(state, piece)
        hidden.append(h)
    assert torch.allclose(model.output(torch.cat(hidden, dim=1)), full[:, : sum(pieces)], atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_later_tokens_change_nothing(name: str) -> None:
    model = make(VARIANTS[name])
    tokens, context = given(model.cfg)
    other = tokens.clone()
    other[:, 9] = (other[:, 9] + 1) % model.cfg.vocab
    a, b = model(tokens, context), model(other, context)
    assert torch.allclose(a[:, :9], b[:, :9], atol=1e-12) and (a[:, 9:] - b[:, 9:]).abs().amax(dim=(0, 2)).min() > 1e-6


@pytest.mark.parametrize("name", ["video", "video2world", "text"])
def test_states_can_be_forked_regrouped_and_advanced_again(name: str) -> None:
    model = make(VARIANTS[name])
    tokens, context = given(model.cfg)
    full = model(tokens, context)
    start, _ = model.advance(model.start(3, context), tokens[:, :6])
    kept = start.clone()
    longer, _ = model.advance(start, tokens[:, 6:9])
    # rows of different age in one batch: row 1 has read 9 tokens, rows 2 and 0 have read 6
    mixed = SequenceState.cat([longer[[1]], start[[2, 0]]])
    assert len(mixed) == 3
    last: list[list[torch.Tensor]] = [[], [], []]
    for i in range(5):
        following = torch.stack([tokens[1, 9 + i], tokens[2, 6 + i], tokens[0, 6 + i]])[:, None]
        mixed, hidden = model.advance(mixed, following)
        for row in range(3):
            last[row].append(model.output(hidden[row, 0]))
    for row, (source, first) in enumerate(((1, 9), (2, 6), (0, 6))):
        assert torch.allclose(torch.stack(last[row]), full[source, first : first + 5], atol=1e-10)
    block = torch.stack([tokens[1, 9:14], tokens[2, 6:11]])  # several tokens at once into rows of different age
    _, hidden = model.advance(SequenceState.cat([longer[[1]], start[[2]]]), block)
    expected = torch.stack([full[1, 9:14], full[2, 6:11]])
    assert torch.allclose(model.output(hidden), expected, atol=1e-10)
    for state in (start, kept, start[[True, True, True]]):  # what came of a state does not change it
        _, hidden = model.advance(state, tokens[:, 6:8])
        assert torch.allclose(model.output(hidden), full[:, 6:8], atol=1e-10)


@pytest.mark.parametrize("interleaved", [False, True])
def test_text_model_equals_mistral(interleaved: bool) -> None:
    transformers = pytest.importorskip("transformers")
    cfg = replace(TEXT, rope_interleaved=interleaved, rope_theta=1e6)
    model = make(cfg)
    oracle = transformers.MistralForCausalLM(
        transformers.MistralConfig(
            vocab_size=cfg.vocab,
            hidden_size=cfg.dim,
            intermediate_size=cfg.ffn_hidden,
            num_hidden_layers=cfg.layers,
            num_attention_heads=cfg.heads,
            num_key_value_heads=cfg.kv_heads,
            head_dim=cfg.head_dim,
            rms_norm_eps=cfg.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": cfg.rope_theta},
            sliding_window=None,
        )
    ).double()

    def halves(w: torch.Tensor) -> torch.Tensor:
        """Mistral's own weights rotate neighbours; transformers' rotate halves, with rows in another order."""
        if not interleaved:
            return w
        return w.unflatten(0, (-1, cfg.head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)

    state = {"model.embed_tokens.weight": "tok_embeddings", "model.norm.weight": "norm", "lm_head.weight": "output"}
    state = {k: model.get_parameter(f"{v}.weight") for k, v in state.items()}
    names = {
        "self_attn.q_proj": "attention.wq",
        "self_attn.k_proj": "attention.wk",
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for i in range(cfg.layers):
        for theirs, ours in names.items():
            w = model.get_parameter(f"layers.{i}.{ours}.weight")
            state[f"model.layers.{i}.{theirs}.weight"] = halves(w) if ours[-2:] in ("wq", "wk") else w
    oracle.load_state_dict(state)
    tokens, _ = given(cfg)
    assert torch.allclose(model(tokens), oracle(tokens).logits, atol=1e-6)  # it computes angles and norms in float32


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("predict1-4b", 4_014_088_192),
        ("predict1-5b-video2world", 4_584_845_312),
        ("predict1-12b", 11_560_975_360),
        ("predict1-13b-video2world", 13_323_125_760),
        ("prompt-upsampler-12b", 12_247_782_400),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = CausalTransformer(AUTOREGRESSIVE[name]())
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_published_window() -> None:
    cfg = predict1_4b()
    assert cfg.video_tokens == cfg.positions == 12_800
    angles = rotary_angles(cfg, torch.tensor([0, 1, 64, 2560]))  # origin, next column, next row, next frame
    moved = [set(torch.nonzero(a)[:, 0].tolist()) for a in angles]
    assert moved[0] == set()
    assert moved[3] == set(range(22)) | set(range(64, 86))  # 44 channels tell the frame
    assert moved[2] == set(range(22, 43)) | set(range(86, 107))  # 42 the row
    assert moved[1] == set(range(43, 64)) | set(range(107, 128))  # 42 the column


def test_yarn_divides_slow_frequencies_and_keeps_fast_ones() -> None:
    position = torch.tensor([2560])  # the second frame
    plain, yarn = (rotary_angles(cfg, position)[0, :22] for cfg in (predict1_4b(), predict1_12b()))
    assert torch.allclose(yarn, plain / 2)  # within 3 frames even the fastest makes less than one turn
    position = torch.tensor([64])  # the second row
    plain, yarn = (rotary_angles(cfg, position)[0, 22:43] for cfg in (predict1_4b(), predict1_12b()))
    ratio = yarn / plain
    assert ratio[0] == 1 and ratio[-1] == 0.5 and bool((ratio.diff() <= 0).all())


def test_bov_and_padding_have_no_position() -> None:
    cfg = VARIANTS["video2world"]
    position = torch.arange(cfg.max_len)
    angles, absolute = rotary_angles(cfg, position), absolute_embedding(cfg, position).float()
    empty = torch.tensor([0, *range(cfg.positions, cfg.max_len)])
    assert not angles[empty].any() and not absolute[empty].any()
    plain = rotary_angles(replace(cfg, bov=False), position[: cfg.video_tokens])
    assert torch.equal(angles[1 : cfg.positions], plain)
    assert absolute[1 : cfg.positions].abs().amax(dim=1).min() == 1  # a cosine of 0 in every one


def test_config_survives_json() -> None:
    for cfg in VARIANTS.values():
        assert TransformerConfig.from_dict(json.loads(json.dumps(cfg.to_dict()))) == cfg


def test_bad_input_is_one_sentence() -> None:
    model = make(BASE)
    tokens, _ = given(BASE)
    with pytest.raises(UserError, match="at most 24 tokens, got 48"):
        model(torch.cat((tokens, tokens), dim=1))
    state, _ = model.advance(model.start(3, max_len=8), tokens[:, :8])
    with pytest.raises(UserError, match="KV cache"):
        model.advance(state, tokens[:, :2])
    with pytest.raises(UserError, match="expected none"):
        model(tokens, torch.zeros(3, 7, 10))
    with pytest.raises(UserError, match=r"expected \[3, tokens, 10\], got none"):
        make(VARIANTS["video2world"])(tokens)
    with pytest.raises(UserError, match="3 key heads"):
        replace(BASE, kv_heads=3)
    with pytest.raises(UserError, match="text model"):
        _ = TEXT.video_tokens


def test_retracted_frames_are_written_over() -> None:
    cache = KVCache.empty(layers=1, batch=2, heads=1, head_dim=4, window=8, tokens=1, capacity=8)
    x = torch.randn(2, 1, 7, 4)
    cache = cache.extended(4)
    cache.write(0, x[:, :, :4], x[:, :, :4])
    buffer = cache.buffer
    cache = cache.retracted(2).extended()
    keys, _ = cache.write(0, x[:, :, 6:], x[:, :, 6:])
    assert cache.buffer is buffer and cache.position.tolist() == [3, 3]
    assert torch.equal(keys, x[:, :, [0, 1, 6]])


def test_many_frames_at_once_must_fit_the_window() -> None:
    cache = KVCache.empty(layers=1, batch=1, heads=1, head_dim=2, window=3, tokens=2).extended(4)
    assert cache.from_nothing
    with pytest.raises(UserError, match="do not fit a window of 3"):
        cache.extended(2)
    assert cache.extended().end == 5  # one at a time the window rolls
