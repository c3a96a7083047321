"""The published action-conditioned networks as simulators: network, tokenizer, text and action contract put together.

    world = load_simulator("predict2.5-2b-action", checkpoint="~/weights/Cosmos-Predict2.5-2B")
    world = load_simulator("predict2.5-2b-action-interactive", checkpoint="random")    # plumbing and speed only

Canonical actions (wfm_sim/actions.py) are scaled as the networks were trained: metres and radians times 20, the gripper
0 = open .. 1 = closed. The joint-space variants take their robot's joint positions as they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, UNITS
from wfm_sim.errors import UserError, unknown
from wfm_sim.models import text
from wfm_sim.models.causal_world import CausalWorldModel, WorldConfig
from wfm_sim.models.diffusion_world import DiffusionWorldModel
from wfm_sim.models.dit import DiT
from wfm_sim.models.generation import WorldGenerator
from wfm_sim.models.generators import (
    CV8,
    WAN,
    Parts,
    beside,
    check_size,
    is_random,
    load_parts,
    text_width,
    with_settings,
)
from wfm_sim.models.published.hub import find_file
from wfm_sim.models.published.registry import preset
from wfm_sim.models.sampling import (
    Predict1Settings,
    Predict2Settings,
    Predict25Settings,
    predict2_action_settings,
    predict25_action_settings,
)
from wfm_sim.models.schedules import TRIGFLOW_ANGLES
from wfm_sim.models.tokenizer import Tokenizer
from wfm_sim.world_model import WorldModel, WorldModelSpec

RANDOM_NOTICE = "random weights: these frames show nothing"
ACTION_SCALE = 20.0
EMPTY_PROMPT = "cr1_empty_string_text_embeddings.pt"  # what Predict2.5's action models were trained with


@dataclass(frozen=True)
class Simulator:
    """How an action-conditioned preset is run.

    Attributes:
        tokenizer: Preset of its tokenizer.
        frame_size, fps: What it was trained on.
        settings: How a clip is sampled; None for a network that runs frame by frame with a cache.
        window: Latent frames of that cache.
    """

    tokenizer: str
    frame_size: tuple[int, int]
    fps: float
    settings: Callable[[], Predict1Settings | Predict2Settings | Predict25Settings] | None = None
    window: int = 8


def _bridge_settings() -> Predict1Settings:
    """Predict1 post-trained on Bridge: the next frame from one frame and one action."""
    return Predict1Settings(frames=2, frame_size=(256, 320), fps=4.0, given_frames=1)


_INTERACTIVE = Simulator(WAN, (256, 320), 4.0)
SIMULATORS: dict[str, Simulator] = {
    "predict1-7b-action": Simulator(CV8, (256, 320), 4.0, _bridge_settings),
    "predict2-2b-action": Simulator(WAN, (480, 640), 4.0, predict2_action_settings),
    "predict2.5-2b-action": Simulator(WAN, (256, 320), 4.0, predict25_action_settings),
    "predict2.5-2b-action-interactive": _INTERACTIVE,
    "predict2.5-2b-action-interactive-gr1": _INTERACTIVE,
    "predict2.5-2b-action-interactive-g1": _INTERACTIVE,
}


class FrameByFrame(nn.Module):
    """A causal video tokenizer that takes every frame as a clip of its own, as Predict1's action model has it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.cfg = replace(tokenizer.cfg, temporal_compression=None)

    def encode_video(self, x: Tensor) -> Tensor:
        """float [B, 3, T, H, W] -> [B, C, T, h, w]."""
        return torch.cat([self.tokenizer.encode_video(frame) for frame in x.split(1, dim=2)], dim=2)

    def decode_video(self, z: Tensor) -> Tensor:
        """[B, C, T, h, w] -> float [B, 3, T, H, W]."""
        return torch.cat([self.tokenizer.decode_video(frame) for frame in z.split(1, dim=2)], dim=2)


def load_simulator(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    frame_size: tuple[int, int] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
) -> WorldModel:
    """A published action-conditioned network behind the WorldModel contract.

    Args:
        name: One of `SIMULATORS`.
        checkpoint: Its file; or a folder with the published repository, tokenizer and text embedding included; None
            for the local hub cache; "random" for random weights, which the spec's notice then says.
        device: Where it runs; None for a GPU where there is one.
        dtype: Of the network; None for what is fast there. On a CPU the tokenizer stays float32.
        frame_size: Height and width, where not those it was trained on.
        steps, guidance: Of the sampler, where not the published ones (a clip at a time only).
        seed: Of random weights.

    Raises:
        UserError: unknown name; a file that is absent (it names the file and every place it was looked for) or cannot
            be used; options that do not apply.
    """
    if name not in SIMULATORS:
        raise unknown("action-conditioned preset", name, SIMULATORS)
    parts = load_parts(name, SIMULATORS[name].tokenizer, checkpoint, device=device, dtype=dtype, seed=seed)
    random = is_random(checkpoint)
    context = torch.zeros(1, 1, text_width(name)) if random else _context(name, beside(checkpoint))
    return assemble(
        name,
        parts,
        context,
        frame_size=frame_size,
        steps=steps,
        guidance=guidance,
        notice=RANDOM_NOTICE if random else "",
    )


