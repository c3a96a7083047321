"""Plücker rays: a camera told pixel by pixel, as six numbers of the ray that each pixel sees along.

Axes are those of computer vision: x right, y down, z forward. Pixel (row i, column j) has its centre at
(u, v) = (j + 0.5, i + 0.5); intrinsics are (fx, fy, cx, cy) in pixels; extrinsics [R | t] are world to camera, so that
a camera's centre is o = -R^T t and its ray d = R^T K^-1 (u, v, 1), of length 1, all in the world's axes.

Two orders are published: Predict1's camera control has (d, o x d) (arXiv 2501.03575 section 6.1, where c is the camera
centre), Predict2.5's camera network (o x d, d).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Order = Literal["direction-moment", "moment-direction"]


def rays(intrinsics: Tensor, w2c: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Camera centres [..., 3] and unit directions [..., H, W, 3] in world axes.

    intrinsics: [..., 4] (fx, fy, cx, cy) in pixels of an image of `size` (H, W); w2c: [..., 3 or 4, 4] [R | t].
    """
    h, w = size
    fx, fy, cx, cy = (a[..., None, None] for a in intrinsics.unbind(-1))
    v, u = torch.meshgrid(torch.arange(h).to(intrinsics) + 0.5, torch.arange(w).to(intrinsics) + 0.5, indexing="ij")
    x, y = (u - cx) / fx, (v - cy) / fy
    rotation, shift = w2c[..., :3, :3], w2c[..., :3, 3]
    seen = torch.stack((x, y, torch.ones_like(x)), dim=-1)
    directions = torch.einsum("...ki,...hwk->...hwi", rotation, seen)
    centres = -torch.einsum("...ki,...k->...i", rotation, shift)
    return centres, F.normalize(directions, dim=-1)


def plucker_rays(intrinsics: Tensor, w2c: Tensor, size: tuple[int, int], order: Order) -> Tensor:
    """[..., H, W, 6] per pixel; arguments as for `rays`."""
    centres, directions = rays(intrinsics, w2c, size)
    moments = torch.linalg.cross(centres[..., None, None, :].expand_as(directions), directions)
    pair = (directions, moments) if order == "direction-moment" else (moments, directions)
    return torch.cat(pair, dim=-1)


def ray_tokens(pixels: Tensor, patch: int) -> Tensor:
    """Predict2.5's camera input: rays [B, T, H, W, 6] -> [B, T, (H / patch) * (W / patch), patch * patch * 6].

    patch: Pixels per token and axis (16: 8 of the tokenizer times 2 of the network).
    """
    b, t, h, w, c = pixels.shape
    x = pixels.reshape(b, t, h // patch, patch, w // patch, patch, c).transpose(3, 4)
    return x.reshape(b, t, (h // patch) * (w // patch), patch * patch * c)
