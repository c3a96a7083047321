"""Where published files are looked for: a path that is given, then the local cache of the Hugging Face hub.

Nothing is ever downloaded: weights of gigabytes, many behind a licence to accept, are the user's to fetch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wfm_sim.errors import UserError


def cache_folder() -> Path:
    """The hub's cache as huggingface_hub resolves it: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME, ~/.cache."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base / "huggingface" / "hub"


def snapshots(repository: str, revision: str | None = None) -> list[Path]:
    """The cached snapshots of a repository, the one of `revision` (a branch, tag or commit; default main) first."""
    folder = cache_folder() / ("models--" + repository.replace("/", "--"))
    found = sorted((folder / "snapshots").glob("*"), key=lambda p: p.stat().st_mtime, reverse=True)
    wanted = revision or "main"
    ref = folder / "refs" / wanted
    commit = ref.read_text().strip() if ref.is_file() else wanted
    first = [p for p in found if p.name == commit]
    return first if revision else first + [p for p in found if p.name != commit]


def _places(repository: str, given: Path | None, revision: str | None) -> Iterator[Path]:
    """Folders in which a repository's files may lie, best first; those that do not exist too, to be told of."""
    if given is not None:
        # As downloaded with `--local-dir`: the repository itself, or a folder of repositories.
        yield from (given, given / repository.partition("/")[2], given / repository)
        return
    yield from snapshots(repository, revision) or [
        cache_folder() / ("models--" + repository.replace("/", "--")) / "snapshots" / (revision or "*")
    ]


def find_file(repository: str, names: Sequence[str], given: Path | None = None, revision: str | None = None) -> Path:
    """A published file.

    Args:
        repository: On the hub, such as 'nvidia/Cosmos-Predict2.5-2B'.
        names: The file's path in it; of several (it was renamed, or has two layouts) the first that exists is taken.
        given: The file itself, whatever its name, or a folder with the repository's files; None for the hub's cache.
        revision: Of the repository in the cache; None for main, else any.

    Raises:
        UserError: not there; the message has the expected name and every place it was looked for.
    """
    if given is not None and given.is_file():
        return given
    looked = [place / name for place in _places(repository, given, revision) for name in names]
    for path in looked:
        if path.is_file():
            return path
    raise _absent(repository, names, looked, given)


def find_folder(repository: str, given: Path | None = None, revision: str | None = None) -> Path:
    """The folder of a published repository with a config.json (transformers' layout).

    Raises:
        UserError: as `find_file`.
    """
    return find_file(repository, ["config.json"], given, revision).parent


def _absent(repository: str, names: Sequence[str], looked: Sequence[Path], given: Path | None) -> UserError:
    files = " or ".join(names)
    if given is not None and not given.exists():
        return UserError(f"{given} does not exist; expected {files} of {repository}, or a folder with it")
    return UserError(
        f"no {files} of {repository}: looked for {'; '.join(map(str, looked))}. "
        f"Nothing is downloaded by itself: hf download {repository} {names[0]}"
    )
