"""How each family samples latents: published settings, schedule and solver, and how given frames are held.

Video2World gives the first latent frames of a clip and denoises the rest. All families do the same with small
differences (`Given`): at every step the network sees the given frames in place of its own, is told of them by a mask
channel and, in the later families, by a timestep of their own; and its x0 there is overwritten by what was given.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wfm_sim.models.guidance import Network
from wfm_sim.models.schedules import (
    TRIGFLOW_ANGLES,
    Denoiser,
    Parameterisation,
    Scaling,
    append_zero,
    edm_scaling,
    flow_scaling,
    flow_times,
    karras_flow_times,
    karras_sigmas,
    make_denoiser,
    rectified_flow_scaling,
    trigflow_scaling,
)
from wfm_sim.models.solvers import Callback, euler, res_2ab, trigflow
from wfm_sim.models.unipc import unipc


@dataclass(frozen=True)
class Given:
    """Latent frames that are not to be generated.

    Attributes:
        latents: [B, C, T, h, w]; what they are where the mask is False does not matter.
        mask: bool [T], True on given frames.
    """

    latents: Tensor
    mask: Tensor

    def blend(self, given: Tensor, own: Tensor) -> Tensor:
        """`given` on given frames, `own` elsewhere; both [B, C, T, h, w]."""
        return torch.where(self.mask[:, None, None], given, own)

    def mask_channel(self) -> Tensor:
        """[B, 1, T, h, w], 1 on given frames: the network's condition mask."""
        b, _, t, h, w = self.latents.shape
        return self.mask.to(self.latents)[:, None, None].expand(b, 1, t, h, w)


def holding(
    network: Network,
    parameterisation: Parameterisation,
    given: Given | None,
    *,
    seen: Tensor | None = None,
    timestep: float | None = None,
    release: float = 0.0,
) -> Denoiser:
    """A denoiser that holds the given frames.

    Args:
        seen: [B, C, T, h, w], what the network gets on given frames; None for the latents as they are.
        timestep: What it is told of their noise; None for that of the other frames.
        release: At this noise level and below they are denoised with the rest.
    """

    free = make_denoiser(network, parameterisation)
    if given is None:
        return free

    def told(x: Tensor, timesteps: Tensor) -> Tensor:
        if timestep is not None:
            timesteps = torch.where(given.mask, timestep, timesteps)
        return network(given.blend(given.latents if seen is None else seen, x), timesteps)

    held = make_denoiser(told, parameterisation)

    def denoise(x: Tensor, level: float) -> Tensor:
        return given.blend(given.latents, held(x, level)) if level > release else free(x, level)

    return denoise


def _finish(x: Tensor, given: Given | None) -> Tensor:
    return x if given is None else given.blend(given.latents, x)


@dataclass(frozen=True)
class Predict1Settings:
    """Text2World and Video2World of Predict1 (arXiv 2501.03575): EDM, Euler steps.

    Attributes:
        augment_sigma: Noise that the network sees on given frames; below it they are denoised with the rest.
    """

    frames: int = 121
    frame_size: tuple[int, int] = (704, 1280)
    fps: float = 24.0
    given_frames: int = 9
    guidance: float = 7.0
    steps: int = 35
    sigma_max: float = 80.0
    sigma_min: float = 2e-4
    rho: float = 7.0
    sigma_data: float = 0.5
    augment_sigma: float = 1e-3

    def sample(
        self, network: Network, noise: Tensor, given: Given | None = None, callback: Callback | None = None
    ) -> Tensor:
        def scaling(sigma: Tensor) -> Scaling:
            return edm_scaling(sigma, self.sigma_data)

        seen = None
        if given is not None:  # lightly noised, in the scale of a sample of that noise
            scale = 1 / math.hypot(self.augment_sigma, self.sigma_data)
            seen = (given.latents + self.augment_sigma * noise) * scale
        denoiser = holding(network, scaling, given, seen=seen, release=self.augment_sigma)
        sigmas = append_zero(karras_sigmas(self.steps, self.sigma_max, self.sigma_min, self.rho))
        return _finish(euler(denoiser, noise * math.hypot(self.sigma_max, 1), sigmas, callback), given)


