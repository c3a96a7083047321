"""Solvers of the probability-flow ODE: plain functions of (denoiser, x, levels), as in k-diffusion.

A denoiser gives x0 for (x, noise level); see schedules.py for what a level is. Levels descend, and a final 0 asks for
the clean sample. The state is kept in float64; a denoiser sees and gives tensors of x's dtype, and so does the caller.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from wfm_sim.models.schedules import Denoiser

# (steps done, steps in all, x0 predicted last)
Callback = Callable[[int, int, Tensor], None]

Solver = Callable[..., Tensor]


def _float64(denoiser: Denoiser, dtype: torch.dtype) -> Denoiser:
    return lambda x, level: denoiser(x.to(dtype), level).double()


def _report(callback: Callback | None, done: int, levels: Tensor, x0: Tensor) -> None:
    if callback is not None:
        callback(done, len(levels) - 1, x0)


def _towards(x: Tensor, x0: Tensor, level: float, following: float) -> Tensor:
    """One Euler step; on sigmas and on flow times it is the same blend of x and x0."""
    return x0 + following / level * (x - x0)


def euler(denoiser: Denoiser, x: Tensor, levels: Tensor, callback: Callback | None = None) -> Tensor:
    """First order, one evaluation a step; sigmas or flow times (EDM, algorithm 1 without the second half)."""
    state, denoise = x.double(), _float64(denoiser, x.dtype)
    for i, (level, following) in enumerate(pairwise(levels.tolist())):
        x0 = denoise(state, level)
        state = _towards(state, x0, level, following)
        _report(callback, i + 1, levels, x0)
    return state.to(x.dtype)


def res_2ab(denoiser: Denoiser, x: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """Refined exponential solver, two-step Adams-Bashforth: second order, one evaluation a step (arXiv 2308.02157).

    Predict1's training-side sampler and Predict2's. The first step and one to 0 are Euler steps.
    """
    state, denoise = x.double(), _float64(denoiser, x.dtype)
    before: tuple[float, Tensor] | None = None
    for i, (sigma, following) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(state, sigma)
        if before is None or following == 0:
            state = _towards(state, x0, sigma, following)
        else:
            state = _res_step(state, x0, sigma, following, *before)
        before = sigma, x0
        _report(callback, i + 1, sigmas, x0)
    return state.to(x.dtype)


def res_2mid(denoiser: Denoiser, x: Tensor, sigmas: Tensor, callback: Callback | None = None) -> Tensor:
    """Refined exponential solver with a midpoint in log sigma: second order, two evaluations a step."""
    state, denoise = x.double(), _float64(denoiser, x.dtype)
    for i, (sigma, following) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(state, sigma)
        if following == 0:
            state = x0
        else:
            middle = math.sqrt(sigma * following)
            x0_middle = denoise(_towards(state, x0, sigma, middle), middle)
            state = _res_step(state, x0, sigma, following, middle, x0_middle)
        _report(callback, i + 1, sigmas, x0)
    return state.to(x.dtype)


def _res_step(x: Tensor, x0: Tensor, sigma: float, following: float, other: float, x0_other: Tensor) -> Tensor:
    """From sigma to `following`, the denoiser being linear in log sigma through (sigma, x0) and (other, x0_other)."""
    h = math.log(sigma / following)
    phi1 = -math.expm1(-h) / h
    phi2 = (1 - phi1) / h
    slope = phi2 * h / math.log(sigma / other)
    return math.exp(-h) * x + h * ((phi1 - slope) * x0 + slope * x0_other)


def trigflow(denoiser: Denoiser, x: Tensor, angles: Tensor, callback: Callback | None = None) -> Tensor:
    """The few-step loop of the distilled models: denoise, add the same noise again at the next angle, denoise.

    x: pure noise (angle pi / 2). angles: [steps], descending, without a final 0.
    """
    noise, denoise = x.double(), _float64(denoiser, x.dtype)
    x0 = torch.zeros_like(noise)
    steps = angles.tolist()
    for i, angle in enumerate(steps):
        x0 = denoise(math.cos(angle) * x0 + math.sin(angle) * noise, angle)
        if callback is not None:
            callback(i + 1, len(steps), x0)
    return x0.to(x.dtype)
