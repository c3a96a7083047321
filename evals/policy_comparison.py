"""The same policies, tasks and seeds in the learned simulator and in its physics twin: does one predict the other?

    jobs = plan(["zero", "expert"], ["push"], episodes=20)
    outcomes, speed = compare(jobs, num_envs=16)
    summary = summarise(outcomes)

The model runs here, in one batch whose rows take the next episode as soon as theirs ends; the twin runs meanwhile in
worker processes. Everything but the speed is a function of the jobs alone.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.actions import ACTION_DIM
from wfm_sim.errors import UserError
from wfm_sim.evals.contestants import make_policy
from wfm_sim.policies.base import Policy, batch_of_one

# Never used for training: see heldout.FIRST_SEED.
FIRST_SEED = 20_000_000
MODEL, TWIN = "model", "twin"
MODEL_ID, TWIN_ID = "wfm_sim/Tabletop-v0", "wfm_sim/TabletopMuJoCo-v0"


@dataclass(frozen=True)
class Job:
    """One episode to run in both worlds."""

    policy: str
    task: str
    seed: int


@dataclass(frozen=True)
class Trace:
    """What happened, for pictures: frames uint8 [n+1, H, W, 3], actions [n, 7], rewards [n], poses [n+1, 7]."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    poses: NDArray[np.float32]
    instruction: str


@dataclass(frozen=True)
class Outcome:
    """How one episode ended in one world."""

    world: str
    job: Job
    success: bool
    steps: int
    reward: float
    trace: Trace | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of the records file."""
        fields = {"world": self.world, **vars(self.job)}
        return {**fields, "success": self.success, "steps": self.steps, "reward": round(self.reward, 6)}


@dataclass
class Speed:
    """Frames imagined and the seconds that took, resets and policies left out."""

    frames: int = 0
    seconds: float = 0.0
    num_envs: int = 0

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


OnOutcome = Callable[[Outcome], None]
AnyVectorEnv = VectorEnv[Any, Any, Any]


def plan(policies: Sequence[str], tasks: Sequence[str], episodes: int, *, seed: int = 0) -> list[Job]:
    """Every policy on every task with the same `episodes` scenes; another `seed` takes other scenes.

    Raises:
        UserError: unknown policy, or fewer than one episode.
    """
    if episodes < 1:
        raise UserError(f"the number of episodes must be at least 1, not {episodes}.")
    for name in policies:
        make_policy(name)
    first = FIRST_SEED + 10_000 * seed
    return [Job(policy, task, first + i) for policy in policies for task in tasks for i in range(episodes)]


def compare(
    jobs: Sequence[Job],
    *,
    world_model: Any = "nano-tabletop",
    judge: Any = "nano-tabletop-judge",
    num_envs: int = 16,
    keep: Collection[Job] = (),
    workers: int = 1,
    records_file: Path | None = None,
    on_outcome: OnOutcome = lambda outcome: None,
) -> tuple[list[Outcome], Speed]:
    """Run all jobs in both worlds.

    Args:
        jobs: From `plan`.
        world_model, judge: Names, paths or objects, as `wfm_sim/Tabletop-v0` takes them.
        num_envs: Rows of the model's batch.
        keep: Jobs whose frames are kept in `Outcome.trace`.
        workers: Processes for the twin; 0 runs it in this one.
        records_file: JSON lines, one per episode, written as episodes end.
        on_outcome: Called for every outcome, one at a time.

    Returns:
        Outcomes sorted as `jobs`, model before twin, and the model's speed.
    """
    env = gym.make_vec(
        MODEL_ID,
        num_envs=min(num_envs, len(jobs)),
        world_model=world_model,
        judge=judge,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    log = _Log(records_file, on_outcome)
    try:
        with TwinRunner(workers) as twin:
            twin.start(jobs, keep, log.add)
            twin.finish()  # before the model, which then has all the cores: together they only get in each other's way
        speed = run_in_model(env, jobs, keep, log.add)
    finally:
        env.close()
    order = {job: i for i, job in enumerate(jobs)}
    return sorted(log.outcomes, key=lambda o: (o.world, order[o.job])), speed


@dataclass
class _Row:
    """What one row of the batch is doing."""

    job: Job
    policy: Policy
    frames: list[NDArray[np.uint8]]
    poses: list[NDArray[np.float32]]
    instruction: str
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def outcome(self, world: str, success: bool, keep: bool) -> Outcome:
        trace = None
        if keep:
            arrays = (np.stack(self.frames), np.stack(self.actions), np.array(self.rewards), np.stack(self.poses))
            trace = Trace(*arrays, instruction=self.instruction)
        return Outcome(world, self.job, success, len(self.rewards), float(sum(self.rewards)), trace)

    def add(self, action: NDArray[np.float32], observation: dict[str, Any], reward: float) -> None:
        self.actions.append(np.array(action, dtype=np.float32))
        self.frames.append(observation["pixels"][0])
        self.poses.append(observation["agent_pos"][0])
        self.rewards.append(float(reward))


def run_in_model(env: AnyVectorEnv, jobs: Sequence[Job], keep: Collection[Job], on_outcome: OnOutcome) -> Speed:
    """Run jobs through a vector environment whose autoreset is disabled; a row takes the next job when its own ends."""
    queue, kept = iter(jobs), set(keep)
    reset: Any = env.reset  # a list of seeds is fine, whatever the annotation of the base class says
    rows: list[_Row | None] = [None] * env.num_envs
    speed = Speed(num_envs=env.num_envs)
    observation, _ = reset(seed=[jobs[0].seed] * env.num_envs, options={"task": jobs[0].task})
    free = np.ones(env.num_envs, dtype=bool)
    while True:
        due = {int(row): next(queue, None) for row in np.flatnonzero(free)}
        for row in due:
            rows[row] = None
        # A batch has no holes: rows that are out of work repeat the last job, uncounted.
        for task in dict.fromkeys((job or jobs[-1]).task for job in due.values()):
            mine = {row: job for row, job in due.items() if (job or jobs[-1]).task == task}
            mask = np.zeros(env.num_envs, dtype=bool)
            mask[list(mine)] = True
            seeds = [(mine.get(row) or jobs[-1]).seed if mask[row] else None for row in range(env.num_envs)]
            observation, infos = reset(seed=seeds, options={"task": task, "reset_mask": mask})
            for row, job in mine.items():
                if job is not None:
                    rows[row] = _begin(job, take_row(observation, row), take_row(infos, row))
        if not any(rows):
            return speed
        actions = np.zeros((env.num_envs, ACTION_DIM), dtype=np.float32)
        for row, running in enumerate(rows):
            if running is not None:
                actions[row] = running.policy.act(take_row(observation, row))[0]
        began = time.perf_counter()
        observation, rewards, terminated, truncated, infos = env.step(actions)
        speed.seconds += time.perf_counter() - began
        speed.frames += env.num_envs
        free = terminated | truncated
        for row, running in enumerate(rows):
            if running is None:
                continue
            running.add(actions[row], take_row(observation, row), rewards[row])
            if free[row]:
                on_outcome(running.outcome(MODEL, bool(infos["is_success"][row]), running.job in kept))


def run_in_twin(env: gym.Env[Any, Any], job: Job, keep: bool) -> Outcome:
    """Run one job in a single environment."""
    observation, info = env.reset(seed=job.seed, options={"task": job.task})
    observation = batch_of_one(observation)
    running = _begin(job, observation, batch_of_one(info))
    ended = False
    while not ended:
        action = running.policy.act(observation)[0]
        raw, reward, terminated, truncated, info = env.step(action)
        observation = batch_of_one(raw)
        running.add(action, observation, float(reward))
        ended = terminated or truncated
    return running.outcome(TWIN, bool(info["is_success"]), keep)


def take_row(tree: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a batched observation or info, still with a batch axis (of 1); Gymnasium's `_key` masks left out."""
    return {
        key: take_row(value, row) if isinstance(value, dict) else value[row : row + 1]
        for key, value in tree.items()
        if not key.startswith("_")
    }


