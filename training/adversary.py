"""A network that tells imagined frames from true ones, so that a simulator commits itself.

What regression is unsure of it predicts as the mean of all that might be: a block that was hit askew fades a little in
every step, and after some steps it has dissolved. Here a small discriminator sees two candidates for the same frame,
side by side with the same past, and says for every patch which of the two is true (a conditional discriminator as in
pix2pix, arXiv 1611.07004, with the relativistic pairing of arXiv 1807.00734). The simulator is trained to win, beside
its regression loss: a sharp block that may be a pixel off is better than a ghost of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

SMOOTH = 0.05  # deviation of the noise (in units of a latent) that must not change a verdict much
SMOOTH_WEIGHT = 10.0


class Adversary(nn.Module):
    """Verdicts on frames [N, C, h, w], given what comes with them [N, D, h, w]: float [N, 1, h / 2, w / 2]."""

    # What it has to tell apart changes with every step of the simulator's: no momentum.
    lr_scale, betas = 1.0, (0.0, 0.99)

    def __init__(self, frame: int, given: int, channels: int = 96) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(frame + given, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, frame: Tensor, given: Tensor) -> Tensor:
        verdict: Tensor = self.body(torch.cat((frame, given), dim=1))
        return verdict


def adversary_loss(
    adversary: Adversary, true: Tensor, imagined: Tensor, given: Tensor, weight: Tensor, generator: torch.Generator
) -> Tensor:
    """What the adversary is trained on: the true frame of a pair scores higher, and verdicts are smooth.

    Args:
        true, imagined: [N, C, h, w]; no gradient flows into them.
        given: [N, D, h, w], what both come with.
        weight: [N, 1, h / 2, w / 2] of the patches.
        generator: Of the noise for smoothness (a finite-difference stand-in for the R1 and R2 penalties, as in
            arXiv 2501.08316, section 4).
    """
    frames = torch.cat((true, imagined)).detach()
    noise = torch.randn(frames.shape, generator=generator).to(frames.device) * SMOOTH
    verdicts, shaken = adversary(torch.cat((frames, frames + noise)), given.repeat(4, 1, 1, 1)).float().chunk(2)
    of_true, of_imagined = verdicts.chunk(2)
    loss = F.softplus(of_imagined - of_true)
    smooth = (verdicts - shaken).square()
    return _mean(loss, weight) + SMOOTH_WEIGHT * _mean(smooth, weight.repeat(2, 1, 1, 1))


def committing_gradient(
    adversary: Adversary, true: Tensor, imagined: Tensor, given: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """(the simulator's adversarial loss, its gradient by `imagined`); arguments as in `adversary_loss`.

    The adversary's own parameters get no gradient.
    """
    frozen = {name: p.detach() for name, p in adversary.named_parameters()}
    with torch.enable_grad():
        candidate = imagined.detach().requires_grad_()
        both = torch.cat((candidate, true.detach()))
        of_imagined, of_true = functional_call(adversary, frozen, (both, given.repeat(2, 1, 1, 1))).float().chunk(2)
        loss = _mean(F.softplus(of_true - of_imagined), weight)
        (gradient,) = torch.autograd.grad(loss, candidate)
    return loss.detach(), gradient


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
