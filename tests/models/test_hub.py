"""Where published files are found, and what is said when they are not."""

from pathlib import Path

import pytest

from wfm_sim.errors import UserError
from wfm_sim.models.published.hub import cache_folder, find_file, find_folder

REPOSITORY, FILE = "nvidia/Cosmos-Test-2B", "base/model_ema_bf16.pt"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache that HF_HOME points to."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def snapshot(cache: Path, commit: str, branch: str | None = None, file: str = FILE) -> Path:
    folder = cache / "models--nvidia--Cosmos-Test-2B"
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    path.write_text(commit)
    if branch:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / branch).write_text(commit)
    return path


def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "/y")
    assert cache_folder() == Path("/y/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/z")
    assert cache_folder() == Path("/z")


def test_a_path_wins(tmp_path: Path, cache: Path) -> None:
    snapshot(cache, "aaa", "main")
    given = tmp_path / "mine.pt"
    given.touch()
    assert find_file(REPOSITORY, [FILE], given) == given


@pytest.mark.parametrize("inside", ["", "Cosmos-Test-2B", "nvidia/Cosmos-Test-2B"])
def test_a_given_folder_is_the_repository_or_holds_it(inside: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "checkpoints" / inside / FILE
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_file(REPOSITORY, ["other.pt", FILE], tmp_path / "checkpoints") == path


def test_main_is_preferred_and_any_snapshot_will_do(cache: Path) -> None:
    old = snapshot(cache, "aaa")
    assert find_file(REPOSITORY, [FILE]) == old
    main = snapshot(cache, "bbb", "main")
    snapshot(cache, "ccc", "diffusers", file="other/config.json")
    assert find_file(REPOSITORY, [FILE]) == main
    assert find_file(REPOSITORY, [FILE], revision="aaa") == old
    with pytest.raises(UserError, match=r"no config\.json"):
        find_folder(REPOSITORY)
    with pytest.raises(UserError, match="snapshots/ccc/base"):
        find_file(REPOSITORY, [FILE], revision="diffusers")


def test_what_is_absent_is_named_with_every_place(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError) as error:
        find_file(REPOSITORY, [FILE])
    said = str(error.value)
    assert FILE in said
    assert str(cache / "models--nvidia--Cosmos-Test-2B") in said
    assert f"hf download {REPOSITORY} {FILE}" in said
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        find_file(REPOSITORY, [FILE], tmp_path / "empty")
    for place in ("empty/base", "empty/Cosmos-Test-2B/base", "empty/nvidia/Cosmos-Test-2B/base"):
        assert place in str(error.value)
    with pytest.raises(UserError, match=r"gone\.pt does not exist; expected base/model_ema_bf16\.pt of nvidia"):
        find_file(REPOSITORY, [FILE], tmp_path / "gone.pt")
