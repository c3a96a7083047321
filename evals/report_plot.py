"""Plots of shares against shares as SVG that takes its colours from the page: imagined success against true success."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfm_sim.evals.comparison_summary import Cell

SIZE, LEFT, TOP, RIGHT, BOTTOM = 400, 52, 12, 14, 48
_SHAPES = (
    "M-5,-5h10v10h-10z",
    "M0,-6.5L6,5H-6z",
    "M0,-5.5a5.5,5.5 0 1,0 .01,0z",
    "M0,-7L7,0L0,7L-7,0z",
    "M0,6.5L-6,-5H6z",
)


def agreement_plot(
    policies: Sequence[Cell],
    cells: Sequence[Cell],
    *,
    truth: str = "success in the physics twin, %",
    by_task: bool = False,
    marks: Mapping[str, int] | None = None,
) -> str:
    """<figure> with imagined (y) against true (x) success of every policy, and a legend.

    Args:
        policies: All tasks of one policy each, drawn large with intervals.
        cells: Policy x task, drawn small.
        truth: Label of the x axis.
        by_task: Every point also says its task (data-task), and each cell is there large as well, hidden, for a
            page that shows one task at a time.
        marks: Policy -> which mark; None takes them in the order of `policies`.
    """
    order = marks or {cell.policy: i for i, cell in enumerate(policies)}
    points = [_point(cell, order[cell.policy], small=True, by_task=by_task) for cell in cells]
    points += [_point(cell, order[cell.policy], small=False, by_task=by_task) for cell in policies]
    if by_task:
        points += [_point(cell, order[cell.policy], small=False, by_task=True, hidden=True) for cell in cells]
    legend = " ".join(
        f'<span style="white-space:nowrap">{mark_svg(order[cell.policy])} {html.escape(cell.policy)}</span>'
        for cell in policies
    )
    picture = shares_plot("".join(points), x=truth, y="success as imagined, %", name="imagined against true success")
    return (
        f'<figure>{picture}<figcaption style="display:flex;flex-wrap:wrap;gap:4px 14px">{legend}</figcaption></figure>'
    )


def shares_plot(marks: str, *, x: str, y: str, name: str) -> str:
    """<svg> of a square plot of two shares, 0-100 %, with its diagonal, around `marks` (SVG, see `at`)."""
    ticks = "".join(_tick(v) for v in (0, 25, 50, 75, 100))
    (left, bottom), (right, top), (middle, centre) = at(0, 0), at(1, 1), at(0.5, 0.5)
    axes = (
        f'<path d="M{left},{bottom}L{right},{top}" stroke="var(--soft)" stroke-dasharray="5 5" fill="none"/>'
        f'<text x="{middle}" y="{SIZE - 8}" text-anchor="middle">{html.escape(x)}</text>'
        f'<text transform="translate(14 {centre}) rotate(-90)" text-anchor="middle">{html.escape(y)}</text>'
    )
    return (
        f'<svg viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="{html.escape(name)}" '
        f'font-size="13" style="width:100%;height:auto;max-width:520px;display:block;margin:auto">'
        f"{ticks}{axes}{marks}</svg>"
    )


def at(x: float, y: float) -> tuple[float, float]:
    """Where shares in [0, 1] lie in the picture of `shares_plot`."""
    return LEFT + (SIZE - LEFT - RIGHT) * x, SIZE - BOTTOM - (SIZE - TOP - BOTTOM) * y


def mark_svg(index: int, *, small: bool = False) -> str:
    """The mark of a policy, as an inline picture."""
    shape, colour = _mark(index)
    scale = 0.7 if small else 1.0
    return (
        f'<svg class="mark" width="14" height="14" viewBox="-8 -8 16 16" aria-hidden="true">'
        f'<path d="{shape}" transform="scale({scale})" fill="{colour}"/></svg>'
    )


def _mark(index: int) -> tuple[str, str]:
    """Shape and colour: five policies differ in both, 25 in one of the two."""
    count = len(_SHAPES)
    return _SHAPES[index % count], f"var(--c{(index + index // count) % count})"


def _point(cell: Cell, index: int, *, small: bool, by_task: bool = False, hidden: bool = False) -> str:
    if cell.twin.value is None or cell.model.value is None:
        return ""
    x, y = at(cell.twin.value, cell.model.value)
    shape, colour = _mark(index)
    title = f"<title>{html.escape(cell.policy)}, {html.escape(cell.task)}</title>"
    place = f'transform="translate({x:.1f} {y:.1f}) scale({0.6 if small else 1})"'
    group = "<g>"
    if by_task:
        size = "small" if small else "large"
        group = f'<g class="point {size}" data-task="{html.escape(cell.task)}"{" hidden" if hidden else ""}>'
    if small:
        return f'{group}<path d="{shape}" {place} fill="{colour}" opacity=".55"/>{title}</g>'
    bars = ""
    if cell.twin.low is not None and cell.twin.high is not None:
        bars += f"M{at(cell.twin.low, 0)[0]:.1f},{y:.1f}H{at(cell.twin.high, 0)[0]:.1f}"
    if cell.model.low is not None and cell.model.high is not None:
        bars += f"M{x:.1f},{at(0, cell.model.low)[1]:.1f}V{at(0, cell.model.high)[1]:.1f}"
    mark = f'<path d="{shape}" {place} fill="{colour}" stroke="var(--card)" stroke-width="1"/>'
    return f'{group}<path d="{bars}" stroke="{colour}" stroke-width="2" fill="none" opacity=".8"/>{mark}{title}</g>'


def _tick(percent: int) -> str:
    x, y = at(percent / 100, percent / 100)
    left, bottom = at(0, 0)
    right, top = at(1, 1)
    return (
        f'<path d="M{x},{bottom}V{top}M{left},{y}H{right}" stroke="var(--line)" fill="none"/>'
        f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{percent}</text>'
        f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{percent}</text>'
    )
