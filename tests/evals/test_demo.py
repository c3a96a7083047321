import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wfm_sim.errors import UserError
from wfm_sim.evals import demo


@pytest.fixture
def run(way_model: Any, way_judge: Any) -> Callable[..., str]:
    return partial(_run, way_model, way_judge)


def _run(model: Any, judge: Any, out: Path, **options: Any) -> str:
    console = Console(width=100, record=True, quiet=False, file=(out.parent / "log.txt").open("w"))
    demo.main(
        model, judge=judge, policies=("zero", "expert-noise0.4", "expert"), tasks=("push",), episodes=2,
        workers=0, out=out, console=console, **options,
    )  # fmt: skip
    return console.export_text()


def test_demo_writes_everything_and_twice_the_same_table(run: Any, tmp_path: Path) -> None:
    text = run(tmp_path / "one")
    assert {p.name for p in (tmp_path / "one").iterdir()} == {
        "episodes.jsonl", "summary.json", "table.md", "report.html", "demo.rrd"
    }  # fmt: skip
    for wanted in ("expert-noise0.4", "Spearman", "frames/s", "report.html", "gym.make_vec"):
        assert wanted in text
    run(tmp_path / "two", num_envs=3)
    assert (tmp_path / "one" / "table.md").read_text() == (tmp_path / "two" / "table.md").read_text()
    page = (tmp_path / "one" / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http" not in page.replace("http-equiv", "")
    assert page.count("<video") == 3 and "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert "nan" not in page.lower().split("<h2>the same episode")[0]


def test_demo_code_is_six_lines_of_python() -> None:
    assert len(demo.CODE.strip().splitlines()) == 6
    compile(demo.CODE, "demo", "exec")


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'push'"):
        demo.main(tasks=("pusch",), out=tmp_path)
    with pytest.raises(UserError, match="at least 1"):
        demo.main(num_envs=0, out=tmp_path)
