"""The Cosmos wavelet tokenizers: images (CI, DI) and causal video (CV, DV), with continuous or discrete latents.

arXiv 2501.03575, section 4. Published sizes and nano ones are configurations of one class (see presets.py).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models import tokenizer_layers as L
from wfm_sim.models import tokenizer_layers3d as V
from wfm_sim.models.fsq import FSQ
from wfm_sim.models.haar import patch_image, patch_video, unpatch_image, unpatch_video
from wfm_sim.models.streaming import StreamState, Tape


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a tokenizer. Defaults are CV8x8x8-720p.

    Attributes:
        temporal_compression: Frames per latent frame after the first; None makes an image tokenizer (CI, DI).
        spatial_compression: Pixels per latent, along each axis.
        patch_size: Of the Haar transform; what it does not compress, strided convolutions do.
        channels, channels_mult, num_res_blocks: Width per level and depth.
        z_channels: Channels before the 1x1 convolution to the latent.
        latent_channels: Channels of the latent.
        num_groups: Of an image tokenizer's GroupNorms (published: 32). Those of video have one group a frame.
        attn_resolutions, resolution: Attention is added at levels where resolution / patch_size / 2^level is listed;
            at the published resolution of 1024 that is no level.
        fsq_levels: Levels of each latent channel of a discrete tokenizer (published: 8, 8, 8, 5, 5, 5); empty for a
            continuous one.

    Raises:
        UserError: as many levels as latent channels are needed.
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
    fsq_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.fsq_levels and len(self.fsq_levels) != self.latent_channels:
            raise UserError(
                f"{len(self.fsq_levels)} FSQ levels for {self.latent_channels} latent channels: give as many"
            )

    @property
    def is_image(self) -> bool:
        return self.temporal_compression is None

    @property
    def spatial_downs(self) -> int:
        return int(math.log2(self.spatial_compression) - math.log2(self.patch_size))

    @property
    def temporal_downs(self) -> int:
        return 0 if self.is_image else int(math.log2(self.temporal_compression or 1) - math.log2(self.patch_size))

    def down(self, level: int) -> tuple[bool, bool]:
        """Whether encoder level `level` halves space, and time. The last level of a video tokenizer never does."""
        if not self.is_image and level == len(self.channels_mult) - 1:
            return False, False
        return level < self.spatial_downs, level < self.temporal_downs

    def up(self, step: int) -> tuple[bool, bool]:
        """Whether the decoder's level doubles space, and time; `step` counts from the coarsest level."""
        n_s, n_t = self.spatial_downs, self.temporal_downs
        if self.is_image:
            return step < n_s, False
        if step == len(self.channels_mult) - 1:
            return False, False
        temporal = 0 < step < n_t + 1
        return temporal or (step < n_s and n_s > n_t), temporal

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

    def forward(self, h: Tensor, *tape: Tape | None) -> Tensor:
        for j, block in enumerate(self.block):
            h = block(h, *tape)
            if len(self.attn):
                h = self.attn[j](h, *tape)
        for resize in ("downsample", "upsample"):
            if resize in self._modules:
                h = self._modules[resize](h, *tape)  # type: ignore[misc]
        return h


def _parts(cfg: TokenizerConfig) -> tuple[Callable[[int, int], nn.Module], ...]:
    """The layer kinds of an image or a video tokenizer: residual block, attention, convolution, norm."""
    g = cfg.num_groups
    if cfg.is_image:
        return (
            lambda i, o: L.ResBlock2d(i, o, g),
            lambda i, _: L.Attention2d(i, g),
            lambda i, o: nn.Conv2d(i, o, 3, padding=1),
            lambda i, _: nn.GroupNorm(g, i, eps=L.EPS),
        )
    return V.ResBlock3d, lambda i, _: V.Attention3d(i), V.FactorisedConv, lambda i, _: V.FrameNorm(i)


def _mid(cfg: TokenizerConfig, channels: int) -> nn.ModuleDict:
    res, attn, *_ = _parts(cfg)
    return nn.ModuleDict(
        {"block_1": res(channels, channels), "attn_1": attn(channels, 0), "block_2": res(channels, channels)}
    )


def _run_mid(mid: nn.ModuleDict, h: Tensor, *tape: Tape | None) -> Tensor:
    return mid["block_2"](mid["attn_1"](mid["block_1"](h, *tape), *tape), *tape)


