"""A whole data set as arrays, for training: videos are decoded once and then mapped from a cache file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.bridge import BridgeDataset
from wfm_sim.data.episode import Episode, EpisodeDataset
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError


@dataclass(frozen=True)
class EpisodeArrays:
    """N episodes of equal length.

    Attributes:
        frames: uint8 [N, T, H, W, 3]; mapped from disk (read-only) when it comes from the cache.
        actions: float32 [N, T-1, 7], canonical.
        states: float32 [N, T, 7], NaN where not recorded.
        ids: N episode ids.
        instructions: N texts.
        extras: N dictionaries, `Episode.extras`.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    states: NDArray[np.float32]
    ids: list[str]
    instructions: list[str]
    extras: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.frames)

    def stack(self, name: str) -> NDArray[Any]:
        """One extra of every episode as an array [N, ...]. UserError when an episode lacks it or shapes differ."""
        missing = [self.ids[i] for i, extras in enumerate(self.extras) if name not in extras]
        if missing:
            raise UserError(f"{len(missing)} episodes have no {name!r}, the first is {missing[0]!r}")
        try:
            return np.array([extras[name] for extras in self.extras])
        except ValueError:
            raise UserError(f"{name!r} has different shapes in different episodes") from None


def load_frames(
    dataset: EpisodeDataset, cache: bool = True, progress: Callable[[int, int], None] | None = None
) -> EpisodeArrays:
    """All episodes of a data set, which must have equal lengths and frame sizes.

    Args:
        dataset: From `open_dataset`.
        cache: For the Bridge layout, keep the decoded arrays under <root>/cache/ and take them from there next time;
            episodes added or rewritten since make the cache void. A read-only folder is not an error.
        progress: Called with (episodes done, episodes in all).

    Raises:
        UserError: lengths or sizes differ, or an episode cannot be read.
    """
    folder = _cache_folder(dataset) if cache and isinstance(dataset, BridgeDataset) else None
    if folder is not None and (folder / "index.json").is_file():
        return _from_cache(folder)
    first = dataset[0]
    count = len(dataset)
    frames = np.empty((count, *first.frames.shape), np.uint8)
    actions = np.empty((count, *first.actions.shape), np.float32)
    states = np.full((count, len(first), 7), np.nan, np.float32)
    instructions, extras = [], []
    for index, episode_id in enumerate(dataset.ids):
        episode: Episode = first if index == 0 else dataset.read(episode_id)
        if episode.frames.shape != first.frames.shape:
            here, there = list(episode.frames.shape), list(first.frames.shape)
            raise UserError(f"{episode.source}: frames are {here}, those of {first.source} are {there}: cut them alike")
        frames[index], actions[index] = episode.frames, episode.actions
        if episode.states is not None:
            states[index] = episode.states
        instructions.append(episode.instruction)
        extras.append(episode.extras)
        if progress is not None:
            progress(index + 1, count)
    arrays = EpisodeArrays(frames, actions, states, list(dataset.ids), instructions, extras)
    if folder is not None:
        _to_cache(folder, arrays)
    return arrays


def _cache_folder(dataset: BridgeDataset) -> Path:
    """Its name holds a digest of every annotation's id, size and time of writing."""
    digest = hashlib.sha256(f"camera {dataset.camera}".encode())
    for episode_id in dataset.ids:
        stat = dataset.annotation_path(episode_id).stat()
        digest.update(f"{episode_id} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return dataset.root / "cache" / f"{dataset.split}-{digest.hexdigest()[:16]}"


def _to_cache(folder: Path, arrays: EpisodeArrays) -> None:
    index = {"ids": arrays.ids, "instructions": arrays.instructions, "extras": arrays.extras}
    try:
        for name in ("frames", "actions", "states"):
            with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, getattr(arrays, name))
        with atomic_path(folder / "index.json") as temporary:  # last: a cache without it does not count
            temporary.write_text(json.dumps(index))
    except OSError:
        return


def _from_cache(folder: Path) -> EpisodeArrays:
    index = json.loads((folder / "index.json").read_text())
    return EpisodeArrays(
        np.load(folder / "frames.npy", mmap_mode="r"),
        np.load(folder / "actions.npy"),
        np.load(folder / "states.npy"),
        index["ids"],
        index["instructions"],
        index["extras"],
    )
