"""Building blocks of the Cosmos video tokenizers: causal, factorised 3-D layers.

Parameter names and shapes are the published ones, so that a checkpoint loads without renaming. Activations are laid
out [B, T, H, W, C]: a (1, k, k) convolution is then a 2-D one in channels-last layout, and one over time, or of a
single position, a matrix product. `tape` is None for a whole clip, or reads and keeps the past of a stream.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.models import winograd
from wfm_sim.models.streaming import Tape

EPS = 1e-6


def _conv_space(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """x: [B, T, H, W, C], weight [C', C, k, k]."""
    if stride == 1 and bias is not None and winograd.suits(x.flatten(0, 1), weight):
        return winograd.conv3x3(x.flatten(0, 1), weight, bias).unflatten(0, x.shape[:2])
    y = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), weight, bias, stride=stride, padding=padding)
    return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def _conv_time(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """x: [B, (T' - 1) * stride + 3, H, W, C], weight [C', C, 3] -> [B, T', H, W, C']."""
    count = (x.shape[1] - 3) // stride + 1
    taps = [x[:, k : k + (count - 1) * stride + 1 : stride] for k in range(3)]
    return (
        F.linear(taps[0], weight[:, :, 0], bias)
        + F.linear(taps[1], weight[:, :, 1])
        + F.linear(taps[2], weight[:, :, 2])
    )


def _conv_time_from_start(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`_conv_time` of a whole clip whose first frame is repeated twice before it; each product is computed once."""
    y = F.linear(x, weight[:, :, 2], bias)
    for back in (1, 2):
        earlier = F.linear(x[:, : max(x.shape[1] - back, 1)], weight[:, :, 2 - back])
        y[:, back:] += earlier[:, : max(x.shape[1] - back, 0)]
        y[:, :back] += earlier[:, :1]
    return y


def _lay_out_by_tap(module: nn.Module, *_: object) -> None:
    """Keep a kernel over time in memory tap by tap: each is a matrix, which need not be copied to multiply by it."""
    assert isinstance(module, CausalConv3d)
    weight = module.conv3d.weight
    weight.data = weight.data.flatten(2).permute(2, 0, 1).contiguous().permute(1, 2, 0)[..., None, None]


class CausalConv3d(nn.Module):
    """3-D convolution that sees no later frame: time is padded on the left with copies of the first frame.

    Kernels are those of the factorised networks: (1, k, k), (3, 1, 1) or (1, 1, 1).
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int, int], *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(c_in, c_out, kernel)
        self.kernel, self.stride, self.padding = kernel, stride, padding
        if kernel[0] > 1:
            _lay_out_by_tap(self)
            self.register_load_state_dict_post_hook(_lay_out_by_tap)  # loading may put other tensors in their place

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:
        weight, bias = self.conv3d.weight, self.conv3d.bias
        if self.kernel == (1, 1, 1):
            return F.linear(x, weight.flatten(1), bias)
        if self.kernel[0] == 1:
            return _conv_space(x, weight[:, :, 0], bias, self.stride, self.padding)
        weight = weight.flatten(2)
        past = 3 - self.stride
        if tape is not None:
            return _conv_time(tape.frames(x, past), weight, bias, self.stride)
        if self.stride == 1:
            return _conv_time_from_start(x, weight, bias)
        return _conv_time(torch.cat((x[:, :1],) * past + (x,), dim=1), weight, bias, self.stride)


class FactorisedConv(nn.Sequential):
    """(1,3,3) then (3,1,1): a 3x3x3 receptive field at a fraction of the cost."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(CausalConv3d(c_in, c_out, (1, 3, 3), padding=1), CausalConv3d(c_out, c_out, (3, 1, 1)))

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:  # type: ignore[override]
        return self[1](self[0](x), tape)


class FrameNorm(nn.Module):
    """GroupNorm of one group, applied to each frame on its own (statistics over time would break causality)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.flatten(0, 1).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class ResBlock3d(nn.Module):
    """Factorised causal residual block: norm -> swish -> convolutions, twice, plus the input."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(c_in)
        self.conv1 = FactorisedConv(c_in, c_out)
        self.norm2 = FrameNorm(c_out)
        self.conv2 = FactorisedConv(c_out, c_out)
        self.nin_shortcut = CausalConv3d(c_in, c_out, (1, 1, 1)) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), tape)
        h = self.conv2(F.silu(self.norm2(h)), tape)
        return self.nin_shortcut(x) + h


class _Attention3d(nn.Module):
    """Single-head attention; subclasses say over what."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels)
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
        q, k, v = (a.flatten(2, 3) for a in self.qkv(x))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).reshape(x.shape))


class TemporalAttention3d(_Attention3d):
    """Each position attends over its own present and past."""

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:
        q, k, v = (a.flatten(2, 3).transpose(1, 2) for a in self.qkv(x))  # [B, H * W, T, C]
        if tape is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            k, v, mask = tape.attention(k, v)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.proj_out(out.transpose(1, 2).reshape(x.shape))


class Attention3d(nn.Sequential):
    """Over space, then over time."""

    def __init__(self, channels: int) -> None:
        super().__init__(SpatialAttention3d(channels), TemporalAttention3d(channels))

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:  # type: ignore[override]
        return self[1](self[0](x), tape)


class HybridDownsample3d(nn.Module):
    """Strided convolution plus average pooling, in space and then in time."""

    def __init__(self, channels: int, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
        if spatial:
            self.conv1 = CausalConv3d(channels, channels, (1, 3, 3), stride=2)
        if temporal:
            self.conv2 = CausalConv3d(channels, channels, (3, 1, 1), stride=2)
        self.conv3 = CausalConv3d(channels, channels, (1, 1, 1))

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:
        if self.spatial:
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
            rows = x[:, :, 0:-1:2] + x[:, :, 1::2]
            x = self.conv1(x) + (rows[:, :, :, 0:-1:2] + rows[:, :, :, 1::2]) / 4
        if self.temporal:
            if tape is None or tape.first:
                x = torch.cat((x[:, :1], x), dim=1)  # the first frame becomes a latent frame of its own
            x = self.conv2(x, tape) + (x[:, 0::2] + x[:, 1::2]) / 2
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

    def forward(self, x: Tensor, tape: Tape | None = None) -> Tensor:
        if self.temporal:
            x = x.repeat_interleave(2, dim=1)
            if tape is None or tape.first:
                x = x[:, 1:]  # the first frame stays single
            x = self.conv1(x, tape) + x
        if self.spatial:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = self.conv2(x) + x
        return self.conv3(x)
