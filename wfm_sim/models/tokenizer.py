"""The Cosmos wavelet tokenizers with continuous latents: CI (images) and CV (causal video).

arXiv 2501.03575, section 4. Published sizes and nano ones are configurations of these classes (see presets.py).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.models import tokenizer_layers as L
from wfm_sim.models.haar import patch_image, patch_video, unpatch_image, unpatch_video


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a tokenizer. Defaults are CV8x8x8-720p.

    Attributes:
        temporal_compression: Frames per latent frame after the first; None makes an image tokenizer (CI).
        spatial_compression: Pixels per latent, along each axis.
        patch_size: Of the Haar transform; what it does not compress, strided convolutions do.
        channels, channels_mult, num_res_blocks: Width per level and depth.
        z_channels: Channels before the 1x1 convolution to the latent.
        latent_channels: Channels of the latent.
        num_groups: Of every GroupNorm (published: 1 for video, 32 for images).
        attn_resolutions, resolution: Attention is added at levels where resolution / patch_size / 2^level is listed;
            at the published resolution of 1024 that is no level.
    """

    temporal_compression: int | None = 8
    spatial_compression: int = 8
    patch_size: int = 4
    channels: int = 128
    channels_mult: tuple[int, ...] = (2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    latent_channels: int = 16
    num_groups: int = 1
    attn_resolutions: tuple[int, ...] = (32,)
    resolution: int = 1024
    in_channels: int = 3

    @property
    def is_image(self) -> bool:
        return self.temporal_compression is None

    @property
    def spatial_downs(self) -> int:
        return int(math.log2(self.spatial_compression) - math.log2(self.patch_size))

    @property
    def temporal_downs(self) -> int:
        return 0 if self.is_image else int(math.log2(self.temporal_compression or 1) - math.log2(self.patch_size))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Haar(nn.Module):
    """The Haar patcher's published buffers; the transform itself is in haar.py."""

    def __init__(self, video: bool) -> None:
        super().__init__()
        self.register_buffer("wavelets", torch.tensor([0.70710678, 0.70710678]))
        self.register_buffer("_arange", torch.arange(2))
        if video:
            self.register_buffer("patch_size_buffer", torch.ones(1, dtype=torch.int32))


class _Level(nn.Module):
    """Blocks of one resolution; `downsample` or `upsample` is set where the resolution changes."""

    downsample: nn.Module
    upsample: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList()
        self.attn = nn.ModuleList()

    def forward(self, h: Tensor) -> Tensor:
        for j, block in enumerate(self.block):
            h = block(h)
            if len(self.attn):
                h = self.attn[j](h)
        for resize in ("downsample", "upsample"):
            if resize in self._modules:
                h = self._modules[resize](h)  # type: ignore[misc]
        return h


def _parts(cfg: TokenizerConfig) -> tuple[Callable[[int, int], nn.Module], ...]:
    """The layer kinds of an image or a video tokenizer: residual block, attention, convolution."""
    g = cfg.num_groups
    if cfg.is_image:
        return (
            lambda i, o: L.ResBlock2d(i, o, g),
            lambda i, _: L.Attention2d(i, g),
            lambda i, o: nn.Conv2d(i, o, 3, padding=1),
        )
    return (
        lambda i, o: L.ResBlock3d(i, o, g),
        lambda i, _: nn.Sequential(L.SpatialAttention3d(i, g), L.TemporalAttention3d(i, g)),
        L.factorised_conv,
    )


def _norm(cfg: TokenizerConfig, channels: int) -> nn.Module:
    return nn.GroupNorm(cfg.num_groups, channels, eps=L.EPS) if cfg.is_image else L.FrameNorm(channels, cfg.num_groups)


def _mid(cfg: TokenizerConfig, channels: int) -> nn.ModuleDict:
    res, attn, _ = _parts(cfg)
    return nn.ModuleDict(
        {"block_1": res(channels, channels), "attn_1": attn(channels, 0), "block_2": res(channels, channels)}
    )


def _run_mid(mid: nn.ModuleDict, h: Tensor) -> Tensor:
    return mid["block_2"](mid["attn_1"](mid["block_1"](h)))


class Encoder(nn.Module):
    """Pixels in [-1, 1] -> features at latent resolution."""

    def __init__(self, cfg: TokenizerConfig) -> None:
        super().__init__()
        res, attn, conv = _parts(cfg)
        self.cfg = cfg
        self.add_module("patcher" if cfg.is_image else "patcher3d", _Haar(video=not cfg.is_image))
        ndim = 2 if cfg.is_image else 3
        widths = [cfg.channels * m for m in cfg.channels_mult]
        self.conv_in = conv(cfg.in_channels * cfg.patch_size**ndim, cfg.channels)
        self.down = nn.ModuleList()
        width, side = cfg.channels, cfg.resolution // cfg.patch_size
        for i, out in enumerate(widths):
            level = _Level()
            for _ in range(cfg.num_res_blocks):
                level.block.append(res(width, out))
                if side in cfg.attn_resolutions:
                    level.attn.append(attn(out, 0))
                width = out
            spatial, temporal = i < cfg.spatial_downs, i < cfg.temporal_downs
            if spatial or temporal:
                level.downsample = L.Downsample2d(out) if cfg.is_image else L.HybridDownsample3d(out, spatial, temporal)
                side //= 2
            self.down.append(level)
        self.mid = _mid(cfg, width)
        self.norm_out = _norm(cfg, width)
        self.conv_out = conv(width, cfg.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        h = patch_image(x, self.cfg.patch_size) if self.cfg.is_image else patch_video(x, self.cfg.patch_size)
        h = self.conv_in(h)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(_run_mid(self.mid, h))))


