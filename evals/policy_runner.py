"""Who runs the jobs of an evaluation: this machine (here), or many with Ray (policy_run_ray.py)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from wfm_sim.evals.jobs import MODEL, TWIN, Job, OnOutcome, Speed
from wfm_sim.evals.rollouts import AnyVectorEnv, run_in_model
from wfm_sim.evals.twin_runner import TwinRunner

Todo = Mapping[str, Sequence[Job]]  # world -> jobs


class Runner(Protocol):
    """Runs jobs. A context manager: it lets go of its processes at the end, however that comes."""

    def __enter__(self) -> Runner: ...

    def __exit__(self, *error: object) -> None: ...

    def run(self, todo: Todo, on_outcome: OnOutcome, *, keep: bool = False) -> Speed | None:
        """Run all jobs, in any order.

        Args:
            todo: Jobs of each world.
            on_outcome: Called as they end, one at a time.
            keep: Whether outcomes have traces.

        Returns:
            The model's speed, where it is known.
        """


class LocalRunner:
    """The twin first, in processes of its own, then the model in this one, which then has all the cores."""

    def __init__(self, env: AnyVectorEnv, rows: Mapping[Job, int], workers: int | None = None) -> None:
        """Set up.

        Args:
            env: From `rollouts.model_env`; closed at the end.
            rows: Of every job, from `rollouts.rows_of`.
            workers: Processes for the twin; None takes one per core, 0 none beside this one.
        """
        cores = os.cpu_count() or 1
        self._env, self._rows, self._workers = env, rows, (cores if cores > 1 else 0) if workers is None else workers
        self._twin: TwinRunner | None = None

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, *error: object) -> None:
        if self._twin is not None:
            self._twin.__exit__(*error)
        self._env.close()

    def run(self, todo: Todo, on_outcome: OnOutcome, *, keep: bool = False) -> Speed | None:
        """See Runner."""
        in_twin, in_model = todo.get(TWIN, ()), todo.get(MODEL, ())
        if in_twin:
            self._twin = self._twin or TwinRunner(min(self._workers, len(in_twin)))
            self._twin.start(in_twin, in_twin if keep else (), on_outcome)
            self._twin.finish()
        if not in_model:
            return None
        return run_in_model(self._env, in_model, in_model if keep else (), on_outcome, self._rows)
