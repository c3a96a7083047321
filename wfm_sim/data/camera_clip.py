"""One clip with known cameras, whatever it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, check_pose
from wfm_sim.errors import UserError


@dataclass(frozen=True)
class CameraClip:
    """T frames and where each was taken from.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, T >= 1, undistorted.
        poses: float64 [T, 4, 4], camera to world, OpenCV axes (x right, y down, z forward).
        intrinsics: Of all frames, in their pixels.
        depth: float32 [T, H, W], metres along the optical axis, 0 where unknown; None where not recorded.
        metric: Whether lengths are metres (else they are known up to scale).
        fps: Frames per second; of photographs, 1.
        id, source: Its name in a data set, and where it was read from, for messages.
        extras: Anything more, e.g. 'missing' (names of images that the poses name but that are not there).
    """

    frames: NDArray[np.uint8]
    poses: NDArray[np.float64]
    intrinsics: Intrinsics
    depth: NDArray[np.float32] | None = None
    metric: bool = False
    fps: float = 10.0
    id: str = ""
    source: str = ""
    extras: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = self.source or f"clip {self.id!r}"
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise UserError(f"{where}: frames are {self.frames.dtype} {list(shape)}, expected uint8 [T>=1, H, W, 3]")
        if np.shape(self.poses) != (len(self.frames), 4, 4):
            raise UserError(f"{where}: poses are {list(np.shape(self.poses))}, expected [{len(self.frames)}, 4, 4]")
        object.__setattr__(self, "poses", check_pose(self.poses, f"{where}: camera poses"))
        if (self.intrinsics.height, self.intrinsics.width) != shape[1:3]:
            size = (self.intrinsics.height, self.intrinsics.width)
            raise UserError(f"{where}: intrinsics are for {size} pixels, the frames have {shape[1:3]}")
        if self.depth is not None and self.depth.shape != shape[:3]:
            raise UserError(f"{where}: depth is {list(self.depth.shape)}, expected {list(shape[:3])}")

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.frames)
