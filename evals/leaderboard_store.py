"""A leaderboard's store, inside its site: what the pages are made from.

SITE/submissions/<id>.json      every submission; delete one and build again to take it off the board
SITE/media/<id>/<path>          its clips and recordings
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from wfm_sim.data.files import atomic_path, read_json, write_json
from wfm_sim.errors import UserError
from wfm_sim.evals.leaderboard_sources import Source
from wfm_sim.evals.submission import Submission, read_submission

SUBMISSIONS, MEDIA, BOARD = "submissions", "media", "board.json"
TITLE = "wfm-sim leaderboard"
MAX_FILE_BYTES = 64 * 2**20
MAX_MEDIA_BYTES = 512 * 2**20  # of one submission


def check_site(site: Path) -> None:
    """UserError unless `site` is a leaderboard, an empty folder or nothing yet: pages never land among other files."""
    if site.exists() and not site.is_dir():
        raise UserError(f"{site} is a file; a leaderboard is a folder.")
    if site.is_dir() and any(site.iterdir()) and not (site / SUBMISSIONS).is_dir():
        raise UserError(
            f"{site} holds other files and no {SUBMISSIONS}/: name a leaderboard, or an empty or new folder."
        )


def read_store(site: Path) -> list[Submission]:
    """All submissions of a site, by id.

    Raises:
        UserError: a stored file is wrong, or its name is not its id.
    """
    found = []
    for path in sorted((site / SUBMISSIONS).glob("*.json")):
        submission = read_submission(path)
        if path.stem != submission.id:
            raise UserError(f"{path}: the file's name and the id {submission.id!r} differ.")
        found.append(submission)
    return found


def board_title(site: Path, title: str | None) -> str:
    """The heading: a new one is kept for the next time, None takes what was kept."""
    path = site / BOARD
    if title is None:
        return str(read_json(path).get("title", TITLE)) if path.is_file() else TITLE
    write_json(path, {"title": title})
    return title


def check_media(source: Source) -> None:
    """UserError when a clip or recording is missing, too large, or (a link) not inside the submission's folder."""
    root, total = source.folder.resolve(), 0
    for name in source.submission.media():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise UserError(f"{source.folder / name} leads out of the submission's folder.")
        if not path.is_file():
            raise UserError(f"{source.folder / name}, named by submission {source.submission.id!r}, is not there.")
        size = path.stat().st_size
        total += size
        if size > MAX_FILE_BYTES:
            raise UserError(f"{source.folder / name} has {_mib(size)}; a clip or recording may have 64 MiB.")
    if total > MAX_MEDIA_BYTES:
        raise UserError(
            f"the clips and recordings of {source.submission.id!r} have {_mib(total)}; 512 MiB are allowed."
        )


def put(site: Path, sources: Iterable[Source]) -> None:
    """Store submissions with their media; one of the same id is replaced. Everything is checked before anything is
    written."""
    chosen = list(sources)
    for source in chosen:
        check_media(source)
    for source in chosen:
        submission = source.submission
        media = site / MEDIA / submission.id
        if source.folder.resolve() != media.resolve():
            for name in submission.media():
                with atomic_path(media / name) as partial:
                    shutil.copyfile(source.folder / name, partial)
            _remove_others(media, set(submission.media()))
        write_json(site / SUBMISSIONS / f"{submission.id}.json", submission.to_json())


def _remove_others(media: Path, wanted: set[str]) -> None:
    """What an earlier submission of the same id had and this one has not."""
    for path in sorted(media.rglob("*"), reverse=True):  # files before their folders
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path.relative_to(media).as_posix() not in wanted:
            path.unlink()


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
