"""Episodes of policies: one at a time in a single environment, or many at once in a vector environment.

What an episode gives does not depend on what else is in the batch, bit for bit:

- every row has its own seed and a policy of its own;
- episodes begin one by one, steps always have all rows (those without work repeat a job that does not count), and the
  network always attends to a whole window. So it sees arrays of the same shapes whatever is running, and rounds alike.

In float32 a matrix product may still round differently in the batch's last rows than in its first, and differently in
another batch size. So who wants the same bits again gives every job a row of its own (`rows_of`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.actions import ACTION_DIM
from wfm_sim.envs.core import Judges
from wfm_sim.evals.jobs import MODEL, TWIN, Job, OnOutcome, Outcome, Speed, Trace
from wfm_sim.evals.policy_loading import make_policy
from wfm_sim.policies.base import Policy, batch_of_one, uses_pixels

MODEL_ID, TWIN_ID = "wfm_sim/Tabletop-v0", "wfm_sim/TabletopMuJoCo-v0"
AnyVectorEnv = VectorEnv[Any, Any, Any]


def model_env(world_model: Any, judge: Any, num_envs: int) -> AnyVectorEnv:
    """The learned tabletop for `run_in_model`; names, paths or objects, as `wfm_sim/Tabletop-v0` takes them."""
    env = gym.make_vec(
        MODEL_ID, num_envs=num_envs, world_model=world_model, judge=judge, autoreset_mode=AutoresetMode.DISABLED
    )
    model = env.unwrapped.world.model  # type: ignore[attr-defined]
    if hasattr(model, "full_window"):
        model.full_window = True
    return env


class PolicyPool:
    """Policies that are free to take an episode: made when there is none, so at most one per row and name.

    A policy is reset before each episode, and its contract is that nothing of earlier ones remains.
    """

    def __init__(self) -> None:
        self._free: dict[str, list[Policy]] = {}

    def take(self, name: str) -> Policy:
        free = self._free.setdefault(name, [])
        return free.pop() if free else make_policy(name)

    def give_back(self, name: str, policy: Policy) -> None:
        self._free[name].append(policy)


@dataclass
class _Row:
    """What one row of the batch is doing."""

    job: Job
    policy: Policy
    instruction: str
    frames: list[NDArray[np.uint8]]  # all of them where they are kept, else the first and the last
    poses: list[NDArray[np.float32]]
    keep: bool
    colour: str | None = None
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    trust: list[float] = field(default_factory=list)

    def add(self, action: NDArray[np.float32], observation: dict[str, Any], reward: float) -> None:
        if not self.keep:
            del self.frames[1:]
        self.frames.append(observation["pixels"][0])
        self.rewards.append(float(reward))
        if self.keep:
            self.actions.append(np.array(action, dtype=np.float32))
            self.poses.append(observation["agent_pos"][0])

    def outcome(self, world: str, success: bool, judge: Judges | None = None) -> Outcome:
        trace = probability = None
        if self.keep:
            arrays = (np.stack(self.frames), np.stack(self.actions), np.array(self.rewards), np.stack(self.poses))
            trace = Trace(*arrays, instruction=self.instruction)
        if judge is not None and self.colour is not None:
            # Alone, so that its rounding does not depend on the batch either.
            found, _ = judge(self.frames[-1][None], self.frames[0][None], [self.job.task], [self.colour])
            probability = float(found[0])
        trust = tuple(self.trust) if len(self.trust) == len(self.rewards) else None
        return Outcome(world, self.job, success, len(self.rewards), float(sum(self.rewards)), probability, trust, trace)


def rows_of(jobs: Sequence[Job], num_envs: int) -> dict[Job, int]:
    """The row of each job of a plan, in turn: the same in every session of a run, whatever is missing."""
    return {job: i % num_envs for i, job in enumerate(jobs)}


def run_in_model(
    env: AnyVectorEnv,
    jobs: Sequence[Job],
    keep: Collection[Job],
    on_outcome: OnOutcome,
    rows: Mapping[Job, int] | None = None,
) -> Speed:
    """Run jobs through a vector environment whose autoreset is disabled; a row takes the next job when its own ends.

    Args:
        env: From `model_env`.
        jobs: At least one.
        keep: Jobs whose outcomes get a trace.
        on_outcome: Called as episodes end, in no particular order.
        rows: Where each job runs; None: in whichever row is free first, which wastes least.
    """
    speed = Speed(num_envs=env.num_envs)
    for outcome in imagine_jobs(env, jobs, keep, rows, speed):
        on_outcome(outcome)
    return speed


def imagine_jobs(
    env: AnyVectorEnv,
    jobs: Sequence[Job],
    keep: Collection[Job],
    rows: Mapping[Job, int] | None = None,
    speed: Speed | None = None,
) -> Iterator[Outcome]:
    """`run_in_model` as an iterator of outcomes; `speed` is added to."""
    kept, pool, speed = set(keep), PolicyPool(), speed or Speed()
    shared = iter(jobs)
    queues = [
        shared if rows is None else iter([job for job in jobs if rows[job] == row]) for row in range(env.num_envs)
    ]
    judge = getattr(getattr(env.unwrapped, "world", None), "judge", None)
    episodes: list[_Row | None] = [None] * env.num_envs
    # A batch has no holes: it begins with something in every row, and rows that are out of work repeat the last job.
    observation, infos = env.reset(seed=jobs[0].seed, options={"task": jobs[0].task})
    free = np.ones(env.num_envs, dtype=bool)
    while True:
        for row in np.flatnonzero(free).tolist():
            if (ended := episodes[row]) is not None:
                pool.give_back(ended.job.policy, ended.policy)
            job = next(queues[row], None)
            observation, infos = _reset_row(env, row, job or jobs[-1])
            episodes[row] = None
            if job is not None:
                policy = pool.take(job.policy)
                episodes[row] = _begin(job, policy, take_row(observation, row), take_row(infos, row), job in kept)
        if not any(episodes):
            return
        actions = np.zeros((env.num_envs, ACTION_DIM), dtype=np.float32)
        for row, running in enumerate(episodes):
            if running is not None:
                actions[row] = running.policy.act(take_row(observation, row))[0]
        began = time.perf_counter()
        observation, rewards, terminated, truncated, infos = env.step(actions)
        speed.seconds += time.perf_counter() - began
        speed.frames += env.num_envs
        free = terminated | truncated
        for row, running in enumerate(episodes):
            if running is None:
                continue
            running.add(actions[row], take_row(observation, row), rewards[row])
            if "trust" in infos and infos["_trust"][row] and np.isfinite(infos["trust"][row]):
                running.trust.append(float(infos["trust"][row]))
            if free[row]:
                yield running.outcome(MODEL, bool(infos["is_success"][row]), judge)


def _reset_row(env: AnyVectorEnv, row: int, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    mask = np.zeros(env.num_envs, dtype=bool)
    mask[row] = True
    reset: Any = env.reset  # a list of seeds is fine, whatever the annotation of the base class says
    seeds = [job.seed if chosen else None for chosen in mask]
    observation, infos = reset(seed=seeds, options={"task": job.task, "reset_mask": mask})
    return observation, infos


def run_in_twin(env: gym.Env[Any, Any], job: Job, keep: bool, pool: PolicyPool | None = None) -> Outcome:
    """Run one job in a single environment; a `pool` spares making a policy for every episode."""
    pool = pool or PolicyPool()
    policy = pool.take(job.policy)
    looks = keep or uses_pixels(policy)
    observation, info = env.reset(seed=job.seed, options={"task": job.task, "pixels": looks})
    observation = batch_of_one(observation)
    running = _begin(job, policy, observation, batch_of_one(info), keep)
    ended = False
    while not ended:
        action = running.policy.act(observation)[0]
        raw, reward, terminated, truncated, info = env.step(action)
        observation = batch_of_one(raw)
        running.add(action, observation, float(reward))
        ended = terminated or truncated
    pool.give_back(job.policy, policy)
    return running.outcome(TWIN, bool(info["is_success"]))


def take_row(tree: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a batched observation or info, still with a batch axis (of 1); Gymnasium's `_key` masks left out."""
    return {
        key: take_row(value, row) if isinstance(value, dict) else value[row : row + 1]
        for key, value in tree.items()
        if not key.startswith("_")
    }


def _begin(job: Job, policy: Policy, observation: dict[str, Any], info: dict[str, Any], keep: bool) -> _Row:
    policy.reset(info, [job.seed])
    colour = info.get("target_colour")
    return _Row(
        job,
        policy,
        str(info["instruction"][0]),
        [observation["pixels"][0]],
        [observation["agent_pos"][0]],
        keep,
        None if colour is None else str(colour[0]),
    )
