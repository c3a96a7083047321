"""The leaderboard's plots, on the axes of the demo's report: success imagined against true, and trust against truth."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from wfm_sim.evals.comparison_summary import Cell
from wfm_sim.evals.report_plot import agreement_plot, at, shares_plot
from wfm_sim.evals.submission import ALL, PolicyCell, Trust


def success_plot(
    pooled: Sequence[PolicyCell], cells: Sequence[PolicyCell], *, truth: str = "", marks: Mapping[str, int]
) -> str:
    """<figure>: `pooled` has one cell per policy (task 'all'), `cells` one per policy and task. `truth` names it."""
    label = f"true success ({truth}), %" if truth and len(truth) <= 24 else "true success, %"
    tasks = [_cell(c) for c in cells if c.task != ALL]
    return agreement_plot([_cell(c) for c in pooled], tasks, truth=label, by_task=True, marks=marks)


def reliability_plot(trust: Trust) -> str:
    """<figure>: per bin of trust, the mean trust (x) and the share that was right (y) with its interval.

    The area of a disc grows with the number of predictions in its bin; empty bins are left out.
    """
    largest = max((b.observed.n for b in trust.bins if b.observed.value is not None), default=1)
    marks, line = "", []
    for entry in trust.bins:
        value = entry.observed.value
        if value is None or entry.predicted is None:
            continue
        x, y = at(entry.predicted, value)
        line.append(f"{x:.1f},{y:.1f}")
        bar = ""
        if entry.observed.low is not None and entry.observed.high is not None:
            bar = f"M{x:.1f},{at(0, entry.observed.low)[1]:.1f}V{at(0, entry.observed.high)[1]:.1f}"
        radius = 3 + 6 * (entry.observed.n / largest) ** 0.5
        title = (
            f"trust {100 * entry.low:.0f}-{100 * entry.high:.0f} %: right in {100 * value:.0f} % of {entry.observed.n}"
        )
        marks += (
            f'<g><path d="{bar}" stroke="var(--c2)" stroke-width="2" opacity=".7"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="var(--c2)" stroke="var(--card)"/>'
            f"<title>{html.escape(title)}</title></g>"
        )
    path = f'<path d="M{"L".join(line)}" stroke="var(--c2)" fill="none" opacity=".5"/>' if line else ""
    picture = shares_plot(path + marks, x="trust, %", y="right, %", name="reliability diagram of trust")
    return f"<figure>{picture}</figure>"


def _cell(cell: PolicyCell) -> Cell:
    return Cell(cell.policy, cell.task, model=cell.imagined, twin=cell.true)
