"""Imagined rollouts with what became of them, for training the trust network: recorded episodes imagined once more.

Each recorded episode is imagined from its first frame under its recorded actions, and every frame is compared with the
recorded truth (wfm_sim/tolerance.py). Groups of episodes are files, so that a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import actions_from_states
from wfm_sim.data import Episode, EpisodeDataset, open_dataset
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.tolerance import TOLERANCE, Tolerance, errors
from wfm_sim.trust import doubts_of
from wfm_sim.weights import weights_hash
from wfm_sim.world_model import WorldModel

FORMAT = 3  # raise when what is stored changes


@dataclass(frozen=True)
class Rollouts:
    """N imagined rollouts of T steps.

    Attributes:
        frames: uint8 [N, T + 1, H, W, 3], imagined but for the first.
        actions: float32 [N, T, 7], executed; actions[:, t] leads from frame t to t + 1.
        poses: float32 [N, T + 1, 7], dead reckoned.
        error: float32 [N, T + 1], how far off the worst block is (`wfm_sim.tolerance.errors`); infinity: lost.
        doubts: float32 [N, T + 1, 2], metres, the model's own (`wfm_sim.trust.Trust.step`); 0 where it has none.
        lengths: int64 [N], steps that count; what comes after is padding.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    poses: NDArray[np.float32]
    error: NDArray[np.float32]
    doubts: NDArray[np.float32]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """bool [N, T + 1]: no padding."""
        return np.asarray(np.arange(self.frames.shape[1]) <= self.lengths[:, None])

    def where(self, rows: Any) -> Rollouts:
        """The chosen rows."""
        return Rollouts(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[Rollouts]) -> Rollouts:
        """All rows of all parts, the shorter ones padded."""
        steps = max(part.actions.shape[1] for part in parts)

        def padded(name: str, part: Rollouts) -> NDArray[Any]:
            value = getattr(part, name)
            if name == "lengths":
                return value  # type: ignore[no-any-return]
            more = steps + (name != "actions") - value.shape[1]
            return np.concatenate([value, np.repeat(value[:, -1:], more, axis=1)], axis=1) if more else value

        return cls(**{f.name: np.concatenate([padded(f.name, part) for part in parts]) for f in fields(cls)})


@dataclass(frozen=True)
class RolloutPlan:
    """What to imagine.

    Attributes:
        episodes: How many, drawn evenly from all episodes of all data sets.
        steps: Of each at most.
        batch: Episodes per group, which are imagined together.
        seed: Of the draw. The world model's noise is seeded by the episodes' scenes.
        split: Of the data sets.
    """

    episodes: int
    steps: int = 30
    batch: int = 32
    seed: int = 0
    split: str = "train"