class Decoder(nn.Module):
    """Features at latent resolution -> pixels."""

    def __init__(self, cfg: TokenizerConfig) -> None:
        super().__init__()
        res, attn, conv = _parts(cfg)
        self.cfg = cfg
        widths = [cfg.channels * m for m in cfg.channels_mult]
        n_s, n_t = cfg.spatial_downs, cfg.temporal_downs
        width = widths[-1]
        side = cfg.resolution // cfg.patch_size // 2**n_s
        self.conv_in = conv(cfg.z_channels, width)
        self.mid = _mid(cfg, width)
        levels = []
        for i, out in enumerate(reversed(widths)):
            level = _Level()
            for _ in range(cfg.num_res_blocks + 1):
                level.block.append(res(width, out))
                if side in cfg.attn_resolutions:
                    level.attn.append(attn(out, 0))
                width = out
            if cfg.is_image:
                spatial, temporal = i < n_s, False
            else:
                temporal = 0 < i < n_t + 1
                spatial = temporal or (i < n_s and n_s > n_t)
            if spatial or temporal:
                level.upsample = L.Upsample2d(out) if cfg.is_image else L.HybridUpsample3d(out, spatial, temporal)
                side *= 2
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))  # published numbering: the finest level is 0
        self.norm_out = _norm(cfg, width)
        self.conv_out = conv(width, cfg.in_channels * cfg.patch_size ** (2 if cfg.is_image else 3))
        self.add_module("unpatcher" if cfg.is_image else "unpatcher3d", _Haar(video=False))

    def forward(self, z: Tensor) -> Tensor:
        h = _run_mid(self.mid, self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(h)))
        unpatch = unpatch_image if self.cfg.is_image else unpatch_video
        return unpatch(h, self.cfg.patch_size)


class Tokenizer(nn.Module):
    """A continuous Cosmos tokenizer (autoencoder without sampling).

    `encode` and `decode` take what the published network takes (images [B, 3, H, W] for CI, clips [B, 3, T, H, W] for
    CV, values in [-1, 1]); `encode_video` and `decode_video` take clips for both, an image tokenizer running frame by
    frame.
    """

    def __init__(self, cfg: TokenizerConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)
        self.quant_conv: nn.Module
        self.post_quant_conv: nn.Module
        if cfg.is_image:
            self.quant_conv = nn.Conv2d(cfg.z_channels, cfg.latent_channels, 1)
            self.post_quant_conv = nn.Conv2d(cfg.latent_channels, cfg.z_channels, 1)
        else:
            self.quant_conv = L.CausalConv3d(cfg.z_channels, cfg.latent_channels, (1, 1, 1))
            self.post_quant_conv = L.CausalConv3d(cfg.latent_channels, cfg.z_channels, (1, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """float [B, 3, (T,) H, W] in [-1, 1] -> latent [B, C, (T',) H / s, W / s], with T = 1 + (T' - 1) * t."""
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Latent -> float [B, 3, (T,) H, W], about [-1, 1], not clipped."""
        return self.decoder(self.post_quant_conv(z))

    def encode_video(self, x: Tensor) -> Tensor:
        """float [B, 3, T, H, W] -> [B, C, T', h, w]; an image tokenizer has T' = T."""
        if not self.cfg.is_image:
            return self.encode(x)
        return self.encode(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def decode_video(self, z: Tensor) -> Tensor:
        """[B, C, T', h, w] -> float [B, 3, T, H, W]."""
        if not self.cfg.is_image:
            return self.decode(z)
        return self.decode(z.transpose(1, 2).flatten(0, 1)).unflatten(0, (z.shape[0], z.shape[2])).transpose(1, 2)
