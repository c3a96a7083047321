"""What behaviour cloning learns from: episodes of the twin in which an expert, or a lightly noisy one, succeeded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data import open_dataset
from wfm_sim.data.bridge import BridgeDataset
from wfm_sim.data.episode import EpisodeDataset
from wfm_sim.data.files import atomic_path, read_json
from wfm_sim.errors import UserError

_EXPERT = re.compile(r"expert(?:-noise([\d.]+))?")
NEEDED = ("policy", "success", "task", "target_colour", "layout", "agent_pos", "commanded_action", "object_rgb")
# In collected episodes play may take over after a success, but never sooner than so many steps after it.
AFTER_SUCCESS = 2


@dataclass(frozen=True)
class Teachers:
    """N episodes, cut after the success and laid end to end: episode i has steps offsets[i] .. offsets[i + 1].

    Attributes:
        poses: float32 [S, 7], commanded pose before each step.
        actions: float32 [S, 7], canonical, what was commanded then.
        offsets: int64 [N + 1].
        layouts: float32 [N, 7], target's x, y, z, yaw and goal's x, y, z.
        tasks, colours: N names.
        palette: Colour's name -> its mean red, green, blue in 0..1.
        task_index: int64 [N], the layout's.
        frames: uint8 [S, H, W, 3], what was seen before each step; None where not wanted.
    """

    poses: NDArray[np.float32]
    actions: NDArray[np.float32]
    offsets: NDArray[np.int64]
    layouts: NDArray[np.float32]
    tasks: tuple[str, ...]
    colours: tuple[str, ...]
    palette: dict[str, tuple[float, float, float]]
    task_index: NDArray[np.int64]
    frames: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.layouts)


def is_teacher(content: dict[str, Any], noise: float) -> bool:
    """Whether an annotation is of an expert without flaw, of at most this noise, that succeeded after the start."""
    match = _EXPERT.fullmatch(str(content["policy"]))
    success = content["success"]
    return bool(match and float(match[1] or 0.0) <= noise and any(success) and not success[0])


def load_teachers(
    data: str | Path,
    *,
    noise: float,
    limit: int | None = None,
    split: str | None = None,
    frames: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Teachers:
    """Read the teachers' episodes of a folder that `wfm-sim collect` wrote.

    Args:
        data: The folder.
        noise: Largest noise of an expert that is still a teacher.
        limit: At most so many episodes, the first ones.
        split: 'train' by default.
        frames: Also decode the videos.
        cache: Folder where the decoded frames are kept, for a run that is resumed.
        progress: Called with (episodes read, episodes in all).

    Raises:
        UserError: another layout, fields missing, or no such episodes.
    """
    dataset = open_dataset(data, split)
    if not isinstance(dataset, BridgeDataset):
        raise UserError(f"{data}: behaviour cloning needs episodes that `wfm-sim collect` wrote")
    kept: list[tuple[str, dict[str, Any]]] = []
    for done, episode_id in enumerate(dataset.ids):
        if limit is not None and len(kept) == limit:
            break
        path = dataset.annotation_path(episode_id)
        content = read_json(path)
        missing = [name for name in NEEDED if name not in content]
        if missing:
            raise UserError(f"{path}: no {missing[0]!r}; behaviour cloning needs episodes that `wfm-sim collect` wrote")
        if is_teacher(content, noise):
            kept.append((episode_id, content))
        if progress is not None:
            progress(done + 1, len(dataset))
    if not kept:
        raise UserError(f"{data}: no episode in which an expert (noise at most {noise:g}) succeeded")
    poses, actions, lengths = [], [], []
    for _, content in kept:
        command = np.asarray(content["commanded_action"], dtype=np.float32)
        length = min(int(np.argmax(content["success"])) + AFTER_SUCCESS, len(command))
        poses.append(np.asarray(content["agent_pos"], dtype=np.float32)[:length])
        actions.append(command[:length])
        lengths.append(length)
    layouts = [[*content["layout"]["target"], *content["layout"]["goal"]] for _, content in kept]
    return Teachers(
        np.concatenate(poses),
        np.concatenate(actions),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array(layouts, dtype=np.float32),
        tuple(str(content["task"]) for _, content in kept),
        tuple(str(content["target_colour"]) for _, content in kept),
        _palette([content for _, content in kept]),
        np.array([content["layout"]["task"] for _, content in kept]),
        _frames(dataset, [name for name, _ in kept], lengths, cache, progress) if frames else None,
    )


def _palette(contents: list[dict[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Each target colour's mean RGB; the target is the first object."""
    seen: dict[str, list[list[float]]] = {}
    for content in contents:
        seen.setdefault(str(content["target_colour"]), []).append(content["object_rgb"][0])
    means = {name: np.mean(values, axis=0).round(3) for name, values in sorted(seen.items())}
    return {name: (float(rgb[0]), float(rgb[1]), float(rgb[2])) for name, rgb in means.items()}


def _frames(
    dataset: EpisodeDataset,
    ids: list[str],
    lengths: list[int],
    cache: Path | None,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.uint8]:
    """Frames [S, H, W, 3] of the first steps of episodes, from the cache where it is of the same episodes."""
    key = json.dumps([ids, lengths])
    if cache is not None and (cache / "frames.npy").is_file() and (cache / "frames.json").is_file():
        if (cache / "frames.json").read_text() == key:
            return np.load(cache / "frames.npy", mmap_mode="r")  # type: ignore[no-any-return]
        (cache / "frames.json").unlink()
    parts = []
    for done, (episode_id, length) in enumerate(zip(ids, lengths, strict=True)):
        parts.append(dataset.read(episode_id).frames[:length])
        if progress is not None:
            progress(done + 1, len(ids))
    frames = np.concatenate(parts)
    if cache is not None:
        with atomic_path(cache / "frames.npy") as temporary, temporary.open("wb") as file:
            np.save(file, frames)
        with atomic_path(cache / "frames.json") as temporary:  # last: frames without it do not count
            temporary.write_text(key)
    return frames
