"""Jobs in several processes beside this one: each with one thread and a graphics context of its own.

    for result in run_jobs(partial(make_worker, settings), jobs, workers=2):    # in the order in which they end
        ...

Written for jobs that each leave one whole file or folder behind (`wfm_sim.data.files`), so that a run which is killed
at any moment is completed by the same call again. No process is left behind, whichever way the run ends.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from wfm_sim.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

_NO_MORE = "no more jobs"
_parent = 0  # in a worker: the process that started it


def run_jobs(prepare: Callable[[], Callable[[Job], Result]], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Yield what each job gave, as they end. Each worker takes the next job when it has ended one.

    Args:
        prepare: Called once in each worker; what it returns is called with one job at a time. Picklable, as are jobs
            and results: a function of a module, or a `functools.partial` of one.
        jobs: What is to be done.
        workers: Processes, at least 1.

    Raises:
        UserError: one that a job raised, or a worker that died.
    """
    context = mp.get_context("spawn")  # a forked child would share the parent's graphics context
    todo = iter(jobs)
    processes: dict[Connection, Any] = {}
    try:
        with _one_thread_each():
            for _ in range(min(workers, len(jobs))):
                mine, its = context.Pipe()
                process = context.Process(target=_work, args=(prepare, its, os.getpid()), daemon=True)
                process.start()
                its.close()
                processes[mine] = process
                mine.send(next(todo))
        while processes:
            ready = wait(list(processes))
            for connection in [c for c in processes if c in ready]:
                try:
                    result = connection.recv()
                    if not isinstance(result, UserError):
                        connection.send(next(todo, _NO_MORE))
                except (EOFError, ConnectionError):
                    process = processes.pop(connection)
                    process.join()
                    if process.exitcode:
                        code = process.exitcode
                        raise UserError(f"a worker died (exit code {code}); run the same command to resume") from None
                    continue
                if isinstance(result, UserError):
                    raise result
                yield result
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def leave_if_orphaned() -> None:
    """For a job that is about to write: end this worker if its parent was killed, for another run may be at work."""
    if _parent and os.getppid() != _parent:
        os._exit(1)


def _work(prepare: Callable[[], Callable[[Any], Any]], jobs: Connection, parent: int) -> None:
    """A worker's life. Ctrl-C is the parent's to handle."""
    global _parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _parent = parent
    try:
        do = prepare()
        while (job := jobs.recv()) != _NO_MORE:
            leave_if_orphaned()
            jobs.send(do(job))
    except UserError as error:
        jobs.send(error)
    except (BrokenPipeError, EOFError, ConnectionError):  # the parent has gone
        os._exit(1)
    jobs.close()
    # All is written. Tearing the graphics context down adds nothing, and drivers have been seen to crash in it.
    os._exit(0)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Environment variables that a child must find when it starts: numpy's and Mesa's threads, and off-screen GL."""
    wanted = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    wanted["MUJOCO_GL"] = os.environ.get("MUJOCO_GL", "egl")
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
