"""Building blocks of the Cosmos tokenizers: plain 2-D ones (CI) and causal, factorised 3-D ones (CV).

Parameter names are the published ones, so that a checkpoint loads without renaming.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


# ---------------------------------------------------------------------------------------------------------- images


class ResBlock2d(nn.Module):
    """norm -> swish -> 3x3 conv, twice, plus the input. x: [B, C, H, W]."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=EPS)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=EPS)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class Attention2d(nn.Module):
    """Single-head attention over the H * W positions of a feature map, plus the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (f(h).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(out.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample2d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample2d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


# ---------------------------------------------------------------------------------------------------------- videos


class CausalConv3d(nn.Module):
    """3-D convolution that sees no later frame: time is padded on the left with copies of the first frame."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: tuple[int, int, int],
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(c_in, c_out, kernel, stride=stride, padding=(0, padding, padding))
        self.time_pad = kernel[0] - 1 + 1 - stride[0]

    def forward(self, x: Tensor) -> Tensor:
        if self.time_pad > 0:
            x = torch.cat((x[:, :, :1].repeat_interleave(self.time_pad, dim=2), x), dim=2)
        return self.conv3d(x)


def factorised_conv(c_in: int, c_out: int) -> nn.Sequential:
    """(1,3,3) then (3,1,1): a 3x3x3 receptive field at a fraction of the cost."""
    return nn.Sequential(CausalConv3d(c_in, c_out, (1, 3, 3), padding=1), CausalConv3d(c_out, c_out, (3, 1, 1)))


class FrameNorm(nn.Module):
    """GroupNorm applied to each frame on its own (statistics over time would break causality)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        b, _, t = x.shape[:3]
        return self.norm(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, t)).transpose(1, 2)


class ResBlock3d(nn.Module):
    """Factorised causal residual block. x: [B, C, T, H, W]."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(c_in, groups)
        self.conv1 = factorised_conv(c_in, c_out)
        self.norm2 = FrameNorm(c_out, groups)
        self.conv2 = factorised_conv(c_out, c_out)
        self.nin_shortcut = CausalConv3d(c_in, c_out, (1, 1, 1)) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class _Attention3d(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels, groups)
        self.q = CausalConv3d(channels, channels, (1, 1, 1))
        self.k = CausalConv3d(channels, channels, (1, 1, 1))
        self.v = CausalConv3d(channels, channels, (1, 1, 1))
        self.proj_out = CausalConv3d(channels, channels, (1, 1, 1))

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.norm(x)
        return self.q(h), self.k(h), self.v(h)


class SpatialAttention3d(_Attention3d):
    """Each frame attends over its own H * W positions."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        q, k, v = (a.permute(0, 2, 3, 4, 1).reshape(b, t, h * w, c) for a in self.qkv(x))
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(out.reshape(b, t, h, w, c).permute(0, 4, 1, 2, 3))


class TemporalAttention3d(_Attention3d):
    """Each position attends over its own present and past."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        q, k, v = (a.permute(0, 3, 4, 2, 1).reshape(b, h * w, t, c) for a in self.qkv(x))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.proj_out(out.reshape(b, h, w, t, c).permute(0, 4, 3, 1, 2))


class HybridDownsample3d(nn.Module):
    """Strided convolution plus average pooling, in space and then in time."""

    def __init__(self, channels: int, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
        if spatial:
            self.conv1 = CausalConv3d(channels, channels, (1, 3, 3), stride=(1, 2, 2))
        if temporal:
            self.conv2 = CausalConv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))
        self.conv3 = CausalConv3d(channels, channels, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.spatial:
            x = F.pad(x, (0, 1, 0, 1))
            x = self.conv1(x) + F.avg_pool3d(x, (1, 2, 2), stride=(1, 2, 2))
        if self.temporal:
            x = torch.cat((x[:, :, :1], x), dim=2)
            x = self.conv2(x) + F.avg_pool3d(x, (2, 1, 1), stride=(2, 1, 1))
        return self.conv3(x)


class HybridUpsample3d(nn.Module):
    """Repetition plus a residual convolution, in time and then in space."""

    def __init__(self, channels: int, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
        if temporal:
            self.conv1 = CausalConv3d(channels, channels, (3, 1, 1))
        if spatial:
            self.conv2 = CausalConv3d(channels, channels, (1, 3, 3), padding=1)
        self.conv3 = CausalConv3d(channels, channels, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.temporal:
            if x.shape[2] > 1:  # a single frame stays single: it is the causal first frame
                x = x.repeat_interleave(2, dim=2)[:, :, 1:]
            x = self.conv1(x) + x
        if self.spatial:
            x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
            x = self.conv2(x) + x
        return self.conv3(x)
