"""The camera-conditioned causal simulator: a picture becomes a place that one can walk through.

The same tokenizer, DiT and rolling cache as `causal_world`; what drives a step is a relative camera motion
(wfm_sim.camera). The network is told the new camera by Plücker rays seen from the first frame, in one of the two
published ways (`CameraConfig.rays`). With a spatial memory it is also shown what the place looks like from there
(`spatial_memory`) and predicts what is to be changed about that picture; without one it starts from the frame before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from wfm_sim.camera import MOTION_HIGH, MOTION_LOW, MOTION_UNITS, check_pose, inverse, move
from wfm_sim.errors import UserError
from wfm_sim.models.causal_world import CausalState, CausalWorldModel, WorldConfig, frames_to_tensor
from wfm_sim.models.depth import DepthNet
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.plucker import plucker_rays, ray_tokens
from wfm_sim.models.spatial_memory import Drawn, SpatialMemory, draw, fitted, remember
from wfm_sim.world_model import check_condition, check_start

RAYS = 6


@dataclass
class CameraState:
    """B places.

    Attributes:
        causal: What the network remembers of the last frames.
        pose: float64 [B, 4, 4], camera to world seen from the first frame.
        origin: float64 [B, 4, 4], where that frame was taken, for `info`.
        intrinsics: float32 [B, 4], pixels.
        memory: What the place looks like, or None.
    """

    causal: CausalState
    pose: NDArray[np.float64]
    origin: NDArray[np.float64]
    intrinsics: Tensor
    memory: SpatialMemory | None

    def __len__(self) -> int:
        return len(self.causal)

    def __getitem__(self, rows: Any) -> CameraState:
        index = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)].reshape(-1)
        memory = None if self.memory is None else self.memory[torch.as_tensor(index)]
        return CameraState(
            self.causal[index], self.pose[index], self.origin[index], self.intrinsics[torch.as_tensor(index)], memory
        )

    def clone(self) -> CameraState:
        return self[slice(None)]

    @classmethod
    def cat(cls, states: Sequence[CameraState]) -> CameraState:
        memories = [s.memory for s in states if s.memory is not None]
        return cls(
            CausalState.cat([s.causal for s in states]),
            np.concatenate([s.pose for s in states]),
            np.concatenate([s.origin for s in states]),
            torch.cat([s.intrinsics for s in states]),
            SpatialMemory.cat(memories) if memories else None,
        )

    def info(self, row: int) -> dict[str, Any]:
        """camera_pose float64 [4, 4] (camera to world, OpenCV axes) and camera_intrinsics float64 [4] in pixels."""
        return {
            "camera_pose": self.origin[row] @ self.pose[row],
            "camera_intrinsics": self.intrinsics[row].double().numpy(),
        }


@dataclass(frozen=True)
class View:
    """What the network is told of T latent frames of B places.

    Attributes:
        pose: float64 [B, 4, 4] or [B, T, 4, 4], camera to world seen from the first frame.
        reference: [B, C, T, h, w], what it is to correct: the memory seen from there, or the frame before.
        seen: [B, 1, T, h, w] in [0, 1], the part of each latent pixel that the memory knows.
        previous, anchor: [B, C, T, h, w], the frame before and the newest given one.
        rays: [B, T, h, w, 6], Plücker rays seen from the first frame.
        drawn: The memory's picture, or None.
    """

    pose: NDArray[np.float64]
    reference: Tensor
    seen: Tensor
    previous: Tensor
    anchor: Tensor
    rays: Tensor
    drawn: Drawn | None


class CameraWorldModel(CausalWorldModel):
    """See the module docstring; satisfies `wfm_sim.world_model.WorldModel`, driven by camera motion.

    Attributes:
        prompt: [1, K, width], the text that a published network is given in every step.
    """

    prompt: Tensor

    def __init__(self, cfg: WorldConfig, tokenizer: Any = None, net: Any = None) -> None:
        """A world of `cfg`, with fresh weights where no part is given. UserError where its sizes do not go together."""
        super().__init__(cfg, tokenizer, net)
        if cfg.camera is None:
            raise UserError(f"{cfg.name!r} says nothing of a camera")
        self.camera = cfg.camera
        expected = _extra_channels(cfg)
        if cfg.dit.extra_channels != expected:
            raise UserError(f"{cfg.name!r}: its network takes {cfg.dit.extra_channels} extra channels, not {expected}")
        blocks = RAYS * cfg.dit.patch**2 if self.camera.rays == "block" else 0
        if cfg.dit.camera_channels != blocks:
            raise UserError(f"{cfg.name!r}: its network takes {cfg.dit.camera_channels} numbers of rays, not {blocks}")
        if self.camera.points and (self.camera.depth is None or self.streams):
            raise UserError(f"{cfg.name!r}: a spatial memory needs a depth network and one frame per step")
        self.depth = DepthNet(self.camera.depth) if self.camera.depth else None
        if bool(self.camera.prompt_tokens) != cfg.dit.cross_attention:
            raise UserError(f"{cfg.name!r}: its network takes {'a' if cfg.dit.cross_attention else 'no'} text")
        if self.camera.prompt_tokens:
            width = cfg.dit.context_projection or cfg.dit.context_channels
            self.register_buffer("prompt", torch.zeros(1, self.camera.prompt_tokens, width))
        self.spec = replace(
            self.spec,
            condition="camera",
            condition_low=tuple(MOTION_LOW.tolist()),
            condition_high=tuple(MOTION_HIGH.tolist()),
            condition_units=MOTION_UNITS,
        )

    # -------------------------------------------------------------------------------------------------- the contract

    @torch.inference_mode()
    def start(  # type: ignore[override]
        self,
        frames: NDArray[np.uint8],
        *,
        seeds: Sequence[int] | None = None,
        intrinsics: ArrayLike | None = None,
        poses: ArrayLike | None = None,
        depth: NDArray[np.float32] | None = None,
    ) -> CameraState:
        """See WorldModel.start.

        Args:
            frames: uint8 [B, T, H, W, 3]; without `poses` only the last one is used.
            seeds: As there.
            intrinsics: fx, fy, cx, cy in pixels, [4] or [B, 4]; None for those of the model.
            poses: [B, T, 4, 4], camera to world, OpenCV axes, metres: where the frames were taken.
            depth: float32 [B, T, H, W], metres along the axis, where it is known; else it is read off the frames.
        """
        frames = check_start(frames, seeds, self.spec)
        b = len(frames)
        if poses is None:
            frames, depth = frames[:, -1:], None if depth is None else depth[:, -1:]
            poses = np.broadcast_to(np.eye(4), (b, 1, 4, 4))
        poses = check_pose(poses, "poses")
        if poses.shape[:2] != frames.shape[:2]:
            raise UserError(f"poses: expected {[*frames.shape[:2], 4, 4]}, got {list(poses.shape)}")
        k = torch.as_tensor(self._intrinsics(b, intrinsics), dtype=torch.float32)
        first = poses[:, :1]
        seen_from_first = inverse(first) @ poses
        memory = SpatialMemory.empty(b, self.camera.points) if self.camera.points else None
        if depth is not None and np.shape(depth) != frames.shape[:4]:
            raise UserError(f"depth: expected {list(frames.shape[:4])}, got {list(np.shape(depth))}")
        if memory is not None:
            for t in range(frames.shape[1]):
                given = None if depth is None else torch.as_tensor(depth[:, t])
                memory = self._remember(memory, frames[:, t], seen_from_first[:, t], k, given, fixed=True)
        z, previous, anchor = self._given(frames)
        where = seen_from_first[:, :: -self.spec.frames_per_step][:, : z.shape[2]][
            :, ::-1
        ]  # of their last pixel frames
        nothing = torch.zeros_like(z)
        rays = torch.stack([self.rays(where[:, i], k) for i in range(z.shape[2])], dim=1)
        view = View(where, nothing, nothing[:, :1], previous, anchor, rays, None)
        causal = self._begun(z, self._prefill(z, **self._told(view)), seeds)
        return CameraState(causal, seen_from_first[:, -1], first[:, 0], k, memory)

    @torch.inference_mode()
    def step(self, state: CameraState, condition: NDArray[np.float32]) -> tuple[CameraState, NDArray[np.uint8]]:  # type: ignore[override]
        """See WorldModel.step; condition: float32 [B, n, 6], each a motion in the camera's own axes."""
        view = self.look(state, condition)
        return self.arrive(state, view, *self.imagined(state, view))

    @torch.inference_mode()
    def look(self, state: CameraState, condition: NDArray[np.float32]) -> View:
        """Where a motion leads, and what the network is told of it: the first half of `step`."""
        condition = check_condition(condition, len(state), self.spec)
        pose = state.pose
        for motion in condition.swapaxes(0, 1):
            pose = move(pose, motion)
        previous, anchor = state.causal.latent[:, :, None], state.causal.anchor[:, :, None]
        rays = self.rays(pose, state.intrinsics)[:, None]
        if state.memory is None:
            return View(pose, previous, previous[:, :1], previous, anchor, rays, None)
        drawn = self.drawn(state.memory, pose, state.intrinsics)
        return View(pose, *self.shown(drawn), previous, anchor, rays, drawn)

    @torch.inference_mode()
    def imagined(self, state: CameraState, view: View) -> tuple[Tensor, KVCache]:
        """The next latent frame [B, C, 1, h, w] as the network imagines it, and the cache with it."""
        clean, cache = self._denoised(state.causal, view.reference, **self._told(view))
        if self.camera.gate:
            clean = view.reference + (1 - view.seen) * (clean - view.reference)
        return clean, cache

    @torch.inference_mode()
    def arrive(
        self, state: CameraState, view: View, clean: Tensor, cache: KVCache | None = None
    ) -> tuple[CameraState, NDArray[np.uint8]]:
        """The state and the frames once the next latent frame, [B, C, 1, h, w], is known: the second half of `step`.

        cache: With that frame; None leaves the cache as it was (training lets a place grow without the network).
        """
        causal = state.causal
        new = replace(causal, cache=cache or causal.cache, latent=clean[:, :, 0], clock=causal.clock + 1)
        if self.streams:
            frames, stream = self._decode_next(clean, causal.stream)
            new = replace(new, stream=stream)
        else:  # one row at a time: what a row remembers must not depend on its neighbours
            frames = np.concatenate([self.decode(row[None]) for row in clean])
        memory = state.memory
        if memory is not None and view.drawn is not None:
            memory = self._remember(memory, frames[:, 0], view.pose, state.intrinsics, drawn=view.drawn)
        return CameraState(new, view.pose, state.origin, state.intrinsics, memory), frames

    # --------------------------------------------------------------------------------------------------------- parts

    def _intrinsics(self, rows: int, given: ArrayLike | None) -> NDArray[np.float32]:
        h, w = self.spec.frame_size
        if given is None:
            given = np.array(self.camera.intrinsics) * (w, h, w, h)
        try:
            k = np.asarray(given, np.float32)
        except (TypeError, ValueError):
            k = np.empty(0, np.float32)
        if k.shape not in ((4,), (rows, 4)) or not np.isfinite(k).all() or (k[..., :2] <= 0).any():
            raise UserError(
                f"intrinsics: expected fx, fy, cx, cy in pixels, [4] or [{rows}, 4], focal lengths positive"
            )
        return np.broadcast_to(k, (rows, 4)).copy()

    def rays(self, pose: NDArray[np.float64], intrinsics: Tensor) -> Tensor:
        """Plücker rays [B, h, w, 6] of the latent pixels, for poses [B, 4, 4] seen from the first frame."""
        _, h, w = self.cfg.latent_shape
        scaled = intrinsics / self.cfg.tokenizer.spatial_compression
        w2c = torch.as_tensor(inverse(pose), dtype=torch.float32)
        return plucker_rays(scaled, w2c, (h, w), self.camera.ray_order).to(self.latent_mean)

    def channels(self, view: View) -> Tensor | None:
        """The channels that go with the latents, [B, extra_channels, T, h, w]."""
        parts = [view.reference, view.seen] if self.camera.points else []
        if self.camera.previous:
            parts.append(view.previous)
        if self.cfg.anchor:
            parts.append(view.anchor)
        if self.camera.rays == "concat":
            parts.append(view.rays.permute(0, 4, 1, 2, 3))
        return torch.cat(parts, dim=1) if parts else None

    def tokens_of_rays(self, rays: Tensor) -> Tensor | None:
        """[B, T, N, camera_channels] of rays [B, T, h, w, 6], for a network that is told them in every block."""
        return ray_tokens(rays, self.cfg.dit.patch) if self.camera.rays == "block" else None

    def _network(self, x: Tensor, t: float, cache: KVCache, *, given: bool, **told: Tensor | None) -> Tensor:
        if self.texts is None and self.camera.prompt_tokens:
            self.tell(self.prompt)
        return super()._network(x, t, cache, given=given, **told)

    def _told(self, view: View) -> dict[str, Tensor | None]:
        camera = self.tokens_of_rays(view.rays)
        return {"extra": self.channels(view), "camera": None if camera is None else camera.to(self.dtype)}

    def drawn(self, memory: SpatialMemory, pose: NDArray[np.float64], intrinsics: Tensor) -> Drawn:
        """The memory seen from poses [B, 4, 4]."""
        w2c = torch.as_tensor(inverse(pose), dtype=torch.float32)
        return draw(memory, w2c, intrinsics, self.spec.frame_size)

    def shown(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """What the network gets to see of it: latents [B, C, 1, h, w] and the known part of each, [B, 1, 1, h, w]."""
        pictures = drawn.image.permute(0, 2, 3, 1)[:, None]
        latents = torch.cat([self.encode(row[None]) for row in pictures])
        known = F.avg_pool2d(drawn.seen[:, None].float(), self.cfg.tokenizer.spatial_compression)
        return latents, known[:, :, None].to(latents)

    def depth_of(self, frames: NDArray[np.uint8], intrinsics: Tensor) -> Tensor:
        """float32 [B, H, W], metres, read off frames uint8 [B, H, W, 3]."""
        assert self.depth is not None
        rows = frames_to_tensor(frames[:, None])[:, :, 0]
        return torch.cat([self.depth(row[None], k[None]) for row, k in zip(rows, intrinsics, strict=True)]).exp()

    def _remember(
        self,
        memory: SpatialMemory,
        frames: NDArray[np.uint8],
        pose: NDArray[np.float64],
        intrinsics: Tensor,
        depth: Tensor | None = None,
        drawn: Drawn | None = None,
        fixed: bool = False,
    ) -> SpatialMemory:
        """The memory with what frames [B, H, W, 3] show where it knew nothing."""
        drawn = self.drawn(memory, pose, intrinsics) if drawn is None else drawn
        new = ~drawn.seen
        rows = torch.arange(len(frames)) if fixed else (new.float().mean(dim=(1, 2)) > self.camera.gap).nonzero()[:, 0]
        if not len(rows):
            return memory
        k, part = intrinsics[rows], Drawn(drawn.image[rows], drawn.depth[rows], drawn.seen[rows])
        chosen = frames[rows.numpy()]
        metres = self.depth_of(chosen, k) if depth is None else depth[rows].float()
        new = new[rows] & (metres > 0)
        if depth is None:
            metres = fitted(metres, part)
        image = torch.as_tensor(chosen).permute(0, 3, 1, 2).float()
        c2w = torch.as_tensor(pose[rows.numpy()], dtype=torch.float32)
        kept = remember(memory[rows], image, metres, c2w, k, new, fixed)
        if len(rows) == len(frames):
            return kept
        rest = np.setdiff1d(np.arange(len(frames)), rows.numpy())
        order = torch.as_tensor(np.argsort(np.concatenate((rows.numpy(), rest))))
        return SpatialMemory.cat([kept, memory[torch.as_tensor(rest)]])[order]


def _extra_channels(cfg: WorldConfig) -> int:
    assert cfg.camera is not None
    c = cfg.dit.in_channels
    memory = c + 1 if cfg.camera.points else 0
    given = c * (cfg.camera.previous + cfg.anchor)
    return memory + given + (RAYS if cfg.camera.rays == "concat" else 0)
