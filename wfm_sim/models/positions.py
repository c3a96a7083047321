"""Where a token is: rotary and absolute embeddings of its place (frame, row, column) in the latent video.

arXiv 2501.03575 section 5.1.2. Predict1 has both, Predict2 and 2.5 the rotary one alone.
"""

import torch
from torch import Tensor, nn

BASE_FPS = 24.0  # frame rate at which a latent frame is one step of rotary time

# Cosines and sines [S, d] of a clip's tokens, or [B, 1, S, d] where rows differ.
Rope = tuple[Tensor, Tensor]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-rotation rotary embedding. x: [B, heads, S, d]; cos, sin: [S, d] or [B, 1, S, d]."""
    a, b = x.chunk(2, dim=-1)
    if torch.is_grad_enabled():
        return x * cos + torch.cat((-b, a), dim=-1) * sin
    out, half = x * cos, a.shape[-1]
    out[..., :half].addcmul_(b, sin[..., :half], value=-1)
    out[..., half:].addcmul_(a, sin[..., half:])
    return out


def _shares(dim: int) -> tuple[int, int, int]:
    """Dimensions for (t, h, w): a third each to h and w, rounded down to even, the rest to t."""
    spatial = dim // 6 * 2
    return dim - 2 * spatial, spatial, spatial


class RotaryPositions(nn.Module):
    """Angles of the rotary embedding.

    The published buffers are kept for the sake of the files; angles are computed from scratch, in float32 whatever the
    network computes in.
    """

    def __init__(self, head_dim: int, ratio: tuple[float, float, float], max_size: int) -> None:
        super().__init__()
        self.dims = _shares(head_dim)
        self.ratio = ratio
        temporal, spatial, _ = self.dims
        self.register_buffer("seq", torch.arange(max_size, dtype=torch.float32))
        self.register_buffer("dim_spatial_range", torch.arange(0, spatial, 2).float() / spatial)
        self.register_buffer("dim_temporal_range", torch.arange(0, temporal, 2).float() / temporal)

    def angles(self, frames: Tensor, h: int, w: int) -> Tensor:
        """frames: [..., T] times -> float32 [..., T * h * w, head_dim] angles, order (t, h, w) twice."""
        lead, t, device = frames.shape[:-1], frames.shape[-1], frames.device
        freqs = [
            1.0 / (1e4 * ratio ** (dim / (dim - 2))) ** (torch.arange(0, dim, 2, device=device).float() / dim)
            for dim, ratio in zip(self.dims, self.ratio, strict=True)
        ]
        a_t = frames.float()[..., None] * freqs[0]
        a_h = torch.arange(h, device=device).float()[:, None] * freqs[1]
        a_w = torch.arange(w, device=device).float()[:, None] * freqs[2]
        grid = (*lead, t, h, w)
        parts = (
            a_t[..., :, None, None, :].expand(*grid, -1),
            a_h[:, None, :].expand(*grid, -1),
            a_w[None, :, :].expand(*grid, -1),
        )
        half = torch.cat(parts, dim=-1).flatten(-4, -2)
        return torch.cat((half, half), dim=-1)


class LearnablePositions(nn.Module):
    """A learned vector per frame, row and column; their sum, scaled to unit root mean square."""

    def __init__(self, dim: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.pos_emb_t, self.pos_emb_h, self.pos_emb_w = (nn.Parameter(torch.zeros(n, dim)) for n in sizes)

    def forward(self, t: int, h: int, w: int) -> Tensor:
        """[t, h * w, D]."""
        grid = self.pos_emb_t[:t, None, None] + self.pos_emb_h[:h, None] + self.pos_emb_w[:w]
        norm = torch.linalg.vector_norm(grid, dim=-1, keepdim=True, dtype=torch.float32)
        return (grid / (1e-6 + norm * grid.shape[-1] ** -0.5)).flatten(1, 2).to(grid.dtype)


def sincos_positions(dim: int, t: int, h: int, w: int, device: torch.device | str = "cpu") -> Tensor:
    """float32 [t, h * w, D]: sines, then cosines of frame, row and column, channels shared out as `_shares`."""
    parts = []
    for axis, (count, width) in enumerate(zip((t, h, w), _shares(dim), strict=True)):
        freqs = 1e4 ** -(torch.arange(width // 2, device=device, dtype=torch.float64) / (width // 2))
        angle = torch.arange(count, device=device, dtype=torch.float64)[:, None] * freqs
        wave = torch.cat((angle.sin(), angle.cos()), dim=-1).float()
        shape = [1, 1, 1, width]
        shape[axis] = count
        parts.append(wave.view(shape).expand(t, h, w, width))
    return torch.cat(parts, dim=-1).flatten(1, 2)
