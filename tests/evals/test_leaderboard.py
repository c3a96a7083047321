"""The leaderboard: from run folders and submissions to pages; hostile text stays text."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from wfm_sim import cli
from wfm_sim.errors import UserError
from wfm_sim.evals import leaderboard_view as view
from wfm_sim.evals.comparison_summary import summarise
from wfm_sim.evals.leaderboard import add, build
from wfm_sim.evals.leaderboard_sources import read_sources
from wfm_sim.evals.policy_comparison import MODEL, TWIN, Job, Outcome
from wfm_sim.evals.statistics import Estimate, wilson
from wfm_sim.evals.submission import (
    ALL,
    ClipLink,
    Metric,
    PolicyCell,
    Protocol,
    RecordingLink,
    Subject,
    Submission,
    Submitter,
    Trust,
    TrustBin,
    read_submission,
    slug,
    write_submission,
)

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """What a page holds; asserts that its tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []
        ids = [a["id"] for _, a in self.tags if "id" in a]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def submission(id: str = "one", *, model: str = "model-a", text: str = "plain", hits: int = 9) -> Submission:
    """Two policies on two tasks; `text` stands in every free text."""
    worlds = ((wilson(hits, 10), wilson(10, 10)), (wilson(1, 10), Estimate.none(f"{text} away")))
    cells = [PolicyCell(p, t, *w) for p, w in zip((f"{text} a", "b"), worlds, strict=True) for t in ("push", "pick")]
    return Submission(
        id=id,
        kind="policy",
        title=text,
        world_model=Subject(model, text, licence=text, url="https://example.org/?a=1&b=%22"),
        metrics=(
            Metric("pearson", Estimate(hits / 10, 0.1, 0.95, 4), "higher", text, "correlation", gate=0.85),
            Metric("mmrv", Estimate.none(f"{text} why"), "lower", "MMRV", "rate", baselines={text: Estimate(0.5, n=1)}),
        ),
        cells=tuple(cells),
        trust=Trust((TrustBin(0, 1, 0.5, wilson(5, 9)),), text),
        protocol=Protocol(text, 40, text, text, text, text, (text,)),
        machine={text: text},
        versions={text: text},
        clips=(ClipLink("clips/a 1.mp4", beside="clips/b.mp4", caption=text, policy=text, task="push"),),
        recordings=(RecordingLink("run.rrd", text),),
        date="2026-01-31",
        submitter=Submitter(text, "https://example.org"),
        notes=text,
    )


def folder(path: Path, given: Submission) -> Path:
    """`given` and its media in a folder."""
    write_submission(path, given)
    for name in given.media():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(name.encode())
    return path


def read(site: Path, name: str = "index.html") -> str:
    return (site / name).read_text()


@pytest.fixture
def demo_run(tmp_path: Path) -> Path:
    """A run folder as the demo writes it."""
    outcomes = [
        Outcome(world, Job(policy, task, seed), success=seed < limit + (world == TWIN), steps=3, reward=0.0)
        for world in (MODEL, TWIN)
        for limit, policy in enumerate(("zero", "random", "noisy", "expert"))
        for task in ("push", "pick")
        for seed in range(8)
    ]
    path = tmp_path / "runs" / "demo"
    path.mkdir(parents=True)
    about = {"world model": "nano-tabletop", "version": "wfm-sim 0.1.0", "machine": "x", "scenes": "8"}
    summary = {**summarise(outcomes).to_json(), "about": about, "frames_per_second": 120.5}
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "demo.rrd").write_bytes(b"rrd")
    return path


