"""The table of agreement for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence

from wfm_sim.evals.physics.agreement import Row

HEADS = ("scene", "quantity", "n")


def print_table(rows: Sequence[Row]) -> None:
    """Print the table: per engine the mean and, where theory has an answer, the largest error."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="engines against theory and each other", title_justify="left")
    for head in columns(rows):
        table.add_column(head, justify="left" if head in HEADS[:2] else "right")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if Console().is_terminal else 160).print(table)


def markdown(rows: Sequence[Row]) -> str:
    """The same table in markdown."""
    heads = columns(rows)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(cells(row)) + " |" for row in rows)])


def columns(rows: Sequence[Row]) -> list[str]:
    """The heads: scene, quantity, n, per engine its mean and worst error, the gap between engines, the promise."""
    engines = list(rows[0].values) if rows else []
    each = [text for engine in engines for text in (engine, f"{engine}: worst error")]
    return [*HEADS, *each, *(["largest gap"] if len(engines) > 1 else []), "promised"]


def cells(row: Row) -> list[str]:
    """The texts of one line."""
    texts = [row.scene, f"{row.quantity}{f' [{row.unit}]' if row.unit else ''}", str(row.count)]
    for engine, value in row.values.items():
        texts += [f"{value:.4g}", "" if row.worst is None else _error(row.worst[engine], row.relative)]
    if len(row.values) > 1:
        texts.append(f"{row.between:.3g}")
    promise = ""
    if row.tolerance is not None:
        promise = f"{_error(row.tolerance, row.relative and row.worst is not None)} {'kept' if row.kept else 'BROKEN'}"
    return [*texts, promise]


def _error(value: float, relative: bool) -> str:
    return f"{100 * value:.2g} %" if relative else f"{value:.2g}"
