"""Pictures of rollouts: contact-sheet strips as PNG, and short clips as H.264 bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path
from wfm_sim.data.video import write_video

Frames = NDArray[np.uint8]
GAP = 4  # pixels between frames and rows


def enlarge(frames: Frames, height: int = 128) -> Frames:
    """Whole-number nearest-neighbour enlargement to at least `height` pixels: uint8 [T, H, W, 3] -> [T, kH, kW, 3]."""
    factor = max(1, -(-height // frames.shape[1]))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def side_by_side(left: Frames, right: Frames) -> Frames:
    """Two clips uint8 [T, H, W, 3], [S, H, W, 3] as one of max(T, S) frames; the shorter one holds its last frame."""
    length = max(len(left), len(right))
    held = [np.concatenate([c, np.repeat(c[-1:], length - len(c), axis=0)]) for c in (left, right)]
    gap = np.full((length, left.shape[1], GAP, 3), 128, np.uint8)
    return np.concatenate([held[0], gap, held[1]], axis=2)


def write_strip(path: Path | str, rows: Sequence[tuple[str, Frames]], *, columns: int = 9, height: int = 96) -> Path:
    """A contact sheet: each row is a caption and `columns` evenly spaced frames (first and last included).

    Args:
        path: A .png; it appears whole or not at all.
        rows: (caption, uint8 [T, H, W, 3]) in the order to show; an empty caption keeps a row close to the one above.
        height: Frames are enlarged to at least this many pixels.
    """
    bands: list[Frames] = []
    width = 0
    for caption, frames in rows:
        chosen = enlarge(frames[np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)], height)
        line = np.concatenate([np.pad(f, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for f in chosen], axis=1)
        if caption:
            bands.append(_text(caption, line.shape[1]))
        bands.append(line)
        width = max(width, line.shape[1])
    sheet = np.concatenate(
        [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in bands], axis=0
    )
    encoded, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert encoded
    with atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())
    return Path(path)


def mp4_bytes(frames: Frames, fps: float, *, height: int = 160) -> bytes:
    """An H.264 mp4 that every browser plays: uint8 [T, H, W, 3] -> bytes. Enlarged, then 4:2:0."""
    large = enlarge(frames, max(height, 260))
    large = large[:, : large.shape[1] // 2 * 2, : large.shape[2] // 2 * 2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, large, fps, crf=20)
        return path.read_bytes()


def _text(text: str, width: int, band: int = 20) -> Frames:
    image = np.full((band, width, 3), 255, np.uint8)
    cv2.putText(image, text, (2, band - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
    return image