@pytest.fixture
def nano_run(tmp_path: Path) -> Path:
    """A run folder as `eval nano` writes it, with one metric of each sort."""
    path = tmp_path / "runs" / "nano"
    path.mkdir(parents=True)
    estimates = {"model": wilson(8, 10).to_json(), "repeat": wilson(5, 10).to_json()}
    gates = {"agreement": {"limit": 0.9, "value": 0.8, "met": False}}
    error = {"model": {"value": 2.0, "low": 2.0 + 1e-17, "high": 3.0, "n": 10}}
    summary = {
        "horizon": 24,
        "episodes": 10,
        "gates": gates,
        "headline": {"agreement": estimates, "moved_error": error},
    }
    (path / "summary.json").write_text(json.dumps({**summary, "model": "nano-tabletop", "judge": None}))
    return path


# From folders to submissions


def test_a_demo_run_becomes_a_submission(demo_run: Path) -> None:
    (source,) = read_sources([demo_run])
    found = source.submission
    assert found.id == "policy-nano-tabletop-demo" and found.kind == "policy"
    assert found.world_model.name == "nano-tabletop" and found.versions == {"wfm-sim": "0.1.0"}
    assert {(c.policy, c.task) for c in found.cells} == {
        (p, t) for p in ("zero", "random", "noisy", "expert") for t in ("push", "pick", ALL)
    }
    expert = next(c for c in found.cells if c.policy == "expert" and c.task == ALL)
    assert (expert.imagined.value, expert.true.value, expert.imagined.n) == (3 / 8, 4 / 8, 16)
    metrics = {m.name: m.estimate for m in found.metrics}
    assert metrics["pearson"].value == pytest.approx(1) and metrics["mean_gap"].value == pytest.approx(1 / 8)
    assert metrics["frames_per_second"].value == 120.5
    assert found.media() == ["demo.rrd"]


def test_a_nano_run_becomes_a_submission(nano_run: Path) -> None:
    (source,) = read_sources([nano_run])
    by = {m.name: m for m in source.submission.metrics}
    assert list(by) == ["moved_error", "agreement"]
    assert by["agreement"].gate == 0.9 and by["agreement"].better == "higher" and by["agreement"].unit == "rate"
    assert by["agreement"].baselines["repeat the first frame"].value == 0.5
    assert by["moved_error"].unit == "px" and by["moved_error"].better == "lower"
    assert view.show_metric(by["agreement"]).gate == "not met"


def test_a_trust_run_becomes_a_submission_with_its_reliability(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "trust"
    path.mkdir(parents=True)
    value = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 200}
    right = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 31}
    summary = {
        "model": "nano-tabletop",
        "episodes": 200,
        "horizon": 5,
        "headline": {"auroc_ahead": value, "ece_now": {**value, "value": 0.75}},
        "gates": {"auroc_ahead": {"limit": 0.9, "side": "at least", "value": 0.8, "met": False}},
        "reliability": {"now": [{"low": 0.0, "high": 0.5, "predicted": 0.3, "observed": right, "n": 64}]},
        "collapse": {},
        "exploit": {"untrusted": {"value": 0.5, "low": 0.2, "high": 0.8, "n": 8}},
        "tolerance": {"meaning": "within 5 px"},
        "protocol": {"steps": 24, "first_seed": 10},
    }
    (path / "summary.json").write_text(json.dumps(summary))
    (source,) = read_sources([path])
    found = source.submission
    assert found.kind == "trust" and found.id == "trust-nano-tabletop"
    assert {m.name: (m.better, m.gate) for m in found.metrics} == {
        "auroc_ahead": ("higher", 0.9),
        "ece_now": ("lower", None),
        "exploit_untrusted": ("higher", None),
    }
    assert found.trust is not None and found.trust.meaning == "within 5 px"
    assert found.trust.bins[0].observed.value == 0.4 and found.trust.bins[0].predicted == 0.3
    build([path], tmp_path / "site")
    assert "reliability diagram" in (tmp_path / "site" / "index.html").read_text()


def test_folders_of_runs_are_searched(demo_run: Path, nano_run: Path, tmp_path: Path) -> None:
    assert len(read_sources([tmp_path])) == 2
    assert len(read_sources([tmp_path, demo_run])) == 2  # the same folder twice is one
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no submission\.json and no run"):
        read_sources([tmp_path / "empty"])
    with pytest.raises(UserError, match="no such file or folder"):
        read_sources([tmp_path / "none"])


