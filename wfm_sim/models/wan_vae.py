"""The WAN2.1 video autoencoder of Predict2 and Predict2.5, run by diffusers, behind the interface of our tokenizers.

diffusers' AutoencoderKLWan works piece by piece already, on a list of cached frames that it changes in place. Here that
list is a `StreamState`: a value that can be kept, forked and regrouped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.streaming import StreamState

# Of the published latents, per channel.
_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
_CACHED = 2  # frames that a causal convolution of three looks back


@dataclass(frozen=True)
class WanConfig:
    """Sizes of the autoencoder; the defaults are the published ones.

    Attributes:
        dim, dim_mult, num_res_blocks: Width per level and depth.
        z_dim: Channels of the latent.
        temporal_downs: Which of the steps between levels halve time; all of them halve space.
        mean, std: Of the latents, per channel; `encode_video` returns (latent - mean) / std.
    """

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downs: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def __post_init__(self) -> None:
        if len(self.mean) != self.z_dim or len(self.std) != self.z_dim:
            given = f"{len(self.mean)} means and {len(self.std)} standard deviations"
            raise UserError(f"{given} for {self.z_dim} latent channels: give as many")

    @property
    def spatial_compression(self) -> int:
        return 2 ** (len(self.dim_mult) - 1)

    @property
    def temporal_compression(self) -> int:
        return 2 ** sum(self.temporal_downs)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diffusers_vae(cfg: WanConfig) -> Any:
    """diffusers' AutoencoderKLWan of this size, with fresh weights.

    Raises:
        UserError: diffusers is not installed.
    """
    try:
        with torch.device("cpu"):  # its modules hold tensors, which must not be made on `meta` where we build on it
            from diffusers import AutoencoderKLWan
    except ImportError:
        raise UserError("the WAN2.1 autoencoder needs diffusers: pip install 'wfm-sim[cosmos]'") from None
    return AutoencoderKLWan(
        base_dim=cfg.dim,
        z_dim=cfg.z_dim,
        dim_mult=list(cfg.dim_mult),
        num_res_blocks=cfg.num_res_blocks,
        temperal_downsample=list(cfg.temporal_downs),
        latents_mean=list(cfg.mean),
        latents_std=list(cfg.std),
    )


class WanVAE(nn.Module):
    """A `VideoTokenizer`. Its parameters have diffusers' names; published/names_wan.py has the published ones.

    The latent is the mean of the encoder's distribution, normalised per channel; decoded pixels are not clipped.
    Pieces together give what the whole clip gives, and a step costs the same at any time: attention here is within a
    frame, so `window` changes nothing.
    """

    def __init__(self, cfg: WanConfig) -> None:
        super().__init__()
        self.cfg = cfg
        vae = diffusers_vae(cfg)
        self.encoder, self.decoder = vae.encoder, vae.decoder
        self.quant_conv, self.post_quant_conv = vae.quant_conv, vae.post_quant_conv

    @property
    def spatial_compression(self) -> int:
        return self.cfg.spatial_compression

    @property
    def temporal_compression(self) -> int:
        return self.cfg.temporal_compression

    @property
    def latent_channels(self) -> int:
        return self.cfg.z_dim

    def encode_video(self, x: Tensor) -> Tensor:
        """float [B, 3, 1 + k * t, H, W] in [-1, 1] -> normalised latents [B, C, 1 + k, H / s, W / s]."""
        return self.encode_stream(x)[0]

    def decode_video(self, z: Tensor) -> Tensor:
        """Normalised latents [B, C, 1 + k, h, w] -> float [B, 3, 1 + k * t, H, W]."""
        return self.decode_stream(z)[0]

    def encode_stream(
        self, x: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """The next piece of a clip, as `VideoTokenizer.encode_stream`."""
        s, t = self.spatial_compression, self.temporal_compression
        if x.shape[-1] % s or x.shape[-2] % s:
            raise UserError(f"frames of {x.shape[-2]}x{x.shape[-1]} pixels: height and width must be multiples of {s}")
        first = int(state is None)
        if x.shape[2] < 1 or (x.shape[2] - first) % t:
            wanted = f"1 + a multiple of {t}" if first else f"a multiple of {t}"
            raise UserError(f"a piece of {x.shape[2]} frames: this autoencoder takes {wanted}")
        latents = []
        for piece in (*x[:, :, :first].split(1, dim=2), *x[:, :, first:].split(t, dim=2)):
            if piece.shape[2]:
                y, state = _cached(self.encoder, piece, state)
                latents.append(self.quant_conv(y)[:, : self.cfg.z_dim])
        assert state is not None
        z = torch.cat(latents, dim=2)
        return (z - _channels(self.cfg.mean, z)) / _channels(self.cfg.std, z), state

    def decode_stream(
        self, z: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """The next latent frames -> their pixels, as `VideoTokenizer.decode_stream`."""
        z = self.post_quant_conv(z * _channels(self.cfg.std, z) + _channels(self.cfg.mean, z))
        clips = []
        for frame in z.split(1, dim=2):
            x, state = _cached(self.decoder, frame, state)
            clips.append(x)
        assert state is not None
        return torch.cat(clips, dim=2), state


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None, None]


def _cached(half: nn.Module, x: Tensor, state: StreamState | None) -> tuple[Tensor, StreamState]:
    """One step of the encoder or decoder.

    After it every cache has two frames, whatever the age of the clip, so that rows of different age can be joined:
    where diffusers has fewer, zeros stand before them, as its convolutions would pad.
    """
    layers = sum(1 for m in half.modules() if isinstance(m, nn.Conv3d))
    caches: list[Any] = [None] * layers if state is None else [*state.entries, *[None] * (layers - len(state.entries))]
    y = half(x, feat_cache=caches, feat_idx=[0])
    resamples = iter(_time_upsamplers(half))
    entries = []
    for cache in caches:
        if isinstance(cache, str):  # an upsampler that has seen one frame keeps this mark in place of two of zeros
            channels, scale = next(resamples)
            cache = x.new_zeros(len(x), channels, _CACHED, x.shape[3] * scale, x.shape[4] * scale)
        if cache is not None:
            missing = _CACHED - cache.shape[2]
            entries.append(nn.functional.pad(cache, (0, 0, 0, 0, missing, 0)) if missing > 0 else cache)
    return y, StreamState(tuple(entries), len(x))


def _time_upsamplers(decoder: nn.Module) -> list[tuple[int, int]]:
    """Channels, and size relative to the latent, of what the upsamplers over time get, in order."""
    out = []
    for i, block in enumerate(getattr(decoder, "up_blocks", ())):
        if block.upsamplers is not None and block.upsamplers[0].mode == "upsample3d":
            out.append((block.upsamplers[0].dim, 2**i))
    return out
