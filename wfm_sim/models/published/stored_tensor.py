"""A tensor that is still in its file: what it is and where its bytes lie."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from wfm_sim.errors import UserError

_PIECE = 64 << 20  # bytes read at a time


def refuse_state(_self: object, _state: object) -> None:
    """As `__setstate__`: a pickle may make these notes through the functions it is given, but not alter them."""
    raise ValueError("a pickle that alters where its tensors lie")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        path: The file.
        offset: Of its first byte.
        dtype, shape: Of the tensor.
        stride: In elements; None for a contiguous one.
        checksum: CRC-32 of its bytes, where the file has one for exactly these.
    """

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    checksum: int | None = None

    __setstate__ = refuse_state

    @property
    def numel(self) -> int:
        return prod(self.shape)

    def read(self) -> Tensor:
        """The tensor, contiguous, in memory of its own.

        The file is read, not mapped: pages of a map would count as this process's memory beside the copy.

        Raises:
            UserError: the file ends too early, or the bytes are not those that were written.
        """
        count = self.numel
        if self.stride is not None:
            count = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        flat = torch.empty(count, dtype=self.dtype)
        checksum = 0
        if count:
            view = flat.view(torch.uint8).numpy().data
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset)
                done = 0
                while done < len(view):
                    got = file.readinto(view[done : done + _PIECE])
                    if not got:
                        raise UserError(f"{self.path}: truncated (a tensor of shape {self.shape} is not all there)")
                    if self.checksum is not None:
                        checksum = zlib.crc32(view[done : done + got], checksum)
                    done += got
        if self.checksum is not None and checksum != self.checksum:
            raise UserError(f"{self.path}: damaged (the checksum of a tensor of shape {self.shape} is wrong)")
        if self.stride is None:
            return flat.view(self.shape)
        return flat.as_strided(self.shape, self.stride).contiguous()