def test_a_broken_summary_is_refused(demo_run: Path) -> None:
    summary = json.loads((demo_run / "summary.json").read_text())
    summary["cells"][0].pop("model")
    (demo_run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"summary.json: not the summary of a run \(KeyError\('model'\)\)"):
        read_sources([demo_run])
    summary["cells"][0]["model"] = {"value": 7.0, "n": 1}
    (demo_run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"imagined.value: 7 is outside \[0, 1\]"):
        read_sources([demo_run])


def test_two_folders_of_one_id_are_refused(tmp_path: Path) -> None:
    folders = [folder(tmp_path / name, submission()) for name in ("a", "b")]
    with pytest.raises(UserError, match="have the same id 'one'"):
        read_sources(folders)


def test_slug() -> None:
    assert slug("Policy My Lab/wm v2.1!") == "policy-my-lab-wm-v2.1"
    assert slug("../..") == "run" and len(slug("x" * 200)) == 80


# Numbers


@pytest.mark.parametrize(
    ("estimate", "unit", "text", "interval"),
    [
        (Estimate(0.5, 0.25, 0.75, 4), "rate", "50.0", "[25.0, 75.0]"),
        (Estimate(0.9333, 0.8, 0.99, 4), "correlation", "0.933", "[0.800, 0.990]"),
        (Estimate(128.4, n=1), "frames/s", "128", ""),
        (Estimate(4.305, 3.39, 5.32, 9), "px", "4.30", "[3.39, 5.32]"),
        (Estimate(-0.00001, -0.1, 0.1, 9), "", "0.0000", "[-0.1000, 0.1000]"),
        (Estimate(12345.6, n=2), "", "12,346", ""),
        (Estimate.none("broken"), "px", "unscored", ""),
    ],
)
def test_numbers_as_text(estimate: Estimate, unit: str, text: str, interval: str) -> None:
    shown = view.show(estimate, unit)
    assert (shown.text, shown.interval, shown.sort) == (text, interval, estimate.value)


@pytest.mark.parametrize(
    ("value", "better", "gate"),
    [(0.9, "higher", "met"), (0.89, "higher", "not met"), (0.9, "lower", "not met"), (0.89, "lower", "met")],
)
def test_gates(value: float, better: Any, gate: str) -> None:
    assert view.show_metric(Metric("m", Estimate(value, n=1), better, gate=0.9)).gate == gate


def test_tasks_are_pooled_with_their_episodes() -> None:
    given = submission(hits=9)
    first, second = view.pooled_cells(given)
    assert first.imagined == wilson(18, 20) and first.true == wilson(20, 20)
    assert second.true.value is None and "away" in second.true.unscored
    own = PolicyCell("b", ALL, Estimate(0.3, 0.2, 0.4, 20), wilson(1, 20))
    assert view.pooled_cells(Submission(**{**vars(given), "cells": (*given.cells, own)}))[1] is own


def test_corrected_rates_are_pooled_without_an_invented_interval() -> None:
    given = submission()
    cells = [PolicyCell("a", t, Estimate(v, 0.1, 0.9, 10), wilson(5, 10)) for t, v in (("push", 0.333), ("pick", 0.5))]
    (pooled,) = view.pooled_cells(Submission(**{**vars(given), "cells": tuple(cells)}))
    assert pooled.imagined.value == pytest.approx(0.4165) and pooled.imagined.low is None and pooled.imagined.n == 20


def test_a_column_holds_only_what_means_the_same() -> None:
    one = submission("one")
    other = Submission(**{**vars(submission("two")), "metrics": (Metric("pearson", Estimate(3.0, n=1), "lower"),)})
    head = view.columns([one, other])
    assert [(c.name, c.unit, c.better) for c in head] == [
        ("pearson", "correlation", "higher"),
        ("mmrv", "rate", "lower"),
        ("pearson", "", "lower"),
    ]
    assert [r.submission.id for r in view.rows([other, one], head)] == ["one", "two"]
    assert view.rows([other, one], head)[1].cells[0].text == "–"


