"""Clips from a diffusion transformer, a tokenizer and a text embedding: Text2World, Image2World, Video2World, rollouts.

A rollout makes a long clip chunk by chunk: the last frames of a chunk are the given frames of the next. Randomness is
explicit: a row's noise comes from its own seed and the chunk's number, and rows are denoised one at a time unless told
otherwise, so that a row does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.causal_world import frames_to_tensor, tensor_to_frames
from wfm_sim.models.dit import DiT
from wfm_sim.models.guidance import guided
from wfm_sim.models.sampling import Given, Settings

Frames = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # (steps done, steps in all)


class VideoTokenizer(Protocol):
    """A tokenizer of clips, float [B, 3, T, H, W] in [-1, 1]; `cfg` tells its compression."""

    cfg: Any

    def encode_video(self, x: Tensor) -> Tensor: ...
    def decode_video(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class WorldGenerator:
    """All that generating a clip takes.

    Attributes:
        settings: Of the network's family (see sampling.py); `dataclasses.replace` changes size, steps or guidance.
        latent_mean, latent_std: Of the tokenizer's latents, [C], or [C, T] per latent frame (Predict1).
    """

    net: DiT
    tokenizer: VideoTokenizer
    settings: Settings
    latent_mean: Tensor | None = None
    latent_std: Tensor | None = None

    @property
    def temporal_compression(self) -> int:
        return int(self.tokenizer.cfg.temporal_compression or 1)

    def latent_shape(self) -> tuple[int, int, int, int]:
        """[C, T, h, w] of a clip."""
        (height, width), spatial = self.settings.frame_size, self.tokenizer.cfg.spatial_compression
        frames = self.latent_frames(self.settings.frames)
        return self.net.cfg.in_channels, frames, height // spatial, width // spatial

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a number of pixel frames.

        Raises:
            UserError: the tokenizer cannot make whole latent frames of them.
        """
        ratio = self.temporal_compression
        if frames < 1 or (frames - 1) % ratio:
            near = max(frames - 1, 0) // ratio * ratio + 1
            raise UserError(f"{frames} frames: this tokenizer takes 1 + a multiple of {ratio}, such as {near}")
        return 1 + (frames - 1) // ratio

    def encode(self, frames: Frames) -> Tensor:
        """uint8 [B, T, H, W, 3] -> latents [B, C, T', h, w] as the network takes them."""
        x = frames_to_tensor(frames).to(next(self.net.parameters()).device)
        z = torch.cat([self.tokenizer.encode_video(row) for row in x.split(1)]).float()
        mean, std = self._normalisation(z)
        return (z - mean) / std * self.settings.sigma_data

    def decode(self, latents: Tensor) -> Frames:
        """Inverse of `encode`."""
        mean, std = self._normalisation(latents)
        z = latents / self.settings.sigma_data * std + mean
        return np.concatenate([tensor_to_frames(self.tokenizer.decode_video(row)) for row in z.split(1)])

    def _normalisation(self, z: Tensor) -> list[Tensor]:
        """Mean and standard deviation, [C or 1, T or 1, 1, 1]."""
        out = []
        for value, default in ((self.latent_mean, 0.0), (self.latent_std, 1.0)):
            a = torch.full((1,), default) if value is None else value
            a = a.to(z)[:, None] if a.ndim == 1 else a.to(z)[:, : z.shape[2]]
            out.append(a[..., None, None])
        return out


def text2world(world: WorldGenerator, context: Tensor, *, seeds: Sequence[int], **options: Any) -> Frames:
    """Clips from text alone. See `generate`."""
    return generate(world, seeds=seeds, context=context, **options)


def image2world(
    world: WorldGenerator, images: Frames, context: Tensor | None = None, *, seeds: Sequence[int], **options: Any
) -> Frames:
    """Clips that begin with images: uint8 [B, H, W, 3]. See `generate`."""
    return generate(world, seeds=seeds, context=context, given=np.asarray(images)[:, None], **options)


def video2world(
    world: WorldGenerator, video: Frames, context: Tensor | None = None, *, seeds: Sequence[int], **options: Any
) -> Frames:
    """Clips that begin with the last `settings.given_frames` of videos: uint8 [B, T, H, W, 3]. See `generate`."""
    return generate(world, seeds=seeds, context=context, given=video[:, -world.settings.given_frames :], **options)


