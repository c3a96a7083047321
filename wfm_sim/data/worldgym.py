"""WorldGym's form of Bridge: <id>.mp4 beside <id>.npz, key `arr_0` [T, 10] (7 used), in WorldGym's convention."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_DIM, CANONICAL, WORLDGYM, convert
from wfm_sim.data.episode import Episode, EpisodeDataset
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError


class WorldGymDataset(EpisodeDataset):
    """A folder of mp4 and npz pairs.

    Row t of the file leads from frame t-1 to frame t; the first row is zero and belongs to no transition. The video
    header may say 20 fps, the true rate is Bridge's 5 Hz. No poses are recorded, so the base-frame displacements are
    turned into the gripper frame as if the gripper had started level and facing forward (roll = pitch = yaw = 0), and
    `extras["assumed_start_rotation"]` says so.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.ids = tuple(sorted(path.stem for path in self.root.glob("*.npz") if path.with_suffix(".mp4").is_file()))
        if not self.ids:
            raise UserError(f"{root}: no pairs <id>.mp4 and <id>.npz")

    def read(self, episode_id: str) -> Episode:
        path = self.root / f"{episode_id}.npz"
        rows = _read_rows(path)
        frames = read_video(path.with_suffix(".mp4"))
        if len(frames) != len(rows):
            raise UserError(f"{path}: {len(rows)} rows for a video of {len(frames)} frames")
        written = rows[1:, :ACTION_DIM]
        return Episode(
            frames=frames,
            actions=np.clip(convert(written, WORLDGYM, CANONICAL, states=_poses(written)), *_GRIPPER_RANGE),
            fps=WORLDGYM.rate_hz,
            id=episode_id,
            source=str(path),
            extras={"assumed_start_rotation": [0.0, 0.0, 0.0]},
        )


_GRIPPER_RANGE = (np.array([-np.inf] * 6 + [0.0], np.float32), np.array([np.inf] * 6 + [1.0], np.float32))


def _poses(written: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T-1, 6] poses that the actions start from, summed up from a level start."""
    moved = written[:, :6] / np.repeat([WORLDGYM.translation_scale, WORLDGYM.rotation_scale], 3)
    return np.concatenate([np.zeros((1, 6)), np.cumsum(moved, axis=0)[:-1]])[: len(written)]


def _read_rows(path: Path) -> NDArray[np.float64]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "arr_0" not in archive:
                raise UserError(f"{path}: missing array 'arr_0' (found: {', '.join(archive) or 'none'})")
            rows = np.asarray(archive["arr_0"], dtype=np.float64)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a readable npz file ({error})") from None
    if rows.ndim != 2 or rows.shape[1] < ACTION_DIM or not len(rows):
        raise UserError(f"{path}: 'arr_0' has shape {list(rows.shape)}, expected [T, >={ACTION_DIM}]")
    return rows
