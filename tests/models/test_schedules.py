"""Noise schedules and parameterisations, against diffusers and against each other."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from wfm_sim.models.parity.schedules import formula
from wfm_sim.models.schedules import (
    TRIGFLOW_ANGLES,
    Parameterisation,
    append_zero,
    edm_scaling,
    flow_scaling,
    flow_times,
    flow_timesteps,
    karras_flow_times,
    karras_sigmas,
    make_denoiser,
    rectified_flow_scaling,
    shift_time,
    sigma_to_time,
    trigflow_scaling,
)


@pytest.mark.parametrize(("steps", "sigma_min"), [(35, 2e-4), (6, 0.002)])
def test_karras_sigmas_are_those_of_diffusers(steps: int, sigma_min: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.EDMEulerScheduler(sigma_min=sigma_min, sigma_max=80.0)
    reference.set_timesteps(steps)
    ours = append_zero(karras_sigmas(steps, 80.0, sigma_min))
    assert torch.allclose(ours.float(), reference.sigmas, rtol=1e-6)
    assert torch.allclose(edm_scaling(ours[:-1]).noise.float(), reference.timesteps, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_shift_is_that_of_diffusers(shift: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    times = np.linspace(1, 0.1, 7)
    reference.set_timesteps(sigmas=times)
    assert torch.allclose(shift_time(torch.from_numpy(times), shift).float(), reference.sigmas[:-1], atol=1e-6)


def test_flow_times_start_below_one_and_end_at_zero() -> None:
    times = flow_times(10, shift=5.0)
    assert times[0] == pytest.approx(5 * 0.999 / (1 + 4 * 0.999), abs=1e-7)
    assert times[-1] == 0 and (times.diff() < 0).all() and len(times) == 11
    assert flow_timesteps(times)[0] == 999


def test_a_schedule_made_with_a_shift_starts_nearer_to_noise() -> None:
    assert flow_times(4, shift=1.0, trained_shift=5.0)[0] == pytest.approx(shift_time(torch.tensor(0.999), 5.0))


def test_karras_flow_times_have_one_step_more() -> None:
    times = karras_flow_times(35)
    assert len(times) == 37 and times[0] == pytest.approx(200 / 201) and times[-1] == 0


def test_the_few_steps_are_uniform_flow_times_under_a_shift_of_five() -> None:
    times = trigflow_scaling(torch.tensor(TRIGFLOW_ANGLES, dtype=torch.float64)).noise
    assert torch.allclose(times, shift_time(torch.tensor([1, 0.75, 0.5, 0.25], dtype=torch.float64), 5.0))


def test_velocity_parameterisations_recover_the_clean_sample() -> None:
    torch.manual_seed(0)
    x0, noise = torch.randn(2, 3, 2, 4, 4, 4, dtype=torch.float64).unbind(0)

    def network(_: Tensor, timesteps: Tensor) -> Tensor:
        assert 0 <= float(timesteps[0, 0]) <= 1000
        return noise - x0

    sigma = 3.0
    angle, t = math.atan(sigma), sigma / (1 + sigma)
    noisy: list[tuple[Parameterisation, float, Tensor]] = [
        (rectified_flow_scaling, sigma, x0 + sigma * noise),
        (flow_scaling, t, (1 - t) * x0 + t * noise),
        (trigflow_scaling, angle, math.cos(angle) * x0 + math.sin(angle) * noise),
    ]
    for parameterisation, level, x in noisy:
        assert torch.allclose(make_denoiser(network, parameterisation)(x, level), x0)


def test_all_velocity_parameterisations_show_the_network_the_same() -> None:
    sigma = torch.tensor([0.01, 1.0, 20.0], dtype=torch.float64)
    on_sigma, on_angle = rectified_flow_scaling(sigma), trigflow_scaling(sigma.atan())
    assert torch.allclose(on_sigma.noise, on_angle.noise)
    # x of an angle is x of its sigma times cos(angle)
    assert torch.allclose(on_sigma.input, on_angle.input * sigma.atan().cos())
    assert torch.allclose(flow_scaling(sigma_to_time(sigma)).noise / 1000, on_sigma.noise, atol=1e-3)


def test_edm_gives_the_network_inputs_and_targets_of_unit_variance() -> None:
    sigma = torch.tensor([0.01, 0.5, 80.0], dtype=torch.float64)
    skip, out, scale, _ = edm_scaling(sigma, sigma_data=0.5)
    assert torch.allclose(scale**2 * (0.25 + sigma**2), torch.ones_like(sigma))
    # the target is (x0 - skip * x) / out, with x0 of variance 0.25
    target = ((1 - skip) ** 2 * 0.25 + skip**2 * sigma**2) / out**2
    assert torch.allclose(target, torch.ones_like(sigma))


def test_formulas_of_reference_cases_are_arithmetic_only() -> None:
    assert formula("0.9*(x-mu)/max(t/1000,1e-3)", x=3.0, mu=1.0, t=0.0) == pytest.approx(1800.0)
    assert formula("-x + 2^3", x=1.0) == 7.0
    with pytest.raises(ValueError, match="not an arithmetic expression"):
        formula("__import__('os')", x=1.0)
