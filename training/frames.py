"""All frames and actions of a data set as flat arrays on disk, memory-mapped by every training process."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from wfm_sim.data import open_dataset
from wfm_sim.errors import UserError


@dataclass(frozen=True)
class Frames:
    """N frames of E episodes, one after the other.

    Attributes:
        frames: uint8 [N, H, W, 3], memory-mapped.
        actions: float32 [N, 7] canonical; row i leads from frame i to frame i + 1, the last of an episode is zeros.
        offsets: int64 [E + 1], where each episode begins.
        folder: Where they are kept, and what is derived from them.
        moved: float32 [N], how far (pixels) the fastest known object moved between frame i and i + 1; 0 where unknown.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    offsets: NDArray[np.int64]
    moved: NDArray[np.float32]
    folder: Path

    @property
    def episodes(self) -> int:
        return len(self.offsets) - 1


def load_frames(
    data: Path, size: tuple[int, int], cache: Path, split: str | None = None, skip: tuple[str, ...] = ()
) -> Frames:
    """Read a data set once, resize to `size` (height, width) and keep it under `cache`.

    `skip` names episodes to leave out (held out for evaluation).

    Raises:
        UserError: no episode left, or an episode of one frame only.
    """
    dataset = open_dataset(data, split)
    wanted = [i for i, name in enumerate(dataset.ids) if name not in skip]
    if not wanted:
        raise UserError(f"{data}: no episode to train on")
    key = json.dumps([str(Path(data).resolve()), split, size, [dataset.ids[i] for i in wanted]])
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    names = ("frames", "actions", "offsets", "moved")
    if not (folder / "done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _fill(dataset, wanted, size, folder)
        (folder / "done").touch()
    frames, actions, offsets, moved = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in names)
    return Frames(frames, actions, offsets, moved, folder)


def _fill(dataset: object, wanted: list[int], size: tuple[int, int], folder: Path) -> None:
    frames, actions, moved, lengths = [], [], [], []
    for i in track(wanted, description="reading episodes", transient=True):
        episode = dataset[i]  # type: ignore[index]
        if len(episode.frames) < 2:
            raise UserError(f"episode {episode.id}: one frame is no transition")
        f = episode.frames
        if f.shape[1:3] != size:
            f = np.stack([cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA) for x in f])
        frames.append(f)
        actions.append(np.concatenate((episode.actions, np.zeros((1, 7), np.float32))))
        moved.append(_object_motion(episode.extras.get("objects"), len(f)))
        lengths.append(len(f))
    np.save(folder / "frames.npy", np.concatenate(frames))
    np.save(folder / "actions.npy", np.concatenate(actions).astype(np.float32))
    np.save(folder / "offsets.npy", np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))
    np.save(folder / "moved.npy", np.concatenate(moved).astype(np.float32))


def _object_motion(objects: object, length: int) -> NDArray[np.float32]:
    """Largest pixel motion of a visible object between successive frames, from [T][objects][x, y, area]."""
    out = np.zeros(length, np.float32)
    if objects is None:
        return out
    track_xy = np.asarray(objects, dtype=np.float32)[..., :2]
    step = np.linalg.norm(np.diff(track_xy, axis=0), axis=-1)
    out[:-1] = np.nan_to_num(step, nan=0.0).max(axis=-1) if step.shape[-1] else 0.0
    return out
