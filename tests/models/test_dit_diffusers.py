"""Our diffusion transformer against diffusers', with freshly drawn weights carried over by the name tables."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.parity.case import LIMIT, relative_error
from wfm_sim.models.parity.diffusers_dit import DiffusersTwin, randomise
from wfm_sim.models.published.presets_dit import (
    predict1_7b,
    predict1_14b_video,
    predict2_2b,
    predict25_2b,
    predict25_14b,
)

pytest.importorskip("diffusers")

# Sizes no reference case has.
SMALL = {"in_channels": 6, "out_channels": 6, "num_blocks": 3, "adaln_lora_dim": 10, "context_channels": 20}
CASES: dict[str, tuple[DiTConfig, int, bool]] = {  # network, patch, a time per frame
    "predict1 text2world": (replace(predict1_7b(), model_channels=72, num_heads=3, **SMALL), 2, False),
    "predict1 video2world": (replace(predict1_14b_video(), model_channels=80, num_heads=4, **SMALL), 1, False),
    "predict2": (replace(predict2_2b(), model_channels=64, num_heads=2, mlp_ratio=3.0, **SMALL), 4, False),
    "predict2, times per frame": (replace(predict2_2b(), model_channels=56, num_heads=2, **SMALL), 2, True),
    "predict2.5": (replace(predict25_2b(), model_channels=48, num_heads=4, **SMALL), 2, False),
    "predict2.5, times per frame": (replace(predict25_14b(), model_channels=60, num_heads=3, **SMALL), 2, True),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_parity_with_diffusers(name: str) -> None:
    cfg, patch, per_frame = CASES[name]
    cfg = replace(cfg, patch=patch, context_projection=30 if cfg.context_projection else None)
    torch.manual_seed(1)
    ours = DiT(cfg).eval()
    randomise(ours)
    theirs = DiffusersTwin(ours)
    b, t, h, w = 2, 3, 8, 12
    x, context = torch.randn(b, 6, t, h, w), torch.randn(b, 7, cfg.context_projection or 20)
    mask = torch.zeros(b, 1, t, h, w)
    mask[:, :, 0] = 1
    padding = (torch.rand(1, 1, 8 * h, 8 * w) > 0.5).float()
    time = torch.rand(b, t if per_frame else 1) / cfg.timestep_scale
    given = {"context": context, "condition_mask": mask if cfg.condition_mask else None, "padding_mask": padding}
    expected = theirs(x, time, fps=16, **given)
    assert relative_error(ours(x, time, fps=16.0, **given), expected) < LIMIT
    # Per-row frame rates, and a text whose keys and values were computed before.
    once = {**given, "context": ours.text_keys(context)}
    assert relative_error(ours(x, time, fps=torch.full((b,), 16.0), **once), expected) < LIMIT
    state = theirs.our_state()
    assert all(torch.equal(state[k], v) for k, v in ours.state_dict().items() if not k.startswith("pos_embedder."))