def assemble(
    name: str,
    parts: Parts,
    context: Tensor | None,
    *,
    frame_size: tuple[int, int] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    notice: str = "",
) -> WorldModel:
    """A simulator of its parts, which may have any sizes; `name` says how they are run. See `load_simulator`."""
    kind = SIMULATORS[name]
    size = kind.frame_size if frame_size is None else frame_size
    net, tokenizer, mean, std = parts.net, parts.tokenizer, parts.mean, parts.std
    check_size(size, tokenizer.cfg.spatial_compression * net.cfg.patch)
    if kind.settings is None:
        if steps is not None or guidance is not None:
            raise UserError(f"{name!r} was distilled to its {len(TRIGFLOW_ANGLES)} steps without guidance; leave both")
        return _causal(name, kind, net, tokenizer, context, size, notice)
    changes = {"frame_size": size, "steps": steps, "guidance": guidance}
    settings = with_settings(kind.settings(), name, changes)
    if name.startswith("predict1"):  # its latents' statistics are per latent frame, and here all are first ones
        tokenizer = FrameByFrame(tokenizer)
        mean, std = (a if a is None or a.ndim == 1 else a[:, 0] for a in (mean, std))
    generator = WorldGenerator(net, tokenizer, settings, mean, std)
    channels, _, h, w = generator.latent_shape()
    low, high, units, scale, offset = _contract(net.cfg.action_dim)
    spec = WorldModelSpec(
        name=name,
        frame_size=size,
        fps=kind.fps,
        condition="action",
        condition_low=low,
        condition_high=high,
        condition_units=units,
        frames_per_step=settings.frames - 1,
        context_frames=1,
        latent_shape=(channels, h, w),
        notice=notice,
    )
    return DiffusionWorldModel(generator, spec, scale=scale, offset=offset, context=context)


def _causal(
    name: str,
    kind: Simulator,
    net: DiT,
    tokenizer: Any,
    context: Tensor | None,
    size: tuple[int, int],
    notice: str,
) -> CausalWorldModel:
    low, high, units, scale, _ = _contract(net.cfg.action_dim)
    cfg = WorldConfig(
        name=name,
        frame_size=size,
        tokenizer=tokenizer.cfg,
        dit=net.cfg,
        fps=kind.fps,
        window=kind.window,
        times=tuple(math.sin(a) / (math.sin(a) + math.cos(a)) for a in TRIGFLOW_ANGLES),
        prediction="velocity",
        clean_pass=True,
        same_noise=True,
        action_scale=scale[0],
    )
    world = CausalWorldModel(cfg, tokenizer, net)
    world.to(next(net.parameters()).device)
    world.spec = replace(world.spec, condition_low=low, condition_high=high, condition_units=units, notice=notice)
    if context is not None:
        world.tell(context)
    return world.eval().requires_grad_(False)


def _contract(action_dim: int) -> tuple[Any, Any, Any, Any, Any]:
    """Bounds, units, scale and offset of one action: the canonical one, or joint positions."""
    if action_dim == len(UNITS):
        scale, offset = [ACTION_SCALE] * 6 + [-1.0], [0.0] * 6 + [1.0]
        return tuple(ACTION_LOW.tolist()), tuple(ACTION_HIGH.tolist()), UNITS, scale, offset
    return (
        (-math.pi,) * action_dim,
        (math.pi,) * action_dim,
        ("rad",) * action_dim,
        [1.0] * action_dim,
        [0.0] * action_dim,
    )


def _context(name: str, folder: Path | None) -> Tensor:
    """The text that an action model was trained with: Predict2.5's empty prompt from its file, else zeros."""
    kind = preset(name)
    if kind.text != "reason1":
        return text.zeros(text_width(name))("")
    names = [EMPTY_PROMPT, f"robot/action-cond/{EMPTY_PROMPT}"]
    return text.precomputed(find_file(kind.repository, names, folder))("")
