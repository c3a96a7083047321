"""All frames, depths and poses of clips with cameras as flat arrays on disk, memory-mapped by every process."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from wfm_sim.camera import relative_to_first
from wfm_sim.data.camera import normalise_scale, open_camera_dataset
from wfm_sim.data.camera_episodes import camera_split
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError

_PARTS = ("frames", "depth", "poses", "intrinsics", "offsets", "metric")


@dataclass(frozen=True)
class CameraFrames:
    """N frames of E clips, one after the other.

    Attributes:
        frames: uint8 [N, H, W, 3], memory-mapped.
        depth: float16 [N, H, W], metres (or the clip's units), 0 where unknown; memory-mapped.
        poses: float64 [N, 4, 4], camera to world, seen from the clip's first frame.
        intrinsics: float32 [E, 4], fx, fy, cx, cy in pixels of H x W.
        offsets: int64 [E + 1], where each clip begins.
        metric: bool [E], whether lengths are metres.
        folder: Where they are kept.
    """

    frames: NDArray[np.uint8]
    depth: NDArray[np.float16]
    poses: NDArray[np.float64]
    intrinsics: NDArray[np.float32]
    offsets: NDArray[np.int64]
    metric: NDArray[np.bool_]
    folder: Path

    @property
    def has_depth(self) -> bool:
        """Whether some clip's depth is known."""
        return any(bool(self.depth[a].any()) for a in self.offsets[:-1])


def load_camera_frames(data: Path, size: tuple[int, int], cache: Path, split: str | None = None) -> CameraFrames:
    """Read a data set once, at `size` (height, width), and keep it under `cache`.

    Where lengths are known up to scale, the camera farthest from the first is put 1 away from it.

    Raises:
        UserError: nothing to read, or no clip of two frames.
    """
    clips = open_camera_dataset(data, size)
    ids = camera_split(tuple(clips.ids), split)
    if not ids:
        raise UserError(f"{data}: no clip in the split {split!r}")
    key = json.dumps([str(Path(data).resolve()), size, ids])
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    paths = [folder / f"{name}.npy" for name in _PARTS]
    if not all(path.is_file() for path in paths):
        wanted = [clips.ids.index(i) for i in ids]
        parts: list[list[NDArray[np.generic]]] = [[], [], [], [], []]
        for i in track(wanted, description="reading clips", transient=True):
            clip = clips[i]
            if len(clip) < 2:
                continue
            if not clip.metric:
                clip = normalise_scale(clip)
            depth = np.zeros(clip.frames.shape[:3], np.float32) if clip.depth is None else clip.depth
            parts[0].append(clip.frames)
            parts[1].append(depth.astype(np.float16))
            parts[2].append(relative_to_first(clip.poses))
            parts[3].append(clip.intrinsics.array[None].astype(np.float32))
            parts[4].append(np.array([clip.metric]))
        if not parts[0]:
            raise UserError(f"{data}: no clip of two frames or more")
        offsets = np.concatenate(([0], np.cumsum([len(f) for f in parts[0]]))).astype(np.int64)
        joined = [np.concatenate(p) for p in parts]
        for path, content in zip(paths, [*joined[:4], offsets, joined[4]], strict=True):
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.save(file, content)
    frames, depth, poses, intrinsics, offsets, metric = (np.load(path, mmap_mode="r") for path in paths)
    return CameraFrames(frames, depth, poses, intrinsics, offsets, metric, folder)
