import json
from pathlib import Path
from typing import Any

import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals.jobs import Job, Outcome
from wfm_sim.evals.run_folder import RunFolder, read_records

SETTINGS = {"world model": "nano", "policies": ("zero", "expert"), "episodes": 2, "policy hashes": {"a:b": "sha256:1"}}


def outcome(seed: int, **fields: Any) -> Outcome:
    return Outcome("model", Job("zero", "push", seed), False, 32, -0.25, **fields)


def filled(path: Path, count: int = 3) -> Path:
    with RunFolder.open(path, SETTINGS, {"python": "3"}) as folder:
        for seed in range(count):
            folder.add(outcome(seed, probability=0.125, trust=(1.0, 0.5) if seed else None))
    return path


def test_records_come_back_and_a_half_written_line_is_dropped(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    records = path / "records.jsonl"
    whole = records.read_bytes()
    assert [o.job.seed for o in read_records(records)] == [0, 1, 2]
    for cut in (1, 20, len(whole.splitlines(keepends=True)[-1]) - 1):
        records.write_bytes(whole[:-cut])
        assert len(read_records(records)) == 2
    with RunFolder.open(path, SETTINGS, {"python": "3"}) as folder:
        assert folder.outcomes == [outcome(0, probability=0.125), outcome(1, probability=0.125, trust=(1.0, 0.5))]
        folder.add(outcome(2, probability=0.125, trust=(1.0, 0.5)))
    assert records.read_bytes() == whole
    config = json.loads((path / "config.json").read_text())
    assert config["settings"]["policies"] == ["zero", "expert"] and len(config["sessions"]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episodes": 3}, "was made with episodes 2, not with episodes 3"),
        ({"policies": ("zero",)}, "policies zero,expert, not with policies zero"),
        ({"policy hashes": {"a:b": "sha256:2"}}, "policy hashes: a:b sha256:1, not with"),
        ({"policy hashes": {}}, "policy hashes: a:b sha256:1, not with no policy hashes: a:b"),
        ({"seed": 1}, "no seed, not with seed 1"),
    ],
)
def test_other_settings_are_refused_with_the_difference(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    before = (path / "config.json").read_bytes()
    with pytest.raises(UserError, match="was made with") as caught, RunFolder.open(path, {**SETTINGS, **change}, {}):
        pass
    assert said in str(caught.value)
    assert (path / "config.json").read_bytes() == before


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path / "run", SETTINGS, {}),
        pytest.raises(UserError, match="another run is at work"),
        RunFolder.open(tmp_path / "run", SETTINGS, {}),
    ):
        pass


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds files but no config\.json"), RunFolder.open(tmp_path, SETTINGS, {}):
        pass


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("garbage\n", "line 2 is no record"),
        ('{"world": "moon", "policy": "a", "task": "b", "seed": 1, "probability": null, "trust": null}\n', "moon"),
        ("{}\n", "KeyError"),
        ("[]\n", "line 2 is no record"),
    ],
)
def test_broken_records_are_named(line: str, said: str, tmp_path: Path) -> None:
    records = filled(tmp_path / "run", 1) / "records.jsonl"
    records.write_text(records.read_text() + line)
    with pytest.raises(UserError, match=said):
        read_records(records)


def test_an_episode_that_is_there_twice_is_named(tmp_path: Path) -> None:
    records = filled(tmp_path / "run", 1) / "records.jsonl"
    records.write_text(records.read_text() * 2)
    with pytest.raises(UserError, match="line 2: this episode is there twice"):
        read_records(records)
