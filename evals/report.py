"""The demo's report: one HTML file that needs nothing else, in light and dark, at a desk and on a phone."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

from wfm_sim.evals.clips import mp4_bytes, side_by_side
from wfm_sim.evals.comparison_summary import ALL, Cell, Comparison
from wfm_sim.evals.page_style import STYLE
from wfm_sim.evals.report_plot import agreement_plot, mark_svg
from wfm_sim.evals.rerun_log import Clip


@dataclass(frozen=True)
class ShownClip:
    """One pair of rollouts to show: the twin's success and steps, and the same as imagined and judged."""

    clip: Clip
    twin: tuple[bool, int]
    model: tuple[bool, int]


def report_html(
    comparison: Comparison, clips: Sequence[ShownClip], *, model: str, fps: str, code: str, about: dict[str, str]
) -> str:
    """The page.

    Args:
        comparison: Of policies, from `comparison_summary.summarise`.
        clips: Pairs of rollouts.
        model: The world model's name.
        fps: Its speed, in words.
        code: The lines of Python that use it.
        about: What was run, name -> value, for the foot of the page.
    """
    policies = [cell.policy for cell in comparison.policies]
    tasks = list(dict.fromkeys(cell.task for cell in comparison.cells))
    body = [
        "<h1>Does the learned simulator predict what a policy will do?</h1>",
        f'<p class="lead">{len(policies)} policies ran the same {comparison.episodes.n} episodes twice: in physics '
        f"(the twin, MuJoCo) and in frames imagined by <b>{_e(model)}</b>, a world model that saw only the first "
        "picture and the actions. In the imagined world a network judges success from pixels.</p>",
        _tiles(comparison, fps),
        '<h2>Success, true and imagined</h2><div class="split"><div class="card">',
        _table(comparison, tasks),
        '</div><div class="card">',
        agreement_plot(comparison.policies, comparison.cells),
        '<p class="note">Large marks: all tasks of one policy, with 95 % intervals in both directions. Small marks: '
        "one task each. On the dashed line the model is right.</p></div></div>",
        f'<p class="note">{_sampling_note(comparison)}</p>',
        '<h2>The same episode, twice</h2><p class="note">Click or tap a clip to pause it; the world that ends first '
        "holds its last frame.</p>",
        '<div class="clips">',
        *(_figure(shown) for shown in clips),
        "</div>",
        "<h2>Six lines that do it</h2>",
        f"<pre><code>{_e(code)}</code></pre>",
        "<h2>What was run</h2><dl>",
        *(f"<dt>{_e(name)}</dt><dd>{_e(value)}</dd>" for name, value in about.items()),
        "</dl>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>wfm-sim: {_e(model)} against its physics twin</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{"".join(body)}\n</main></body></html>\n'


def _tiles(comparison: Comparison, fps: str) -> str:
    gap = comparison.gap.mean
    agreement = comparison.episodes.rates()["agreement"]
    tiles = [
        (comparison.rank_correlation.format(), f"rank correlation over {len(comparison.policies)} policies (Spearman)"),
        (gap.format(1, 100), "mean gap between imagined and true success, percentage points"),
        (agreement.format(0, 100, "%"), "episodes that end alike in both worlds"),
        (fps, "imagined"),
    ]
    cards = "".join(
        f'<div class="tile"><b>{_number(value)}</b><span>{_e(label)}</span></div>' for value, label in tiles
    )
    return f'<div class="tiles">{cards}</div>'


def _number(text: str) -> str:
    """'0.97 [0.80, 1.00]' with the interval set smaller."""
    head, bracket, rest = _e(text).partition(" [")
    return f'{head} <span style="font-weight:400">[{rest}</span>' if bracket else head


def _table(comparison: Comparison, tasks: Sequence[str]) -> str:
    order = {cell.policy: i for i, cell in enumerate(comparison.policies)}
    rows = ['<tr><th colspan="4" scope="rowgroup">all tasks</th></tr>']
    rows += [_row(cell, order[cell.policy]) for cell in comparison.policies]
    for task in tasks:
        rows.append(f'<tr><th colspan="4" scope="rowgroup">{_e(task)}</th></tr>')
        rows += [_row(cell, order[cell.policy]) for cell in comparison.cells if cell.task == task]
    head = "<thead><tr><th>policy</th><th>twin, %</th><th>imagined, %</th><th>gap</th></tr></thead>"
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _row(cell: Cell, index: int) -> str:
    def rate(estimate: object) -> str:
        head, _, interval = _e(estimate.format(0, 100)).partition(" [")  # type: ignore[attr-defined]
        return f"{head} <small>[{interval}</small>" if interval else head

    gap = "" if cell.gap is None else f"{100 * cell.gap:+.0f}"
    mark = mark_svg(index, small=cell.task != ALL)
    return (
        f"<tr><td>{mark}{_e(cell.policy)}</td><td>{rate(cell.twin)}</td><td>{rate(cell.model)}</td><td>{gap}</td></tr>"
    )


def _sampling_note(comparison: Comparison) -> str:
    sampling, n = comparison.gap.from_sampling, comparison.cells[0].twin.n if comparison.cells else 0
    text = f"Brackets are 95 % intervals (Wilson for rates, bootstrap for the rest); {n} episodes per policy and task"
    if sampling is not None:
        text += (
            f", so that two equal worlds with independent episodes would show a mean gap of {100 * sampling:.1f} points"
        )
    return text + "."


def _figure(shown: ShownClip) -> str:
    clip = shown.clip
    frames = clip.imagined if clip.real is None else side_by_side(clip.real, clip.imagined)
    data = base64.b64encode(mp4_bytes(frames, clip.fps)).decode()
    return (
        '<figure class="card"><div class="sides"><span>physics twin</span><span>imagined</span></div>'
        '<video autoplay loop muted playsinline onclick="this.paused?this.play():this.pause()" '
        f'aria-label="{_e(clip.caption)}" '
        f'src="data:video/mp4;base64,{data}"></video><figcaption><b>{_e(clip.caption)}</b>'
        f"Twin: {_verdict(*shown.twin)}. Imagined, judged: {_verdict(*shown.model)}.</figcaption></figure>"
    )


def _verdict(success: bool, steps: int) -> str:
    if success:
        return f'<span class="yes">&#10003; success at step {steps}</span>'
    return f'<span class="no">&#10007; no success in {steps} steps</span>'


def _e(text: object) -> str:
    return html.escape(str(text))
