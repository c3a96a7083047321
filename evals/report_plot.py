"""The report's plot, as SVG that takes its colours from the page: imagined success against true success."""

from __future__ import annotations

import html

from wfm_sim.evals.comparison_summary import Cell, Comparison

SIZE, LEFT, TOP, RIGHT, BOTTOM = 400, 52, 12, 14, 48
MARKS = 5  # shapes and colours; policies beyond share them
_SHAPES = (
    "M-5,-5h10v10h-10z",
    "M0,-6.5L6,5H-6z",
    "M0,-5.5a5.5,5.5 0 1,0 .01,0z",
    "M0,-7L7,0L0,7L-7,0z",
    "M0,6.5L-6,-5H6z",
)


def agreement_plot(comparison: Comparison) -> str:
    """<figure> with imagined (y) against true (x) success of every policy, and a legend."""
    ticks = "".join(_tick(v) for v in (0, 25, 50, 75, 100))
    order = {cell.policy: i for i, cell in enumerate(comparison.policies)}
    small = "".join(_point(cell, order[cell.policy] % MARKS, small=True) for cell in comparison.cells)
    large = "".join(_point(cell, i % MARKS, small=False) for i, cell in enumerate(comparison.policies))
    middle = _x(50)
    axes = (
        f'<path d="M{_x(0)},{_y(0)}L{_x(100)},{_y(100)}" stroke="var(--soft)" stroke-dasharray="5 5" fill="none"/>'
        f'<text x="{middle}" y="{SIZE - 8}" text-anchor="middle">success in the physics twin, %</text>'
        f'<text transform="translate(14 {_y(50)}) rotate(-90)" text-anchor="middle">success as imagined, %</text>'
    )
    legend = " ".join(
        f'<span style="white-space:nowrap">{mark_svg(i % MARKS)} {html.escape(cell.policy)}</span>'
        for i, cell in enumerate(comparison.policies)
    )
    return (
        f'<figure><svg viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="imagined against true success" '
        f'font-size="13" style="width:100%;height:auto;max-width:520px;display:block;margin:auto">'
        f'{ticks}{axes}{small}{large}</svg><figcaption style="display:flex;flex-wrap:wrap;gap:4px 14px">{legend}'
        "</figcaption></figure>"
    )


def mark_svg(index: int, *, small: bool = False) -> str:
    """The mark of a policy, as an inline picture."""
    scale = 0.7 if small else 1.0
    return (
        f'<svg class="mark" width="14" height="14" viewBox="-8 -8 16 16" aria-hidden="true">'
        f'<path d="{_SHAPES[index]}" transform="scale({scale})" fill="var(--c{index})"/></svg>'
    )


def _point(cell: Cell, index: int, *, small: bool) -> str:
    if cell.twin.value is None or cell.model.value is None:
        return ""
    x, y, colour = _x(100 * cell.twin.value), _y(100 * cell.model.value), f"var(--c{index})"
    title = f"<title>{html.escape(cell.policy)}, {html.escape(cell.task)}</title>"
    place = f'transform="translate({x:.1f} {y:.1f}) scale({0.6 if small else 1})"'
    if small:
        return f'<g><path d="{_SHAPES[index]}" {place} fill="{colour}" opacity=".55"/>{title}</g>'
    bars = ""
    if cell.twin.low is not None and cell.twin.high is not None:
        bars += f"M{_x(100 * cell.twin.low):.1f},{y:.1f}H{_x(100 * cell.twin.high):.1f}"
    if cell.model.low is not None and cell.model.high is not None:
        bars += f"M{x:.1f},{_y(100 * cell.model.low):.1f}V{_y(100 * cell.model.high):.1f}"
    mark = f'<path d="{_SHAPES[index]}" {place} fill="{colour}" stroke="var(--card)" stroke-width="1"/>'
    return f'<g><path d="{bars}" stroke="{colour}" stroke-width="2" fill="none" opacity=".8"/>{mark}{title}</g>'


def _tick(value: int) -> str:
    x, y = _x(value), _y(value)
    return (
        f'<path d="M{x},{_y(0)}V{_y(100)}M{_x(0)},{y}H{_x(100)}" stroke="var(--line)" fill="none"/>'
        f'<text x="{x}" y="{_y(0) + 18}" text-anchor="middle">{value}</text>'
        f'<text x="{_x(0) - 8}" y="{y + 4}" text-anchor="end">{value}</text>'
    )


def _x(percent: float) -> float:
    return LEFT + (SIZE - LEFT - RIGHT) * percent / 100


def _y(percent: float) -> float:
    return SIZE - BOTTOM - (SIZE - TOP - BOTTOM) * percent / 100
