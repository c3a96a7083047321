"""`wfm-sim leaderboard`: a static site from run folders and submissions. No network, no server: open index.html.

    SITE/index.html            every evaluation: tables that sort, imagined against true success, trust
    SITE/entries/<id>.html     one evaluation: its numbers, clips, recordings, protocol, machine
    SITE/submissions, media    the store (`leaderboard_store`)

All text of a submission reaches the page through jinja's escaping; plots escape what they take. A content policy in
every page forbids whatever is not this site's own script, so that a mistake here would still run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

import wfm_sim
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.evals import leaderboard_view as view
from wfm_sim.evals.leaderboard_plot import reliability_plot, success_plot
from wfm_sim.evals.leaderboard_sources import read_sources
from wfm_sim.evals.leaderboard_store import MEDIA, SUBMISSIONS, board_title, check_site, put, read_store
from wfm_sim.evals.page_style import SWITCHED_STYLE
from wfm_sim.evals.report_plot import mark_svg
from wfm_sim.evals.submission import ALL, Submission

ENTRIES = "entries"
PLOTS = 12  # of each sort on the first page; the others are on the pages of their submissions
_FILES = Path(__file__).parent / "leaderboard_site"


def build(folders: Sequence[Path], site: Path, *, title: str | None = None) -> list[Submission]:
    """Put the submissions of `folders` into the site's store (one of the same id is replaced) and write its pages.

    Args:
        folders: Run folders, folders of such, or submission files; none only writes the pages again.
        site: A leaderboard, or an empty or new folder.
        title: Heading of the pages; None keeps what it was.

    Returns:
        All submissions on the board, by id.

    Raises:
        UserError: nothing to show, a wrong submission or missing media (nothing has been written then), or a `site`
            that holds something else.
    """
    site = Path(site)
    check_site(site)
    put(site, read_sources([Path(f) for f in folders]))
    submissions = read_store(site)
    if not submissions:
        raise UserError(f"there is nothing to show: name a run folder or a submission ({site} has none yet).")
    _write_pages(site, submissions, board_title(site, title))
    return submissions


def add(site: Path, submission: Path, *, replace: bool = False, title: str | None = None) -> list[Submission]:
    """Add one submission (a file, or the folder of one or of a run) and write the pages again.

    Returns:
        What was added.

    Raises:
        UserError: as `build`, and for an id that is on the board already unless `replace`.
    """
    site = Path(site)
    check_site(site)
    sources = read_sources([Path(submission)])
    known = {s.id for s in read_store(site)}  # what is there must be sound, too
    for source in sources:
        if source.submission.id in known and not replace:
            raise UserError(f"{source.submission.id!r} is on the board already; --replace puts this one in its place.")
    put(site, sources)
    _write_pages(site, read_store(site), board_title(site, title))
    return [source.submission for source in sources]


def _write_pages(site: Path, submissions: Sequence[Submission], title: str) -> None:
    _write(site / "index.html", index_html(submissions, title=title))
    for submission in submissions:
        _write(site / ENTRIES / f"{submission.id}.html", entry_html(submission, title=title))
    for path in (site / ENTRIES).glob("*.html"):
        if path.stem not in {s.id for s in submissions}:
            path.unlink()


def index_html(submissions: Sequence[Submission], *, title: str) -> str:
    """The first page."""
    sections: list[dict[str, Any]] = []
    for kind, (name, question) in view.KINDS.items():
        chosen = [s for s in submissions if s.kind == kind]
        if not chosen:
            continue
        head = view.columns(chosen)
        newest = sorted(chosen, key=lambda s: s.date, reverse=True)
        marks = view.marks(chosen)
        policies = [row for s in chosen for row in view.policy_rows(s, marks)]
        sections.append(
            {
                "kind": kind,
                "name": name,
                "question": question,
                "columns": head,
                "rows": view.rows(chosen, head),
                "policies": sorted(policies, key=_best_first),
                "extra": _extra(policies),
                "many": len(chosen) > 1,
                "plots": [(s, _success(s, marks)) for s in newest if s.cells][:PLOTS],
                "trust": [(s, Markup(reliability_plot(s.trust))) for s in newest if s.trust is not None][:PLOTS],
            }
        )
    tasks = dict.fromkeys(c.task for s in submissions for c in s.cells if c.task != ALL)
    return _render(
        "index.html",
        title=title,
        sections=sections,
        tasks=list(tasks),
        entries=len(submissions),
        models=len({s.world_model.name for s in submissions}),
        newest=max(s.date for s in submissions)[:10],
    )


def entry_html(submission: Submission, *, title: str) -> str:
    """The page of one submission."""
    marks = view.marks([submission])
    rows = view.policy_rows(submission, marks)
    return _render(
        "entry.html",
        title=title,
        s=submission,
        kind=view.KINDS[submission.kind],
        metrics=[
            (m, view.show_metric(m), {k: view.show(v, m.unit) for k, v in m.baselines.items()})
            for m in submission.metrics
        ],
        baselines=list(dict.fromkeys(k for m in submission.metrics for k in m.baselines)),
        policies=rows,
        tasks=list(dict.fromkeys(c.task for c in submission.cells if c.task != ALL)),
        extra=_extra(rows),
        success=_success(submission, marks) if submission.cells else "",
        trust=Markup(reliability_plot(submission.trust)) if submission.trust else "",
    )


def _success(submission: Submission, marks: Mapping[str, int]) -> Markup:
    truth = submission.protocol.truth
    return Markup(success_plot(view.pooled_cells(submission), submission.cells, truth=truth, marks=marks))


def _extra(rows: Sequence[view.PolicyRow]) -> list[str]:
    """Which of the optional columns of policies say something."""
    return [name for name in ("corrected", "untrusted") if any(getattr(row, name) for row in rows)]


def _best_first(row: view.PolicyRow) -> tuple[bool, float]:
    return row.imagined.sort is None, -(row.imagined.sort or 0.0)


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_FILES / "leaderboard.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    templates.globals |= {
        "style": Markup(SWITCHED_STYLE + (_FILES / "leaderboard.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": digest,
        "mark": lambda index: Markup(mark_svg(index)),
        "media": lambda id, path: f"{MEDIA}/{id}/{quote(path)}",
        "submissions": SUBMISSIONS,
        "entry_folder": ENTRIES,
        "rate": lambda estimate: view.show(estimate, "rate", digits=0),
        "ALL": ALL,
        "version": wfm_sim.__version__,
    }
    return templates


def _render(name: str, **values: Any) -> str:
    numbers = itertools.count(1)  # ids of popovers
    return str(_templates().get_template(name).render(uid=lambda: next(numbers), **values))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
