"""Frames per second of CameraWorld-v0, and a late step over an early one: `python benchmarks/camera_world.py`.

One environment with decoding, as a user steps it, at one and two torch threads; then a batch; then where the time of a
step goes. Random motions from the shipped model's first frame of a rendered room.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import wfm_sim  # noqa: F401 - registers the ids

GOAL_FPS, GOAL_FLAT = 15.0, 1.05


def seconds_per_step(env: Any, steps: int, seed: int = 0) -> list[float]:
    """Of one walk; what it shows does not matter to its speed, what is new does: motions are a human's."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    heading = rng.uniform(-0.05, 0.05, 6)
    out = []
    for _ in range(steps):
        heading = 0.9 * heading + rng.normal(0, 0.02, 6)
        begun = time.perf_counter()
        env.step(np.clip(heading, -0.2, 0.2).astype(np.float32))
        out.append(time.perf_counter() - begun)
    return out


def parts(model: Any, start: Any, steps: int) -> dict[str, float]:
    """Milliseconds of the parts of a step."""
    spent = {"memory": 0.0, "network": 0.0, "decoder and new points": 0.0}
    motion = np.full((1, 1, 6), 0.02, np.float32)
    state = start
    for _ in range(steps):
        a = time.perf_counter()
        view = model.look(state, motion)
        b = time.perf_counter()
        clean, cache = model.imagined(state, view)
        c = time.perf_counter()
        state, _ = model.arrive(state, view, clean, cache)
        d = time.perf_counter()
        for name, value in zip(spent, (b - a, c - b, d - c), strict=True):
            spent[name] += 1000 * value / steps
    return {name: round(value, 1) for name, value in spent.items()}


def main() -> None:
    """Print a JSON report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world-model", default="nano-rooms")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    report: dict[str, Any] = {"world_model": args.world_model, "machine": platform.processor() or platform.machine()}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        env: Any = gym.make("wfm_sim/CameraWorld-v0", world_model=args.world_model).unwrapped
        seconds_per_step(env, 10)
        taken = seconds_per_step(env, args.steps)
        report[f"frames_per_second_{threads}_threads"] = round(len(taken) / sum(taken), 1)
        if threads == 1:
            ends = [statistics.median(part) for part in (taken[10:40], taken[-30:])]
            report["late_step_over_early"] = round(ends[1] / ends[0], 3)
            env.reset(seed=0)
            report["milliseconds"] = parts(env.world.model, env.snapshot().episodes.state, 30)
        env.close()
    envs: Any = gym.make_vec("wfm_sim/CameraWorld-v0", num_envs=args.batch, world_model=args.world_model)
    envs.reset(seed=0)
    begun = time.perf_counter()
    for _ in range(20):
        envs.step(np.full((args.batch, 6), 0.02, np.float32))
    report[f"frames_per_second_batch_{args.batch}"] = round(20 * args.batch / (time.perf_counter() - begun), 1)
    report["goals"] = {"frames_per_second": GOAL_FPS, "late_step_over_early": GOAL_FLAT}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
