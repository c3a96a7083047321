"""All frames and actions of a data set as flat arrays on disk, memory-mapped by every training process."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from wfm_sim.actions import actions_from_states
from wfm_sim.data import Episode, EpisodeDataset, open_dataset
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError


@dataclass(frozen=True)
class Frames:
    """N frames of E episodes, one after the other.

    Attributes:
        frames: uint8 [N, H, W, 3], memory-mapped.
        actions: float32 [N, 7] canonical, as executed; row i leads from frame i to frame i + 1, an episode's last is 0.
        offsets: int64 [E + 1], where each episode begins.
        objects: float32 [N, K, 3], centre x, y and visible area (pixels) of known objects; NaN, NaN, 0 where hidden.
        folder: Where they are kept, and what is derived from them.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    offsets: NDArray[np.int64]
    objects: NDArray[np.float32]
    folder: Path

    @property
    def episodes(self) -> int:
        return len(self.offsets) - 1

    def moved(self) -> NDArray[np.float32]:
        """float32 [N], how far (pixels) the fastest visible object moves between frame i and i + 1 of its episode."""
        out = np.zeros(len(self.objects), np.float32)
        if self.objects.shape[1]:
            step = np.linalg.norm(np.diff(self.objects[..., :2], axis=0), axis=-1)
            out[:-1] = np.nan_to_num(step, nan=0.0).max(axis=-1)
        out[self.offsets[1:] - 1] = 0
        return out


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
    paths = [folder / f"{name}.npy" for name in ("frames", "actions", "offsets", "objects")]
    if not all(path.is_file() for path in paths):
        for path, content in zip(paths, _read(dataset, wanted, size), strict=True):
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.save(file, content)
    frames, actions, offsets, objects = (np.load(path, mmap_mode="r") for path in paths)
    return Frames(frames, actions, offsets, objects, folder)


def _read(dataset: EpisodeDataset, wanted: list[int], size: tuple[int, int]) -> list[NDArray[np.generic]]:
    """Frames, actions, offsets and objects, as `Frames` has them."""
    frames, actions, objects, lengths = [], [], [], []
    for i in track(wanted, description="reading episodes", transient=True):
        episode = dataset[i]
        if len(episode.frames) < 2:
            raise UserError(f"episode {episode.id}: one frame is no transition")
        f = episode.frames
        scale = np.array([size[1] / f.shape[2], size[0] / f.shape[1]], np.float32)
        if f.shape[1:3] != size:
            f = np.stack([cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA) for x in f])
        frames.append(f)
        actions.append(np.concatenate((_executed(episode), np.zeros((1, 7), np.float32))))
        objects.append(_objects(episode.extras.get("objects"), len(f), scale))
        lengths.append(len(f))
    known = max(o.shape[1] for o in objects)
    hidden = np.array([np.nan, np.nan, 0], np.float32)
    padded = [np.concatenate((o, np.tile(hidden, (len(o), known - o.shape[1], 1))), axis=1) for o in objects]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return [np.concatenate(frames), np.concatenate(actions).astype(np.float32), offsets, np.concatenate(padded)]


def _executed(episode: Episode) -> NDArray[np.float32]:
    """The actions; of our own episodes, which record the commanded poses, as executed (clipped to the workspace)."""
    poses = episode.extras.get("agent_pos")
    return episode.actions if poses is None else actions_from_states(poses, episode.actions[:, 6])


def _objects(recorded: object, length: int, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [T, n, 3] from what `wfm-sim collect` writes: [T][n][x, y, area] with -1, -1, 0 where hidden."""
    if recorded is None:
        return np.zeros((length, 0, 3), np.float32)
    out = np.array(recorded, dtype=np.float32)
    out[..., :2] = np.where(out[..., 2:] > 0, out[..., :2] * scale, np.nan)
    out[..., 2] *= scale.prod()
    return out
