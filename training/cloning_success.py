"""How often a cloned policy succeeds in the physics twin, written into its own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wfm_sim.errors import UserError
from wfm_sim.policies.base import Policy, batch_of_one
from wfm_sim.policies.learned import load_policy, save_policy
from wfm_sim.training.collect import ENVIRONMENT

FIRST_SEED = 30_000_000  # neither collected nor used by evals (20,000,000 and on)


def run_episode(env: Any, policy: Policy, task: str, seed: int) -> bool:
    """Whether the policy succeeds in one episode of a single environment that ends with success."""
    observation, info = env.reset(seed=seed, options={"task": task})
    policy.reset(batch_of_one(info), [seed])
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(policy.act(batch_of_one(observation))[0])
        ended = terminated or truncated
    return bool(info["is_success"])


def measure_success(
    paths: Sequence[Path],
    episodes: int,
    *,
    first_seed: int = FIRST_SEED,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, dict[str, list[int]]]:
    """Run policies in the twin and write what came out into their files (`about["success"]`).

    Args:
        paths: Files of `train_policy`. One that already tells of as many episodes of the same seeds is left alone, so
            that a measurement that was stopped is resumed.
        episodes: Per task.
        first_seed: Scenes first_seed .. first_seed + episodes - 1.
        progress: Called with (episodes done, episodes in all).

    Returns:
        File -> task -> [successes, episodes].

    Raises:
        UserError: no episodes, or an unreadable file.
    """
    import gymnasium as gym

    import wfm_sim  # noqa: F401 - registers the environments

    if episodes < 1:
        raise UserError(f"the number of episodes must be at least 1, not {episodes}")
    found: dict[Path, dict[str, list[int]]] = {}
    env: Any = None
    done = 0
    for path in paths:
        policy = load_policy(path)
        tasks = policy.config.tasks
        known = policy.about.get("success", {})
        if (known.get("first_seed"), known.get("episodes")) == (first_seed, episodes):
            found[path] = known["tasks"]
            done += episodes * len(tasks)
            continue
        env = env or gym.make(ENVIRONMENT, disable_env_checker=True)
        counts: dict[str, list[int]] = {}
        for task in tasks:
            successes = 0
            for seed in range(first_seed, first_seed + episodes):
                successes += run_episode(env, policy, task, seed)
                done += 1
                if progress is not None:
                    progress(done, len(paths) * episodes * len(tasks))
            counts[task] = [successes, episodes]
        success = {"first_seed": first_seed, "episodes": episodes, "tasks": counts, "environment": ENVIRONMENT}
        save_policy(path, policy.network, {**policy.about, "success": success})
        found[path] = counts
    if env is not None:
        env.close()
    return found
