"""Held-out episodes of the physics twin: recorded once, cached as .npz, the same for every model that is judged.

Seeds start at 10,000,000, where no training data is collected. Each episode is `steps` actions long whatever happens
in it, and says where every block was, as the renderer's segmentation saw it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path, write_json
from wfm_sim.errors import UserError

FIRST_SEED = 10_000_000
FORMAT = 1  # raise when what is stored changes


@dataclass(frozen=True)
class HeldOut:
    """One recorded episode of T steps with K blocks.

    Attributes:
        seed: The twin's scene seed.
        policy: Who acted.
        task, target_colour, instruction: What was asked.
        colours: Colour names of the K blocks.
        frames: uint8 [T + 1, H, W, 3].
        actions: float32 [T, 7], canonical, as executed (clipped to the workspace); actions[t] leads from frame t to
            t + 1.
        poses: float32 [T + 1, 7], the gripper.
        objects: float32 [T + 1, K, 3]: x, y of the centroid of the visible part (px), and its area (px); 0 = hidden.
        success: bool [T + 1], the physics state's verdict at each frame.
        progress: float32 [T + 1], in [0, 1].
    """

    seed: int
    policy: str
    task: str
    target_colour: str
    instruction: str
    colours: tuple[str, ...]
    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    poses: NDArray[np.float32]
    objects: NDArray[np.float32]
    success: NDArray[np.bool_]
    progress: NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What to record: episode i takes seed FIRST_SEED + i, task i mod len(tasks), policies in turn inside a task."""

    tasks: tuple[str, ...]
    policies: tuple[str, ...]
    steps: int = 24
    size: int = 64
    fingerprint: str = ""  # of whatever else decides what is recorded (physics, look, policies)

    def of(self, index: int) -> tuple[int, str, str]:
        """(seed, task, policy) of episode `index`."""
        task = self.tasks[index % len(self.tasks)]
        return FIRST_SEED + index, task, self.policies[index // len(self.tasks) % len(self.policies)]

    def key(self) -> str:
        """Eight hex digits that change with anything in the plan: the cache's folder name."""
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:8]


Recorder = Callable[[int, str, str], HeldOut]


def held_out(plan: Plan, count: int, cache: Path | str, record: Recorder) -> Iterator[HeldOut]:
    """The first `count` episodes of the plan, from the cache where they are, else recorded and cached.

    Args:
        plan: What to record.
        count: How many episodes, at least 1.
        cache: Folder; a subfolder per plan is made in it.
        record: (seed, task, policy) -> HeldOut; called for episodes that are not in the cache.

    Raises:
        UserError: count below 1, or a cached file that cannot be read.
    """
    if count < 1:
        raise UserError(f"the number of episodes must be at least 1, not {count}.")
    folder = Path(cache) / f"heldout-{plan.key()}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", asdict(plan))
    for index in range(count):
        seed, task, policy = plan.of(index)
        path = folder / f"{seed}.npz"
        if not path.exists():
            save(record(seed, task, policy), path)
        yield load(path)


def save(episode: HeldOut, path: Path) -> None:
    """Write one episode; the file appears whole or not at all."""
    fields: dict[str, Any] = {name: np.asarray(value) for name, value in vars(episode).items()}
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **fields)


def load(path: Path) -> HeldOut:
    """Read one episode.

    Raises:
        UserError: the file is missing, broken, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            fields = {name: archive[name] for name in HeldOut.__dataclass_fields__}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the held-out episode {path}: {error}; delete it and run again.") from error
    texts: dict[str, Any] = {name: str(fields.pop(name)) for name in ("policy", "task", "target_colour", "instruction")}
    colours = tuple(str(c) for c in fields.pop("colours"))
    return HeldOut(seed=int(fields.pop("seed")), colours=colours, **texts, **fields)


def outcomes(episodes: Sequence[HeldOut]) -> NDArray[np.bool_]:
    """bool [N]: whether each episode was ever a success."""
    return np.array([bool(e.success.any()) for e in episodes])
