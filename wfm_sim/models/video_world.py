"""A small Video2World model: given frames in, the rest of the clip out, with no action.

    model = load_video("runs/train/video/model.safetensors")
    clips = model.predict(context, seeds=[0] * B)      # uint8 [B, 1 or 9, 64, 64, 3] -> uint8 [B, 33, 64, 64, 3]

The classes are those of the published models: a Haar-wavelet tokenizer and the DiT, denoising all latent frames of a
clip at once; the latents of given frames stand in the sequence, marked by a mask channel (Video2World of
arXiv 2501.03575, section 5.1, and arXiv 2511.00062, section 3). As in the nano simulator, the newest given frame
(encoded as a picture of its own) goes in as extra channels for every latent frame, and the network predicts the clean
clip as a difference from it: what stands still need not be made anew. Where an image tokenizer gives a latent per
frame, several of them make a token (`patch_temporal`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.causal_world import frames_to_tensor, tensor_to_frames
from wfm_sim.models.checkpoint import has_format, load_as, write_weights
from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.generation import row_noise
from wfm_sim.models.sampling import Given
from wfm_sim.models.schedules import append_zero
from wfm_sim.models.solvers import euler
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

FORMAT = "wfm-sim video model 1"
# Grey levels between two decoded frames up to which a pixel shows the same thing, and from which another.
LIKE, UNLIKE = 8.0, 24.0


@dataclass(frozen=True)
class VideoConfig:
    """A whole Video2World model.

    Attributes:
        frames: Of a clip, the given ones included: 1 + a multiple of a video tokenizer's temporal compression; with an
            image tokenizer, a multiple of the network's `patch_temporal`.
        frame_size: (height, width) in pixels.
        given: Numbers of given frames that it was trained on.
        times: Flow times of the denoising steps, first 1.0, descending.
    """

    name: str
    frames: int
    frame_size: tuple[int, int]
    fps: float
    tokenizer: TokenizerConfig
    dit: DiTConfig
    given: tuple[int, ...] = (1, 9)
    times: tuple[float, ...] = (1.0,)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of `frames` pixel frames."""
        ratio = self.tokenizer.temporal_compression or 1
        return 1 + (frames - 1) // ratio

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """[C, T, h, w] of a clip."""
        s = self.tokenizer.spatial_compression
        return self.dit.in_channels, self.latent_frames(self.frames), self.frame_size[0] // s, self.frame_size[1] // s

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> VideoConfig:
        """Inverse of `to_dict` after a trip through JSON (lists become tuples again)."""

        def tuples(part: dict[str, Any]) -> dict[str, Any]:
            return {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}

        parts = {"tokenizer": TokenizerConfig(**tuples(d["tokenizer"])), "dit": DiTConfig(**tuples(d["dit"]))}
        return cls(**{**tuples(d), **parts})


