"""Progress bars of episodes, with their rate, on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bars:
    """One bar per world: how many episodes of how many, how many per minute in this session, and how long still."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def add(self, name: str, title: str, *, done: int, total: int) -> None:
        """A bar of which `done` were there before; its clock starts with its first episode."""
        self._tasks[name] = self._progress.add_task(title, total=total, completed=done, before=done, start=False)

    def advance(self, name: str) -> None:
        """One more. Threads may call it."""
        self._progress.start_task(self._tasks[name])  # does nothing but the first time
        self._progress.advance(self._tasks[name])


class _Rate(ProgressColumn):
    """Episodes per minute since the session's first."""

    def render(self, task: Task) -> Text:
        later = task.completed - task.fields["before"] - 1
        seconds = task.finished_time if task.finished else task.elapsed
        if later < 1 or not seconds:
            return Text("")
        return Text(f"{60 * later / seconds:.0f}/min", style="progress.data.speed")
