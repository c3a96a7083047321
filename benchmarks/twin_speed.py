"""Rendered steps per second of the physics twin on one core: `python benchmarks/twin_speed.py`."""

from __future__ import annotations

import argparse
import time

import gymnasium as gym
import numpy as np

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.policies.base import batch_of_one
from wfm_sim.policies.simple import RandomPolicy


def main() -> None:
    """Print one line per frame size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128])
    arguments = parser.parse_args()
    policy = RandomPolicy()
    for size in arguments.sizes:
        env = gym.make("wfm_sim/TabletopMuJoCo-v0", image_size=size, disable_env_checker=True)
        env.reset(seed=0)
        resets, stepping, steps, seed = [], 0.0, 0, 0
        while steps < arguments.steps:
            begin = time.perf_counter()
            observation, info = env.reset(seed=seed)
            resets.append(time.perf_counter() - begin)
            policy.reset(batch_of_one(info), [seed])
            seed += 1
            done = False
            while not done and steps < arguments.steps:
                action = policy.act(batch_of_one(observation))[0]
                begin = time.perf_counter()
                observation, _, terminated, truncated, _ = env.step(action)
                stepping += time.perf_counter() - begin
                done, steps = terminated or truncated, steps + 1
        env.close()
        print(f"{size:4d} px  {steps / stepping:6.0f} steps/s  reset {1e3 * np.median(resets):5.1f} ms", flush=True)


if __name__ == "__main__":
    main()