class VideoModel(nn.Module):
    """See the module docstring.

    Attributes:
        cfg: Its configuration.
        metadata: What its file says of its training and measured quality.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, cfg: VideoConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.tokenizer = Tokenizer(cfg.tokenizer)
        self.net = DiT(cfg.dit)
        self.register_buffer("latent_mean", torch.zeros(cfg.dit.in_channels))
        self.register_buffer("latent_std", torch.ones(cfg.dit.in_channels))
        self.metadata: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return self.cfg.name

    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """uint8 [B, 1 + k * t, H, W, 3] -> normalised latents [B, C, 1 + k, h, w]."""
        z = self.tokenizer.encode_video(frames_to_tensor(frames).to(self.latent_mean.device)).float()
        return (z - self._broadcast(self.latent_mean)) / self._broadcast(self.latent_std)

    def decode(self, z: Tensor) -> NDArray[np.uint8]:
        """Inverse of `encode`."""
        z = z * self._broadcast(self.latent_std) + self._broadcast(self.latent_mean)
        return tensor_to_frames(self.tokenizer.decode_video(z))

    @staticmethod
    def _broadcast(value: Tensor) -> Tensor:
        return value[:, None, None, None]

    def denoise(
        self,
        noisy: Tensor,
        time: Tensor,
        given: Given,
        anchor: Tensor,
        network: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Clean latents [B, C, T, h, w]; those of given frames as they were given.

        Args:
            noisy: [B, C, T, h, w]; what stands on given frames does not matter.
            time: Flow times [B, 1] of the other frames; the network is told the same of all frames (Predict2.5's base
                models).
            given: The given frames' latents and where they are.
            anchor: [B, C, 1, h, w], the newest given frame, encoded alone.
            network: `net` in another form (compiled), if given.
        """
        x = given.blend(given.latents, noisy)
        dtype = next(self.net.parameters()).dtype
        out = (self.net if network is None else network)(
            x.to(dtype), time, condition_mask=given.mask_channel().to(dtype), extra=anchor.expand_as(x).to(dtype)
        )
        return given.blend(given.latents, anchor + out.float())

    @torch.inference_mode()
    def predict(self, context: NDArray[np.uint8], *, seeds: Sequence[int], rows_at_once: int = 16) -> NDArray[np.uint8]:
        """Whole clips that begin with the context.

        Args:
            context: uint8 [B, T, H, W, 3]; T is one of `cfg.given`.
            seeds: One per row: all that its noise depends on.
            rows_at_once: Rows computed together.

        Returns:
            uint8 [B, cfg.frames, H, W, 3]; the given frames come back as they are.

        Raises:
            UserError: frames or seeds of another shape, or a number of frames it was not trained on.
        """
        height, width = self.cfg.frame_size
        if context.dtype != np.uint8 or context.ndim != 5 or context.shape[2:] != (height, width, 3):
            raise UserError(
                f"{self.name}: expected context frames uint8 [B, T, {height}, {width}, 3], "
                f"got {context.dtype} {list(context.shape)}"
            )
        if context.shape[1] not in self.cfg.given:
            known = " or ".join(str(n) for n in self.cfg.given)
            raise UserError(f"{self.name}: it is conditioned on {known} frames, got {context.shape[1]}")
        if len(seeds) != len(context):
            raise UserError(f"{self.name}: expected {len(context)} seeds, one per row, got {len(seeds)}")
        clips = [
            self._predict(context[a : a + rows_at_once], seeds[a : a + rows_at_once])
            for a in range(0, len(context), rows_at_once)
        ]
        return np.concatenate(clips)

    def _predict(self, context: NDArray[np.uint8], seeds: Sequence[int]) -> NDArray[np.uint8]:
        device = self.latent_mean.device
        first, anchor = self.encode(context), self.encode(context[:, -1:])
        noise = row_noise(seeds, self.cfg.latent_shape).to(device)
        latents, mask = torch.zeros_like(noise), torch.zeros(noise.shape[2], dtype=torch.bool, device=device)
        latents[:, :, : first.shape[2]], mask[: first.shape[2]] = first, True
        given = Given(latents, mask)

        def denoiser(x: Tensor, level: float) -> Tensor:
            return self.denoise(x, x.new_full((len(x), 1), level), given, anchor)

        times = append_zero(torch.tensor(self.cfg.times, dtype=torch.float64))
        clip = self.decode(given.blend(latents, euler(denoiser, noise, times)))
        clip = _with_detail(clip, self.decode(anchor)[:, :1], context[:, -1:])
        clip[:, : context.shape[1]] = context
        return clip


def _with_detail(clip: NDArray[np.uint8], seen: NDArray[np.uint8], newest: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where a clip shows what the newest given frame shows, give back the detail that the tokenizer lost of it.

    Args:
        clip: uint8 [B, T, H, W, 3] as decoded.
        seen: uint8 [B, 1, H, W, 3], the newest given frame through the tokenizer.
        newest: The frame itself.

    A network that says 'nothing moves' thus repeats the frame exactly.
    """
    lost = newest.astype(np.float32) - seen
    out = np.empty_like(clip)
    for t in range(clip.shape[1]):  # frame by frame: floats of a whole batch of clips would be large
        now = clip[:, t : t + 1].astype(np.float32)
        apart = np.abs(now - seen).max(axis=-1, keepdims=True)
        same = np.clip((UNLIKE - apart) / (UNLIKE - LIKE), 0, 1)
        out[:, t : t + 1] = np.clip(np.rint(now + same * lost), 0, 255).astype(np.uint8)
    return out


def is_video(path: Path) -> bool:
    """Whether this file is a video model of ours."""
    return has_format(path, FORMAT)


def save_video(model: VideoModel, path: Path, *, about: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Save weights, configuration and `about`; `dtype` is that of the stored matrices."""
    write_weights(path, FORMAT, model.cfg.to_dict(), model.state_dict(), about, dtype)


def load_video(
    name_or_path: str | os.PathLike[str], *, device: str = "cpu", dtype: torch.dtype | None = None
) -> VideoModel:
    """A Video2World model by shipped name (none is shipped yet) or from a file of `wfm-sim train video`.

    Args:
        name_or_path: As above.
        device: Where it runs.
        dtype: What its network computes in; None for `fast_dtype`. Latents and tokenizer stay float32.

    Raises:
        UserError: no such model, or a file that is none of ours (truncated, pickled, of another kind).
    """
    kind = (FORMAT, "video model", "wfm-sim train video")
    return load_as(name_or_path, kind, lambda config: VideoModel(VideoConfig.from_dict(config)), device, dtype)
