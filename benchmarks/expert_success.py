"""Success of the scripted experts in the physics twin: `python benchmarks/expert_success.py --seeds 200`."""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.policies.base import Policy, batch_of_one
from wfm_sim.policies.scripted import FLAWS, TASKS, ScriptedExpert
from wfm_sim.policies.simple import RandomPolicy, ZeroPolicy


def run_episode(env: gym.Env, policy: Policy, seed: int) -> tuple[bool, int, float]:
    """(success, steps, final progress) of one episode."""
    observation, info = env.reset(seed=seed)
    policy.reset(batch_of_one(info), [seed])
    step, done = 0, False
    while not done:
        observation, _, terminated, truncated, info = env.step(policy.act(batch_of_one(observation))[0])
        step, done = step + 1, terminated or truncated
    return bool(info["is_success"]), step, float(info["progress"])


def main() -> None:
    """Print one line per task and policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="episodes per task")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--all", action="store_true", help="also the noisy and flawed experts, random and zero")
    arguments = parser.parse_args()
    policies: list[Policy] = [ScriptedExpert()]
    if arguments.all:
        policies += [ScriptedExpert(noise) for noise in (0.1, 0.2, 0.4)]
        policies += [*(ScriptedExpert(flaw=flaw) for flaw in FLAWS), RandomPolicy(), ZeroPolicy()]
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    for task in TASKS:
        env = gym.make("wfm_sim/TabletopMuJoCo-v0", task=task, disable_env_checker=True)
        for policy in policies:
            results = [run_episode(env, policy, seed) for seed in seeds]
            steps = np.array([steps for success, steps, _ in results if success] or [np.nan])
            failed = [seed for seed, (success, *_) in zip(seeds, results, strict=True) if not success]
            print(
                f"{task:6s} {policy.name:20s} success {np.mean([r[0] for r in results]):6.1%}  steps median "
                f"{np.median(steps):4.0f}  95% {np.percentile(steps, 95):4.0f}  max {steps.max():4.0f}  progress "
                f"{np.mean([r[2] for r in results]):.2f}"
                + (f"  failed {failed[:12]}" if policy.name == "expert" else ""),
                flush=True,
            )
        env.close()


if __name__ == "__main__":
    main()
