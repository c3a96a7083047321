"""The Bridge layout of IRASim and Cosmos-Predict2/2.5, read and written.

    <root>/annotation/<split>/<id>.json      state [T][>=6], continuous_gripper_state [T], action [T-1][7], videos, ...
    <root>/videos/<split>/<id>/rgb.mp4

Their training code takes `annotation`, their documentation says `annotations`: both are read, the first is written.
Episodes of ours carry more fields, which foreign loaders pass over: `commanded_action` [T-1][7] (canonical: what the
robot was told, where `action` is what it then did), `success`, `progress`, `task`, `seed` and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_DIM, RATE_HZ, actions_from_states
from wfm_sim.data.episode import Episode, EpisodeDataset
from wfm_sim.data.files import field, read_json, write_json
from wfm_sim.data.video import read_video, write_video
from wfm_sim.errors import UserError, unknown

_ANNOTATIONS = ("annotation", "annotations")
# Fields of the published layout; everything else in a file becomes `Episode.extras`.
_LAYOUT = {
    "state", "continuous_gripper_state", "action", "videos", "latent_videos", "texts", "episode_id", "original_path",
    "commanded_action", "fps",
}  # fmt: skip
_DECIMALS = 6  # micrometres and microradians


def splits(root: str | Path) -> dict[str, Path]:
    """Split name -> folder of annotations; empty when `root` is not of this layout."""
    folders = (Path(root) / name for name in _ANNOTATIONS)
    return {
        path.name: path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_dir()
    }


def choose_split(root: str | Path, available: dict[str, Path], split: str | None) -> str:
    """`split`, or without one 'train', or the only one there is."""
    if split is None:
        if "train" in available or len(available) == 1:
            return "train" if "train" in available else next(iter(available))
        raise UserError(f"{root}: choose a split, one of {', '.join(available)}")
    if split not in available:
        raise unknown(f"split of {root}", split, available)
    return split


class BridgeDataset(EpisodeDataset):
    """One split of a data set in this layout; `camera` chooses among `videos`."""

    def __init__(self, root: str | Path, split: str | None = None, camera: int = 0) -> None:
        self.root = Path(root)
        available = splits(self.root)
        if not available:
            raise UserError(f"{root}: no annotation/<split> folder")
        self.split = choose_split(root, available, split)
        self.camera = camera
        self._folder = available[self.split]
        self.ids = tuple(sorted(path.stem for path in self._folder.glob("*.json") if not path.name.startswith(".")))
        if not self.ids:
            raise UserError(f"{self._folder}: no episodes (no .json files)")

    def annotation_path(self, episode_id: str) -> Path:
        """The JSON file of an episode."""
        return self._folder / f"{episode_id}.json"

    def read(self, episode_id: str) -> Episode:
        path = self.annotation_path(episode_id)
        content = read_json(path)
        states = read_states(content, path)
        actions = _read_actions(content, path)
        frames = read_video(video_path(self.root, content, path, self.camera))
        if len(frames) == len(states) + 1:  # seen in published data: the camera runs one frame longer
            frames = frames[:-1]
        if len(frames) != len(states):
            raise UserError(f"{path}: {len(states)} states for a video of {len(frames)} frames")
        texts = content.get("texts") or [""]
        return Episode(
            frames=frames,
            actions=actions,
            states=states,
            instruction=str(texts[0]),
            fps=float(content.get("fps", RATE_HZ)),
            id=episode_id,
            source=str(path),
            extras={name: value for name, value in content.items() if name not in _LAYOUT},
        )


def read_states(content: dict[str, Any], path: Path) -> NDArray[np.float32]:
    """float32 [T, 7] poses with the gripper turned to 1 = open."""
    pose = numbers(content, "state", path, columns=6)
    closed = numbers(content, "continuous_gripper_state", path)
    if len(closed) != len(pose):
        raise UserError(f"{path}: {len(pose)} rows of 'state' but {len(closed)} of 'continuous_gripper_state'")
    return np.concatenate([pose, 1.0 - closed[:, None]], axis=1).astype(np.float32)


def _read_actions(content: dict[str, Any], path: Path) -> NDArray[np.float32]:
    if "commanded_action" in content:
        return numbers(content, "commanded_action", path, columns=ACTION_DIM).astype(np.float32)
    moved = numbers(content, "action", path, columns=6)
    closed = numbers(content, "continuous_gripper_state", path)[1:]
    if len(moved) != len(closed):
        raise UserError(f"{path}: {len(moved)} rows of 'action', expected {len(closed)}, one fewer than states")
    return np.concatenate([moved, np.clip(1.0 - closed[:, None], 0.0, 1.0)], axis=1).astype(np.float32)


def numbers(content: dict[str, Any], name: str, path: Path, columns: int | None = None) -> NDArray[np.float64]:
    """A field as float64 [T], or [T, columns] (further columns cut off). UserError when it is anything else."""
    expected = "a list of numbers" if columns is None else f"rows of at least {columns} numbers"
    given = field(content, name, path)
    try:
        values = np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError):
        raise UserError(f"{path}: field {name!r} is not {expected}") from None
    if columns is not None and values.size == 0:
        return np.zeros((0, columns))
    if values.ndim != (1 if columns is None else 2) or (columns is not None and values.shape[1] < columns):
        raise UserError(f"{path}: field {name!r} has shape {list(values.shape)}, expected {expected}")
    return values if columns is None else values[:, :columns]


def video_path(root: Path, content: dict[str, Any], path: Path, camera: int) -> Path:
    """The video of one camera; its path is given relative to the data set's root."""
    videos = field(content, "videos", path)
    if not isinstance(videos, list) or not 0 <= camera < len(videos):
        count = len(videos) if isinstance(videos, list) else 0
        raise UserError(f"{path}: camera {camera} asked for, 'videos' lists {count}")
    return root / str(field(videos[camera], "video_path", path))


def write_episode(root: str | Path, split: str, episode_id: str, episode: Episode) -> None:
    """Add an episode to a data set in this layout, its JSON last: an episode exists if and only if its JSON does.

    `episode.states` must be there. `action` is computed from the states, as in the published data;
    `episode.actions` goes to `commanded_action`. Extras are written as they are (arrays as lists).

    Raises:
        UserError: no states.
    """
    root = Path(root)
    if episode.states is None:
        raise UserError(f"episode {episode_id!r} has no states, which the Bridge layout requires")
    video = f"videos/{split}/{episode_id}/rgb.mp4"
    write_video(root / video, episode.frames, episode.fps)
    moved = actions_from_states(episode.states)
    moved[:, 6] = episode.actions[:, 6] > 0.5
    content = {
        "episode_id": episode_id,
        "texts": [episode.instruction],
        "videos": [{"video_path": video}],
        "state": _plain(episode.states[:, :6]),
        "continuous_gripper_state": _plain(1.0 - episode.states[:, 6]),
        "action": _plain(moved),
        "commanded_action": _plain(episode.actions),
        "fps": episode.fps,
    }
    content |= {name: _plain(value) for name, value in episode.extras.items()}
    write_json(root / "annotation" / split / f"{episode_id}.json", content)


def _plain(value: Any) -> Any:
    """What json can write; decimals beyond a micrometre are dropped."""
    if isinstance(value, np.ndarray):
        if np.issubdtype(value.dtype, np.floating):
            value = np.round(value.astype(np.float64), _DECIMALS) + 0.0  # no '-0.0'
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
