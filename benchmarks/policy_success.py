"""Success of policies in the physics twin, with Wilson intervals, in parallel:

python benchmarks/policy_success.py --policies standard --seeds 100
python benchmarks/policy_success.py --policies expert-late1,expert-late3,bc-state-300 --tasks pick --json success.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from wfm_sim.assets.tabletop import TASKS, check_task
from wfm_sim.errors import UserError
from wfm_sim.evals.contestants import CONTESTANTS, contestants, make_policy
from wfm_sim.evals.policy_comparison import FIRST_SEED, Job, Outcome, TwinRunner
from wfm_sim.evals.statistics import wilson
from wfm_sim.progress import bar


def run(policies: list[str], tasks: list[str], seeds: range, workers: int) -> list[Outcome]:
    """Every policy on every task and seed, in the twin."""
    for policy in policies:
        make_policy(policy)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS"):  # one thread in each worker
        os.environ.setdefault(name, "1")
    jobs = [Job(policy, task, seed) for policy in policies for task in tasks for seed in seeds]
    outcomes: list[Outcome] = []
    with bar("episodes") as progress, TwinRunner(workers) as twin:

        def add(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress(len(outcomes), len(jobs))

        twin.start(jobs, (), add)
        twin.finish()
    return outcomes


def main() -> int:
    """Print one line per policy; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", default="standard", help="names, or a list's name: standard, all")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=100, help="episodes per policy and task")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="first seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; 0 runs in this one")
    parser.add_argument("--json", type=Path, help="also write the counts to this file")
    given = parser.parse_args()
    lists = {"standard": contestants, "all": lambda _: list(CONTESTANTS)}
    try:
        policies = lists[given.policies](given.policies) if given.policies in lists else given.policies.split(",")
        tasks = given.tasks.split(",")
        for task in tasks:
            check_task(task)
        if given.seeds < 1 or given.workers < 0:
            raise UserError("--seeds must be at least 1, --workers at least 0")
        outcomes = run(policies, tasks, range(given.first, given.first + given.seeds), given.workers)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"success in the twin, % [95 % Wilson interval], {given.seeds} seeds from {given.first} per task")
    print(f"{'policy':28s} {'all':>16s}  " + "  ".join(f"{task:>16s}" for task in tasks) + "  steps")
    counts: dict[str, dict[str, list[int]]] = {}
    for policy in policies:
        mine = [outcome for outcome in outcomes if outcome.job.policy == policy]
        by_task = {task: [o.success for o in mine if o.job.task == task] for task in tasks}
        everything = [success for results in by_task.values() for success in results]
        cells = [wilson(sum(r), len(r)).format(0, 100) for r in (everything, *by_task.values())]
        steps = sorted(o.steps for o in mine if o.success)
        middle = f"{steps[len(steps) // 2]:5d}" if steps else "    -"
        print(f"{policy:28s} " + "  ".join(f"{cell:>16s}" for cell in cells) + f"  {middle}")
        counts[policy] = {task: [sum(results), len(results)] for task, results in by_task.items()}
    if given.json:
        given.json.write_text(json.dumps({"first": given.first, "seeds": given.seeds, "success": counts}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
