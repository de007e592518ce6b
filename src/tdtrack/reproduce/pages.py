"""A table's result as text, as Markdown, and as what a plot needs."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table as RichTable

from tdtrack.reproduce.results import Number, TableResult
from tdtrack.reproduce.tables import COLUMNS

__all__ = ["bars", "markdown", "print_table"]

_SEQUENCE_COLUMNS = ("AP", "MOTA", "IDF1")
_PLOTTED = ("AP", "MOTA", "IDF1")


def print_table(result: TableResult, console: Console) -> None:
    """Print the table and the ratio behind the paper's finding."""
    header, rows = _cells(result)
    table = RichTable(title=f"{result.table.title} (ours, paper in brackets)", title_justify="left")
    for position, column in enumerate(header):
        table.add_column(column, justify="right" if position else "left", no_wrap=not position)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for line in _remarks(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown(result: TableResult) -> str:
    """Return the table as a page of Markdown."""
    header, rows = _cells(result)
    lines = [f"# {result.table.title}", "", "Ours, the paper's number in brackets."]
    lines += ["", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", *(f"- {line}" for line in _remarks(result))]
    if result.table.plot:
        lines += ["", f"![{result.table.title}]({result.key}.png)"]
    return "\n".join(lines) + "\n"


def bars(result: TableResult) -> tuple[list[str], dict[str, list[tuple[float, float]]]]:
    """Return what ``plot_bars`` draws: labels of the groups, and mean and deviation of each metric in each, in percent."""
    rows = result.table.rows
    numbers = {name: [result.number(row, name) for row in rows] for name in _PLOTTED}
    series = {name: [(100 * number.mean, 100 * number.deviation) for number in column] for name, column in numbers.items()}
    return [row.label for row in rows], series


def _cells(result: TableResult) -> tuple[list[str], list[list[str]]]:
    """Return header and rows; single sequences follow their row where the paper shows some."""
    table = result.table
    header = ["", *(COLUMNS[name].title for name in table.columns)]
    rows = []
    for row in table.rows:
        rows.append([row.label, *(_cell(result.number(row, name), name) for name in table.columns)])
        if table.by_sequence:
            for sequence in result.sequences:
                cells = [
                    _cell(result.sequence_number(row, sequence, name), name) if name in _SEQUENCE_COLUMNS else ""
                    for name in table.columns
                ]
                rows.append([f"  {sequence}", *cells])
    return header, rows


def _cell(number: Number, name: str) -> str:
    column = COLUMNS[name]
    factor = 100 if column.percent else 1

    def text(value: float) -> str:
        return f"{factor * value:.{column.decimals}f}"

    ours = "-" if math.isnan(number.mean) else text(number.mean)
    spread = f" ± {text(number.deviation)}" if number.deviation else ""
    return ours + spread + ("" if number.paper is None else f" ({text(number.paper)})")


def _remarks(result: TableResult) -> list[str]:
    table, asked, (ours, paper) = result.table, result.table.comparison, result.ratio()
    beside = "" if paper is None else f" (paper: {100 * paper:.1f} %)"
    longer = f", trained {result.length} times as long" if result.length > 1 else ""
    ratio = f"{asked.metric} of {asked.first!r} over {asked.second!r}: {'-' if ours is None else f'{100 * ours:.1f} %'}{beside}"
    remarks = [
        *[ratio] * ({asked.first, asked.second} <= result.measured.keys()),
        f"the paper finds: {table.finding}",
        f"{result.seeds} seed{'s' if result.seeds > 1 else ''} per row{longer}",
    ]
    unmatched = {name: row.label for row in table.rows for name in row.paper_sequences if name not in result.sequences}
    return remarks + [f"the paper also shows {', '.join(unmatched)}, which was not tracked here"] * bool(unmatched)
