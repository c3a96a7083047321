"""Finite scalar quantisation (arXiv 2309.15505): every latent channel is rounded to one of a few levels.

With levels 8, 8, 8, 5, 5, 5 (the published Cosmos tokenizers) a code of six channels is one of 64,000 tokens.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MARGIN = 1e-3  # the outermost levels are reached by finite inputs


class FSQ(nn.Module):
    """Codes lie in [-1, 1]; an index counts through the levels, first channel fastest.

    `implicit_codebook` [number of codes, channels] holds the code of every index. It follows from the levels, so a
    state may leave it out.
    """

    _levels: Tensor
    _basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        basis = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
        self.register_buffer("_levels", torch.tensor(self.levels, dtype=torch.int32))
        self.register_buffer("_basis", torch.tensor(basis, dtype=torch.int32))
        self.register_buffer("implicit_codebook", self._codebook())

    def _codebook(self) -> Tensor:
        return self._to_codes(torch.arange(math.prod(self.levels), device=self._levels.device)[:, None])

    def _to_codes(self, indices: Tensor) -> Tensor:
        half = self._levels // 2
        return ((indices // self._basis) % self._levels - half) / half

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z: [B, C, ...] -> indices int32 [B, ...], codes [B, C, ...]. Gradients pass the rounding unchanged."""
        x = z.movedim(1, -1).float()
        half = (self._levels - 1) * (1 + _MARGIN) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        bounded = (x + (offset / half).atanh()).tanh() * half - offset
        codes = (bounded + (bounded.round() - bounded).detach()) / (self._levels // 2)
        codes = codes.movedim(-1, 1)
        return self.codes_to_indices(codes), codes.to(z.dtype)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """[B, C, ...] -> int32 [B, ...]."""
        half = self._levels // 2
        digits = codes.movedim(1, -1).float() * half + half
        return (digits * self._basis).sum(dim=-1).to(torch.int32)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Integers [B, ...] -> float32 [B, C, ...]."""
        return self._to_codes(indices[..., None]).movedim(-1, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        name, levels = prefix + "implicit_codebook", state_dict.get(prefix + "_levels")
        if name not in state_dict and levels is not None and levels.tolist() == list(self.levels):
            state_dict[name] = FSQ(self.levels).implicit_codebook  # type: ignore[assignment]
        super()._load_from_state_dict(state_dict, prefix, *args)
