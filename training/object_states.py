"""Episodes of the twin that nobody has seen: where gripper and objects are, without frames.

The dynamics of objects needs no pictures, and the twin plays three times as many episodes when it draws none. Groups of
episodes are files, so that a run which was stopped goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path
from wfm_sim.progress import bar
from wfm_sim.training.collect import CollectConfig, collect_episode, make_env
from wfm_sim.workers import leave_if_orphaned, run_jobs

GROUP = 100  # episodes per file


@dataclass(frozen=True)
class States:
    """N frames of E episodes, one after the other; K objects, NaN where an episode has fewer.

    Attributes:
        offsets: int64 [E + 1], where each episode begins.
        gripper: float32 [N, 7], commanded poses, base frame.
        position: float32 [N, K, 3], metres, base frame.
        yaw: float32 [N, K], radians.
    """

    offsets: NDArray[np.int64]
    gripper: NDArray[np.float32]
    position: NDArray[np.float32]
    yaw: NDArray[np.float32]

    @classmethod
    def cat(cls, parts: list[States]) -> States:
        """All episodes of all parts."""
        most = max(p.position.shape[1] for p in parts)

        def padded(a: NDArray[np.float32]) -> NDArray[np.float32]:
            more = [(0, 0), (0, most - a.shape[1])] + [(0, 0)] * (a.ndim - 2)
            return np.pad(a, more, constant_values=np.nan)

        lengths = np.concatenate([np.diff(p.offsets) for p in parts])
        return cls(
            np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            np.concatenate([p.gripper for p in parts]),
            np.concatenate([padded(p.position) for p in parts]),
            np.concatenate([padded(p.yaw) for p in parts]),
        )


def play_states(folder: Path, episodes: int, seed: int) -> States:
    """The first `episodes` (rounded up to groups) that `wfm-sim collect --seed SEED` would write, without frames.

    Raises:
        UserError: a worker died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"states-{seed}-{i:05d}.npz" for i in range(-(-episodes // GROUP))]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    with bar("playing unseen episodes") as progress:
        for done, _ in enumerate(run_jobs(partial(_worker, folder, seed), missing, os.cpu_count() or 1), start=1):
            progress(done, len(missing))
    return States.cat([_load(path) for path in paths])


def _load(path: Path) -> States:
    with np.load(path, allow_pickle=False) as archive:
        return States(**{name: archive[name] for name in archive.files})


def _worker(folder: Path, seed: int) -> Any:
    return partial(_play, folder, CollectConfig(seed=seed), make_env(CollectConfig(seed=seed)))


def _play(folder: Path, config: CollectConfig, env: Any, group: int) -> int:
    played = [collect_episode(env, config, group * GROUP + i, seen=False).extras for i in range(GROUP)]
    states = States.cat(
        [
            States(
                np.array([0, len(e["agent_pos"])]),
                e["agent_pos"].astype(np.float32),
                e["object_positions"].astype(np.float32),
                e["object_yaws"].astype(np.float32),
            )
            for e in played
        ]
    )
    leave_if_orphaned()
    with atomic_path(folder / f"states-{config.seed}-{group:05d}.npz") as partial_path, partial_path.open("wb") as file:
        np.savez(file, allow_pickle=False, **vars(states))
    return group