def _begin(job: Job, observation: dict[str, Any], info: dict[str, Any]) -> _Row:
    policy = make_policy(job.policy)
    policy.reset(info, [job.seed])
    instruction = str(info["instruction"][0])
    return _Row(job, policy, [observation["pixels"][0]], [observation["agent_pos"][0]], instruction)


class TwinRunner:
    """Runs jobs in the physics twin, in `workers` processes beside this one (0: in this one, in `finish`)."""

    def __init__(self, workers: int) -> None:
        self._pool = None
        if workers > 0:
            self._pool = multiprocessing.get_context("spawn").Pool(workers, initializer=_ignore_interrupt)
        self._here: list[tuple[Job, bool, OnOutcome]] = []
        self._pending: list[Any] = []
        self._failures: list[BaseException] = []

    def __enter__(self) -> TwinRunner:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def start(self, jobs: Sequence[Job], keep: Collection[Job], on_outcome: OnOutcome) -> None:
        """Queue jobs; `on_outcome` is called from another thread as they end."""
        kept = set(keep)
        for job in jobs:
            if self._pool is None:
                self._here.append((job, job in kept, on_outcome))
            else:
                work = (job, job in kept)
                call = self._pool.apply_async(_work, work, callback=on_outcome, error_callback=self._failures.append)
                self._pending.append(call)

    def finish(self) -> None:
        """Wait for all jobs. Raises what a worker raised."""
        for job, kept, on_outcome in self._here:
            on_outcome(_work(job, kept))
        while any(not call.ready() for call in self._pending) and not self._failures:
            time.sleep(0.05)
        if self._failures:
            raise self._failures[0]


_twin: gym.Env[Any, Any] | None = None  # one per process: compiling the scene takes longer than an episode


def _work(job: Job, keep: bool) -> Outcome:
    global _twin
    if _twin is None:
        _twin = gym.make(TWIN_ID, disable_env_checker=True)
    return run_in_twin(_twin, job, keep)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends its workers


class _Log:
    """Outcomes from two threads, in memory and as JSON lines."""

    def __init__(self, path: Path | None, on_outcome: OnOutcome) -> None:
        self.outcomes: list[Outcome] = []
        self._path, self._on_outcome, self._lock = path, on_outcome, threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes.append(outcome)
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps(outcome.to_json()) + "\n")
            self._on_outcome(outcome)
