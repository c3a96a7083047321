"""From submissions to what the leaderboard's pages show: columns, rows, numbers as text. No HTML here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wfm_sim.evals.statistics import Estimate, wilson
from wfm_sim.evals.submission import ALL, Better, Kind, Metric, PolicyCell, Submission

# kind -> title, what is asked
KINDS: dict[Kind, tuple[str, str]] = {
    "policy": ("Policy evaluation", "Does a policy's success in the imagined world predict its true success?"),
    "nano": (
        "Tabletop gates",
        "Is the model a usable simulator of the tabletop, open loop on held-out scenes?",
    ),
    "trust": ("Trust", "Does the model's trust in itself say which imagined steps are still true?"),
    "physics": ("Physics alignment", "Do imagined objects move as in the physics twin?"),
    "consistency": ("3D consistency", "Is what the camera sees one rigid scene?"),
    "video": ("Video prediction", "How close are imagined frames to recorded ones?"),
}


@dataclass(frozen=True)
class Shown:
    """A number as it is shown. `sort` is None when unscored; `bar` is low, value, high in [0, 1] of a share."""

    text: str
    interval: str = ""
    sort: float | None = None
    reason: str = ""
    n: int = 0
    bar: tuple[float, float, float] | None = None
    gate: str = ""  # "met", "not met", or "" without a gate
    limit: str = ""


@dataclass(frozen=True)
class Column:
    """Of a table of metrics. Two submissions share it when name, unit and direction are the same."""

    name: str
    label: str
    unit: str
    better: Better


@dataclass(frozen=True)
class Row:
    """One submission in the table of its kind; `cells` in the order of the columns."""

    submission: Submission
    cells: tuple[Shown, ...]


@dataclass(frozen=True)
class PolicyRow:
    """One policy on one task (or all) in one submission. `mark` chooses its mark in the plots."""

    submission: Submission
    cell: PolicyCell
    mark: int
    imagined: Shown
    true: Shown
    gap: Shown
    untrusted: Shown | None
    corrected: Shown | None


def show(estimate: Estimate, unit: str = "", *, digits: int | None = None) -> Shown:
    """An estimate as text; shares in per cent. `digits` after the point, None chooses by size."""
    if estimate.value is None:
        return Shown("unscored", reason=estimate.unscored, n=estimate.n)
    scale = 100.0 if unit == "rate" else 1.0
    if digits is None:
        digits = {"rate": 1, "correlation": 3}.get(unit, _digits(estimate.value))
    interval, bar = "", None
    if estimate.low is not None and estimate.high is not None:
        interval = f"[{_number(estimate.low * scale, digits)}, {_number(estimate.high * scale, digits)}]"
    if unit == "rate":
        low = estimate.value if estimate.low is None else estimate.low
        high = estimate.value if estimate.high is None else estimate.high
        bar = (low, estimate.value, high)
    return Shown(_number(estimate.value * scale, digits), interval, estimate.value, n=estimate.n, bar=bar)


def show_metric(metric: Metric) -> Shown:
    """With whether the gate was met: at or above it when higher is better, below it otherwise."""
    shown = show(metric.estimate, metric.unit)
    value = metric.estimate.value
    if metric.gate is None or value is None:
        return shown
    met = value >= metric.gate if metric.better == "higher" else value < metric.gate
    limit = show(Estimate(metric.gate, n=1), metric.unit).text
    sign = "at least" if metric.better == "higher" else "below"
    return Shown(**{**vars(shown), "gate": "met" if met else "not met", "limit": f"{sign} {limit}"})


def columns(submissions: Sequence[Submission]) -> list[Column]:
    """The metrics of submissions of one kind, each once, in the order of their first appearance."""
    found: dict[tuple[str, str, str], Column] = {}
    for metric in (m for s in submissions for m in s.metrics):
        key = (metric.name, metric.unit, metric.better)
        found.setdefault(key, Column(metric.name, metric.label or metric.name, metric.unit, metric.better))
    return list(found.values())


def rows(submissions: Sequence[Submission], head: Sequence[Column]) -> list[Row]:
    """Best first by the first column; what is unscored there comes last."""
    missing = Shown("–", reason="not part of this submission")
    table = []
    for submission in submissions:
        by = {(m.name, m.unit, m.better): show_metric(m) for m in submission.metrics}
        table.append(Row(submission, tuple(by.get((c.name, c.unit, c.better), missing) for c in head)))
    sign = 1 if head and head[0].better == "lower" else -1

    def key(row: Row) -> tuple[bool, float, str]:
        first = row.cells[0].sort if row.cells else None
        return first is None, 0.0 if first is None else sign * first, row.submission.id

    return sorted(table, key=key)


def marks(submissions: Sequence[Submission]) -> dict[str, int]:
    """Policy -> which mark it has in all plots and tables of a page, in the order of first appearance."""
    policies = dict.fromkeys(cell.policy for s in submissions for cell in s.cells)
    return {policy: i for i, policy in enumerate(policies)}


def policy_rows(submission: Submission, marks: Mapping[str, int]) -> list[PolicyRow]:
    """Every policy pooled over its tasks, then every cell, in the submission's order of policies."""
    pooled = pooled_cells(submission)
    cells = [*pooled, *(c for c in submission.cells if c.task != ALL)]
    return [_policy_row(submission, cell, marks[cell.policy]) for cell in cells]


