"""Long clips chunk by chunk, free-running or along actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.generation import Frames, Progress, WorldGenerator, generate


def long_rollout(
    world: WorldGenerator,
    chunks: int,
    *,
    seeds: Sequence[int],
    given: Frames | None = None,
    overlap: int | None = None,
    conditions: Callable[[int], Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Frames:
    """A clip of many chunks; chunk i is `generate(..., chunk=i)` from the last frames before it.

    Args:
        given: uint8 [B, T, H, W, 3] first frames of the first chunk; None begins with Text2World.
        overlap: Pixel frames that a chunk is given of the one before (default: `settings.given_frames`); they are not
            repeated in what is returned.
        conditions: Chunk number -> its `conditions`.
        options: For `generate`.

    Returns:
        uint8 [B, frames + (chunks - 1) * (frames - overlap), H, W, 3].
    """
    overlap = world.settings.given_frames if overlap is None else overlap
    world.latent_frames(overlap)
    if overlap >= world.settings.frames:
        raise UserError(f"overlap of {overlap} frames: a chunk has {world.settings.frames}, so nothing would be new")
    clip: list[Frames] = []
    for i in range(chunks):

        def report(done: int, total: int, i: int = i) -> None:
            if progress is not None:
                progress(i * total + done, chunks * total)

        told = None if conditions is None else conditions(i)
        out = generate(world, seeds=seeds, given=given, chunk=i, conditions=told, progress=report, **options)
        clip.append(out if i == 0 else out[:, overlap:])
        given = out[:, -overlap:]
    return np.concatenate(clip, axis=1)


def action_rollout(
    world: WorldGenerator, frames: Frames, actions: Tensor, *, seeds: Sequence[int], **options: Any
) -> Frames:
    """What happens under actions, chunk by chunk; the last frame of a chunk is the first of the next.

    Args:
        frames: uint8 [B, H, W, 3] where it begins.
        actions: [B, N, A] as the network takes them (Cosmos: metres and radians times 20, gripper 0 to 1), N a multiple
            of a chunk's.
        options: For `long_rollout` and `generate`.

    Returns:
        uint8 [B, 1 + N, H, W, 3], the first frame being the given one.

    Raises:
        UserError: the number of actions is no multiple of a chunk's, or the network takes no such actions.
    """
    per_chunk = world.settings.frames - 1
    count = actions.shape[1]
    if count == 0 or count % per_chunk:
        raise UserError(f"{count} actions: this model takes them in chunks of {per_chunk}")

    def conditions(i: int) -> Mapping[str, Any]:
        return {"action": clip_actions(world.net.cfg, actions[:, i * per_chunk : (i + 1) * per_chunk])}

    given = np.asarray(frames)[:, None]
    return long_rollout(
        world, count // per_chunk, seeds=seeds, given=given, overlap=1, conditions=conditions, **options
    )


def clip_actions(cfg: DiTConfig, actions: Tensor) -> Tensor:
    """The actions of a clip, [B, N, A], as `DiT.forward` takes them: a row per latent frame after the first, or one.

    Raises:
        UserError: they do not fit the network.
    """
    if actions.shape[2] != cfg.action_dim:
        raise UserError(f"actions: this network takes {cfg.action_dim} numbers per action, got {actions.shape[2]}")
    together = cfg.action_chunk or cfg.actions_per_latent
    if actions.shape[1] % together or (cfg.action_chunk and actions.shape[1] != together):
        raise UserError(f"actions: this network takes {together} at a time, got {actions.shape[1]}")
    return actions.unflatten(1, (-1, together)).flatten(2)
