"""Clips of equal length from every video under a folder, as one array on disk that all training processes map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from wfm_sim.data.episode import held_out
from wfm_sim.data.files import atomic_path
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError


def split_videos(data: Path) -> tuple[list[Path], list[Path]]:
    """Videos to train on and to validate on, in the order of their names.

    Whole folders are held out: the views of an episode show the same events. Where all videos lie in one folder, single
    videos are.

    Raises:
        UserError: no such folder, or no video in it.
    """
    if not data.is_dir():
        raise UserError(f"{data}: no such folder of videos")
    videos = sorted(data.rglob("*.mp4"))
    if not videos:
        raise UserError(f"{data}: no .mp4 in this folder or below")
    folders = sorted({path.parent for path in videos})
    units = folders if len(folders) > 1 else videos
    held = set(held_out(units))
    val = [path for path in videos if path in held or path.parent in held]
    kept = set(val)
    return [path for path in videos if path not in kept], val


def load_clips(
    videos: Sequence[Path], size: tuple[int, int], frames: int, starts: Sequence[int], cache: Path
) -> NDArray[np.uint8]:
    """uint8 [N, frames, H, W, 3], memory-mapped: from each video the clips that begin at `starts` and fit into it.

    Frames are reduced by averaging over areas. The array is made once and kept under `cache`.

    Raises:
        UserError: a broken video, or all of them shorter than a clip.
    """
    known = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in videos]
    key = json.dumps([known, size, frames, list(starts)])
    path = cache / f"clips-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        clips = []
        for video in track(videos, description="reading videos", transient=True):
            pictures = read_video(video, limit=max(starts) + frames)
            small = np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_AREA) for p in pictures])
            clips += [small[s : s + frames] for s in starts if s + frames <= len(small)]
        if not clips:
            raise UserError(f"{videos[0].parent if videos else cache}: no video of {frames} frames or more")
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, np.stack(clips))
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return mapped