class Encoder(nn.Module):
    """Pixels in [-1, 1] -> features at latent resolution, [B, C, h, w] or [B, T', h, w, C]."""

    def __init__(self, cfg: TokenizerConfig) -> None:
        super().__init__()
        res, attn, conv, norm = _parts(cfg)
        self.cfg = cfg
        self.add_module("patcher" if cfg.is_image else "patcher3d", _Haar(video=not cfg.is_image))
        ndim = 2 if cfg.is_image else 3
        self.conv_in = conv(cfg.in_channels * cfg.patch_size**ndim, cfg.channels)
        self.down = nn.ModuleList()
        width, side = cfg.channels, cfg.resolution // cfg.patch_size
        for i, mult in enumerate(cfg.channels_mult):
            out = cfg.channels * mult
            level = _Level()
            for _ in range(cfg.num_res_blocks):
                level.block.append(res(width, out))
                if side in cfg.attn_resolutions:
                    level.attn.append(attn(out, 0))
                width = out
            spatial, temporal = cfg.down(i)
            if spatial or temporal:
                level.downsample = L.Downsample2d(out) if cfg.is_image else V.HybridDownsample3d(out, spatial, temporal)
            if spatial or not cfg.is_image:  # the published video networks count every level as half the last
                side //= 2
            self.down.append(level)
        self.mid = _mid(cfg, width)
        self.norm_out = norm(width, 0)
        self.conv_out = conv(width, cfg.z_channels)

    def forward(self, x: Tensor, *tape: Tape | None) -> Tensor:
        patch = self.cfg.patch_size
        if self.cfg.is_image:
            h = patch_image(x, patch)
        else:
            h = patch_video(x, patch, first=tape[0] is None or tape[0].first).permute(0, 2, 3, 4, 1).contiguous()
        h = self.conv_in(h, *tape)
        for level in self.down:
            h = level(h, *tape)
        return self.conv_out(F.silu(self.norm_out(_run_mid(self.mid, h, *tape))), *tape)


class Decoder(nn.Module):
    """Features at latent resolution, laid out as the encoder's, -> pixels."""

    def __init__(self, cfg: TokenizerConfig) -> None:
        super().__init__()
        res, attn, conv, norm = _parts(cfg)
        self.cfg = cfg
        widths = [cfg.channels * m for m in cfg.channels_mult]
        width = widths[-1]
        side = cfg.resolution // cfg.patch_size // 2 ** (len(widths) - 1)
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
            spatial, temporal = cfg.up(i)
            if spatial or temporal:
                level.upsample = L.Upsample2d(out) if cfg.is_image else V.HybridUpsample3d(out, spatial, temporal)
            if spatial or not cfg.is_image:
                side *= 2
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))  # published numbering: the finest level is 0
        self.norm_out = norm(width, 0)
        self.conv_out = conv(width, cfg.in_channels * cfg.patch_size ** (2 if cfg.is_image else 3))
        self.add_module("unpatcher" if cfg.is_image else "unpatcher3d", _Haar(video=False))

    def forward(self, z: Tensor, *tape: Tape | None) -> Tensor:
        h = _run_mid(self.mid, self.conv_in(z, *tape), *tape)
        for level in reversed(self.up):
            h = level(h, *tape)
        h = self.conv_out(F.silu(self.norm_out(h)), *tape)
        if self.cfg.is_image:
            return unpatch_image(h, self.cfg.patch_size)
        return unpatch_video(h.permute(0, 4, 1, 2, 3), self.cfg.patch_size, first=tape[0] is None or tape[0].first)


