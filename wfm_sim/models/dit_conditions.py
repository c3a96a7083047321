"""What else a diffusion transformer is told: masks, discrete tokens, views, actions.

A condition enters in one of three ways: as channels concatenated to the noisy latents, as something added to the time
embedding, or in every block (cameras and attention between views, in `dit_layers`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.dit_config import DiTConfig
from wfm_sim.models.dit_layers import Neighbours, linear


def given_channels(
    cfg: DiTConfig, x: Tensor, condition_mask: Tensor | None, extra: Tensor | None, padding: Tensor | None
) -> list[Tensor]:
    """The latents x [B, C, T, h, w] and what goes with them pixel by pixel, in the published order."""
    b, _, t, h, w = x.shape
    channels = [x]
    if cfg.condition_mask:
        channels.append(x.new_zeros(b, 1, t, h, w) if condition_mask is None else condition_mask)
    between = cfg.extra_channels + cfg.token_channels
    if between:
        if extra is None or extra.shape[1] != between:
            got = "none" if extra is None else extra.shape[1]
            raise UserError(f"this network takes {between} extra condition channels, got {got}")
        channels.append(extra)
    if cfg.padding_mask:
        if padding is None:
            channels.append(x.new_zeros(b, 1, t, h, w))
        else:
            resized = F.interpolate(padding, size=(h, w), mode="nearest")
            channels.append(resized[:, :, None].expand(b, -1, t, -1, -1))
    return channels


def token_channels(embedder: nn.Embedding, tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Discrete video tokens, embedded and enlarged to the latents' grid (diffusion decoder).

    tokens: int64 [B, T, h', w'], size: (h, w) -> [B, token_channels, T, h, w].
    """
    b, t = tokens.shape[:2]
    x = embedder(tokens).flatten(0, 1).permute(0, 3, 1, 2)
    x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    return x.unflatten(0, (b, t)).transpose(1, 2)


def view_channels(
    embedder: nn.Embedding, views: Tensor, grid: tuple[int, int, int], repeated: Tensor | None = None
) -> Tensor:
    """A vector per view, the same at every pixel of its frames (multi-view networks).

    views: int64 [B, V], repeated: [B, V, view_channels] added to the vectors, grid: (t, h, w)
    -> [B, view_channels, V * t, h, w].
    """
    x = embedder(views) if repeated is None else embedder(views) + repeated
    return x.transpose(1, 2)[..., None, None, None].expand(-1, -1, -1, *grid).flatten(2, 3)


def neighbours(views: Tensor, table: tuple[tuple[int, ...], ...]) -> Neighbours:
    """Where the neighbours of each view of a clip are.

    Args:
        views: int64 [B, V], which view stands where in the clip.
        table: Per view, the views it attends to; those that are not in the clip are left out.
    """
    rows = [[[row.index(n) for n in table[view] if n in row] for view in row] for row in views.tolist()]
    most = max(1, max(len(slots) for row in rows for slots in row))
    filled = [[slots + [-1] * (most - len(slots)) for slots in row] for row in rows]
    slots = torch.tensor(filled, device=views.device)
    return Neighbours(slots.clamp(min=0), slots >= 0)


class ActionEmbedder(nn.Module):
    """Two-layer MLP with tanh-GELU, from an action to the time embedding (or its AdaLN part)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return linear(F.gelu(self.fc1(x), approximate="tanh"), self.fc2)
