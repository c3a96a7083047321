"""The folder of a scoring run: its settings, and one JSON line per scored video, safe against any death.

    with records_in("runs/physics/flow", settings) as book:      # UserError: made with other settings, or in use
        book.add([{...}, {...}])                                  # on the disk when this returns

A process that is killed leaves at most half a line, which the next one drops.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wfm_sim.errors import UserError
from wfm_sim.evals.run_folder import CONFIG, RECORDS, append, claimed, whole_lines, write_pretty


@dataclass
class Book:
    """Everything recorded, by this process and by those before; made by `records_in`."""

    records: list[dict[str, Any]]
    file: BinaryIO

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records."""
        append(self.file, b"".join(json.dumps(r, allow_nan=False).encode() + b"\n" for r in records))
        self.records.extend(map(dict, records))


@contextmanager
def records_in(path: Path, settings: Mapping[str, Any]) -> Iterator[Book]:
    """Open a folder for records, new or left by an earlier run.

    Raises:
        UserError: other settings, another run at work in it, something else in it, or a broken record.
    """
    config = path / CONFIG
    with claimed(path, settings) as settings:
        if not config.exists():
            write_pretty(config, {"settings": settings})
        records = read_records(path / RECORDS, repair=True)
        with (path / RECORDS).open("ab") as file:
            yield Book(records, file)


def read_records(path: Path, *, repair: bool = False) -> list[dict[str, Any]]:
    """The records of a file ([] when there is none) but for a last line that was not written to its end.

    Args:
        path: records.jsonl.
        repair: Also cut that line off the file.

    Raises:
        UserError: a line that is no JSON object.
    """
    records = []
    for number, line in enumerate(whole_lines(path, repair=repair), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} is no record ({error}); delete that line to score it again"
            ) from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number} is no record; delete that line to score it again")
        records.append(record)
    return records