def pooled_cells(submission: Submission) -> list[PolicyCell]:
    """One cell per policy over all its tasks: the submission's own, or else its episodes pooled."""
    own = {cell.policy: cell for cell in submission.cells if cell.task == ALL}
    found = []
    for policy in dict.fromkeys(cell.policy for cell in submission.cells):
        parts = [c for c in submission.cells if c.policy == policy and c.task != ALL]
        untrusted = [c.untrusted for c in parts if c.untrusted is not None]
        corrected = [c.corrected for c in parts if c.corrected is not None]
        found.append(
            own.get(policy)
            or PolicyCell(
                policy,
                ALL,
                imagined=_pool([c.imagined for c in parts]),
                true=_pool([c.true for c in parts]),
                untrusted=_pool(untrusted) if len(untrusted) == len(parts) else None,
                corrected=_pool(corrected) if len(corrected) == len(parts) else None,
            )
        )
    return found


def _policy_row(submission: Submission, cell: PolicyCell, mark: int) -> PolicyRow:
    imagined, true = cell.imagined.value, cell.true.value
    if imagined is None or true is None:
        gap = Shown("–", reason="it needs success in both worlds")
    else:
        gap = Shown(_signed(100 * (imagined - true)), sort=imagined - true)
    untrusted, corrected = (None if e is None else show(e, "rate", digits=0) for e in (cell.untrusted, cell.corrected))
    shown = (show(cell.imagined, "rate", digits=0), show(cell.true, "rate", digits=0))
    return PolicyRow(submission, cell, mark, *shown, gap, untrusted, corrected)


def _pool(parts: Sequence[Estimate]) -> Estimate:
    """Episodes of several tasks as one: counts with Wilson's interval; a corrected rate has no such interval."""
    if not parts:
        return Estimate.none("no task")
    if missing := next((p for p in parts if p.value is None), None):
        return Estimate.none(f"a task is unscored: {missing.unscored}")
    if len(parts) == 1:
        return parts[0]
    hits, n = [(p.value or 0.0) * p.n for p in parts], sum(p.n for p in parts)
    if all(abs(h - round(h)) < 1e-6 for h in hits):
        return wilson(round(sum(hits)), n)
    return Estimate(sum(hits) / n, n=n)


def _digits(value: float) -> int:
    size = abs(value)
    return 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 4


def _number(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text  # no "-0.0"


def _signed(value: float) -> str:
    text = f"{value:+.0f}"
    return "0" if text in ("+0", "-0") else text
