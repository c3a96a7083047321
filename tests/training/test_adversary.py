"""The discriminator beside the simulator's regression."""

import pytest
import torch
from torch import Tensor

from wfm_sim.training.adversary import Adversary, adversary_loss, committing_gradient


@pytest.fixture
def pair() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """True frames (values +1 or -1), their blurred mean, what comes with them, weights."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(32, 2, 8, 8, generator=generator).sign()
    given = torch.randn(32, 3, 8, 8, generator=generator)
    return true, torch.zeros_like(true), given, torch.ones(32, 1, 4, 4)


def trained(pair: tuple[Tensor, Tensor, Tensor, Tensor], steps: int) -> tuple[Adversary, list[float]]:
    torch.manual_seed(0)
    adversary = Adversary(2, 3, channels=16)
    optimiser = torch.optim.AdamW(adversary.parameters(), lr=5e-3)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss = adversary_loss(adversary, *pair, torch.Generator().manual_seed(step))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return adversary, losses


def test_it_learns_to_tell_blur_from_truth_and_then_pushes_towards_truth(pair) -> None:  # type: ignore[no-untyped-def]
    adversary, losses = trained(pair, 60)
    assert losses[-1] < 0.5 * losses[0]
    true, blurred, given, weight = pair
    lost, gradient = committing_gradient(adversary, true, blurred, given, weight)
    assert lost > 0.7  # the simulator loses
    # one step down that gradient makes the blurred frames look truer
    better, _ = committing_gradient(adversary, true, blurred - 0.5 * gradient / gradient.abs().max(), given, weight)
    assert better < lost


def test_the_push_leaves_the_adversary_alone_and_counts_only_weighted_patches(pair) -> None:  # type: ignore[no-untyped-def]
    adversary, _ = trained(pair, 5)
    adversary.zero_grad(set_to_none=True)
    true, blurred, given, weight = pair
    weight = weight.clone()
    weight[1:] = 0
    _, gradient = committing_gradient(adversary, true, blurred, given, weight)
    assert all(p.grad is None for p in adversary.parameters())
    assert gradient[0].abs().max() > 0
    assert not gradient[1:].any()


def test_the_adversary_gets_no_gradient_into_the_frames(pair) -> None:  # type: ignore[no-untyped-def]
    true, blurred, given, weight = pair
    blurred = blurred.clone().requires_grad_()
    adversary_loss(Adversary(2, 3, 16), true, blurred, given, weight, torch.Generator()).backward()
    assert blurred.grad is None
