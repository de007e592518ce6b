"""The MOT text form: one box a line, in ground truth, public detections and results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tdtrack.data import dataset
from tdtrack.errors import DataError
from tdtrack.files import reason_of
from tdtrack.types import IntArray

__all__ = ["MotRows", "is_number", "read_mot_rows"]

_COLUMNS = {
    7: "frame, id, left, top, width, height, score",
    9: "frame, id, left, top, width, height, flag, class, visibility",
    10: "frame, id, left, top, width, height, score, x, y, z",
}


@dataclass(frozen=True, slots=True, eq=False)
class MotRows:
    """The rows of a MOT text file, in the file's order.

    Attributes:
        frame_index: ``(N,)`` int64 from 0 (the file counts from 1).
        track_id: ``(N,)`` int64, -1 for detections.
        tlwh: ``(N, 4)`` float64 left, top, width, height in pixels, as written: boxes may reach out of the frame.
        score: ``(N,)`` float64, the seventh column: in ground truth a flag, 0 for boxes that evaluation passes over.
        class_id: ``(N,)`` int64, MOT's own classes (1 pedestrian); -1 where the file has none.
        visibility: ``(N,)`` float64 in ``[0, 1]``; 1 where the file has none.
        line: ``(N,)`` int64 line number in the file, from 1.
    """

    frame_index: IntArray
    track_id: IntArray
    tlwh: NDArray[np.float64]
    score: NDArray[np.float64]
    class_id: IntArray
    visibility: NDArray[np.float64]
    line: IntArray

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.frame_index)


def read_mot_rows(path: Path | str) -> MotRows:
    """Read a MOT text file of any of the challenge's forms.

    The number of columns tells the form: 9 is ground truth since MOT16 (flag, class, visibility), 10 is MOT15 and results
    (the last three are world coordinates or -1), 7 is MOT17's detections.

    Args:
        path: the file; commas or blanks between the columns, empty lines are passed over.

    Returns:
        The rows in the file's order; none for an empty file.

    Raises:
        DataError: the file cannot be read, or a line is not in the form of the first; names file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read the MOT file: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not text; this is not a MOT file") from error
    number = np.flatnonzero(np.array([bool(line.strip()) for line in lines], np.bool_)) + 1
    filled = [lines[row - 1] for row in number.tolist()]
    table = _parse_table(path, filled, number)
    n, columns = table.shape
    _check_table(path, table, number)
    class_id = table[:, 7].astype(np.int64) if columns == 9 else np.full(n, -1, np.int64)
    visibility = table[:, 8] if columns == 9 else np.ones(n)
    frame_index = table[:, 0].astype(np.int64) - 1
    return MotRows(frame_index, table[:, 1].astype(np.int64), table[:, 2:6], table[:, 6], class_id, visibility, number)


def _parse_table(path: Path, lines: list[str], number: IntArray) -> NDArray[np.float64]:
    if not lines:
        return np.zeros((0, 10))
    delimiter = "," if "," in lines[0] else None
    _refuse_crowds(path, lines, delimiter)
    columns = len(_fields(lines[0], delimiter))
    if columns not in _COLUMNS:
        known = "; or ".join(f"{count}: {names}" for count, names in _COLUMNS.items())
        raise DataError(f"{path}:{number[0]}: {columns} columns {lines[0]!r:.80}; a MOT file has {known}")
    try:
        table = np.loadtxt(lines, delimiter=delimiter, comments=None, ndmin=2, usecols=range(columns))
    except ValueError:
        table = np.zeros((0, columns))
    if len(table) == len(lines) and all(len(_fields(line, delimiter)) == columns for line in lines):
        return table
    for line, row in zip(lines, number.tolist()):  # the slow way finds the line
        fields = _fields(line, delimiter)
        if len(fields) != columns:
            raise DataError(f"{path}:{row}: {len(fields)} columns {line!r:.80}, but the lines before have {columns}")
        for name, field in zip(_COLUMNS[columns].split(", "), fields):
            if not is_number(field):
                raise DataError(f"{path}:{row}: {name} {field.strip()!r} is not a number")
    return np.array([[float(field) for field in _fields(line, delimiter)] for line in lines])


def _refuse_crowds(path: Path, lines: list[str], delimiter: str | None) -> None:
    """Refuse a frame with more boxes than any real one before the rows become numbers."""
    if len(lines) > dataset.MAX_BOXES:
        ((frame, count),) = Counter(line.split(delimiter, 1)[0] for line in lines).most_common(1)
        if count > dataset.MAX_BOXES:
            most = dataset.MAX_BOXES
            raise DataError(f"{path}: frame {frame:.80} has {count} boxes; one image may have {most}, cut it into tiles")


def _fields(line: str, delimiter: str | None) -> list[str]:
    return line.strip().rstrip(",").split(delimiter)  # some writers end a line with a comma


def is_number(field: str) -> bool:
    """Say whether text is a number, "nan" and "inf" included."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def _check_table(path: Path, table: NDArray[np.float64], number: IntArray) -> None:
    used = table if table.shape[1] == 9 else table[:, :7]  # world coordinates may be anything
    finite = np.isfinite(used).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"{path}:{number[row]}: {used[row].tolist()} holds a value that is not a finite number")
    whole = {"frame": 0, "id": 1, "class": 7} if table.shape[1] == 9 else {"frame": 0, "id": 1}
    for name, column in whole.items():
        wrong = np.flatnonzero((table[:, column] % 1 != 0) | (np.abs(table[:, column]) > 2**53))
        if len(wrong):
            raise DataError(f"{path}:{number[wrong[0]]}: {name} {table[wrong[0], column]:g} is not a whole number")
    early = np.flatnonzero(table[:, 0] < 1)
    if len(early):
        raise DataError(f"{path}:{number[early[0]]}: frame {table[early[0], 0]:g}; MOT files count frames from 1")
