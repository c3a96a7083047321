"""Muon in float32 is the library's Muon, but for its rounding."""

import pytest
import torch

from wfm_sim.training.muon import Float32Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_it_steps_as_the_librarys(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    optimisers = (
        Float32Muon([ours], lr=0.01, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    begun = ours.detach().clone()
    for _ in range(5):
        gradient = torch.randn(shape)
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    moved = (theirs - begun).abs().mean()
    assert (ours - theirs).abs().mean() < 0.02 * moved  # the library rounds to bfloat16


def test_an_update_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(20, 50)))
    assert values.min() > 0.6 and values.max() < 1.3
