"""A policy's episodes in the physics twin, read in one contract or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.action_contract import ActionContract
from wfm_sim.envs.twin import MAX_EPISODE_STEPS, TabletopMuJoCoEnv
from wfm_sim.errors import UserError
from wfm_sim.evals.check_actions_probes import TASKS
from wfm_sim.evals.check_actions_scale import Reference
from wfm_sim.policies.base import Policy, batch_of_one

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rollout:
    """One episode: what the policy wrote, as canonical numbers if the contract were right, before any clipping.

    Attributes:
        task: Its task.
        actions: [n, 7].
        poses: [n+1, 7], commanded.
        progress: The best progress seen, 0..1.
        pace: The mean over a full episode of the best progress so far: who gets there sooner has more.
        success: Whether it succeeded.
    """

    task: str
    actions: Array
    poses: Array
    progress: float
    pace: float
    success: bool


@dataclass(frozen=True)
class Bench:
    """What a policy is examined with."""

    env: TabletopMuJoCoEnv
    make: Callable[[ActionContract], Policy]  # the policy read in a contract, acting canonically
    seeds: tuple[int, ...]
    probes: tuple[int, ...]
    reference: Reference
    target: ActionContract


def run(bench: Bench, source: ActionContract, seeds: Sequence[int], tasks: Sequence[str] = TASKS) -> list[Rollout]:
    """Rollouts of the policy read in `source`; the same seeds give the same scenes whatever the contract."""
    policy = bench.make(source)
    found = []
    for index, seed in enumerate(seeds):
        task = tasks[index % len(tasks)]
        observation, info = bench.env.reset(seed=seed, options={"task": task})
        policy.reset(batch_of_one(info), [seed])
        actions: list[Array] = []
        poses, best, done = [observation["agent_pos"]], [float(info["progress"])], False
        while not done:
            action = np.asarray(policy.act(batch_of_one(observation))[0], dtype=np.float64)
            if not np.isfinite(action).all():
                raise UserError(f"{policy.name}: step {len(actions)} of scene {seed} holds a value that is not finite")
            observation, _, terminated, truncated, info = bench.env.step(action)
            actions.append(action)
            poses.append(observation["agent_pos"])
            best.append(max(best[-1], float(info["progress"])))
            done = terminated or truncated
        found.append(
            Rollout(
                task,
                np.stack(actions),
                np.stack(poses).astype(np.float64),
                best[-1],
                float(np.mean(best + [best[-1]] * (MAX_EPISODE_STEPS + 1 - len(best)))),
                bool(info["is_success"]),
            )
        )
    return found
