"""A dense Gaussian rasterizer in torch, for comparison: every splat at every pixel, derivatives by autograd.

Called like gsplat.rasterization (the part of it that we use), so it can also stand in for it on a machine without CUDA.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIELD_MARGIN, MIN_ALPHA, MAX_ALPHA, OPAQUE = 1.3, 1 / 255, 0.99, 1e-4


def rasterization(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, near_plane: float, eps2d: float, backgrounds: Tensor,
) -> tuple[Tensor, None, None]:  # fmt: skip
    """[1, H, W, 3] of one camera; gsplat's second and third results are not computed."""
    rotation, translation, K = viewmats[0, :3, :3], viewmats[0, :3, 3], Ks[0]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    x, y, z = (means @ rotation.T + translation).unbind(-1)
    u = torch.minimum(torch.maximum(x / z, -FIELD_MARGIN * cx / fx), FIELD_MARGIN * (width - cx) / fx)
    v = torch.minimum(torch.maximum(y / z, -FIELD_MARGIN * cy / fy), FIELD_MARGIN * (height - cy) / fy)
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * u / z, zero, fy / z, -fy * v / z], -1).reshape(-1, 2, 3)
    A = J @ rotation @ _rotations(quats) @ torch.diag_embed(scales)
    conic = torch.linalg.inv(A @ A.mT + eps2d * torch.eye(2, dtype=means.dtype))
    centre = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], -1).to(means)
    image, through = torch.zeros(height, width, 3).to(means), torch.ones(height, width).to(means)
    for i in torch.argsort(z).tolist():
        if z[i] < near_plane:
            continue
        d = pixels - centre[i]
        alpha = opacities[i] * torch.exp(-0.5 * torch.einsum("hwi,ij,hwj->hw", d, conic[i], d))
        drawn = (alpha >= MIN_ALPHA) & (through >= OPAQUE)
        alpha = torch.where(drawn, alpha.clamp(max=MAX_ALPHA), 0.0)
        image = image + (alpha * through)[..., None] * colors[i]
        through = through * (1 - alpha)
    return (image + through[..., None] * backgrounds[0])[None], None, None


def _rotations(quats: Tensor) -> Tensor:
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, -1).reshape(-1, 3, 3)
