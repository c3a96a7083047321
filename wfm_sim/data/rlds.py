"""Bridge in RLDS form: TFRecord shards of rail's `bridge_dataset`, or the same unpacked to JSON and JPEG.

Both are read as the published training code reads them: the first step, whose action is zero, is dropped, and the
displacements are recomputed from the recorded poses, so that actions[t] really leads from frame t to frame t+1. The
gripper is the recorded command, made binary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_DIM, CANONICAL, RLDS_BRIDGE, actions_from_states, convert
from wfm_sim.data.episode import Episode, EpisodeDataset
from wfm_sim.data.files import field, read_json
from wfm_sim.data.tfrecord import read_example, record_spans
from wfm_sim.errors import UserError

_ZERO_ACTION = 1e-5


class TFRecordBridge(EpisodeDataset):
    """The `<name>-<split>.tfrecord-*` shards of one split; `camera` is the k of steps/observation/image_k."""

    def __init__(self, root: str | Path, split: str | None = None, camera: int = 0, relabel: bool = True) -> None:
        self.root, self.camera, self.relabel = Path(root), camera, relabel
        pattern = f"*-{split or 'train'}.tfrecord*"
        shards = sorted(self.root.glob(pattern))
        if not shards:
            raise UserError(f"{root}: no TFRecord shards {pattern}")
        records = [(shard, *span) for shard in shards for span in record_spans(shard)]
        if not records:
            raise UserError(f"{root}: the TFRecord shards {pattern} hold no episodes")
        self._records = {f"{number:06d}": record for number, record in enumerate(records)}
        self.ids = tuple(self._records)

    def read(self, episode_id: str) -> Episode:
        path, offset, length = self._records[episode_id]
        example = read_example(path, offset, length)
        where = f"{path} (episode {episode_id})"
        image = f"steps/observation/image_{self.camera}"
        pictures = field(example, image, where)
        texts = field(example, "steps/language_instruction", where)
        return _episode(
            frames=_decode([bytes(picture) for picture in pictures], where),
            actions=_rows(field(example, "steps/action", where), "steps/action", where),
            states=_rows(field(example, "steps/observation/state", where), "steps/observation/state", where),
            instruction=bytes(texts[0]).decode() if len(texts) else "",
            episode_id=episode_id,
            where=where,
            relabel=self.relabel,
        )


class UnpackedBridge(EpisodeDataset):
    """Folders <episode>/episode.json with <episode>/image_<camera>/<step>.jpg."""

    def __init__(self, root: str | Path, camera: int = 0, relabel: bool = True) -> None:
        self.root, self.camera, self.relabel = Path(root), camera, relabel
        self.ids = tuple(sorted(path.parent.name for path in self.root.glob("*/episode.json")))
        if not self.ids:
            raise UserError(f"{root}: no folders with an episode.json")

    def read(self, episode_id: str) -> Episode:
        path = self.root / episode_id / "episode.json"
        content = read_json(path)
        folder = path.parent / f"image_{self.camera}"
        pictures = [picture.read_bytes() for picture in sorted(folder.glob("*.jpg"))]
        if not pictures:
            raise UserError(f"{folder}: no .jpg frames")
        return _episode(
            frames=_decode(pictures, str(folder)),
            actions=_rows(field(content, "action", path), "action", str(path)),
            states=_rows(field(content, "state", path), "state", str(path)),
            instruction=str(content.get("instruction", "")),
            episode_id=episode_id,
            where=str(path),
            relabel=self.relabel,
        )


def _episode(
    frames: NDArray[np.uint8],
    actions: NDArray[np.float32],
    states: NDArray[np.float32],
    instruction: str,
    episode_id: str,
    where: str,
    relabel: bool,
) -> Episode:
    if not len(frames) == len(actions) == len(states):
        raise UserError(
            f"{where}: {len(frames)} frames, {len(actions)} actions and {len(states)} states, expected as many"
        )
    if len(actions) > 1 and np.abs(actions[0, :6]).max() < _ZERO_ACTION:
        frames, actions, states = frames[1:], actions[1:], states[1:]
    told = actions[:-1]  # the last action leads beyond the last frame
    opening = binary_gripper(actions[:, 6])[:-1]
    if relabel:
        told = actions_from_states(states, gripper=opening)
    else:
        told = convert(told, RLDS_BRIDGE, CANONICAL, states=states[:-1])
        told[:, 6] = opening
    return Episode(frames, told, states, instruction, RLDS_BRIDGE.rate_hz, episode_id, where)


def binary_gripper(command: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gripper commands [T] as 0 or 1: a value on the way (0.05 to 0.95) becomes the end that it is on the way to.

    Where the recording stops on the way, it becomes the nearer end.
    """
    ends = np.where(command > 0.95, 1.0, np.where(command < 0.05, 0.0, np.nan))
    following = float(command[-1] > 0.5) if len(command) else 0.0
    for index in range(len(command) - 1, -1, -1):
        following = following if np.isnan(ends[index]) else float(ends[index])
        ends[index] = following
    return ends.astype(np.float32)


def _rows(values: Any, name: str, where: str) -> NDArray[np.float32]:
    """float32 [T, 7] from a flat or nested list."""
    try:
        flat = np.asarray(values, dtype=np.float32).reshape(-1)
    except (ValueError, TypeError):
        raise UserError(f"{where}: field {name!r} is not a list of numbers") from None
    if flat.size % ACTION_DIM:
        raise UserError(f"{where}: field {name!r} holds {flat.size} numbers, expected a multiple of {ACTION_DIM}")
    return flat.reshape(-1, ACTION_DIM).copy()


def _decode(pictures: list[bytes], where: str) -> NDArray[np.uint8]:
    """JPEG or PNG bytes -> uint8 [T, H, W, 3], RGB."""
    import cv2

    frames: list[NDArray[np.uint8]] = []
    for number, picture in enumerate(pictures):
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) if picture else None
        if image is None:
            raise UserError(f"{where}: frame {number} is not a readable image")
        if frames and image.shape != frames[0].shape:
            raise UserError(f"{where}: frame {number} has another size than the first")
        frames.append(np.asarray(image[..., ::-1], dtype=np.uint8))
    if not frames:
        raise UserError(f"{where}: has no frames")
    return np.stack(frames)
