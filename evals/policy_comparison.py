"""The same policies, tasks and seeds in the learned simulator and in its physics twin: does one predict the other?

    jobs = plan(["zero", "expert"], ["push"], episodes=20)
    outcomes, speed = compare(jobs, num_envs=16)
    summary = summarise(outcomes)

The model runs here, in one batch whose rows take the next episode as soon as theirs ends; the twin runs before it in
worker processes. Everything but the speed is a function of the jobs and of the batch size alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from wfm_sim.evals.jobs import FIRST_SEED, MODEL, TWIN, Job, OnOutcome, Outcome, Speed, Trace, plan
from wfm_sim.evals.rollouts import MODEL_ID, TWIN_ID, model_env, run_in_model, run_in_twin, take_row
from wfm_sim.evals.twin_runner import TwinRunner

__all__ = [
    "FIRST_SEED",
    "MODEL",
    "MODEL_ID",
    "TWIN",
    "TWIN_ID",
    "Job",
    "Outcome",
    "Speed",
    "Trace",
    "TwinRunner",
    "compare",
    "plan",
    "run_in_model",
    "run_in_twin",
    "take_row",
]


def compare(
    jobs: Sequence[Job],
    *,
    world_model: Any = "nano-tabletop",
    judge: Any = "nano-tabletop-judge",
    num_envs: int = 16,
    keep: Collection[Job] = (),
    workers: int = 1,
    records_file: Path | None = None,
    on_outcome: OnOutcome = lambda outcome: None,
) -> tuple[list[Outcome], Speed]:
    """Run all jobs in both worlds.

    Args:
        jobs: From `plan`.
        world_model, judge: Names, paths or objects, as `wfm_sim/Tabletop-v0` takes them.
        num_envs: Rows of the model's batch.
        keep: Jobs whose frames are kept in `Outcome.trace`.
        workers: Processes for the twin; 0 runs it in this one.
        records_file: JSON lines, one per episode, written as episodes end.
        on_outcome: Called for every outcome, one at a time.

    Returns:
        Outcomes sorted as `jobs`, model before twin, and the model's speed.
    """
    env = model_env(world_model, judge, min(num_envs, len(jobs)))
    log = _Log(records_file, on_outcome)
    try:
        with TwinRunner(workers) as twin:
            twin.start(jobs, keep, log.add)
            twin.finish()  # before the model, which then has all the cores: together they only get in each other's way
        speed = run_in_model(env, jobs, keep, log.add)
    finally:
        env.close()
    order = {job: i for i, job in enumerate(jobs)}
    return sorted(log.outcomes, key=lambda o: (o.world, order[o.job])), speed


class _Log:
    """Outcomes from two threads, in memory and as JSON lines."""

    def __init__(self, path: Path | None, on_outcome: OnOutcome) -> None:
        self.outcomes: list[Outcome] = []
        self._path, self._on_outcome, self._lock = path, on_outcome, threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes.append(outcome)
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps(outcome.to_json()) + "\n")
            self._on_outcome(outcome)