# Pages


def test_the_site(tmp_path: Path, demo_run: Path, nano_run: Path) -> None:
    site = tmp_path / "site"
    build([folder(tmp_path / "sub", submission(model="model-b")), demo_run.parent], site)
    index = Page(read(site))
    assert [s["data-kind"] for s in index.all("section")] == ["policy", "nano"]
    assert "3 evaluations of 2 world models" in index.text
    links = [a["href"] for a in index.all("a") if a["href"]]
    assert "entries/one.html" in links and "media/policy-nano-tabletop-demo/demo.rrd" in links
    for link in links:
        assert (site / link.split("#")[0]).is_file(), link
    reasons = [b["title"] for b in index.all("button") if b.get("class") == "why"]
    assert "plain why" in reasons and "a task is unscored: plain away" in reasons
    assert {row["data-task"] for row in index.all("tr") if "data-task" in row} == {ALL, "push", "pick"}
    assert all(("hidden" in row) == (row["data-task"] != ALL) for row in index.all("tr") if "data-task" in row)
    sorts = [th["aria-sort"] for th in index.all("th") if "aria-sort" in th]
    assert sorts.count("descending") == 2 and sorts.count("ascending") == 1  # one per table
    entry = Page(read(site, "entries/one.html"))
    videos = [v["src"] for v in entry.all("video")]
    assert videos == ["../media/one/clips/a%201.mp4", "../media/one/clips/b.mp4"]
    assert all(v["preload"] == "none" for v in entry.all("video"))
    assert (site / "media/one/clips/a 1.mp4").read_bytes() == b"clips/a 1.mp4"
    for link in (a["href"] for a in entry.all("a") if not (a["href"] or "").startswith("https:")):
        assert link and (site / "entries" / link.split("#")[0]).is_file(), link


def test_pages_need_no_network(tmp_path: Path) -> None:
    site = tmp_path / "site"
    build([folder(tmp_path / "sub", submission())], site)
    for name in ("index.html", "entries/one.html"):
        text = read(site, name)
        assert "@import" not in text and not re.search(r"url\(", text)
        for tag, attributes in Page(text).tags:
            for attribute in ("src", "poster", "srcset"):
                assert not re.match(r"\w+:|//", attributes.get(attribute) or ""), (tag, attributes)
            if tag == "link":
                assert attributes["href"] == "data:,"
            if tag == "script":
                assert "src" not in attributes


