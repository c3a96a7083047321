"""Tokenizers on frames too large for memory: overlapping tiles, one at a time, blended linearly where they overlap.

The published networks normalise over, and attend within, a whole frame, so tiles are near what the whole gives and not
the same. The memory needed beside input and output is that of one tile.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.streaming import VideoTokenizer
from wfm_sim.models.tokenizer import Tokenizer


def encode_tiled(tokenizer: VideoTokenizer, x: Tensor, *, tile: int = 512, overlap: int = 64) -> Tensor:
    """`tokenizer.encode_video` of float [B, 3, T, H, W] in square tiles.

    Args:
        tokenizer: Any. Of a discrete one the tiles are blended before they are rounded to codes.
        x: Clips; H and W multiples of the compression.
        tile, overlap: Side of a tile and what neighbours share, in pixels; multiples of the compression.

    Raises:
        UserError: sizes that do not fit.
    """
    s = _check(tokenizer, tile, overlap)
    if x.shape[-1] % s or x.shape[-2] % s:
        raise UserError(f"frames of {x.shape[-2]}x{x.shape[-1]} pixels: height and width must be multiples of {s}")
    size = (x.shape[-2] // s, x.shape[-1] // s)

    def run(rows: slice, columns: slice) -> Tensor:
        part = x[..., rows.start * s : rows.stop * s, columns.start * s : columns.stop * s]
        return tokenizer.moments_video(part) if isinstance(tokenizer, Tokenizer) else tokenizer.encode_video(part)

    z = _blend(run, size, tile // s, overlap // s, scale=1)
    return tokenizer.quantize(z) if isinstance(tokenizer, Tokenizer) else z


def decode_tiled(tokenizer: VideoTokenizer, z: Tensor, *, tile: int = 512, overlap: int = 64) -> Tensor:
    """`tokenizer.decode_video` of [B, C, T', h, w] in square tiles; sizes in pixels, as in `encode_tiled`."""
    s = _check(tokenizer, tile, overlap)

    def run(rows: slice, columns: slice) -> Tensor:
        return tokenizer.decode_video(z[..., rows, columns])

    return _blend(run, (z.shape[-2], z.shape[-1]), tile // s, overlap // s, scale=s)


def _check(tokenizer: VideoTokenizer, tile: int, overlap: int) -> int:
    s = tokenizer.spatial_compression
    if tile % s or overlap % s or not 0 <= overlap < tile:
        raise UserError(f"tiles of {tile} pixels that share {overlap}: both must be multiples of {s}, the first larger")
    return s


def _spans(length: int, tile: int, overlap: int) -> list[slice]:
    """Tiles that cover `length`; the last is moved back to end with it."""
    if length <= tile:
        return [slice(0, length)]
    starts = range(0, length - tile, tile - overlap)
    return [slice(a, a + tile) for a in (*starts, length - tile)]


def _ramp(span: slice, length: int, overlap: int, like: Tensor) -> Tensor:
    """Weight of a tile along one axis: 1, falling linearly towards the sides where it has a neighbour."""
    n = span.stop - span.start
    position = torch.arange(n, dtype=like.dtype, device=like.device)
    weight = torch.ones_like(position)
    if span.start > 0:
        weight = torch.minimum(weight, (position + 1) / (overlap + 1))
    if span.stop < length:
        weight = torch.minimum(weight, (n - position) / (overlap + 1))
    return weight


def _blend(
    run: Callable[[slice, slice], Tensor], size: tuple[int, int], tile: int, overlap: int, *, scale: int
) -> Tensor:
    """Weighted mean of the tiles' outputs; `size`, `tile` and `overlap` in latents, the output `scale` times larger."""
    height, width = size
    total: Tensor | None = None
    weights: Tensor | None = None
    for rows in _spans(height, tile, overlap):
        for columns in _spans(width, tile, overlap):
            part = run(rows, columns)
            if total is None or weights is None:
                total = part.new_zeros(*part.shape[:-2], height * scale, width * scale)
                weights = part.new_zeros(height * scale, width * scale)
            r, c = (slice(a.start * scale, a.stop * scale) for a in (rows, columns))
            down, across = (_ramp(a, n * scale, overlap * scale, part) for a, n in ((r, height), (c, width)))
            weight = down[:, None] * across
            total[..., r, c] += part * weight
            weights[r, c] += weight
    assert total is not None and weights is not None
    return total.div_(weights)
