"""The published sizes, counted without allocating them."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.published.presets_dit import AUTO_NEIGHBOURS, DITS

PUBLISHED = {
    "predict1-7b-text2world": 7.236,
    "predict1-14b-text2world": 14.267,
    "predict2-2b-video2world": 1.956,
    "predict2-14b-video2world": 14.265,
    "predict2.5-2b": 2.059,
    "predict2.5-14b": 14.368,
    "predict2.5-2b-action": 2.127,
}


def _count(cfg: DiTConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in DiT(cfg).parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    assert round(_count(DITS[name]()) / 1e9, 3) == PUBLISHED[name]


@pytest.mark.parametrize("name", DITS)
def test_every_preset_runs_and_survives_json(name: str) -> None:
    cfg = DITS[name]()
    assert DiTConfig(**{k: list(v) if isinstance(v, tuple) else v for k, v in cfg.to_dict().items()}) == cfg
    views = max(cfg.num_views, 1)
    small = replace(
        cfg,
        model_channels=48,
        num_heads=2,
        num_blocks=1,
        adaln_lora_dim=8,
        context_channels=16,
        context_projection=40 if cfg.context_projection else None,
        token_vocabulary=min(cfg.token_vocabulary, 100),
        camera_channels=min(cfg.camera_channels, 12),
    )
    model = DiT(small).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    t = 2 * views
    y = model(
        torch.randn(1, 16, t, 4, 6),
        torch.full((1, 1), 0.5),
        context=torch.randn(1, 3 * views, 40 if cfg.context_projection else 16),
        extra=torch.randn(1, cfg.extra_channels, t, 4, 6) if cfg.extra_channels else None,
        fps=24.0,
        action=torch.randn(1, 1, small.action_inputs) if cfg.action_dim else None,
        camera=torch.randn(1, t, 6, 12) if cfg.camera_channels else None,
        tokens=torch.randint(100, (1, t, 2, 3)) if cfg.token_vocabulary else None,
    )
    assert y.shape == (1, 16, t, 4, 6)
    assert y.isfinite().all()


def test_neighbouring_cameras_see_each_other() -> None:
    assert all(view in AUTO_NEIGHBOURS[other] for view, others in enumerate(AUTO_NEIGHBOURS) for other in others)
