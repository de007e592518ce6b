"""What one table measured, over seeds, beside what the paper measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from tdtrack.reproduce.tables import TABLES, Row, Table
from tdtrack.version import __version__

__all__ = ["Number", "TableResult"]


@dataclass(frozen=True, slots=True)
class Number:
    """A mean over seeds.

    Attributes:
        mean: not a number where nothing was measured.
        deviation: sample standard deviation; 0 with one seed.
        paper: the paper's number, ``None`` where it has none.
    """

    mean: float
    deviation: float
    paper: float | None


@dataclass(frozen=True, slots=True)
class TableResult:
    """One table.

    Attributes:
        key: of ``TABLES``.
        measured: by label of the row, one measurement per seed.
        length: how many times as long as the scale says its rows were trained.
    """

    key: str
    measured: Mapping[str, Sequence[Mapping[str, Any]]]
    length: int = 1

    @property
    def table(self) -> Table:
        """What was asked for: the rows that were measured."""
        table = TABLES[self.key]
        return replace(table, rows=tuple(row for row in table.rows if row.label in self.measured))

    @property
    def seeds(self) -> int:
        """Trainings per row."""
        return len(next(iter(self.measured.values())))

    def number(self, row: Row, column: str) -> Number:
        """Return one cell."""
        return _summary([one[column] for one in self.measured[row.label]], row.paper.get(column))

    def sequence_number(self, row: Row, sequence: str, column: str) -> Number:
        """Return one cell of a single sequence."""
        values = [one["sequences"][sequence][column] for one in self.measured[row.label]]
        return _summary(values, row.paper_sequences.get(sequence, {}).get(column))

    @property
    def sequences(self) -> list[str]:
        """Names of the tracked sequences."""
        return list(next(iter(self.measured.values()))[0]["sequences"])

    def ratio(self) -> tuple[float | None, float | None]:
        """Return the comparison of the table's text: ours over means, and the paper's; ``None`` where there is none."""
        asked, rows = self.table.comparison, {row.label: row for row in self.table.rows}
        if not {asked.first, asked.second} <= rows.keys():
            return None, None
        first, second = (self.number(rows[label], asked.metric) for label in (asked.first, asked.second))
        ours = first.mean / second.mean if second.mean else None
        return ours, None if first.paper is None or second.paper is None else first.paper / second.paper

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        asked, (ours, paper) = self.table.comparison, self.ratio()
        return {
            "table": self.key,
            "title": self.table.title,
            "version": __version__,
            "seeds": self.seeds,
            "length": self.length,
            "rows": [
                {
                    "label": row.label,
                    "paper": {**row.paper, **({"sequences": row.paper_sequences} if row.paper_sequences else {})},
                    "ours": list(self.measured[row.label]),
                }
                for row in self.table.rows
            ],
            "ratio": {"of": asked.metric, "first": asked.first, "second": asked.second, "ours": ours, "paper": paper},
        }


def _summary(values: Sequence[float | None], paper: float | None) -> Number:
    known = [value for value in values if value is not None]
    if not known:
        return Number(math.nan, 0.0, paper)
    return Number(fmean(known), stdev(known) if len(known) > 1 else 0.0, paper)