class Tokenizer(nn.Module):
    """A Cosmos tokenizer: an autoencoder without sampling (CI, CV), or one whose latents are rounded by FSQ (DI, DV).

    `encode` and `decode` take what the published network takes (images [B, 3, H, W] for CI and DI, clips
    [B, 3, T, H, W] for CV and DV, values in [-1, 1]); `encode_video`, `decode_video` and the streams take clips for
    all, an image tokenizer running frame by frame. The latents of a discrete tokenizer are its codes.
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
            self.quant_conv = V.CausalConv3d(cfg.z_channels, cfg.latent_channels, (1, 1, 1))
            self.post_quant_conv = V.CausalConv3d(cfg.latent_channels, cfg.z_channels, (1, 1, 1))
        if cfg.fsq_levels:
            self.quantizer = FSQ(cfg.fsq_levels)

    @property
    def spatial_compression(self) -> int:
        return self.cfg.spatial_compression

    @property
    def temporal_compression(self) -> int:
        return self.cfg.temporal_compression or 1

    @property
    def latent_channels(self) -> int:
        return self.cfg.latent_channels

    def moments(self, x: Tensor, tape: Tape | None = None) -> Tensor:
        """What the encoder says before any rounding; shapes as `encode`."""
        s, t = self.cfg.spatial_compression, self.temporal_compression
        if x.shape[-1] % s or x.shape[-2] % s:
            raise UserError(f"frames of {x.shape[-2]}x{x.shape[-1]} pixels: height and width must be multiples of {s}")
        if self.cfg.is_image:
            return self.quant_conv(self.encoder(x))
        if x.shape[2] < 1 or (x.shape[2] - (tape is None or tape.first)) % t:
            wanted = f"1 + a multiple of {t}" if tape is None or tape.first else f"a multiple of {t}"
            raise UserError(f"a piece of {x.shape[2]} frames: this tokenizer takes {wanted}")
        return self.quant_conv(self.encoder(x, tape)).permute(0, 4, 1, 2, 3).contiguous()

    def quantize(self, moments: Tensor) -> Tensor:
        """The latent that `decode` takes: the moments themselves, or their nearest codes."""
        return self.quantizer(moments)[1] if self.cfg.fsq_levels else moments

    def encode(self, x: Tensor) -> Tensor:
        """float [B, 3, (T,) H, W] in [-1, 1] -> latent [B, C, (T',) H / s, W / s], with T = 1 + (T' - 1) * t."""
        return self.quantize(self.moments(x))

    def decode(self, z: Tensor, tape: Tape | None = None) -> Tensor:
        """Latent -> float [B, 3, (T,) H, W], about [-1, 1], not clipped."""
        if self.cfg.is_image:
            return self.decoder(self.post_quant_conv(z))
        return self.decoder(self.post_quant_conv(z.permute(0, 2, 3, 4, 1).contiguous()), tape)

    def tokenize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A discrete tokenizer's indices int32 [B, (T',) h, w] and codes [B, C, (T',) h, w] of images or clips."""
        return self._fsq()(self.moments(x))

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Indices [B, (T',) h, w] -> pixels as `decode`."""
        return self.decode(self._fsq().indices_to_codes(indices).to(self.post_quant_dtype))

    @property
    def post_quant_dtype(self) -> torch.dtype:
        return next(self.post_quant_conv.parameters()).dtype

    def _fsq(self) -> FSQ:
        if not self.cfg.fsq_levels:
            raise UserError("a continuous tokenizer has no tokens: build it with fsq_levels=(8, 8, 8, 5, 5, 5), say")
        return self.quantizer

    def moments_video(self, x: Tensor) -> Tensor:
        """`moments` of clips: float [B, 3, T, H, W] -> [B, C, T', h, w]; an image tokenizer has T' = T."""
        return _framewise(self.moments, x) if self.cfg.is_image else self.moments(x)

    def encode_video(self, x: Tensor) -> Tensor:
        """float [B, 3, T, H, W] -> [B, C, T', h, w]; an image tokenizer has T' = T."""
        return self.quantize(self.moments_video(x))

    def decode_video(self, z: Tensor) -> Tensor:
        """[B, C, T', h, w] -> float [B, 3, T, H, W]."""
        return _framewise(self.decode, z) if self.cfg.is_image else self.decode(z)

    def encode_stream(
        self, x: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """The next piece of a clip, as `VideoTokenizer.encode_stream`; pieces together give what the whole clip gives.

        A step costs the same at any time, but for the attention over time in the middle: it looks at every latent
        frame so far, and its keys and values grow with them (see `StreamState`, which also explains `window`).
        """
        tape = Tape(state, window)
        z = self.encode_video(x) if self.cfg.is_image else self.quantize(self.moments(x, tape))
        return z, tape.state(len(x))

    def decode_stream(
        self, z: Tensor, state: StreamState | None = None, *, window: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """The next latent frames -> their pixels, as `VideoTokenizer.decode_stream`."""
        tape = Tape(state, window)
        x = self.decode_video(z) if self.cfg.is_image else self.decode(z, tape)
        return x, tape.state(len(z))


def _framewise(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An image function on each frame of [B, C, T, H, W]."""
    return f(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
