"""Reference cases of the autoregressive transformer and its sampling."""

import math
import re
from typing import Any

import torch
from torch import Tensor

from wfm_sim.models.autoregressive import CausalTransformer, SequenceState
from wfm_sim.models.autoregressive_layers import TransformerConfig, Yarn, absolute_embedding, rotary_angles
from wfm_sim.models.parity.case import LIMIT, Case, Comparison, Runner, Tensors, compare, same
from wfm_sim.models.token_sampling import Sampling, probabilities


def transformer_config(config: dict[str, Any], embeddings: int | None = None) -> TransformerConfig:
    """From the published names of a network's settings; `embeddings` where tokens were added to the input only."""
    shape = tuple(config["video_latent_shape"]) if config["rope_dim"] == "3D" else None
    yarn = None
    if config.get("apply_yarn"):
        original = config["original_latent_shape"][:2] if shape else (config["original_seq_len"],)
        yarn = Yarn(tuple(original), config["yarn_scale"], config["yarn_beta_fast"], config["yarn_beta_slow"])
    return TransformerConfig(
        dim=config["dim"],
        layers=config["n_layers"],
        heads=config["n_heads"],
        kv_heads=config["n_kv_heads"] or config["n_heads"],
        head_dim=config["head_dim"] or config["dim"] // config["n_heads"],
        ffn_hidden=config["ffn_hidden_size"],
        vocab=config["vocab_size"],
        embeddings=embeddings,
        norm_eps=config["norm_eps"],
        qk_norm=config["use_qk_normalization"],
        rope_theta=config["rope_theta"],
        rope_interleaved=config.get("pytorch_rope_version", "v2") == "v1",
        yarn=yarn,
        latent_shape=shape,
        bov=shape is not None and config.get("training_type") == "text_to_video",
        max_len=config["max_seq_len"],
        context_dim=config.get("context_dim", 1024) if config.get("insert_cross_attn") else None,
        cross_every=config.get("insert_cross_attn_every_k_layers", 1),
        absolute=config.get("apply_abs_pos_emb", False),
    )


def _in_pieces(model: CausalTransformer, tokens: Tensor, context: Tensor | None, first: int) -> Tensor:
    """Logits of a prefill of `first` tokens and then one token at a time."""
    state = model.start(len(tokens), context)
    pieces = [first] + [1] * (tokens.shape[1] - first)
    logits = []
    for piece in tokens.split(pieces, dim=1):
        state, hidden = model.advance(state, piece)
        logits.append(model.output(hidden))
    return torch.cat(logits, dim=1)


def _transformer(case: Case) -> list[Comparison]:
    tokens, context = case.given["tokens"], case.given.get("context")
    cfg = transformer_config(case.config, case.state["tok_embeddings.weight"].shape[0])
    model = CausalTransformer(cfg).eval()
    model.load_state_dict(case.state)
    multiple = case.config.get("pad_to_multiple_of") or 1
    position = torch.arange(math.ceil(cfg.positions / multiple) * multiple)
    angles = rotary_angles(cfg, position)[None, :, None]
    length = tokens.shape[1]
    out: Tensors = {
        "logits": model(tokens, context),
        "logits_incremental": _in_pieces(model, tokens, context, first=1),
        "cos": angles.cos(),
        "sin": angles.sin(),
    }
    if cfg.absolute:
        out["abs_pos_emb"] = absolute_embedding(cfg, position)[None]
    pieces = {
        "incremental": out["logits_incremental"],
        "prefill + incremental": _in_pieces(model, tokens, context, first=max(1, length // 2)),
        "two prefills": _two_prefills(model, tokens, context),
    }
    # these networks amplify rounding: the reference's own two ways differ by up to 1e-5 of the scale
    return compare(case, out) + [same(f"{name} = full", y, out["logits"], LIMIT) for name, y in pieces.items()]


def _two_prefills(model: CausalTransformer, tokens: Tensor, context: Tensor | None) -> Tensor:
    """Logits in two pieces, the second read by rows that were taken apart and put together again."""
    half = max(1, tokens.shape[1] // 2)
    state, first = model.advance(model.start(len(tokens), context), tokens[:, :half])
    state = SequenceState.cat([state[[i]] for i in range(len(tokens))])
    _, second = model.advance(state, tokens[:, half:])
    return model.output(torch.cat((first, second), dim=1))


def _sampling(case: Case) -> list[Comparison]:
    """Probabilities after top-k (k in the output's name, at temperature 1) and after top-p (as configured)."""
    logits = case.given["logits"][:, -1]
    out = {}
    for name in case.expected:
        k = re.fullmatch(r"top_k(\d+)_probs", name)
        if k:
            out[name] = probabilities(logits, Sampling(top_k=int(k[1])))
        elif name == "top_p_probs":
            out[name] = probabilities(logits, Sampling(case.config["temperature"], top_p=case.config["top_p"]))
    return compare(case, out)


RUNNERS: dict[str, Runner] = {"Transformer": _transformer, "sampling": _sampling}
