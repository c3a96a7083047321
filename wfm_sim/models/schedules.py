"""Noise schedules, and what a raw network output means at a noise level (its parameterisation).

Two ways of writing a noisy sample are in use, and solvers.py works with either:

- sigma (Predict1, Predict2): x = x0 + sigma * noise, sigma in [0, 80]; EDM, arXiv 2206.00364.
- flow time (Predict2.5): x = (1 - t) * x0 + t * noise, t in [0, 1]; rectified flow, arXiv 2209.03003.

They are one process: t = sigma / (1 + sigma), with x divided by 1 + sigma. TrigFlow (arXiv 2410.11081) writes it as
x = cos(a) * x0 + sin(a) * noise, a in [0, pi / 2], so that tan(a) = sigma.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

TRAIN_STEPS = 1000  # Predict2.5 counts flow time in thousandths, and its network multiplies by 0.001 again

# Four uniform steps of flow time (1, 3/4, 1/2, 1/4) under a shift of 5: those of the distilled Predict2.5 models.
TRIGFLOW_ANGLES = (math.pi / 2, math.atan(15), math.atan(5), math.atan(5 / 3))

# (x [B, ...], noise level) -> x0 [B, ...]
Denoiser = Callable[[Tensor, float], Tensor]


def karras_sigmas(count: int, sigma_max: float = 80.0, sigma_min: float = 0.002, rho: float = 7.0) -> Tensor:
    """float64 [count], descending from sigma_max to sigma_min (EDM, equation 5, without its final zero)."""
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def append_zero(levels: Tensor) -> Tensor:
    """Ends a schedule with the clean sample: the step to 0 returns what the denoiser says at the last level."""
    return torch.cat((levels, levels.new_zeros(1)))


def sigma_to_time(sigma: Tensor) -> Tensor:
    """sigma in [0, inf) -> flow time in [0, 1)."""
    return sigma / (1 + sigma)


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Flow times moved towards noise, as larger frames need (arXiv 2403.03206, equation 23)."""
    return shift * t / (1 + (shift - 1) * t)


def flow_times(steps: int, shift: float = 5.0, trained_shift: float = 1.0, train_steps: int = TRAIN_STEPS) -> Tensor:
    """float64 [steps + 1] flow times of Predict2.5, descending to 0.

    The first is the largest that training knew: 1 - 1 / train_steps, under the shift the schedule was made with.
    """
    first = torch.tensor(1 - 1 / train_steps, dtype=torch.float32)  # single precision, as published
    first = shift_time(first, trained_shift)
    ramp = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return shift_time(first.double() * ramp, shift)


def karras_flow_times(steps: int, sigma_max: float = 200.0, sigma_min: float = 0.01) -> Tensor:
    """float64 [steps + 2] flow times at Karras' sigmas, descending to 0: Predict2.5's other schedule.

    As published it has one step more than asked for, and takes no shift.
    """
    return append_zero(sigma_to_time(karras_sigmas(steps + 1, sigma_max, sigma_min)))


def flow_timesteps(t: Tensor, train_steps: int = TRAIN_STEPS) -> Tensor:
    """What Predict2.5's network is told of a flow time: whole thousandths, rounded down."""
    return torch.floor(t * train_steps)


class Scaling(NamedTuple):
    """x0 = skip * x + out * network(input * x, noise), each of the noise level's shape (EDM, equation 7)."""

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor


# Noise level (sigma, flow time or angle) -> its coefficients.
Parameterisation = Callable[[Tensor], Scaling]


def edm_scaling(sigma: Tensor, sigma_data: float = 0.5) -> Scaling:
    """Predict1 (arXiv 2501.03575, section 5.1; EDM, table 1)."""
    total = sigma**2 + sigma_data**2
    root = total.sqrt()
    return Scaling(sigma_data**2 / total, sigma * sigma_data / root, 1 / root, 0.25 * sigma.log())


def rectified_flow_scaling(sigma: Tensor) -> Scaling:
    """Predict2: a velocity network (noise - x0) on sigmas."""
    t = sigma_to_time(sigma)
    return Scaling(1 - t, -t, 1 - t, t)


def flow_scaling(t: Tensor, train_steps: int = TRAIN_STEPS) -> Scaling:
    """Predict2.5: a velocity network (noise - x0) on flow times (arXiv 2511.00062, section 3)."""
    one = torch.ones_like(t)
    return Scaling(one, -t, one, flow_timesteps(t, train_steps))


def trigflow_scaling(angle: Tensor) -> Scaling:
    """The few-step Predict2.5 models: the same velocity network on angles (`rectified_flow_scaling` at tan(angle))."""
    cos, sin = angle.cos(), angle.sin()
    inverse = 1 / (cos + sin)
    return Scaling(inverse, -sin * inverse, inverse, sin * inverse)


def make_denoiser(network: Callable[[Tensor, Tensor], Tensor], parameterisation: Parameterisation) -> Denoiser:
    """A network (x [B, ...], timesteps [B, 1]) -> output as a denoiser."""

    def denoise(x: Tensor, level: float) -> Tensor:
        skip, out, scale, noise = (float(c) for c in parameterisation(torch.tensor(level, dtype=torch.float64)))
        return skip * x + out * network(scale * x, x.new_full((x.shape[0], 1), noise))

    return denoise