@torch.inference_mode()
def generate(
    world: WorldGenerator,
    *,
    seeds: Sequence[int],
    context: Tensor | None = None,
    negative: Tensor | None = None,
    given: Frames | None = None,
    conditions: Mapping[str, Any] | None = None,
    chunk: int = 0,
    rows_at_once: int = 1,
    one_pass: bool = True,
    progress: Progress | None = None,
) -> Frames:
    """One clip per seed.

    Args:
        seeds: One per row; with `chunk`, all that a row's noise depends on.
        context: [B or 1, K, D] text embeddings.
        negative: Those to be guided away from, zeros if None.
        given: uint8 [B, T, H, W, 3], the first frames of the clips; they come back as they are.
        conditions: What else the network takes, by keyword (action, camera, extra, fps, ...); a tensor is [B, ...].
        chunk: Number of the clip in a rollout.
        rows_at_once: Rows denoised together. More are faster for small networks, but then a row is the same beside
            other neighbours only up to rounding.
        one_pass: See `guided`.
        progress: Called after every step.

    Returns:
        uint8 [B, frames, H, W, 3].

    Raises:
        UserError: frames, seeds or conditions do not fit the model or each other.
    """
    batch = len(seeds)
    told = {"fps": world.settings.fps, **(conditions or {})}
    told["context"], negative = _contexts(context, negative, batch)
    for name, value in [*told.items(), ("negative", negative)]:
        if isinstance(value, Tensor) and len(value) != batch:
            raise UserError(f"{name}: expected {batch} rows, one per seed, got {len(value)}")
    first = None if given is None else _encode_given(world, given, batch)
    spans = [slice(a, min(a + rows_at_once, batch)) for a in range(0, batch, rows_at_once)]
    clips = []
    for i, rows in enumerate(spans):

        def report(done: int, total: int, _: Tensor, i: int = i) -> None:
            if progress is not None:
                progress(i * total + done, len(spans) * total)

        latents = _sample(
            world,
            noise=row_noise(seeds[rows], world.latent_shape(), chunk),
            first=None if first is None else first[rows],
            told={k: v[rows] if isinstance(v, Tensor) else v for k, v in told.items()},
            negative=None if negative is None else negative[rows],
            one_pass=one_pass,
            report=report,
        )
        clips.append(world.decode(latents))
    out = np.concatenate(clips)
    if given is not None:
        out[:, : given.shape[1]] = given
    return out


def _contexts(context: Tensor | None, negative: Tensor | None, batch: int) -> tuple[Tensor | None, Tensor | None]:
    """Contexts of all rows; one of a single row is every row's."""
    if context is None:
        return None, None
    negative = torch.zeros_like(context) if negative is None else negative
    return tuple(c.expand(batch, -1, -1) if len(c) == 1 else c for c in (context, negative))  # type: ignore[return-value]


def _encode_given(world: WorldGenerator, given: Frames, batch: int) -> Tensor:
    """Latents [B, C, T', h, w] of the given frames."""
    height, width = world.settings.frame_size
    if given.dtype != np.uint8 or given.ndim != 5 or given.shape[::2] != (batch, height, 3) or given.shape[3] != width:
        raise UserError(
            f"given frames: expected uint8 [{batch}, T, {height}, {width}, 3], got {given.dtype} {list(given.shape)}"
        )
    if given.shape[1] >= world.settings.frames:
        raise UserError(f"given frames: a clip has {world.settings.frames}, and {given.shape[1]} of them are given")
    if not world.net.cfg.condition_mask:
        raise UserError("given frames: this network is Text2World (it has no condition mask); take a Video2World one")
    world.latent_frames(given.shape[1])
    return world.encode(given)


def _sample(
    world: WorldGenerator,
    noise: Tensor,
    first: Tensor | None,
    told: Mapping[str, Any],
    negative: Tensor | None,
    one_pass: bool,
    report: Callable[[int, int, Tensor], None],
) -> Tensor:
    """Latents [b, C, T, h, w] of some rows."""
    net = world.net
    weights = next(net.parameters())
    device, dtype = weights.device, weights.dtype
    noise = noise.to(device)
    cond = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in told.items()}
    given = None
    if first is not None:
        latents, mask = torch.zeros_like(noise), torch.zeros(noise.shape[2], dtype=torch.bool, device=device)
        latents[:, :, : first.shape[2]], mask[: first.shape[2]] = first, True
        given = Given(latents, mask)
        cond["condition_mask"] = given.mask_channel()

    def text(context: Tensor) -> Any:
        """The text as attention keys, so that its projection is computed once and not at every step."""
        context = context.to(device, dtype)
        return context if net.cfg.num_views else net.text_keys(context)

    uncond = None
    if cond["context"] is not None and negative is not None:
        uncond = {**cond, "context": text(negative)}
        cond["context"] = text(cond["context"])

    def network(x: Tensor, timesteps: Tensor, **conditions: Any) -> Tensor:
        out: Tensor = net(x.to(dtype), timesteps, **conditions)
        return out.float()

    run = guided(network, cond, uncond, world.settings.guidance, one_pass=one_pass)
    return world.settings.sample(run, noise, given, report)


def row_noise(seeds: Sequence[int], shape: tuple[int, ...], chunk: int = 0) -> Tensor:
    """Standard normal [B, *shape], every row from its own seed and the chunk's number, the same on every device."""
    rows = []
    for seed in seeds:
        words = np.random.SeedSequence([int(seed) & (2**63 - 1), chunk]).generate_state(2, np.uint64)
        generator = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
        rows.append(torch.randn(shape, generator=generator))
    return torch.stack(rows)
