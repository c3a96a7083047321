"""A data set of rigid-body scenes as episodes without actions: every camera's video is one.

`open_dataset` gives it for a folder of `wfm-sim physics generate`, so that whatever trains on episodes trains on these.
Actions are zero (nobody acts), and the objects' places and sizes in the picture come from the masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_DIM
from wfm_sim.data.episode import Episode, EpisodeDataset, held_out
from wfm_sim.data.files import read_json
from wfm_sim.data.physics import EPISODE, FORMAT, MANIFEST, PhysicsEpisode
from wfm_sim.errors import UserError, unknown

SPLITS = ("train", "val")


def is_physics(root: Path) -> bool:
    """Whether this folder is such a data set."""
    manifest = root / MANIFEST
    return manifest.is_file() and read_json(manifest).get("format") == FORMAT


class PhysicsClips(EpisodeDataset):
    """Episodes '<scene>/<00000>/view0' and so on; all views of an episode are in the same split."""

    def __init__(self, root: Path, split: str | None = None) -> None:
        if split is not None and split not in SPLITS:
            raise unknown("split", split, SPLITS)
        self.root = root
        folders = sorted(path.parent for path in root.glob(f"*/*/{EPISODE}"))
        if not folders:
            raise UserError(f"{root}: no episode yet; run the same `wfm-sim physics generate` again")
        held = set(held_out(folders))
        chosen = [f for f in folders if split is None or (f in held) == (split == "val")]
        self._episodes = {str(f.relative_to(root)): PhysicsEpisode(f) for f in chosen}
        self.ids = tuple(f"{name}/view{view}" for name, e in self._episodes.items() for view in range(e.views))

    def read(self, episode_id: str) -> Episode:
        name, _, view = episode_id.rpartition("/view")
        source = self._episodes[name]
        frames, masks = source.frames(int(view)), source.masks(int(view))
        return Episode(
            frames=frames,
            actions=np.zeros((len(frames) - 1, ACTION_DIM), np.float32),
            fps=source.fps,
            id=episode_id,
            source=str(source.path),
            extras={"objects": places(masks, len(source.names)).tolist(), "scene": source.scene, "seed": source.seed},
        )


def places(masks: NDArray[np.uint8], objects: int) -> NDArray[np.float64]:
    """Centre and size of every object in a picture: uint8 [T, H, W] -> [T, objects, 3] of x, y and area in pixels.

    -1, -1, 0 where it is not seen, as `wfm-sim collect` writes it.
    """
    height, width = masks.shape[1:]
    out = np.zeros((len(masks), objects, 3))
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    for t, mask in enumerate(masks):
        label = mask.ravel()
        area, at_x, at_y = (np.bincount(label, w, objects + 1)[1:] for w in (None, x.ravel(), y.ravel()))
        seen = area > 0
        out[t, :, :2] = np.where(seen[:, None], np.stack([at_x, at_y], 1) / np.maximum(area, 1)[:, None], -1)
        out[t, :, 2] = area
    return out
