"""Autoregressive transformers small enough for tests, of every variant."""

from dataclasses import replace

import torch

from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.autoregressive_layers import TransformerConfig, Yarn

BASE = TransformerConfig(
    dim=32, layers=3, heads=4, kv_heads=2, head_dim=12, ffn_hidden=48, vocab=50, latent_shape=(3, 2, 4), max_len=24
)
TEXT = replace(BASE, latent_shape=None, max_len=40, qk_norm=False)
VARIANTS = {
    "video": BASE,
    "one key head": replace(BASE, kv_heads=1),
    "no sharing": replace(BASE, kv_heads=4),
    "yarn": replace(BASE, yarn=Yarn((2, 1), 3.0, 4.0, 1.0)),
    "video2world": replace(BASE, context_dim=10, absolute=True, bov=True, embeddings=54, max_len=28),
    "cross-attention every second layer": replace(BASE, context_dim=10, cross_every=2),
    "text": TEXT,
    "text, interleaved": replace(TEXT, rope_interleaved=True),
    "text, yarn": replace(TEXT, yarn=Yarn((10,), 4.0, 4.0, 1.0)),
}


def make(cfg: TransformerConfig, seed: int = 0) -> CausalTransformer:
    """float64, so that two ways of computing differ by nothing but mistakes."""
    torch.manual_seed(seed)
    model = CausalTransformer(cfg).double().eval().requires_grad_(False)
    for p in model.parameters():
        if p.ndim == 1:  # norms that are 1 everywhere would hide a missing one
            p.copy_(torch.rand_like(p) + 0.5)
    return model


def given(cfg: TransformerConfig, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    length = cfg.positions
    tokens = torch.randint(0, cfg.embeddings or cfg.vocab, (rows, length), generator=generator)
    context = torch.randn(rows, 7, cfg.context_dim, generator=generator) if cfg.context_dim else None
    return tokens, context
