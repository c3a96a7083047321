"""The folder of an evaluation run: its settings, and one record per ended episode, safe against any death.

    with RunFolder.open("runs/policy", settings) as folder:     # UserError: made with other settings, or in use
        done = {(o.world, o.job) for o in folder.outcomes}
        folder.add(outcome)                                      # one JSON line, flushed to the disk

config.json is {"settings": {...}, "sessions": [...]}: the settings decide the records and are compared when the folder
is opened again, the sessions say when and with what each part was run. records.jsonl holds the records in the order in
which episodes ended. A process that is killed leaves at most half a line, which the next one drops.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from wfm_sim.data.files import atomic_path, exclusive, read_json, remove_partial_files
from wfm_sim.data.files import field as required
from wfm_sim.errors import UserError
from wfm_sim.evals.jobs import Job, Outcome

CONFIG, RECORDS = "config.json", "records.jsonl"
_MISSING = object()


@dataclass
class RunFolder:
    """See the module; made by `RunFolder.open`.

    Attributes:
        path: The folder.
        outcomes: Everything recorded, by this process and by those before.
    """

    path: Path
    outcomes: list[Outcome]
    _file: BinaryIO
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    @contextmanager
    def open(cls, path: Path | str, settings: Mapping[str, Any], session: Mapping[str, Any]) -> Iterator[RunFolder]:
        """Open a folder for records, new or left by an earlier run.

        Args:
            path: Made where it is absent.
            settings: JSON-able; they must equal those that the folder was made with.
            session: What this process is (versions, machine): kept in config.json.

        Raises:
            UserError: other settings, another run at work in it, something else in it, or a broken record.
        """
        path = Path(path).expanduser()
        config = path / CONFIG
        with claimed(path, settings) as settings:
            sessions = read_json(config).get("sessions", []) if config.exists() else []
            began = {"began": datetime.now(UTC).isoformat(timespec="seconds"), **session}
            write_pretty(config, {"settings": settings, "sessions": [*sessions, began]})
            outcomes = read_records(path / RECORDS, repair=True)
            with (path / RECORDS).open("ab") as file:
                yield cls(path, outcomes, file)

    def add(self, outcome: Outcome) -> None:
        """Append one record; when this returns, it is on the disk. Threads may call it."""
        line = json.dumps(outcome.to_json(), allow_nan=False).encode() + b"\n"
        with self._lock:
            append(self._file, line)
            self.outcomes.append(outcome)


def read_records(path: Path | str, *, repair: bool = False) -> list[Outcome]:
    """The outcomes in a records file ([] when there is none), without a last line that was not written to its end.

    Args:
        path: records.jsonl.
        repair: Also cut that line off the file.

    Raises:
        UserError: a line that is no record, or an episode that is there twice.
    """
    path = Path(path)
    outcomes: list[Outcome] = []
    seen: set[tuple[str, Job]] = set()
    for number, line in enumerate(whole_lines(path, repair=repair), 1):
        try:
            outcome = Outcome.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is no record ({type(error).__name__}: {error}); delete that line to run its "
                "episode again."
            ) from None
        key = (outcome.world, outcome.job)
        if key in seen:
            raise UserError(f"{path}, line {number}: this episode is there twice; delete one of the two lines.")
        seen.add(key)
        outcomes.append(outcome)
    return outcomes


@contextmanager
def claimed(path: Path, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A folder for one run's records, made where it is absent, and no other run in it meanwhile.

    Gives the settings as they will be read (tuples are lists). Who opens it first writes them to config.json.

    Raises:
        UserError: other settings, another run at work in it, or something else in it.
    """
    asked: dict[str, Any] = json.loads(json.dumps(settings))
    config = path / CONFIG
    if not config.exists() and path.is_dir() and any(not p.name.startswith(".") for p in path.iterdir()):
        raise UserError(f"{path} holds files but no {CONFIG}: name an empty or a new folder.")
    if config.exists():
        check_same(required(read_json(config), "settings", config), asked, path)
    path.mkdir(parents=True, exist_ok=True)
    with exclusive(path / ".lock", f"another run is at work in {path}."):
        remove_partial_files(path)
        yield asked


def append(file: BinaryIO, lines: bytes) -> None:
    """Append to a file of records; when this returns, it is on the disk."""
    file.write(lines)
    file.flush()
    os.fsync(file.fileno())


def whole_lines(path: Path, *, repair: bool = False) -> list[bytes]:
    """The lines of a file of records ([] when there is none), without a last one that was not written to its end.

    repair: Also cut that line off the file.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if repair and len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
            file.flush()
            os.fsync(file.fileno())
    return whole.splitlines()


def check_same(there: Mapping[str, Any], here: Mapping[str, Any], path: Path) -> None:
    """Raise a UserError that names the first setting in which a folder differs from what is asked for."""
    for name in (*here, *(n for n in there if n not in here)):
        old, new = there.get(name, _MISSING), here.get(name, _MISSING)
        if isinstance(old, dict) and isinstance(new, dict):
            changed = [key for key in (*new, *old) if old.get(key, _MISSING) != new.get(key, _MISSING)]
            if not changed:
                continue
            name, old, new = f"{name}: {changed[0]}", old.get(changed[0], _MISSING), new.get(changed[0], _MISSING)
        if old != new:
            raise UserError(
                f"{path} was made with {_said(name, old)}, not with {_said(name, new)}; "
                "take the same settings to resume it, or another folder."
            )


def _said(name: str, value: Any) -> str:
    if value is _MISSING:
        return f"no {name}"
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return f"{name} {value}"


def write_pretty(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON for people to read; the file appears whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