HOSTILE = [
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "</title></style></script><svg onload=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "<!-- --> & &amp; \u202e\u0000",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build([folder(tmp_path / "sub", submission(model=text, text=text))], site, title=text)
    for name in ("index.html", "entries/one.html"):
        page = Page(read(site, name))
        assert len(page.all("script")) == 1 and not page.all("img")
        for tag, attributes in page.tags:
            assert not [a for a in attributes if a.startswith("on")], (tag, attributes)
            link = attributes.get("href") or ""
            assert re.match(r"(https://example\.org|data:,$|\.\./|entries/|media/)", link) or not link, link
        assert text.replace("\u0000", "") in page.text.replace("\u0000", "").replace("\ufffd", "")
        assert "49" not in page.text.replace("[", " ")
    policy = re.search(r"Content-Security-Policy\" content=\"([^\"]*)", read(site))
    assert policy and "default-src 'none'" in policy[1] and "script-src 'sha256-" in policy[1]


# The store


def test_building_twice_changes_nothing_and_replaces_runs(tmp_path: Path) -> None:
    source, site = folder(tmp_path / "sub", submission()), tmp_path / "site"
    build([source], site, title="our board")
    before = {p: p.read_bytes() for p in site.rglob("*") if p.is_file()}
    build([], site)  # the heading was kept
    assert {p: p.read_bytes() for p in site.rglob("*") if p.is_file()} == before
    changed = Submission(**{**vars(submission(hits=5)), "clips": ()})
    build([folder(source, changed)], site)
    assert read_submission(site / "submissions/one.json") == changed
    assert not (site / "media/one/clips").exists() and (site / "media/one/run.rrd").is_file()


def test_what_was_deleted_leaves_the_board(tmp_path: Path) -> None:
    site = tmp_path / "site"
    build([folder(tmp_path / i, submission(i)) for i in ("one", "two")], site)
    (site / "submissions/one.json").unlink()
    assert [s.id for s in build([], site)] == ["two"]
    assert not (site / "entries/one.html").exists() and "entries/one.html" not in read(site)


def test_pages_never_land_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    source = folder(tmp_path / "sub", submission())
    for call in (lambda: build([source], tmp_path / "home"), lambda: add(tmp_path / "home", source)):
        with pytest.raises(UserError, match="holds other files"):
            call()
    with pytest.raises(UserError, match="is a file"):
        build([source], tmp_path / "home" / "letter.txt")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("fault", ["missing", "link", "large"])
def test_media_are_checked_before_anything_is_written(fault: str, tmp_path: Path, monkeypatch: Any) -> None:
    source, site = folder(tmp_path / "sub", submission()), tmp_path / "site"
    path = source / "run.rrd"
    if fault == "missing":
        path.unlink()
    elif fault == "link":
        (tmp_path / "secret.rrd").write_bytes(b"secret")
        path.unlink()
        path.symlink_to(tmp_path / "secret.rrd")
    else:
        monkeypatch.setattr("wfm_sim.evals.leaderboard_store.MAX_FILE_BYTES", 3)
    expected = {"missing": "is not there", "link": "leads out of the submission's folder", "large": "may have"}[fault]
    with pytest.raises(UserError, match=expected):
        build([source], site)
    assert not site.exists()


def test_a_spoilt_store_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    build([folder(tmp_path / "sub", submission())], site)
    shutil.copy(site / "submissions/one.json", site / "submissions/two.json")
    with pytest.raises(UserError, match=r"two.json: the file's name and the id 'one' differ"):
        build([], site)


# The command line


def test_the_command_line(tmp_path: Path, demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    assert cli.main(["leaderboard", str(demo_run), "-o", str(site)]) == 0
    assert "1 evaluation in" in capsys.readouterr().out
    assert cli.main(["leaderboard", "build", str(demo_run), "--out", str(site), "--title", "our board"]) == 0
    assert "<h1>our board</h1>" in read(site)
    file = folder(tmp_path / "sub", submission()) / "submission.json"
    assert cli.main(["leaderboard", "add", str(site), str(file)]) == 0
    assert "one: added" in capsys.readouterr().out and "entries/one.html" in read(site)
    assert "<h1>our board</h1>" in read(site)
    before = read(site)
    assert cli.main(["leaderboard", "add", str(site), str(file)]) == 2
    assert "'one' is on the board already; --replace" in capsys.readouterr().err
    write_submission(tmp_path / "sub", submission(hits=3))
    assert read(site) == before
    assert cli.main(["leaderboard", "add", str(site), str(file), "--replace"]) == 0
    assert read(site) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leaderboard", "none", "-o", "site"], "none: no such file or folder."),
        (["leaderboard", "-o", "site"], "there is nothing to show"),
        (["leaderboard", "add", "site", "wrong.json"], "wrong.json: $: the field 'schema' is missing."),
        (["leaderboard", "add", "site", "wrong.txt"], "wrong.txt: not valid JSON"),
        (["leaderboard", "wrong.json"], "Missing option"),
    ],
)
def test_wrong_use_says_why_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.json").write_text("{}")
    (tmp_path / "wrong.txt").write_text("hello")
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err and said.out == ""
    assert not (tmp_path / "site").exists()
