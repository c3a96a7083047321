import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wfm_sim.cli import main as command_line
from wfm_sim.errors import UserError
from wfm_sim.evals import policy_run
from wfm_sim.evals.run_folder import RunFolder
from wfm_sim.evals.submission import read_submission


@pytest.fixture
def run(way_model: Any, way_judge: Any) -> Callable[..., str]:
    return partial(_run, way_model, way_judge)


def _run(model: Any, judge: Any, out: Path, **options: Any) -> str:
    out.parent.mkdir(exist_ok=True)
    with (out.parent / "log.txt").open("w") as file:
        console = Console(width=120, record=True, file=file)
        chosen = {
            "policies": ("zero", "expert"),
            "tasks": ("push",),
            "episodes": 2,
            "workers": 0,
            "clips": 1,
            **options,
        }
        policy_run.main(world_model=model, judge=judge, out=out, console=console, **chosen)
    return console.export_text()


def records(folder: Path) -> list[str]:
    return sorted((folder / "records.jsonl").read_text().splitlines())


def test_a_run_writes_everything_and_nothing_twice(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    text = run(out)
    assert {p.name for p in out.iterdir() if not p.name.startswith(".")} == {
        "config.json", "seeds.json", "records.jsonl", "summary.json", "submission.json", "table.md", "report.html",
        "clips", "run.rrd",
    }  # fmt: skip
    assert "2 of 2 episodes ended as recorded" in text and "100 [34, 100]" in text
    found = [json.loads(line) for line in records(out)]
    assert {(r["world"], r["policy"], r["seed"]) for r in found} == {
        (world, policy, seed)
        for world in ("model", "twin")
        for policy in ("zero", "expert")
        for seed in (20_000_000, 20_000_001)
    }
    by_policy = {policy: {r["success"] for r in found if r["policy"] == policy} for policy in ("zero", "expert")}
    assert by_policy == {"zero": {False}, "expert": {True}}
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["episodes"] == 2 and "torch" in config["sessions"][0]["versions"]
    assert json.loads((out / "seeds.json").read_text())["scenes"] == [20_000_000, 20_000_001]
    summary = json.loads((out / "summary.json").read_text())
    assert [(r["policy"], r["imagined"]["value"], r["twin"]["value"]) for r in summary["over_tasks"]] == [
        ("zero", 0.0, 0.0),
        ("expert", 1.0, 1.0),
    ]
    submission = read_submission(out / "submission.json")
    assert submission.kind == "policy" and len(submission.cells) == 4
    assert all((out / path).is_file() for path in submission.media())
    page = (out / "report.html").read_text()
    assert page.count("<video") == 2 and 'name="viewport"' in page
    assert not re.search(r"(src|href)=\"(?!data:|run\.rrd)", page)

    written = {p: p.read_bytes() for p in (out / "records.jsonl", *(out / "clips").iterdir(), out / "table.md")}
    monkeypatch.setattr("wfm_sim.evals.rollouts.imagine_jobs", None)  # nothing is left to run
    run(out)
    assert {p: p.read_bytes() for p in written} == written


def test_success_corrected_for_the_judge_is_handed_in(way_model: Any, way_judge: Any, tmp_path: Path) -> None:
    class Measured:
        quality = {"confusion": {"tp": 90, "fn": 10, "tn": 80, "fp": 20}}  # noqa: RUF012

        def __call__(self, *asked: Any) -> Any:
            return way_judge(*asked)

    text = _run(way_model, Measured(), tmp_path / "run", twin=False, clips=0, episodes=5)
    zero, expert = (c.corrected for c in read_submission(tmp_path / "run" / "submission.json").cells[:2])
    assert zero is not None and expert is not None and (zero.value, expert.value) == (0.0, 1.0)
    assert zero.high is not None and 0.3 < zero.high < 1  # five episodes, and a judge that misses a tenth
    assert "corrected for the judge's error: unscored" not in text


def test_interrupted_and_resumed_it_gives_the_same_records(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"policies": ("expert", "expert-noise0.4"), "twin": False, "clips": 0, "num_envs": 3}
    run(tmp_path / "whole", **options)
    add = RunFolder.add
    for done in (1, 2):
        count = iter(range(10))

        def dies(self: RunFolder, outcome: Any, done: int = done, count: Any = count) -> None:
            add(self, outcome)
            if len(self.outcomes) > done:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunFolder, "add", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", **options)
        with (tmp_path / "broken" / "records.jsonl").open("a") as file:
            file.write('{"world": "mod')
    monkeypatch.setattr(RunFolder, "add", add)
    assert "resuming: 3 of 4 episodes are there" in run(tmp_path / "broken", **options)
    assert records(tmp_path / "broken") == records(tmp_path / "whole")
    assert (tmp_path / "broken" / "table.md").read_text() == (tmp_path / "whole" / "table.md").read_text()
    assert "unscored (run without the physics twin)" in (tmp_path / "whole" / "table.md").read_text()
    assert read_submission(tmp_path / "whole" / "submission.json").cells[0].true.value is None
    with pytest.raises(UserError, match="made with num_envs 3, not with num_envs 2"):
        run(tmp_path / "broken", **{**options, "num_envs": 2})


BAD = {
    "a policy": (["--policies", "expret"], "did you mean 'expert'"),
    "no policy": (["--policies", ","], "at least one policy"),
    "a policy twice": (["--policies", "zero,zero"], "named twice"),
    "a module": (["--policies", "not_there.at_all:make"], "no module 'not_there.at_all'"),
    "a task": (["--tasks", "pusch"], "did you mean 'push'"),
    "no episodes": (["--episodes", "0"], "at least 1"),
    "a model": (["--world-model", "nano-tabeltop"], "unknown world model"),
    "a judge": (["--judge", "nope"], "no judge at nope"),
    "no judge": (["--judge", "none"], "needs one, not none"),
    "a batch": (["--num-envs", "0"], "at least 1"),
    "a threshold": (["--trust-threshold", "2"], "[0, 1]"),
    "clips": (["--clips", "-1"], "negative"),
    "workers": (["--workers", "-1"], "negative"),
    "a seed": (["--seed", "-1"], "negative"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, wanted = BAD[name]
    assert command_line(["eval", "policy", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and wanted in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_ray_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert command_line(["eval", "policy", "--ray", "local", "--out", str(tmp_path / "run")]) == 2
    assert "wfm-sim[ray]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
