"""Solvers, on a Gaussian whose denoiser and trajectories are known in closed form, and against diffusers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wfm_sim.models.schedules import (
    TRIGFLOW_ANGLES,
    Denoiser,
    append_zero,
    edm_scaling,
    flow_times,
    karras_sigmas,
    make_denoiser,
    shift_time,
)
from wfm_sim.models.solvers import Solver, euler, res_2ab, res_2mid, trigflow
from wfm_sim.models.unipc import unipc

MEAN, STD = 0.7, 0.5


def sigma_denoiser(x: Tensor, sigma: float) -> Tensor:
    """E[x0 | x0 + sigma * noise] of x0 ~ N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def sigma_solution(x: Tensor, before: float, after: float) -> Tensor:
    return MEAN + math.hypot(STD, after) / math.hypot(STD, before) * (x - MEAN)


def flow_denoiser(x: Tensor, t: float) -> Tensor:
    return sigma_denoiser(x / (1 - t), t / (1 - t))


def flow_solution(x: Tensor, before: float, after: float) -> Tensor:
    sigmas = before / (1 - before), after / (1 - after)
    return (1 - after) * sigma_solution(x / (1 - before), *sigmas)


def sigma_levels(steps: int) -> Tensor:
    return karras_sigmas(steps + 1, 20.0, 0.05)


def flow_levels(steps: int) -> Tensor:
    return torch.linspace(0.95, 0.05, steps + 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("solver", "on_flow", "order"),
    [
        (euler, False, 1),
        (euler, True, 1),
        (res_2ab, False, 2),
        (res_2mid, False, 2),
        (lambda *a: unipc(*a, order=1), True, 2),  # the corrector reaches one more than the predictor,
        (unipc, True, 2),  # but the last step, as published, is a first-order prediction
    ],
    ids=["euler", "euler-flow", "res_2ab", "res_2mid", "unipc-1", "unipc-2"],
)
def test_order_of_convergence(solver: Solver, on_flow: bool, order: int) -> None:
    denoiser, solution, levels = (
        (flow_denoiser, flow_solution, flow_levels) if on_flow else (sigma_denoiser, sigma_solution, sigma_levels)
    )
    x = torch.tensor([2.0, -3.0], dtype=torch.float64)
    errors = []
    for steps in (128, 256):
        given = levels(steps)
        exact = solution(x, float(given[0]), float(given[-1]))
        errors.append(float((solver(denoiser, x, given) - exact).abs().max()))
    slope = math.log2(errors[0] / errors[1])
    assert order - 0.35 < slope < order + 0.6, errors


@pytest.mark.parametrize("solver", [euler, res_2ab, res_2mid])
def test_a_final_zero_gives_the_clean_sample_of_the_level_before(solver: Solver) -> None:
    x, sigmas = torch.tensor([5.0], dtype=torch.float64), karras_sigmas(6)
    last = solver(sigma_denoiser, x, sigmas)
    assert torch.allclose(solver(sigma_denoiser, x, append_zero(sigmas)), sigma_denoiser(last, float(sigmas[-1])))


@pytest.mark.parametrize("solver", [euler, res_2ab, res_2mid, unipc, trigflow])
def test_the_callback_sees_every_step_and_the_dtype_is_kept(solver: Solver) -> None:
    seen: list[tuple[int, int]] = []
    levels = torch.tensor([0.9, 0.6, 0.3, 0.0], dtype=torch.float64)
    levels = torch.tensor(TRIGFLOW_ANGLES[:3]) if solver is trigflow else levels

    def denoiser(x: Tensor, level: float) -> Tensor:
        assert x.dtype == torch.float32
        return 0.5 * x + level

    out = solver(denoiser, torch.ones(1), levels, lambda done, total, x0: seen.append((done, total)))
    assert out.dtype == torch.float32
    assert seen == [(1, 3), (2, 3), (3, 3)]


def _network(seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """A smooth nonlinear stand-in: the timestep matters, and so does every pixel."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 4, generator=generator) * 0.4

    def network(x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.einsum("ij,bjthw->bithw", weight, torch.tanh(x)) + torch.cos(timesteps.flatten()[0])

    return network


def test_euler_is_the_edm_scheduler_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    network = _network()
    x = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1)) * 80
    reference = diffusers.EDMEulerScheduler(sigma_min=2e-4, sigma_max=80.0, sigma_data=0.5)
    reference.set_timesteps(12)
    state = x
    for t in reference.timesteps:
        output = network(reference.scale_model_input(state, t), t.reshape(1, 1))
        state = reference.step(output, t, state, return_dict=False)[0]
    ours = euler(make_denoiser(network, edm_scaling), x, append_zero(karras_sigmas(12, 80.0, 2e-4)))
    assert torch.allclose(ours, state, atol=2e-5)


def _velocity_denoiser(network: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    return lambda x, t: x - t * network(x, torch.tensor(t))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_on_flow_times_is_that_of_diffusers(shift: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    network, times = _network(), torch.linspace(1, 0.1, 8, dtype=torch.float64)
    x = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    reference = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    reference.set_timesteps(sigmas=times.numpy())
    state = x
    for t, sigma in zip(reference.timesteps, reference.sigmas, strict=False):
        state = reference.step(network(state, sigma), t, state, return_dict=False)[0]
    ours = euler(_velocity_denoiser(network), x, append_zero(shift_time(times, shift)))
    assert torch.allclose(ours, state, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_unipc_is_that_of_diffusers(order: int, steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    network, times = _network(), flow_times(steps, shift=5.0)
    x = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    reference = diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", solver_order=order, flow_shift=1.0
    )
    reference.set_timesteps(sigmas=times[:-1].numpy().copy())
    state = x
    for t, sigma in zip(reference.timesteps, reference.sigmas, strict=False):
        state = reference.step(network(state, sigma), t, state, return_dict=False)[0]
    ours = unipc(_velocity_denoiser(network), x, times, order=order)
    assert torch.allclose(ours, state, atol=5e-5 * float(state.abs().max()))


def test_trigflow_denoises_and_adds_the_same_noise_again() -> None:
    seen: list[Tensor] = []

    def denoiser(x: Tensor, angle: float) -> Tensor:
        seen.append(x)
        return torch.full_like(x, angle)

    noise = torch.tensor([1.0, -2.0])
    angles = torch.tensor(TRIGFLOW_ANGLES)
    out = trigflow(denoiser, noise, angles)
    assert torch.allclose(seen[0], noise)
    expected = math.cos(angles[1]) * angles[0] + math.sin(angles[1]) * noise
    assert torch.allclose(seen[1], expected)
    assert torch.allclose(out, angles[3].expand(2))