def record(
    model: WorldModel,
    data: Sequence[Path],
    plan: RolloutPlan,
    folder: Path,
    tolerance: Tolerance = TOLERANCE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rollouts:
    """Rollouts of `plan`, group by group; groups that are already under `folder` are read.

    Raises:
        UserError: no episode in the data, episodes without the blocks' places, or a model that is not driven by robot
            actions or has another frame size.
    """
    chosen = choose(data, plan)
    paths = []
    groups = [chosen[i : i + plan.batch] for i in range(0, len(chosen), plan.batch)]
    for done, group in enumerate(groups):
        progress(done, len(groups))
        named = [[str(root), dataset.ids[index]] for root, dataset, index in group]
        path = folder / f"{_key(model, tolerance, plan.steps, plan.split, named)}.npz"
        if not path.is_file():
            save(imagined([dataset[index] for _, dataset, index in group], model, plan.steps, tolerance), path)
        paths.append(path)
    progress(len(groups), len(groups))
    return Rollouts.cat([load(path) for path in paths])


def choose(data: Sequence[Path], plan: RolloutPlan) -> list[tuple[Path, EpisodeDataset, int]]:
    """(folder, data set, index) of the episodes of `plan`, in an order that depends on the seed alone."""
    sets = [(path, open_dataset(path, plan.split)) for path in data]
    everything = [(path, dataset, i) for path, dataset in sets for i in range(len(dataset))]
    if not everything:
        raise UserError(f"no {plan.split} episode in {', '.join(str(path) for path in data)}")
    order = np.random.default_rng([plan.seed, 17]).permutation(len(everything))
    return [everything[i] for i in order[: plan.episodes]]


def imagined(episodes: Sequence[Episode], model: WorldModel, steps: int, tolerance: Tolerance) -> Rollouts:
    """One group of recorded episodes imagined, and compared with what was recorded."""
    size = tuple(model.spec.frame_size)
    for episode in episodes:
        missing = [name for name in ("objects", "agent_pos") if name not in episode.extras]
        if missing:
            raise UserError(f"episode {episode.id} has no {missing[0]!r}; `wfm-sim collect` records it")
        if tuple(episode.frames.shape[1:3]) != size:
            found = list(episode.frames.shape[1:3])
            raise UserError(f"episode {episode.id} has frames of {found}, {model.spec.name!r} imagines {list(size)}")
    lengths = np.array([min(steps, len(e.frames) - 1) for e in episodes])
    most = int(lengths.max())
    poses = np.stack([_fill(np.asarray(e.extras["agent_pos"], np.float32), most + 1) for e in episodes])
    actions = np.stack(
        [_fill(actions_from_states(e.extras["agent_pos"], e.actions[:, 6]), most) for e in episodes]
    ).astype(np.float32)
    first = np.stack([e.frames[0] for e in episodes])
    frames, doubts = roll_out(model, first, actions, [int(e.extras.get("seed", i)) for i, e in enumerate(episodes)])
    out = np.zeros(frames.shape[:2], dtype=np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets go of the interpreter where it works
        jobs = [
            pool.submit(compare, e, frames[i, : n + 1], tolerance)
            for i, (e, n) in enumerate(zip(episodes, lengths, strict=True))
        ]
        for i, job in enumerate(jobs):
            out[i, : lengths[i] + 1] = job.result()
    return Rollouts(frames, actions, poses, out, doubts, lengths)


def compare(episode: Episode, frames: NDArray[np.uint8], tolerance: Tolerance) -> NDArray[np.float32]:
    """Errors float32 [n] of the first n frames of a recorded episode as imagined."""
    n, rgb = len(frames), episode.extras.get("object_rgb")
    paints = None if rgb is None else list(np.asarray(rgb) * 255)
    return errors(episode.frames[:n], frames, np.asarray(episode.extras["objects"])[:n], paints, tolerance)


def roll_out(
    model: WorldModel, first: NDArray[np.uint8], actions: NDArray[np.float32], seeds: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Open loop from `first` uint8 [B, H, W, 3] under float32 [B, T, A]: frames uint8 [B, T + 1, H, W, 3], and the
    model's own doubts float32 [B, T + 1, 2] in metres, 0 where it has none."""
    steps, n = actions.shape[1], model.spec.frames_per_step
    more = -steps % n
    if more:  # frames past the end are imagined and dropped
        actions = np.concatenate([actions, np.repeat(actions[:, -1:], more, axis=1)], axis=1)
    state = model.start(first[:, None], seeds=list(seeds))
    frames, doubts = [first[:, None]], [doubts_of(state, len(first))[:, None]]
    for t in range(0, actions.shape[1], n):
        state, new = model.step(state, actions[:, t : t + n])
        frames.append(new)
        doubts.append(np.repeat(doubts_of(state, len(first))[:, None], n, axis=1))
    return np.concatenate(frames, axis=1)[:, : steps + 1], np.concatenate(doubts, axis=1)[:, : steps + 1]


def save(rollouts: Rollouts, path: Path) -> None:
    """Write a group; the file appears whole or not at all."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, **{f.name: getattr(rollouts, f.name) for f in fields(rollouts)})


def load(path: Path) -> Rollouts:
    """Read a group."""
    with np.load(path, allow_pickle=False) as archive:
        return Rollouts(**{f.name: archive[f.name] for f in fields(Rollouts)})


def _fill(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Cut to `length`, or the last row repeated up to it."""
    index = np.minimum(np.arange(length), len(values) - 1)
    return np.asarray(values)[index]


def _key(model: WorldModel, *what: Any) -> str:
    name = weights_hash(model) or model.spec.name
    text = json.dumps([FORMAT, name, *[w.to_json() if isinstance(w, Tolerance) else w for w in what]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
