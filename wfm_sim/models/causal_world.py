"""The causal simulator: tokenizer + DiT + rolling KV cache, behind the WorldModel contract.

One latent frame is imagined per step, in a few denoising steps, as in the interactive Predict2.5 release
(self-forcing, arXiv 2506.08009; the frame-by-frame loop of Predict2.5's action model). Two flags describe how a network
is to be read:

- `prediction="velocity"` (published): the network gives v = noise - x of x_t = (1 - t) x + t noise.
  `prediction="residual"` (nano): it gives x minus the previous latent frame, which it also gets as extra channels, so
  that one evaluation moves what moves and leaves the rest alone.
- `clean_pass` (published): after the last denoising step the clean frame is run once more at t = 0 to fill the cache.
  Nano models, which see the clean previous frame in their input, cache the last denoising pass itself.

A tokenizer that packs several pixel frames into a latent one decodes as a stream, whose state goes with the world's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wfm_sim.actions import ACTION_DIM, ACTION_HIGH, ACTION_LOW, RATE_HZ, UNITS, apply_action
from wfm_sim.errors import UserError
from wfm_sim.models.camera_config import CameraConfig
from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.object_memory import ObjectConfig, ObjectMemory, ObjectModel
from wfm_sim.models.streaming import StreamState, VideoTokenizer
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig
from wfm_sim.models.wan_vae import WanConfig, WanVAE
from wfm_sim.world_model import WorldModelSpec, check_condition, check_start

# Dead-reckoned poses are shown to a network in units of 0.2 m and 1 rad.
ODOMETRY_SCALE = np.array([5.0] * 3 + [1.0] * 3)


@dataclass(frozen=True)
class WorldConfig:
    """A whole simulator.

    Attributes:
        times: Flow times of the denoising steps, first 1.0, descending; each step predicts the clean frame and the next
            one starts from it re-noised to the next time.
        window: Past latent frames in the rolling cache.
        anchor: The newest given frame goes into every step as extra channels, so that what it shows (a static camera's
            background, the look of every object) is not forgotten when it leaves the window.
        odometry: Every step also gets the gripper pose commanded so far, dead-reckoned from that frame (6 numbers).
        same_noise: Those steps re-noise with the noise that the frame began from (the published few-step models), not
            with fresh noise.
        action_scale: Canonical actions times this are what the network sees; Cosmos has 20 for metres and radians.
            The gripper is given as 0 = open .. 1 = closed (Cosmos' continuous_gripper_state).
        objects: Of a model that remembers objects (`object_memory`), else None.
        camera: Of a model that is driven by camera motion (`camera_world`), else None.
    """

    name: str
    frame_size: tuple[int, int]
    tokenizer: TokenizerConfig | WanConfig
    dit: DiTConfig
    fps: float = RATE_HZ
    window: int = 8
    times: tuple[float, ...] = (1.0,)
    anchor: bool = False
    odometry: bool = False
    prediction: Literal["velocity", "residual"] = "residual"
    clean_pass: bool = False
    same_noise: bool = False
    action_scale: float = 20.0
    objects: ObjectConfig | None = None
    camera: CameraConfig | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        s = self.tokenizer.spatial_compression
        return self.dit.in_channels, self.frame_size[0] // s, self.frame_size[1] // s

    @property
    def tokens(self) -> int:
        _, h, w = self.latent_shape
        return (h // self.dit.patch) * (w // self.dit.patch)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> WorldConfig:
        """Inverse of `to_dict` after a trip through JSON (lists become tuples again)."""

        def tuples(part: dict[str, Any]) -> dict[str, Any]:
            return {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}

        parts: dict[str, Any] = {
            "tokenizer": (WanConfig if "z_dim" in d["tokenizer"] else TokenizerConfig)(**tuples(d["tokenizer"])),
            "dit": DiTConfig(**tuples(d["dit"])),
        }
        if d.get("objects"):
            parts["objects"] = ObjectConfig(**d["objects"])
        if d.get("camera"):
            parts["camera"] = CameraConfig.from_dict(d["camera"])
        return cls(**{**tuples(d), **parts})


@dataclass
class CausalState:
    """B imagined worlds.

    Attributes:
        cache: Keys and values of the frames in the window.
        latent, anchor: [B, C, h, w], the newest frame and the newest given one.
        pose: float64 [B, 7], the commanded gripper pose, seen from that at `anchor`.
        seeds, clock: int64 [B], seed and number of steps taken.
        stream: Of the decoder, where the tokenizer packs several frames into one; None for an image tokenizer.
        objects: What it remembers of them, where the model does.
    """

    cache: KVCache
    latent: Tensor
    anchor: Tensor
    pose: NDArray[np.float64]
    seeds: Tensor
    clock: Tensor
    stream: StreamState | None = None
    objects: ObjectMemory | None = None

    def __len__(self) -> int:
        return self.latent.shape[0]

    @property
    def doubts(self) -> NDArray[np.float64] | None:
        """float64 [B, 2], metres, of a model that remembers objects: how far off the one that it is least sure of may
        be, and what the last step added to that."""
        return None if self.objects is None else self.objects.doubts.double().cpu().numpy()

    def __getitem__(self, rows: Any) -> CausalState:
        if not isinstance(rows, slice):
            index = np.asarray(rows)
            rows = torch.as_tensor(np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64).reshape(-1))
        return CausalState(
            self.cache.rows(rows),
            self.latent[rows].clone(),
            self.anchor[rows].clone(),
            self.pose[rows if isinstance(rows, slice) else rows.numpy()].copy(),
            self.seeds[rows].clone(),
            self.clock[rows].clone(),
            None if self.stream is None else self.stream[rows],
            None if self.objects is None else self.objects[rows],
        )

    def clone(self) -> CausalState:
        return self[slice(None)]

    @classmethod
    def cat(cls, states: Sequence[CausalState]) -> CausalState:
        return cls(
            KVCache.cat([s.cache for s in states]),
            torch.cat([s.latent for s in states]),
            torch.cat([s.anchor for s in states]),
            np.concatenate([s.pose for s in states]),
            torch.cat([s.seeds for s in states]),
            torch.cat([s.clock for s in states]),
            None if states[0].stream is None else StreamState.cat([s.stream for s in states if s.stream is not None]),
            None
            if states[0].objects is None
            else ObjectMemory.cat([s.objects for s in states if s.objects is not None]),
        )

    def exchanged(self, rows: Sequence[int], other: CausalState) -> CausalState:
        """These worlds with the given rows taken from `other`, in order. As `cat` and indexing would give it, but the
        cache, which is large, is copied once instead of three times."""
        order = np.arange(len(self))
        order[list(rows)] = len(self) + np.arange(len(other))
        index = torch.as_tensor(order)

        def chosen(name: str) -> Tensor:
            return torch.cat([getattr(self, name), getattr(other, name)])[index]

        return CausalState(
            self.cache.exchanged(rows, other.cache),
            chosen("latent"),
            chosen("anchor"),
            np.concatenate([self.pose, other.pose])[order],
            chosen("seeds"),
            chosen("clock"),
            None
            if self.stream is None or other.stream is None
            else StreamState.cat([self.stream, other.stream])[index],
            None
            if self.objects is None or other.objects is None
            else ObjectMemory.cat([self.objects, other.objects])[index],
        )


def _tokenizer(cfg: TokenizerConfig | WanConfig) -> nn.Module:
    return Tokenizer(cfg) if isinstance(cfg, TokenizerConfig) else WanVAE(cfg)


def frames_to_tensor(frames: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3] -> float32 [B, 3, T, H, W] in [-1, 1]."""
    return torch.as_tensor(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def tensor_to_frames(x: Tensor) -> NDArray[np.uint8]:
    """float [B, 3, T, H, W] in about [-1, 1] -> uint8 [B, T, H, W, 3]."""
    pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255)
    return pixels.permute(0, 2, 3, 4, 1).to(torch.uint8).contiguous().cpu().numpy()


class CausalWorldModel(nn.Module):
    """See the module docstring; satisfies `wfm_sim.world_model.WorldModel`.

    Attributes:
        full_window: Whether every step attends to a whole window, what is not there yet masked out. Else it attends to
            as much as its oldest row has, so that a young row rounds differently beside an older one.
    """

    full_window: bool = False
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, cfg: WorldConfig, tokenizer: VideoTokenizer | None = None, net: DiT | None = None) -> None:
        """A world of `cfg`, with fresh weights where no part is given."""
        super().__init__()
        self.cfg = cfg
        self.tokenizer: Any = _tokenizer(cfg.tokenizer) if tokenizer is None else tokenizer
        self.net = DiT(cfg.dit) if net is None else net
        self.objects = ObjectModel(cfg.objects, cfg.frame_size, cfg.dit.in_channels) if cfg.objects else None
        self.texts: list[tuple[Tensor, Tensor]] | None = None
        c, frames = cfg.dit.in_channels, cfg.tokenizer.temporal_compression or 1
        if cfg.dit.action_dim and cfg.dit.actions_per_latent != frames:
            raise UserError(f"a step has {frames} frames, but its network takes {cfg.dit.actions_per_latent} actions")
        self.register_buffer("latent_mean", torch.zeros(c))
        self.register_buffer("latent_std", torch.ones(c))
        self.metadata: dict[str, Any] = {}
        self.spec = WorldModelSpec(
            name=cfg.name,
            frame_size=cfg.frame_size,
            fps=cfg.fps,
            condition="action",
            condition_low=tuple(ACTION_LOW.tolist()),
            condition_high=tuple(ACTION_HIGH.tolist()),
            condition_units=UNITS,
            frames_per_step=frames,
            context_frames=cfg.window,
            latent_shape=cfg.latent_shape,
        )

    @torch.no_grad()
    def tell(self, context: Tensor) -> None:
        """Give the text, [1, K, D], that the network attends to in every step from now on."""
        weights = next(self.net.parameters())
        self.texts = self.net.text_keys(context.to(weights.device, weights.dtype))

    @property
    def streams(self) -> bool:
        """Whether a latent frame holds several pixel frames."""
        return self.spec.frames_per_step > 1

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in; latents and the tokenizer stay float32."""
        return next(self.net.parameters()).dtype

    # ------------------------------------------------------------------------------------------------------- latents

    def encode(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 [B, T, H, W, 3] -> normalised latents [B, C, T, h, w]."""
        mean, std = (a[None, :, None, None, None] for a in (self.latent_mean, self.latent_std))
        x = frames_to_tensor(frames).to(mean.device, next(self.tokenizer.parameters()).dtype)
        return (self.tokenizer.encode_video(x).to(mean) - mean) / std

    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Normalised latents [B, C, T, h, w] -> uint8 [B, T, H, W, 3]."""
        return tensor_to_frames(self.tokenizer.decode_video(self._raw(latents)))

    def decoded(self, latent: Tensor) -> Tensor:
        """One normalised latent frame per row [B, C, h, w] -> float [B, 3, H, W] in about -1..1 (image tokenizers)."""
        pixels: Tensor = self.tokenizer.decode_video(self._raw(latent[:, :, None]))
        return pixels[:, :, 0].to(latent)

    def encoded(self, frames: Tensor) -> Tensor:
        """Inverse of `decoded`."""
        mean, std = (a[None, :, None, None] for a in (self.latent_mean, self.latent_std))
        x = frames[:, :, None].to(next(self.tokenizer.parameters()).dtype)
        return (self.tokenizer.encode_video(x)[:, :, 0].to(mean) - mean) / std

    def _raw(self, latents: Tensor) -> Tensor:
        """Latents as the tokenizer has them."""
        mean, std = (a[None, :, None, None, None] for a in (self.latent_mean, self.latent_std))
        return (latents * std + mean).to(next(self.tokenizer.parameters()).dtype)

    def _decode_next(self, latents: Tensor, stream: StreamState | None) -> tuple[NDArray[np.uint8], StreamState]:
        """`decode` of what follows the frames of `stream` (nothing, if None)."""
        pixels, stream = self.tokenizer.decode_stream(self._raw(latents), stream, window=self.cfg.window)
        return tensor_to_frames(pixels), stream

    def scale_actions(self, actions: NDArray[np.floating[Any]] | Tensor) -> Tensor:
        """Canonical [..., 7] -> what the network sees: displacements scaled, gripper 0 = open .. 1 = closed.

        Conditions of other units (joint positions) are only scaled.
        """
        a = torch.as_tensor(actions, dtype=torch.float32, device=self.latent_mean.device)
        if self.spec.condition_units != UNITS:
            return a * self.cfg.action_scale
        return torch.cat((a[..., :6] * self.cfg.action_scale, 1 - a[..., 6:]), dim=-1).to(self.latent_mean.dtype)

    def condition(self, actions: NDArray[np.floating[Any]] | Tensor, poses: NDArray[np.floating[Any]]) -> Tensor:
        """What the network is told of canonical actions [..., 7] that lead to dead-reckoned poses [..., >=6]."""
        action = self.scale_actions(actions)
        if not self.cfg.odometry:
            return action
        pose = torch.as_tensor(poses[..., :6] * ODOMETRY_SCALE).to(action)
        return torch.cat((action, pose), dim=-1)

    def clean(self, x: Tensor, t: float, output: Tensor, previous: Tensor) -> Tensor:
        """The clean latents that a network output stands for."""
        return previous + output if self.cfg.prediction == "residual" else x - t * output

    # -------------------------------------------------------------------------------------------------- the contract

    @torch.inference_mode()
    def start(self, frames: NDArray[np.uint8], *, seeds: Sequence[int] | None = None) -> CausalState:
        """See WorldModel.start."""
        frames = check_start(frames, seeds, self.spec)
        z, previous, anchor = self._given(frames)
        objects = None if self.objects is None else self.objects.begin(frames_to_tensor(frames[:, -1:])[:, :, 0])
        extra = self._extra(previous, anchor)
        return replace(self._begun(z, self._prefill(z, extra=extra), seeds), objects=objects)

    def _given(self, frames: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """Of given frames, as many of the last as the window holds: latents [B, C, T, h, w], those before each, and the
        anchor of all."""
        packed = self.spec.frames_per_step  # the first latent frame holds one pixel frame, later ones so many
        count = 1 + (min(frames.shape[1], 1 + (self.cfg.window - 1) * packed) - 1) // packed * packed
        # one row at a time: convolutions round differently in a batch, and a row must not depend on its neighbours
        z = torch.cat([self.encode(row[None]) for row in frames[:, -count:]])
        previous = torch.cat((torch.zeros_like(z[:, :, :1]), z[:, :, :-1]), dim=2)
        return z, previous, z[:, :, -1:].expand_as(z)

    def _begun(self, z: Tensor, cache: KVCache, seeds: Sequence[int] | None) -> CausalState:
        """The state after given latents [B, C, T, h, w] and the cache with them."""
        batch = len(z)
        stream = self._decode_next(z, None)[1] if self.streams else None
        seed_row = torch.as_tensor([0] * batch if seeds is None else [int(s) for s in seeds], dtype=torch.int64)
        pose = np.zeros((batch, ACTION_DIM))
        clock = torch.zeros(batch, dtype=torch.int64)
        return CausalState(cache, z[:, :, -1], z[:, :, -1], pose, seed_row, clock, stream)

    @torch.inference_mode()
    def step(self, state: CausalState, condition: NDArray[np.float32]) -> tuple[CausalState, NDArray[np.uint8]]:
        """See WorldModel.step."""
        new = self.step_latent(state, condition)
        if not self.streams:
            return new, self.decode(new.latent[:, :, None])
        frames, stream = self._decode_next(new.latent[:, :, None], state.stream)
        return replace(new, stream=stream), frames

    @torch.inference_mode()
    def step_latent(self, state: CausalState, condition: NDArray[np.float32]) -> CausalState:
        """`step` without decoding the frame; `state.latent` holds it. (A decoder's stream does not go along.)"""
        condition = check_condition(condition, len(state), self.spec)
        pose = state.pose
        if self.cfg.odometry:
            for row in condition.swapaxes(0, 1):
                pose = apply_action(pose, row)
        action = self.condition(condition, pose[:, None]).flatten(1)[:, None]
        previous, anchor = state.latent[:, :, None], state.anchor[:, :, None]
        clean, cache = self._denoised(state, previous, extra=self._extra(previous, anchor), action=action)
        latent, before, objects = clean[:, :, 0], state.objects, state.objects
        if self.objects is not None and before is not None and objects is not None:
            for row in condition.swapaxes(0, 1):
                objects = self.objects.advance(objects, row)
            cell = self.cfg.tokenizer.spatial_compression
            stamped = self.encoded(self.objects.stamped(objects, self.decoded(latent)))
            latent = self.objects.paint(objects, before, latent, stamped, state.latent, state.anchor, cell)
        return CausalState(cache, latent, state.anchor, pose, state.seeds, state.clock + 1, objects=objects)

    def _denoised(self, state: CausalState, reference: Tensor, **told: Tensor | None) -> tuple[Tensor, KVCache]:
        """The next latent frame [B, C, 1, h, w] and the cache with it.

        reference: What a network that predicts residuals adds its output to; told: Conditions, as the network takes
        them.
        """
        noise = self._noise(state)
        cache = state.cache.extended()
        x, clean = noise(0), reference
        for i, t in enumerate(self.cfg.times):
            if i:
                x = (1 - t) * clean + t * noise(0 if self.cfg.same_noise else i)
            clean = self.clean(x, t, self._network(x, t, cache, given=False, **told), reference)
        if self.cfg.clean_pass:
            self._network(clean, 0.0, cache, given=False, **told)
        return clean, cache

    def with_times(self, times: Sequence[float]) -> CausalWorldModel:
        """The same weights with other denoising steps."""
        other = CausalWorldModel.__new__(CausalWorldModel)
        other.__dict__ = dict(self.__dict__)
        other.cfg = replace(self.cfg, times=tuple(times))
        return other

    def _extra(self, previous: Tensor, anchor: Tensor) -> Tensor | None:
        """The channels that go with frames [B, C, T, h, w]: those before them and the given one."""
        if not self.cfg.dit.extra_channels:
            return None
        return torch.cat((previous, anchor), dim=1) if self.cfg.anchor else previous

    def _prefill(self, z: Tensor, **told: Tensor | None) -> KVCache:
        """A cache that begins with the given latents [B, C, T, h, w]; told: Their conditions, with the same T."""
        cfg = self.cfg.dit
        cache = KVCache.empty(
            layers=cfg.num_blocks,
            batch=z.shape[0],
            heads=cfg.num_heads,
            head_dim=cfg.model_channels // cfg.num_heads,
            window=self.cfg.window,
            tokens=self.cfg.tokens,
            device=z.device,
            dtype=self.dtype,
        )
        for k in range(z.shape[2]):
            cache = cache.extended()
            here = {name: None if a is None else _frame(name, a, k) for name, a in told.items()}
            self._network(z[:, :, k : k + 1], 0.0, cache, given=True, **here)
        return cache.padded(self.cfg.window) if self.full_window else cache

    def _network(self, x: Tensor, t: float, cache: KVCache, *, given: bool, **told: Tensor | None) -> Tensor:
        """The network's output for the newest frame of a cache; told: extra, action, camera, as it takes them."""
        b, dtype = x.shape[0], x.dtype
        texts = None if self.texts is None else [tuple(a.expand(b, *a.shape[1:]) for a in pair) for pair in self.texts]
        output: Tensor = self.net(
            x.to(self.dtype),
            x.new_full((b, 1), t),
            context=texts,
            condition_mask=torch.full_like(x[:, :1], float(given), dtype=self.dtype),
            cache=cache,
            **told,
        )
        return output.to(dtype)

    def _noise(self, state: CausalState) -> Any:
        """noise(i): standard normal [B, C, 1, h, w] of denoising step i, from each row's seed and clock alone."""

        def draw(i: int) -> Tensor:
            rows = []
            for seed, clock in zip(state.seeds.tolist(), state.clock.tolist(), strict=True):
                words = np.random.SeedSequence([seed & (2**63 - 1), clock, i]).generate_state(2, np.uint64)
                generator = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
                rows.append(torch.randn(self.cfg.latent_shape, generator=generator))
            return torch.stack(rows)[:, :, None].to(state.latent)

        return draw


def _frame(name: str, told: Tensor, k: int) -> Tensor:
    """Frame k of a condition: channels [B, c, T, h, w], all others [B, T, ...]."""
    return told[:, :, k : k + 1] if name == "extra" else told[:, k : k + 1]
