"""Clips with cameras as episodes without actions, so that what trains on pictures alone trains on these too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wfm_sim.actions import ACTION_DIM
from wfm_sim.data.camera import open_camera_dataset
from wfm_sim.data.episode import Episode, EpisodeDataset, held_out
from wfm_sim.errors import unknown

SPLITS = ("train", "val")


def camera_split(ids: tuple[str, ...], split: str | None) -> tuple[str, ...]:
    """The ids of a split: one scene in forty is kept for validation; all of them, if None."""
    if split is None:
        return ids
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    held = set(held_out(ids))
    return tuple(i for i in ids if (i in held) == (split == "val"))


class CameraEpisodes(EpisodeDataset):
    """Every clip of a data set with cameras. Actions are zero: what moves is the camera."""

    def __init__(self, root: Path, split: str | None = None) -> None:
        self._clips = open_camera_dataset(root)
        self._index = {name: i for i, name in enumerate(self._clips.ids)}
        self.ids = camera_split(tuple(self._clips.ids), split)

    def read(self, episode_id: str) -> Episode:
        clip = self._clips[self._index[episode_id]]
        return Episode(
            frames=clip.frames,
            actions=np.zeros((len(clip) - 1, ACTION_DIM), np.float32),
            fps=clip.fps,
            id=episode_id,
            source=clip.source,
        )
