"""Jobs in the physics twin, in processes beside this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

import gymnasium as gym

from wfm_sim.errors import UserError
from wfm_sim.evals.jobs import Job, OnOutcome, Outcome
from wfm_sim.evals.rollouts import TWIN_ID, PolicyPool, run_in_twin

PATIENCE = 3.0  # seconds


class TwinRunner:
    """Runs jobs in the physics twin, in `workers` processes beside this one (0: in this one, in `finish`)."""

    def __init__(self, workers: int) -> None:
        self._pool = None
        self._here: list[tuple[Job, bool, OnOutcome]] = []
        self._pending: list[Any] = []
        self._failures: list[BaseException] = []
        self._processes: list[Any] = []
        if workers > 0:
            before = set(multiprocessing.active_children())
            self._pool = multiprocessing.get_context("spawn").Pool(workers, initializer=_prepare)
            self._processes = [p for p in multiprocessing.active_children() if p not in before]

    def __enter__(self) -> TwinRunner:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is None:
            return
        # A worker that was killed while it waited for a job holds the queue's lock for ever; `terminate` waits for it.
        ending = threading.Thread(target=self._pool.terminate, daemon=True)
        ending.start()
        ending.join(timeout=None if all(p.is_alive() for p in self._processes) else PATIENCE)
        if ending.is_alive():
            for process in self._processes:
                process.kill()
        else:
            self._pool.join()

    def start(self, jobs: Sequence[Job], keep: Collection[Job], on_outcome: OnOutcome) -> None:
        """Queue jobs; `on_outcome` is called from another thread as they end."""
        kept = set(keep)

        def ended(outcome: Outcome) -> None:
            try:
                on_outcome(outcome)
            except BaseException as error:  # it would end the pool's thread without a word, and `finish` would hang
                self._failures.append(error)

        for job in jobs:
            if self._pool is None:
                self._here.append((job, job in kept, on_outcome))
            else:
                work = (job, job in kept)
                call = self._pool.apply_async(_work, work, callback=ended, error_callback=self._failures.append)
                self._pending.append(call)

    def finish(self) -> None:
        """Wait for all jobs.

        Raises:
            UserError: a worker was killed.
            Exception: what a worker raised.
        """
        while self._here:
            job, kept, on_outcome = self._here.pop(0)
            on_outcome(_work(job, kept))
        while any(not call.ready() for call in self._pending) and not self._failures:
            time.sleep(0.05)
            if not all(process.is_alive() for process in self._processes):  # a pool would wait for its job for ever
                raise UserError(
                    "a process of the physics twin was killed (out of memory?); run the same command again."
                )
        if self._failures:
            raise self._failures[0]
        self._pending.clear()


# One of each per process: compiling the scene, or loading a policy, takes longer than an episode.
_twin: gym.Env[Any, Any] | None = None
_policies = PolicyPool()


def _work(job: Job, keep: bool) -> Outcome:
    global _twin
    if _twin is None:
        _twin = gym.make(TWIN_ID, disable_env_checker=True)
    return run_in_twin(_twin, job, keep, _policies)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends its workers
    os.environ["OMP_NUM_THREADS"] = "1"  # of torch, where a policy needs it: there is a worker per core already
