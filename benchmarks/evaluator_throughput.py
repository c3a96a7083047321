"""Episodes per minute of the batched evaluator, against one environment at a time: a ratio, measured in one run.

    python benchmarks/evaluator_throughput.py --num-envs 16

The same episodes of the same policies run in a batch (as `wfm-sim eval policy` runs them) and in a single environment,
in turns, so that whatever else the machine does weighs on both. The ratio per processor second (of all threads) is told
as well: it changes least where the machine is busy.
"""

import argparse
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

    print(f"{model.spec.name}, batch {a.num_envs}, {torch.get_num_threads()} thread(s)", flush=True)
    policies, tasks = a.policies.split(","), a.tasks.split(",")
    warm = plan(policies[-1:], tasks[:1], 2, seed=99)
    batched(warm)
    one_at_a_time(warm)
    ratios = []
    for turn in range(a.turns):
        jobs = plan(policies, tasks, a.episodes, seed=turn)
        many, one = timed(batched, jobs), timed(one_at_a_time, jobs)
        ratios.append((one[0] / many[0], one[1] / many[1]))
        rates = [60 * len(jobs) / seconds for seconds in (many[0], one[0])]
        print(
            f"turn {turn + 1}: {len(jobs)} episodes, {rates[0]:.0f} a minute in the batch, {rates[1]:.0f} one at a "
            f"time: {ratios[-1][0]:.2f} times as many ({ratios[-1][1]:.2f} per processor second)",
            flush=True,
        )
    clock, processor = (statistics.median(r[i] for r in ratios) for i in (0, 1))
    verdict = "met" if clock >= 3 else "NOT MET"
    print(f"median: {clock:.2f} times as many episodes per minute (goal >= 3: {verdict})")
    print(f"        {processor:.2f} times as many per processor second")


if __name__ == "__main__":
    main()
