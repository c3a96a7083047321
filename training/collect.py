"""Episodes of the physics twin for training: experts, flawed experts, random play. `collect` is the entry point.

Episode i follows from (seed, split, i) alone, and exists when its JSON does. So a run that was stopped or killed at any
moment is completed by the same call again, with any number of workers, to exactly the same set.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW
from wfm_sim.data.bridge import write_episode
from wfm_sim.data.episode import Episode
from wfm_sim.data.files import exclusive, read_json, remove_partial_files, write_json
from wfm_sim.errors import UserError, unknown
from wfm_sim.workers import leave_if_orphaned, run_jobs

ENVIRONMENT = "wfm_sim/TabletopMuJoCo-v0"
SPLITS = ("train", "val", "test")
STEPS = 30
# What acts, and in which share of the episodes. A simulator is asked about policies that fail, so noisy experts get the
# most: blocks hit askew are what a model finds hard, and a model that has seen only successes flatters everyone.
SHARES = {"expert": 0.20, "noisy": 0.40, "flawed": 0.10, "random": 0.15, "play": 0.15}
NOISE = (0.05, 0.9)  # of noisy experts, drawn evenly; 0.8 all but buries the expert
# After a success the rest of the episode would be a still image; half of the time play takes over.
PLAY_AFTER_SUCCESS = 0.5


@dataclass(frozen=True)
class CollectConfig:
    """What decides the content of a data set; kept in <root>/collect-<split>.json and checked when a run is resumed."""

    seed: int = 0
    split: str = "train"
    image_size: int = 64
    steps: int = STEPS


@dataclass(frozen=True)
class CollectResult:
    """Episodes there now, how many of them this run wrote, and its environment steps per second (all workers)."""

    episodes: int
    written: int
    steps_per_second: float


def collect(
    root: str | Path,
    episodes: int,
    config: CollectConfig | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CollectResult:
    """Write episodes 0 .. episodes-1 that are not there yet, in the Bridge/IRASim layout.

    Each holds, beside the layout's own fields: commanded_action, success bool [T], progress [T], task, target_colour,
    seed (the scene's), policy, agent_pos [T][7] (the commanded pose), layout, and per block object_names,
    object_colours, object_rgb (0..1), `objects` [T][n][3] (x_px, y_px, visible_area in pixels; -1, -1, 0 when hidden),
    `object_positions` [T][n][3] (metres, base frame) and `object_yaws` [T][n] (radians in [-pi/4, pi/4)).

    Args:
        root: The data set's folder; made if need be.
        episodes: How many there should be in the end.
        config: Seed, split, frame size, steps.
        workers: Processes, each with one thread.
        progress: Called with (episodes there, episodes wanted) after each one.

    Raises:
        UserError: a number out of range, a folder collected with another configuration, another run at work in it, or
            a worker that died.
    """
    config = config or CollectConfig()
    root = Path(root).expanduser()
    _check(root, episodes, config, workers)
    annotations = root / "annotation" / config.split
    annotations.mkdir(parents=True, exist_ok=True)
    folders = annotations, root / "videos" / config.split
    busy = f"{root}: another run is collecting {config.split} episodes there"
    with exclusive(root / f".collect-{config.split}.lock", busy):
        _check_same_config(root, config)
        for folder in folders:
            remove_partial_files(folder)
        there = {path.stem for path in annotations.glob("*.json")}
        missing = [index for index in range(episodes) if episode_name(index) not in there]
        begun, done = time.monotonic(), episodes - len(missing)
        if progress is not None:
            progress(done, episodes)
        try:
            for _ in run_jobs(partial(_make_worker, root, config), missing, workers):
                done += 1
                if progress is not None:
                    progress(done, episodes)
        finally:
            for folder in folders:
                remove_partial_files(folder)
        seconds = max(time.monotonic() - begun, 1e-9)
        return CollectResult(max(episodes, len(there)), len(missing), len(missing) * config.steps / seconds)


def episode_name(index: int) -> str:
    """The id of episode `index`."""
    return f"{index:06d}"


def make_env(config: CollectConfig) -> Any:
    """The twin, going on after success."""
    import gymnasium as gym

    import wfm_sim  # noqa: F401  (registers the environments, also in a worker process)

    kwargs = {"image_size": config.image_size, "terminate_on_success": False}
    return gym.make(ENVIRONMENT, disable_env_checker=True, **kwargs)


def collect_episode(env: Any, config: CollectConfig, index: int, seen: bool = True) -> Episode:
    """Play one episode; the same (config, index) gives the same episode, whatever `env` did before.

    seen: Whether to draw it; without, frames are black and blocks count as hidden, which is three times as fast.
    """
    from wfm_sim.policies.base import batch_of_one

    rng = np.random.default_rng([config.seed, SPLITS.index(config.split), index])
    scene_seed = int(rng.integers(2**31 - 1))
    policy, play = _choose_policy(rng, scene_seed)
    gives_way = bool(rng.uniform() < PLAY_AFTER_SUCCESS)
    patience = int(rng.integers(2, 8))
    observation, info = env.reset(seed=scene_seed, options={"pixels": seen})
    if policy is not None:
        policy.reset(batch_of_one(info), [scene_seed])
    record = _Record(observation, info, env.unwrapped.object_views(seen))
    for _ in range(config.steps):
        if policy is None or (gives_way and sum(record.success) > patience):
            action = play.act(observation["agent_pos"], np.array([view.position for view in record.views]))
        else:
            action = policy.act(batch_of_one(observation))[0]
        action = np.clip(action, ACTION_LOW, ACTION_HIGH)
        observation, _, _, _, info = env.step(action)
        record.add(action, observation, info, env.unwrapped.object_views(seen))
    return record.episode(episode_name(index), policy.name if policy is not None else play.name)


def _choose_policy(rng: np.random.Generator, seed: int) -> tuple[Any, Any]:
    """(a policy of wfm_sim.policies or None, play): play acts where there is no policy, or after a success."""
    from wfm_sim.policies.scripted import FLAWS, ScriptedExpert
    from wfm_sim.policies.simple import RandomPolicy
    from wfm_sim.training.play import Play

    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    noise = float(rng.uniform(*NOISE))
    play = Play(seed)
    if kind == "play":
        return None, play
    if kind == "random":
        return RandomPolicy(), play
    if kind == "flawed":
        flaw = str(rng.choice(sorted(FLAWS)))
        return ScriptedExpert(noise=float(rng.choice([0.0, 0.1, 0.2])), flaw=flaw), play
    return ScriptedExpert(noise=noise if kind == "noisy" else 0.0), play


class _Record:
    """What is written down while an episode runs."""

    def __init__(self, observation: dict[str, Any], info: dict[str, Any], views: list[Any]) -> None:
        self.first = info
        self.frames: list[NDArray[np.uint8]] = []
        self.actions: list[NDArray[np.float32]] = []
        self.states: list[NDArray[np.float32]] = []
        self.agent_pos: list[NDArray[np.float32]] = []
        self.success: list[bool] = []
        self.progress: list[float] = []
        self.objects: list[list[list[float]]] = []
        self.positions: list[list[list[float]]] = []
        self.yaws: list[list[float]] = []
        self.views = views
        self._see(observation, info, views)

    def add(self, action: NDArray[np.float32], observation: dict[str, Any], info: dict[str, Any], views: Any) -> None:
        self.actions.append(action)
        self._see(observation, info, views)

    def _see(self, observation: dict[str, Any], info: dict[str, Any], views: list[Any]) -> None:
        self.frames.append(observation["pixels"])
        self.agent_pos.append(observation["agent_pos"])
        self.states.append(info["measured_pose"])
        self.success.append(bool(info["is_success"]))
        self.progress.append(float(info["progress"]))
        self.objects.append(
            [[*view.centroid, view.visible_area] if view.visible_area else [-1.0, -1.0, 0] for view in views]
        )
        self.positions.append([list(view.position) for view in views])
        self.yaws.append([view.yaw for view in views])
        self.views = views

    def episode(self, episode_id: str, policy: str) -> Episode:
        layout = {name: np.asarray(value).tolist() for name, value in self.first["layout"].items()}
        return Episode(
            frames=np.stack(self.frames),
            actions=np.stack(self.actions).astype(np.float32),
            states=np.stack(self.states).astype(np.float32),
            instruction=self.first["instruction"],
            id=episode_id,
            extras={
                "task": self.first["task"],
                "target_colour": self.first["target_colour"],
                "seed": int(self.first["scene_seed"]),
                "policy": policy,
                "success": np.array(self.success),
                "progress": np.array(self.progress),
                "agent_pos": np.stack(self.agent_pos),
                "layout": layout,
                "object_names": [view.name for view in self.views],
                "object_colours": [view.colour for view in self.views],
                "object_rgb": np.array([view.rgb for view in self.views]),
                "objects": np.array(self.objects),
                "object_positions": np.array(self.positions),
                "object_yaws": np.array(self.yaws),
            },
        )


def _check(root: Path, episodes: int, config: CollectConfig, workers: int) -> None:
    if config.split not in SPLITS:
        raise unknown("split", config.split, SPLITS)
    for name, value, least in (("episodes", episodes, 1), ("workers", workers, 1), ("seed", config.seed, 0)):
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: exists and is not a folder")


def _check_same_config(root: Path, config: CollectConfig) -> None:
    path = root / f"collect-{config.split}.json"
    wanted = dataclasses.asdict(config)
    if not any((root / "annotation" / config.split).glob("*.json")):
        write_json(path, wanted)
        return
    if not path.is_file():
        raise UserError(f"{root}: has {config.split} episodes that `collect` did not write; choose another folder")
    found = read_json(path)
    for name, value in wanted.items():
        if found.get(name) != value:
            was = found.get(name)
            raise UserError(f"{root}: was collected with {name} {was!r}, not {value!r}; choose another folder")


@dataclass(frozen=True)
class _Worker:
    """One process's environment; called with an index it plays and writes that episode."""

    root: Path
    config: CollectConfig
    env: Any

    def __call__(self, index: int) -> int:
        episode = collect_episode(self.env, self.config, index)
        leave_if_orphaned()
        write_episode(self.root, self.config.split, episode.id, episode)
        return index


def _make_worker(root: Path, config: CollectConfig) -> _Worker:
    return _Worker(root, config, make_env(config))