@dataclass(frozen=True)
class Predict2Settings:
    """Video2World of Predict2: rectified flow on sigmas, RES 2AB steps and a clean pass.

    Attributes:
        sigma_conditional: Noise that the network is told of on given frames, which it sees clean.
    """

    frames: int = 93
    frame_size: tuple[int, int] = (704, 1280)
    fps: float = 16.0
    given_frames: int = 5
    guidance: float = 7.0
    steps: int = 35
    sigma_max: float = 80.0
    sigma_min: float = 0.002
    rho: float = 7.0
    sigma_data: float = 1.0
    sigma_conditional: float = 1e-4

    def sample(
        self, network: Network, noise: Tensor, given: Given | None = None, callback: Callback | None = None
    ) -> Tensor:
        timestep = self.sigma_conditional / (1 + self.sigma_conditional)
        denoiser = holding(network, rectified_flow_scaling, given, timestep=timestep)
        sigmas = append_zero(karras_sigmas(self.steps + 1, self.sigma_max, self.sigma_min, self.rho))
        return _finish(res_2ab(denoiser, noise * self.sigma_max, sigmas, callback), given)


@dataclass(frozen=True)
class Predict25Settings:
    """All three tasks of Predict2.5 (arXiv 2511.00062): flow matching, UniPC steps.

    Attributes:
        shift: Of the flow times; not used with `karras`.
        karras: Karras' sigmas instead (one step more).
        conditional_timestep: What the network is told of given frames, in thousandths; None for the others' (base
            models), 0.1 for some fine-tuned ones.
    """

    frames: int = 93
    frame_size: tuple[int, int] = (704, 1280)
    fps: float = 16.0
    given_frames: int = 5
    guidance: float = 7.0
    steps: int = 35
    shift: float = 5.0
    karras: bool = False
    sigma_data: float = 1.0
    conditional_timestep: float | None = None

    def sample(
        self, network: Network, noise: Tensor, given: Given | None = None, callback: Callback | None = None
    ) -> Tensor:
        denoiser = holding(network, flow_scaling, given, timestep=self.conditional_timestep)
        times = karras_flow_times(self.steps) if self.karras else flow_times(self.steps, self.shift)
        return _finish(unipc(denoiser, noise, times, callback), given)


@dataclass(frozen=True)
class DistilledSettings:
    """The distilled Predict2.5 models (DMD2 on TrigFlow): a few steps, no guidance, timesteps in [0, 1].

    Attributes:
        angles: Of the steps, descending from pi / 2.
        sigma_conditional: Noise that the network is told of on given frames, which it sees clean.
    """

    frames: int = 93
    frame_size: tuple[int, int] = (704, 1280)
    fps: float = 16.0
    given_frames: int = 5
    guidance: float = 0.0
    angles: tuple[float, ...] = TRIGFLOW_ANGLES
    sigma_data: float = 1.0
    sigma_conditional: float = 1e-4

    def sample(
        self, network: Network, noise: Tensor, given: Given | None = None, callback: Callback | None = None
    ) -> Tensor:
        timestep = self.sigma_conditional / (1 + self.sigma_conditional)
        denoiser = holding(network, trigflow_scaling, given, timestep=timestep)
        angles = torch.tensor(self.angles, dtype=torch.float64)
        return _finish(trigflow(denoiser, noise, angles, callback), given)


Settings = Predict1Settings | Predict2Settings | Predict25Settings | DistilledSettings


def predict2_action_settings() -> Predict2Settings:
    """Predict2's action-conditioned model: 12 actions, 13 frames at 4 fps."""
    return Predict2Settings(frames=13, frame_size=(480, 640), fps=4.0, given_frames=1)


def predict25_action_settings() -> Predict25Settings:
    """Predict2.5's action-conditioned model: 12 actions, 13 frames at 4 fps."""
    return Predict25Settings(frames=13, frame_size=(256, 320), fps=4.0, given_frames=1)
