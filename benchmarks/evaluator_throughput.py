"""Episodes per minute of the batched evaluator, against one environment at a time: a ratio, measured in one run.

    python benchmarks/evaluator_throughput.py --num-envs 16

The same episodes of the same policies run in a batch (as `wfm-sim eval policy` runs them) and in a single environment,
in turns, so that whatever else the machine does weighs on both. The ratio per processor second (of all threads) is told
as well: it changes least where the machine is busy.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import gymnasium as gym
import torch

from wfm_sim.evals.jobs import Job, plan
from wfm_sim.evals.loading import load_judge, load_model
from wfm_sim.evals.rollouts import MODEL_ID, PolicyPool, model_env, rows_of, run_in_model
from wfm_sim.policies.base import batch_of_one


def timed(work: Callable[[list[Job]], None], jobs: list[Job]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work(jobs)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world-model", default="nano-tabletop")
    parser.add_argument("--policies", default="zero,random,expert-noise0.8,expert-noise0.4,expert")
    parser.add_argument("--tasks", default="push,pick,place")
    parser.add_argument("--episodes", type=int, default=8, help="per policy and task, in each turn")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    model, judge = load_model(a.world_model), load_judge("nano-tabletop-judge")
    batch = model_env(model, judge, a.num_envs)
    single = gym.make(MODEL_ID, world_model=model, judge=judge, disable_env_checker=True)
    pool = PolicyPool()

    def batched(jobs: list[Job]) -> None:
        model.full_window = True  # as the evaluator has it
        run_in_model(batch, jobs, (), lambda outcome: None, rows_of(jobs, a.num_envs))

    def one_at_a_time(jobs: list[Job]) -> None:
        model.full_window = False
        for job in jobs:
            policy = pool.take(job.policy)
            observation, info = single.reset(seed=job.seed, options={"task": job.task})
            policy.reset(batch_of_one(info), [job.seed])
            ended = False
            while not ended:
                action = policy.act(batch_of_one(observation))[0]
                observation, _, terminated, truncated, _ = single.step(action)
                ended = terminated or truncated
            pool.give_back(job.policy, policy)

    precision = str(getattr(model, "dtype", "unknown")).removeprefix("torch.")
    threads, trust = torch.get_num_threads(), single.unwrapped.world.trust is not None  # type: ignore[attr-defined]
    print(f"{model.spec.name} in {precision}, {'with' if trust else 'without'} trust, {threads} thread(s)", flush=True)
    policies, tasks = a.policies.split(","), a.tasks.split(",")
    warm = plan(policies[-1:], tasks[:1], 2, seed=99)
    batched(warm)
    one_at_a_time(warm)
    names, works = (f"batch {a.num_envs}", "one at a time"), (batched, one_at_a_time)
    print(f"{'turn':6}{'':15}{'episodes':>9}{'seconds':>9}{'CPU s':>8}{'per minute':>12}{'load':>7}", flush=True)
    ratios = []
    for turn in range(a.turns):
        jobs = plan(policies, tasks, a.episodes, seed=turn)
        took = [(0.0, 0.0)] * 2
        for which in (0, 1) if turn % 2 == 0 else (1, 0):  # whoever comes first may find another load
            took[which] = wall, processor = timed(works[which], jobs)
            rate, load = 60 * len(jobs) / wall, os.getloadavg()[0]
            print(
                f"{turn + 1:<6}{names[which]:15}{len(jobs):9d}{wall:9.1f}{processor:8.1f}{rate:12.1f}{load:7.1f}",
                flush=True,
            )
        (wall, processor), (wall_one, processor_one) = took
        ratios.append((wall_one / wall, processor_one / processor))
    for i, per in enumerate(("as many episodes per minute", "as many per processor second")):
        found = [ratio[i] for ratio in ratios]
        each = ", ".join(f"{ratio:.2f}" for ratio in found)
        goal = "" if i else f" (goal >= 3: {'met' if statistics.median(found) >= 3 else 'NOT MET'})"
        print(f"median {statistics.median(found):.2f} times {per}{goal}; turns: {each}")


if __name__ == "__main__":
    main()
