"""What people read of an evaluation run: table.md, the terminal's table, and report.html, which needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from wfm_sim.evals.comparison_summary import ALL, Cell
from wfm_sim.evals.page_style import STYLE
from wfm_sim.evals.policy_run_clips import RECORDING, ClipEntry
from wfm_sim.evals.policy_run_summary import PolicyRow, RunSummary, lines
from wfm_sim.evals.report_plot import agreement_plot, mark_svg
from wfm_sim.evals.statistics import Estimate

# A table of up to eight columns may be scrolled sideways on a phone, under names that break and stay in sight.
_WIDE = """.wide { overflow-x:auto; }
@media (max-width: 760px) { .wide td:first-child { overflow-wrap:anywhere; white-space:normal; min-width:6.5em;
  max-width:8em; position:sticky; left:0; background:var(--card); } }
"""


def columns(summary: RunSummary) -> list[str]:
    """The names of the table's columns after task and policy: those that there is something to say in."""
    names = ["imagined, %", "corrected, %"]
    if summary.comparison is not None:
        names = ["twin, %", *names, "gap"]
    if summary.left_out is not None:
        names += ["left out", "trusted, %"]
    return names


def cells(row: PolicyRow, names: Sequence[str]) -> list[str]:
    """One line of the table, without task and policy."""
    texts = {
        "twin, %": _rate(row.twin),
        "imagined, %": _rate(row.imagined),
        "corrected, %": _rate(row.corrected),
        "gap": "" if row.gap is None else f"{100 * row.gap:+.0f}",
        "left out": "" if row.left_out is None else str(row.left_out),
        "trusted, %": _rate(row.trusted),
    }
    return [texts[name] for name in names]


