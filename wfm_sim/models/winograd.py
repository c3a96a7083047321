"""3x3 convolutions with 2.25 times fewer multiplications: Winograd's F(2x2, 3x3), arXiv 1509.09308, for CPUs.

Every 4x4 piece of the input gives a 2x2 piece of the output through 16 products of one number each, where the plain
sum takes 36. What is left are 16 matrix products, at the speed of the machine's BLAS. Rounding errors are those of
float32 (about 2e-6 of the output).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Below these the transforms cost what the products save. Tiles are per frame, so that a clip and a stream round alike.
_MIN_TILES, _MIN_CHANNELS = 64, 192
_STRIP = 512  # tiles that are worked on together, so that they stay in the processor's cache
_G = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether `conv3x3` can be used and is faster, for x [N, H, W, C] and stride 1. Not where gradients are wanted."""
    height, width = x.shape[1:3]
    able = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
    fits = weight.shape[2:] == (3, 3) and height % 2 == 0 and width % 2 == 0
    return able and fits and height * width >= 4 * _MIN_TILES and min(weight.shape[:2]) >= _MIN_CHANNELS


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """float32 [N, H, W, C] with even H and W, weight [O, C, 3, 3], bias [O] -> [N, H, W, O]; zeros around the frame."""
    n, height, width, channels = x.shape
    out = x.new_empty(n, height // 2, 2, width // 2, 2, weight.shape[0])
    kernel = torch.kron(_G, _G) @ weight.reshape(-1, 9).T  # [16, O * C]
    kernel = kernel.view(16, weight.shape[0], channels).transpose(1, 2)
    rows = max(_STRIP // (width // 2), 1)
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    for i in range(n):
        for top in range(0, height // 2, rows):
            bottom = min(top + rows, height // 2)
            tiles = _to_tiles(padded[i, 2 * top : 2 * bottom + 2])
            products = torch.bmm(tiles.view(16, -1, channels), kernel)
            _from_tiles(products.view(4, 4, bottom - top, width // 2, -1), bias, out[i, top:bottom])
    return out.view(n, height, width, -1)


def _to_tiles(x: Tensor) -> Tensor:
    """Overlapping 4x4 pieces, transformed: [2 r + 2, 2 c + 2, C] -> [4, 4, r, c, C]."""
    r, c = x.shape[0] // 2 - 1, x.shape[1] // 2 - 1
    tiles = x.new_empty(4, 4, r, c, x.shape[2])
    d = [x[j : j + 2 * r - 1 : 2] for j in range(4)]
    for row, piece in enumerate((d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3])):
        e = [piece[:, j : j + 2 * c - 1 : 2] for j in range(4)]
        torch.sub(e[0], e[2], out=tiles[row, 0])
        torch.add(e[1], e[2], out=tiles[row, 1])
        torch.sub(e[2], e[1], out=tiles[row, 2])
        torch.sub(e[1], e[3], out=tiles[row, 3])
    return tiles


def _from_tiles(m: Tensor, bias: Tensor, out: Tensor) -> None:
    """[4, 4, r, c, O] -> out [r, 2, c, 2, O]."""
    for row, y in enumerate(((m[0] + m[1]).add_(m[2]), (m[1] - m[2]).sub_(m[3]))):
        y[1] += bias  # both columns have it
        torch.add(y[0] + y[1], y[2], out=out[:, row, :, 0])
        torch.sub(y[1] - y[2], y[3], out=out[:, row, :, 1])
