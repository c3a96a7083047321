"""Rendered steps per second of the physics twin, by the clock and per core: `python benchmarks/twin_speed.py`."""

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
        resets, wall, cpu, steps, seed = [], 0.0, 0.0, 0, 0
        while steps < arguments.steps:
            begin = time.perf_counter()
            observation, info = env.reset(seed=seed)
            resets.append(time.perf_counter() - begin)
            policy.reset(batch_of_one(info), [seed])
            seed += 1
            done = False
            while not done and steps < arguments.steps:
                action = policy.act(batch_of_one(observation))[0]
                begin, begin_cpu = time.perf_counter(), time.process_time()
                observation, _, terminated, truncated, _ = env.step(action)
                wall += time.perf_counter() - begin
                # Of all threads, the software renderer's too: what one core could do were it alone on the machine.
                cpu += time.process_time() - begin_cpu
                done, steps = terminated or truncated, steps + 1
        env.close()
        print(
            f"{size:4d} px  {steps / wall:6.0f} steps/s of wall clock  {steps / cpu:6.0f} steps per core-second  "
            f"reset {1e3 * np.median(resets):5.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
