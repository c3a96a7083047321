"""A published Video2World network as the beginning of a camera world, for `wfm-sim train camera`.

The network keeps its weights and gets rays, whose weights begin at zero: before training it does what it did. No text
goes with clips of cameras, so its text is one token of zeros. (NVIDIA post-trained Predict1 on DL3DV-10K this way,
arXiv 2501.03575 section 6.1, and Predict2.5 with rays in every block; the former weights were not released.)
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import torch

from wfm_sim.errors import UserError, unknown
from wfm_sim.models.camera_config import CameraConfig
from wfm_sim.models.camera_world import RAYS, CameraWorldModel
from wfm_sim.models.causal_world import WorldConfig
from wfm_sim.models.dit import DiT
from wfm_sim.models.generators import GENERATORS, WAN, Parts, check_size, load_parts
from wfm_sim.models.sampling import Predict25Settings

STEPS = 10  # denoising steps per latent frame, evenly spaced in flow time before its shift
SHIFT = 5.0
# Flow matching, single view, first frames given: what a camera can be added to.
CAMERA_STARTS = tuple(n for n, made in GENERATORS.items() if made is Predict25Settings)


def load_camera_start(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    rays: Literal["concat", "block"] = "concat",
    frame_size: tuple[int, int] = (256, 320),
    seed: int = 0,
) -> CameraWorldModel:
    """A published network with the rays it is to learn.

    Args:
        name: One of `CAMERA_STARTS`.
        checkpoint: As for `load_parts`: a file, a folder, None for the local hub cache, or "random".
        rays: How it is told them.
        frame_size: Height and width to train at.
        seed: Of random weights.

    Raises:
        UserError: unknown name, or a file that is absent or unusable.
    """
    if name not in CAMERA_STARTS:
        raise unknown("network that a camera can be added to", name, CAMERA_STARTS)
    parts = load_parts(name, WAN, checkpoint, device="cpu", dtype=torch.float32, seed=seed)
    return with_rays(parts, f"{name}-camera", rays, frame_size)


def with_rays(
    parts: Parts, name: str, rays: Literal["concat", "block"], frame_size: tuple[int, int], window: int = 8
) -> CameraWorldModel:
    """A camera world of a flow-matching network of any size. UserError where sizes do not go together."""
    old: DiT = parts.net
    cfg = old.cfg
    check_size(frame_size, parts.tokenizer.cfg.spatial_compression * cfg.patch)
    if cfg.extra_channels or cfg.camera_channels or cfg.action_dim or cfg.patch_temporal != 1:
        raise UserError("rays are added to a network without other conditions than text and first frames")
    if rays == "concat":
        dit = replace(cfg, extra_channels=RAYS)
    else:
        dit = replace(cfg, camera_channels=RAYS * cfg.patch**2)
    net = DiT(dit)
    state = net.state_dict()
    for key, tensor in old.state_dict().items():
        if state[key].shape == tensor.shape:
            state[key] = tensor
    if rays == "concat":  # the new columns lie between the two masks
        key = "x_embedder.proj.1.weight"
        before = (cfg.in_channels + cfg.condition_mask) * cfg.patch**2
        weight = old.state_dict()[key]
        new = weight.new_zeros(weight.shape[0], RAYS * cfg.patch**2)
        state[key] = torch.cat((weight[:, :before], new, weight[:, before:]), dim=1)
    for key in state:
        if key.endswith("cam_encoder.weight"):
            state[key] = torch.zeros_like(state[key])
    net.load_state_dict(state)
    even = [1 - i / STEPS for i in range(STEPS)]
    world = WorldConfig(
        name=name,
        frame_size=frame_size,
        tokenizer=parts.tokenizer.cfg,
        dit=dit,
        fps=10.0,
        window=window,
        times=tuple(SHIFT * t / (1 + (SHIFT - 1) * t) for t in even),
        prediction="velocity",
        clean_pass=True,
        same_noise=True,
        camera=CameraConfig(rays, previous=False, prompt_tokens=int(cfg.cross_attention)),
    )
    model = CameraWorldModel(world, parts.tokenizer, net)
    for statistic, buffer in ((parts.mean, model.latent_mean), (parts.std, model.latent_std)):
        if statistic is not None:
            buffer.copy_(statistic)
    return model
