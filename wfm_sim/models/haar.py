"""Haar wavelet patching of images and videos (Cosmos tokenizers, arXiv 2501.03575 section 4.1).

A patch size of 2^r means r rounds of a one-level Haar transform; each round halves every axis and stacks the sub-bands
as channels. Each round is scaled so that the low-pass band keeps the range of its input.
"""

import math

import torch
from torch import Tensor

_R = 0.70710678  # as in the published buffers, not 1/sqrt(2) to full precision


def _split(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Low and high band along `dim` (even length)."""
    even, odd = x.unflatten(dim, (-1, 2)).unbind(dim + 1 if dim >= 0 else dim)
    return (even + odd) * _R, (even - odd) * _R


def _merge(low: Tensor, high: Tensor, dim: int) -> Tensor:
    """Inverse of `_split`."""
    stacked = torch.stack(((low + high) * _R, (low - high) * _R), dim + 1 if dim >= 0 else dim)
    return stacked.flatten(dim, dim + 1) if dim >= 0 else stacked.flatten(dim - 1, dim)


def _rounds(patch: int) -> int:
    return int(math.log2(patch))


def patch_image(x: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] -> [B, C * patch^2, H / patch, W / patch]; band order: low-low, high along H, high along W, both."""
    for _ in range(_rounds(patch)):
        low_w, high_w = _split(x, 3)
        ll, hl = _split(low_w, 2)
        lh, hh = _split(high_w, 2)
        x = torch.cat((ll, hl, lh, hh), dim=1) / 2
    return x


def unpatch_image(x: Tensor, patch: int) -> Tensor:
    """Inverse of `patch_image`."""
    for _ in range(_rounds(patch)):
        ll, hl, lh, hh = (x * 2).chunk(4, dim=1)
        x = _merge(_merge(ll, hl, 2), _merge(lh, hh, 2), 3)
    return x


def patch_video(x: Tensor, patch: int, *, first: bool = True) -> Tensor:
    """[B, C, 1 + k * patch, H, W] -> [B, C * patch^3, 1 + k, H / patch, W / patch].

    The first frame is repeated `patch` times, so that it becomes one latent frame of its own (causality). With
    first=False the frames are later ones of a clip: k * patch of them give k.
    Band order (time, height, width): lll, llh, lhl, lhh, hll, hlh, hhl, hhh.
    """
    if first:
        x = torch.cat((x[:, :, :1].repeat_interleave(patch, dim=2), x[:, :, 1:]), dim=2)
    for _ in range(_rounds(patch)):
        bands = [w for t in _split(x, 2) for h in _split(t, 3) for w in _split(h, 4)]
        x = torch.cat(bands, dim=1) / (2 * math.sqrt(2))
    return x


def unpatch_video(x: Tensor, patch: int, *, first: bool = True) -> Tensor:
    """Inverse of `patch_video`; drops the patch - 1 copies of the first frame, if that is among them."""
    for _ in range(_rounds(patch)):
        b = (x * (2 * math.sqrt(2))).chunk(8, dim=1)
        h = [_merge(b[2 * i], b[2 * i + 1], 4) for i in range(4)]
        x = _merge(_merge(h[0], h[1], 3), _merge(h[2], h[3], 3), 2)
    return x[:, :, patch - 1 :] if first else x
