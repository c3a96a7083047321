"""The leaderboard in a real browser: headless Chromium, driven over its debugging pipe. Skipped where there is none."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wfm_sim.evals.clips import mp4_bytes
from wfm_sim.evals.leaderboard import build
from wfm_sim.evals.statistics import Estimate, wilson
from wfm_sim.evals.submission import (
    ClipLink,
    Metric,
    PolicyCell,
    Protocol,
    Subject,
    Submission,
    Submitter,
    Trust,
    TrustBin,
    write_submission,
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")


class Chromium:
    """One page of a headless browser. `messages` are console entries and exceptions, `requests` the addresses asked."""

    def __init__(self, program: str, profile: Path) -> None:
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write)]  # clear of 3 and 4, the browser's pipe
        command = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-sandbox"]
        command += ["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
        command += ["--hide-scrollbars", "--autoplay-policy=no-user-gesture-required", "about:blank"]
        self._process = subprocess.Popen(
            command,
            preexec_fn=lambda: [os.dup2(end, 3 + i) for i, end in enumerate(ends)],
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (read, write, *ends):
            os.close(end)
        self._count, self._buffer, self._session = 0, b"", None
        self.messages: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, fragment: str = "") -> None:
        for url in ("about:blank", path.resolve().as_uri() + fragment):  # a new fragment alone would load nothing
            self.messages.clear()
            self.requests.clear()
            self._loaded = False
            self.call("Page.navigate", url=url)
            while not self._loaded:
                self._note(self._next())

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 900, *, phone: bool = False, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str) -> None:
        code = {"Enter": 13, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center', inline: 'center'}})")
        x, y = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({found}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        os.close(self._out)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def _next(self, timeout: float = 60) -> dict[str, Any]:
        end = time.monotonic() + timeout
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, given = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(json.dumps(given["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(given["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(given["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])


POLICIES = tuple(f"policy-{i:02d}" for i in range(12))
TASKS = ("push", "pick", "place")
HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


def board(folder: Path) -> Path:
    """12 policies x 3 tasks, two world models and a hostile third one, and an eval of another kind."""
    rng = np.random.default_rng(0)
    sources = []
    for k, model in enumerate(("model-a", "model-b", HOSTILE)):
        source = folder / f"run{k}"
        (source / "clips").mkdir(parents=True)
        frames = rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
        (source / "clips" / "a.mp4").write_bytes(mp4_bytes(frames, 5.0))
        cells = [
            PolicyCell(p, t, wilson(int(h), 40), wilson(int(rng.integers(41)), 40))
            for p, h in zip(POLICIES, rng.permutation(12) * 3, strict=True)
            for t in TASKS
        ]
        unscored = Estimate.none(f"no trust in {model}")
        trust = Metric("auroc", Estimate(0.9, 0.8, 0.95, 9) if k == 0 else unscored, "higher")
        write_submission(
            source,
            Submission(
                id=f"run-{k}",
                kind="policy",
                world_model=Subject(model),
                metrics=(Metric("pearson", Estimate(0.5 + 0.1 * k, n=12), "higher", unit="correlation"), trust),
                cells=tuple(cells),
                protocol=Protocol("common seeds", 1440),
                trust=Trust((TrustBin(0, 0.5, 0.3, wilson(3, 9)), TrustBin(0.5, 1, 0.8, wilson(7, 9)))),
                clips=(ClipLink("clips/a.mp4", task="push"),),
                date="2026-01-31",
                submitter=Submitter(model),
            ),
        )
        sources.append(source)
    video = Submission(
        id="video-1",
        kind="video",
        world_model=Subject("model-a"),
        metrics=(Metric("psnr", Estimate(20, n=3), "higher"),),
        protocol=Protocol("p", 3),
        date="2026-01-30",
        submitter=Submitter("lab"),
    )
    write_submission(folder / "video", video)
    build([*sources, folder / "video"], folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return board(tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser ({', '.join(BROWSERS)})")
    page = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def page(browser: Chromium) -> Iterator[Chromium]:
    """Afterwards: nothing was said in the console, nothing was asked of a network, nothing hostile ran."""
    browser.resize(1280)
    yield browser
    assert browser.messages == []
    assert not [r for r in browser.requests if not r.startswith(("file:", "data:image/"))]
    assert browser.run("document.title") != "broken" and browser.run("document.images.length") == 0


def column(page: Chromium, table: str, index: int) -> list[str]:
    """Texts of the shown cells of a column."""
    rows = f"[...document.querySelectorAll('{table} tbody tr')].filter(r => !r.hidden)"
    texts: list[str] = page.run(f"{rows}.map(r => r.cells[{index}].querySelector('.number, .why, a')?.innerText ?? '')")
    return texts


METRICS, POLICY_TABLE = "section[data-kind=policy] table:not(.by-task)", "table.by-task"


def test_a_click_sorts_and_a_second_one_turns_it_round(page: Chromium, site: Path) -> None:
    page.open(site / "index.html")
    header = f"{METRICS} thead th:nth-child(2)"
    state = f"document.querySelector({json.dumps(header)}).ariaSort"
    assert column(page, METRICS, 1) == ["0.700", "0.600", "0.500"] and page.run(state) == "descending"
    page.click(f"{header} button")
    assert column(page, METRICS, 1) == ["0.500", "0.600", "0.700"] and page.run(state) == "ascending"
    page.click(f"{METRICS} thead th:nth-child(1) button")
    assert column(page, METRICS, 0) == [HOSTILE, "model-a", "model-b"] and page.run(state) == "none"
    imagined = [int(v) for v in column(page, POLICY_TABLE, 3)]
    assert imagined == sorted(imagined, reverse=True) and len(imagined) == 36
    page.click(f"{POLICY_TABLE} thead th:nth-child(3) button")
    true = [int(v) for v in column(page, POLICY_TABLE, 2)]
    assert true == sorted(true, reverse=True) and len(set(true)) > 5


def test_unscored_stays_last_either_way(page: Chromium, site: Path) -> None:
    page.open(site / "index.html")
    for _ in range(2):
        page.click(f"{METRICS} thead th:nth-child(3) button")
        assert column(page, METRICS, 2) == ["0.90", "unscored", "unscored"]


def test_the_keyboard_sorts(page: Chromium, site: Path) -> None:
    page.open(site / "index.html")
    page.run(f"document.querySelector('{METRICS} thead th:nth-child(1) button').focus()")
    page.press("Tab")
    assert page.run("document.activeElement.innerText") == "pearson"
    page.press("Enter")
    assert column(page, METRICS, 1) == ["0.500", "0.600", "0.700"]


def choose(page: Chromium, name: str, value: str) -> None:
    field = f"document.querySelector('#filters').elements.{name}"
    page.run(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def test_filters(page: Chromium, site: Path) -> None:
    page.open(site / "index.html")
    large = "[...document.querySelectorAll('.point.large')].filter(p => p.getBoundingClientRect().width).length"
    assert page.run(large) == 36
    choose(page, "task", "pick")
    tasks = "[...document.querySelectorAll('.by-task tbody tr')].filter(r => !r.hidden).map(r => r.dataset.task)"
    assert page.run(tasks) == ["pick"] * 36 and page.run(large) == 36
    assert not page.run("[...document.querySelectorAll('.point.small')].some(p => p.getBoundingClientRect().width)")
    choose(page, "name", "Policy-03")
    assert page.run(tasks) == ["pick"] * 3
    choose(page, "kind", "video")
    shown = "[...document.querySelectorAll('section')].filter(s => s.offsetHeight).map(s => s.dataset.kind)"
    assert page.run(shown) == ["video"]
    page.open(site / "index.html", "#kind=policy&task=push&name=model-b")  # a view that was passed on
    assert page.run(shown) == ["policy"] and page.run(tasks) == ["push"] * 12
    page.run("new Promise(done => { addEventListener('hashchange', done); location.hash = 'kind=video'; })")
    assert page.run(shown) == ["video"]


def test_why_it_is_unscored_opens_beside_it(page: Chromium, site: Path) -> None:
    page.resize(390, phone=True)
    page.open(site / "index.html")
    why = f"{METRICS} tbody tr:first-child .why"
    assert page.run("document.querySelector('[popover]:popover-open')") is None
    page.click(why)
    assert page.run("document.querySelector(':popover-open').innerText") == f"unscored: no trust in {HOSTILE}"
    page.run("new Promise(done => setTimeout(done, 100))")
    inside = "(b => b.left >= 0 && b.right <= innerWidth && b.top >= 0)"
    assert page.run(f"{inside}(document.querySelector(':popover-open').getBoundingClientRect())")


@pytest.mark.parametrize("name", ["index.html", "entries/run-0.html", "entries/run-2.html", "entries/video-1.html"])
def test_a_phone_never_scrolls_sideways(name: str, page: Chromium, site: Path) -> None:
    for width in (390, 320):
        page.resize(width, phone=True)
        page.open(site / name)
        assert page.run("document.documentElement.scrollWidth") <= width


def test_dark_light_and_the_switch(page: Chromium, site: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    colours = {}
    for dark in (False, True):
        page.resize(1280, dark=dark)
        page.open(site / "index.html")
        page.run("try { localStorage.clear() } catch {}")
        page.open(site / "index.html")
        seen = [page.run(colour)]
        for _ in range(3):
            page.click("#theme")
            seen.append(page.run(colour))
        colours[dark] = seen
    light, night = colours[False][0], colours[True][0]
    assert light != night
    assert colours == {False: [light, night, light, light], True: [night, night, light, night]}


def test_clips_play_in_view_and_stop_at_a_click(page: Chromium, site: Path) -> None:
    page.open(site / "entries" / "run-0.html")
    assert page.run("document.querySelector('video').readyState") == 0  # below the fold: not loaded
    page.run("document.querySelector('video').scrollIntoView({block: 'center'})")
    playing = (
        "new Promise(done => { const v = document.querySelector('video'), t = setInterval(() => {"
        " if (v.currentTime > 0) { clearInterval(t); done(true); } }, 50);"
        " setTimeout(() => done(v.error?.message), 9000) })"
    )
    assert page.run(playing) is True
    page.click("video")
    assert page.run("document.querySelector('video').paused")
