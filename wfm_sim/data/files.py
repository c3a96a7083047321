"""Files that are either whole or absent, and JSON whose faults are told in one sentence."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wfm_sim.errors import UserError

_TEMPORARY = ".partial-"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; it becomes `path` when the block ends well, and is removed when it does not.

    A killed process leaves at most the temporary file, which `remove_partial_files` finds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """`atomic_path` for a folder of several files: it appears under its name with all of them, or not at all.

    The files are brought to the disk before the folder gets its name, so that this holds when the power fails too.
    Nothing may be at `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_dir():
                continue
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_partial_files(folder: str | Path) -> int:
    """Delete what killed writers left anywhere under `folder`; no writer may be at work there.

    Returns how many files and folders it found.
    """
    found = list(Path(folder).rglob(f"{_TEMPORARY}*"))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)


@contextmanager
def exclusive(lock: Path, message: str) -> Iterator[None]:
    """One run at a time: UserError with this message while another process is in such a block with the same file.

    The operating system frees the lock when the process ends, however it ends.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(message) from None
        yield


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write `content` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file. UserError when it is missing, broken or not an object."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def field(content: Mapping[str, Any], name: str, path: str | Path) -> Any:
    """`content[name]`, or a UserError that names the file and the missing field."""
    if name not in content:
        raise UserError(f"{path}: missing field {name!r} (found: {', '.join(content) or 'none'})")
    return content[name]
