"""Jobs of an evaluation on many machines with Ray; the only module that imports it.

Jobs are cut into shards; a shard is a Ray task that hands back each outcome as its episode ends, so that what a lost
machine had finished is recorded, and Ray runs its shard again elsewhere. Every machine needs wfm-sim and, where they
are named by path, the same files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym

from wfm_sim.errors import UserError
from wfm_sim.evals.jobs import MODEL, TWIN, Job, OnOutcome, Outcome, Speed
from wfm_sim.evals.policy_runner import Todo
from wfm_sim.evals.rollouts import TWIN_ID, imagine_jobs, model_env, run_in_twin
from wfm_sim.weights import shipped

TWIN_SHARD = 8  # jobs


@dataclass(frozen=True)
class Setup:
    """What imagined episodes run in, as a machine is told it: names, paths or objects, and the rows of a batch."""

    world_model: Any
    judge: Any
    num_envs: int


def import_ray() -> ModuleType:
    """Ray. Raises UserError when it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray needs Ray; install it with `pip install 'wfm-sim[ray]'`.") from error
    return ray  # type: ignore[no-any-return]


class RayRunner:
    """See the module; a `policy_runner.Runner`."""

    def __init__(self, setup: Setup, rows: Mapping[Job, int], address: str) -> None:
        """Connect.

        Args:
            setup: Model and judge by name or path where machines have them, or as objects, which are sent.
            rows: Of every job, from `rollouts.rows_of`.
            address: 'local' starts Ray on this machine; else as `ray.init` takes it ('auto', 'ray://HOST:PORT').

        Raises:
            UserError: Ray is not installed, or there is no cluster at that address.
        """
        self._ray, self._setup, self._rows = import_ray(), setup, rows
        if self._ray.is_initialized():  # by a program that uses us as a library: its connection is ours, and stays
            self._mine = False
            return
        self._mine = True
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without GPUs leaves them visible
        try:
            self._ray.init(address=address, include_dashboard=None, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"no Ray cluster at {address!r} ({reason}); 'local' starts one on this machine.") from None

    def __enter__(self) -> RayRunner:
        return self

    def __exit__(self, *error: object) -> None:
        if self._mine:
            self._ray.shutdown()

    def run(self, todo: Todo, on_outcome: OnOutcome, *, keep: bool = False) -> Speed | None:
        """See policy_runner.Runner. Raises UserError where a shard does."""
        ray = self._ray
        resources = ray.cluster_resources()
        gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 1)
        task = ray.remote(num_returns="streaming", max_retries=3)(_shard)
        in_model = task.options(num_gpus=1) if gpus else task.options(num_cpus=1)
        setup = ray.put(self._setup)
        here = [str(Path.cwd()), *(p for p in sys.path if p)]
        sizes = {TWIN: TWIN_SHARD, MODEL: shard_size(len(todo.get(MODEL, ())), self._setup.num_envs, int(gpus or cpus))}
        running = [
            (task.options(num_cpus=1) if world == TWIN else in_model).remote(
                world, shard, {job: self._rows[job] for job in shard}, setup, keep, here
            )
            for world in (TWIN, MODEL)
            for shard in shards(todo.get(world, ()), sizes[world])
        ]
        seen: set[tuple[str, Job]] = set()
        try:
            while running:
                ready, _ = ray.wait(running, num_returns=1, timeout=1.0)
                for shard in ready:
                    try:
                        outcome: Outcome = ray.get(next(shard))
                    except StopIteration:
                        running.remove(shard)
                        continue
                    key = (outcome.world, outcome.job)
                    if key not in seen:  # a shard that began anew elsewhere repeats itself
                        seen.add(key)
                        on_outcome(outcome)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            raise
        finally:
            for shard in running:
                ray.cancel(shard)
        return None


def portable(given: Any, loaded: Any) -> Any:
    """What other machines are told of a model or a judge: its shipped name, or its path, or else the object itself."""
    if isinstance(given, str | Path):
        if str(given) in shipped():
            return str(given)
        path = Path(given).expanduser()
        if path.is_file():
            return str(path.resolve())
    return loaded


def shard_size(jobs: int, num_envs: int, slots: int) -> int:
    """Jobs per shard of imagined episodes: two shards per slot, but one to eight batches each, since the end of every
    shard runs with idle rows."""
    return min(max(-(-jobs // (2 * max(slots, 1))), num_envs), 8 * num_envs)


def shards(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """Jobs in order, `size` at a time."""
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


_env: tuple[Any, Any] | None = None  # (setup, environment): one per process, since loading takes a while
_twin: gym.Env[Any, Any] | None = None


def _shard(
    world: str, jobs: Sequence[Job], rows: Mapping[Job, int], setup: Setup, keep: bool, path: Sequence[str]
) -> Iterator[Outcome]:
    """Runs in a Ray worker. `path` is where the user's own policies may lie."""
    global _env, _twin
    sys.path.extend(p for p in path if p not in sys.path)
    if world == TWIN:
        _twin = _twin or gym.make(TWIN_ID, disable_env_checker=True)
        for job in jobs:
            yield run_in_twin(_twin, job, keep)
        return
    if _env is None or _env[0] != setup:
        _env = (setup, model_env(setup.world_model, setup.judge, setup.num_envs))
    yield from imagine_jobs(_env[1], jobs, jobs if keep else (), rows)
