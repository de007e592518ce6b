"""The table of the paper's Fig. 7 to 9: one row per sequence and OVERALL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tdtrack.evaluation.tracking import TrackingReport

__all__ = ["COLUMNS", "Column", "format_table", "table_rows"]

OVERALL = "OVERALL"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        header: the paper's name.
        metric: TrackEval's name.
        kind: a fraction printed in percent, a count, or a plain ratio.
    """

    header: str
    metric: str
    kind: str


_PERCENT, _COUNT, _RATIO = "percent", "count", "ratio"
COLUMNS = (
    Column("HOTA", "HOTA", _PERCENT),
    Column("MOTA", "MOTA", _PERCENT),
    Column("MOTP", "MOTP", _PERCENT),
    Column("IDF1", "IDF1", _PERCENT),
    Column("IDP", "IDP", _PERCENT),
    Column("IDR", "IDR", _PERCENT),
    Column("TP", "CLR_TP", _COUNT),
    Column("FP", "CLR_FP", _COUNT),
    Column("FN", "CLR_FN", _COUNT),
    Column("Rcll", "CLR_Re", _PERCENT),
    Column("Prcn", "CLR_Pr", _PERCENT),
    Column("MTR", "MTR", _PERCENT),
    Column("PTR", "PTR", _PERCENT),
    Column("MLR", "MLR", _PERCENT),
    Column("MT", "MT", _COUNT),
    Column("PT", "PT", _COUNT),
    Column("ML", "ML", _COUNT),
    Column("IDSW", "IDSW", _COUNT),
    Column("FAR", "FP_per_frame", _RATIO),
    Column("FM", "Frag", _COUNT),
)
"""The paper's columns in its order, HOTA before them. FAR is false alarms per frame, FM the times a track is broken off."""


def table_rows(report: TrackingReport) -> list[list[str]]:
    """Format every sequence and, last, OVERALL: the name, then one cell per column with two decimals where not a count."""
    named = [*report.sequences.items(), (OVERALL, report.overall)]
    return [[name, *(_cell(column, metrics[column.metric]) for column in COLUMNS)] for name, metrics in named]


def format_table(report: TrackingReport, *, width: int | None = None) -> str:
    """Print the report as plain text, ratios in percent.

    Args:
        report: what to print.
        width: characters in a line; columns that do not fit follow in further blocks. ``None`` keeps one block, about 140 wide.

    Returns:
        Lines without a final line end.
    """
    table = [["", *(column.header for column in COLUMNS)], *table_rows(report)]
    widths = [max(len(row[index]) for row in table) for index in range(len(COLUMNS) + 1)]
    blocks: list[list[int]] = [[]]
    used = widths[0]
    for index in range(1, len(widths)):
        if width is not None and blocks[-1] and used + 2 + widths[index] > width:
            blocks.append([])
            used = widths[0]
        blocks[-1].append(index)
        used += 2 + widths[index]
    return "\n\n".join(_block(table, widths, columns) for columns in blocks)


def _block(table: list[list[str]], widths: list[int], columns: list[int]) -> str:
    lines = ["  ".join([row[0].ljust(widths[0]), *(row[index].rjust(widths[index]) for index in columns)]) for row in table]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _cell(column: Column, value: float) -> str:
    if column.kind == _COUNT:
        return str(int(value))
    return f"{100 * value:.2f}" if column.kind == _PERCENT else f"{value:.2f}"