def markdown(summary: RunSummary) -> str:
    """table.md: the same for the same records."""
    names = columns(summary)
    text = [f"| task | policy | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for row in [*summary.rows, *summary.policies]:
        text.append(f"| {' | '.join([row.task, row.policy, *cells(row, names)])} |")
    return "\n".join([*text, "", *(f"- {line}" for line in lines(summary)), ""])


def terminal_table(summary: RunSummary) -> Table:
    """The same for a terminal."""
    table = Table(title="success, % [95 % interval]", title_justify="left")
    names = columns(summary)
    for i, name in enumerate(["task", "policy", *names]):
        table.add_column(name, justify="left" if i < 2 else "right", overflow="fold")
    task = None
    for row in [*summary.rows, *summary.policies]:
        if task not in (None, row.task):
            table.add_section()
        table.add_row(row.task if row.task != task else "", row.policy, *cells(row, names))
        task = row.task
    return table


def page(summary: RunSummary, clips: Sequence[ClipEntry], folder: Path, *, model: str, about: Mapping[str, str]) -> str:
    """report.html.

    Args:
        summary: Of the run.
        clips: In `folder`, whose files go into the page.
        folder: The run folder.
        model: The world model's name.
        about: What was run, name -> value, for the foot of the page.
    """
    twin = summary.comparison is not None
    episodes = sum(row.imagined.n for row in summary.policies)
    title = f"{len(summary.policies)} policies in {model}" + (" and in its physics twin" if twin else "")
    lead = (
        f"{episodes} episodes were imagined by <b>{_e(model)}</b>, a world model that saw only the first picture and "
        "the actions; a network judged success from the imagined pixels."
    )
    if twin:
        lead += " The same policies ran from the same first pictures in physics (MuJoCo): that is the truth here."
    body = [f"<h1>{_e(title)}</h1>", f'<p class="lead">{lead}</p>', _tiles(summary)]
    if summary.comparison is not None:
        body += [
            f'<h2>Success, imagined against true</h2><div class="card">{_plot(summary)}'
            '<p class="note">Large marks: all tasks of one policy, with 95 % intervals in both directions. Small '
            "marks: one task each. On the dashed line the model is right.</p></div>",
        ]
    body += [f'<h2>Success by policy and task</h2><div class="card wide">{_table(summary)}</div>']
    body += ["<ul>", *(f"<li>{_e(line)}</li>" for line in lines(summary)), "</ul>"]
    body.append(
        '<p class="note">Brackets are 95 % intervals: Wilson for shares, bootstrap over policies and episodes for the '
        "rest.</p>"
    )
    if clips:
        body += [
            f"<h2>{'The same episode, twice' if twin else 'Imagined episodes'}</h2>",
            '<p class="note">Disagreements first, where there are any. Click or tap a clip to pause it. The same in '
            f'the rerun viewer: <a href="{RECORDING}">{RECORDING}</a>.</p><div class="clips">',
            *(_figure(clip, folder) for clip in clips),
            "</div>",
        ]
    body += ["<h2>What was run</h2><dl>", *(f"<dt>{_e(k)}</dt><dd>{_e(v)}</dd>" for k, v in about.items()), "</dl>"]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>wfm-sim: {_e(title)}</title><style>{STYLE}{_WIDE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{"".join(body)}\n</main></body></html>\n'


def _plot(summary: RunSummary) -> str:
    large, small = (
        [Cell(row.policy, row.task, row.imagined, row.twin) for row in rows]
        for rows in (summary.policies, summary.rows)
    )
    return agreement_plot(large, small)


def _tiles(summary: RunSummary) -> str:
    tiles: list[tuple[str, str]] = []
    if summary.comparison is not None:
        found = summary.comparison
        tiles = [
            (found.pearson.format(), f"Pearson r over {len(found.policies)} policies"),
            (found.rank_correlation.format(), "rank correlation (Spearman)"),
            (found.gap.mean.format(1, 100), "mean gap between imagined and true success, percentage points"),
            (found.episodes.rates()["agreement"].format(0, 100, "%"), "episodes that end alike in both worlds"),
        ]
    episodes = sum(row.imagined.n for row in summary.policies)
    left_out = "unscored" if summary.left_out is None else f"{summary.left_out} of {episodes}"
    tiles.append((left_out, "imagined episodes left out as untrusted"))
    cards = (f'<div class="tile"><b>{_small(value)}</b><span>{_e(label)}</span></div>' for value, label in tiles)
    return f'<div class="tiles">{"".join(cards)}</div>'


def _table(summary: RunSummary) -> str:
    names = columns(summary)
    order = {row.policy: i for i, row in enumerate(summary.policies)}
    groups = {"all tasks": summary.policies}
    for row in summary.rows:
        groups.setdefault(row.task, []).append(row)
    body = []
    for task, rows in groups.items():
        body.append(f'<tr><th colspan="{len(names) + 1}" scope="rowgroup">{_e(task)}</th></tr>')
        for row in rows:
            mark = mark_svg(order[row.policy], small=row.task != ALL)
            entries = "".join(f"<td>{_small(text, 'small')}</td>" for text in cells(row, names))
            body.append(f"<tr><td>{mark}{_e(row.policy)}</td>{entries}</tr>")
    head = "".join(f"<th>{_e(name)}</th>" for name in ("policy", *names))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _figure(clip: ClipEntry, folder: Path) -> str:
    data = base64.b64encode((folder / clip.path).read_bytes()).decode()
    caption = f"{clip.instruction}: {clip.policy}, scene {clip.seed}"
    sides = '<div class="sides"><span>physics twin</span><span>imagined</span></div>' if clip.twin else ""
    verdicts = f"Twin: {_verdict(*clip.twin)}. " if clip.twin else ""
    verdicts += f"Imagined, judged: {_verdict(*clip.model)}."
    if not clip.as_recorded:
        verdicts += " <b>Run again for this clip, the episode did not end as recorded.</b>"
    return (
        f'<figure class="card">{sides}<video autoplay loop muted playsinline '
        f'onclick="this.paused?this.play():this.pause()" aria-label="{_e(caption)}" '
        f'src="data:video/mp4;base64,{data}"></video><figcaption><b>{_e(caption)}</b>{verdicts}</figcaption></figure>'
    )


def _verdict(success: bool, steps: int) -> str:
    if success:
        return f'<span class="yes">&#10003; success at step {steps}</span>'
    return f'<span class="no">&#10007; no success in {steps} steps</span>'


def _rate(estimate: Estimate) -> str:
    return "unscored" if estimate.value is None else estimate.format(0, 100)


def _small(text: str, tag: str = 'span style="font-weight:400"') -> str:
    """'0.97 [0.80, 1.00]' with the interval set smaller."""
    head, bracket, rest = _e(text).partition(" [")
    return f"{head} <{tag}>[{rest}</{tag.split()[0]}>" if bracket else head


def _e(text: object) -> str:
    return html.escape(str(text))
