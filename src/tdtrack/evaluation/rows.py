"""MOT text files as evaluation needs them: every row checked, no id twice in a frame, errors by file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tdtrack.errors import DataError
from tdtrack.files import reason_of
from tdtrack.types import IntArray

__all__ = ["Rows", "is_mot_text", "parse_rows", "read_rows"]

_FRAME, _ID, _WIDTH, _HEIGHT, _FLAG, _CLASS = 0, 1, 4, 5, 6, 7
_MIN_COLUMNS = 6
_EXACT = 2.0**53  # from here on float64 skips whole numbers, and ids would merge
# float() reads 1_0, Arabic digits and blanks such as a form feed; no other program does.
_FOREIGN = re.compile(r"[^\t\n\r -~]|_|\r(?!\n|\Z)")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one MOT text file, in the file's order.

    Attributes:
        path: where they came from, a file or a file in an archive.
        line: ``(N,)`` line of each row in the file, from 1.
        values: ``(N, C)`` float64: frame from 1, id, left, top, width, height, then flag or score, class or x, ...
    """

    path: str
    line: IntArray
    values: NDArray[np.float64]

    @property
    def columns(self) -> int:
        """Number of columns C; 0 for a file without rows."""
        return self.values.shape[1] if len(self.values) else 0

    @property
    def frame(self) -> IntArray:
        """``(N,)`` frame of each row, from 1."""
        return self.values[:, _FRAME].astype(np.int64)

    @property
    def track_id(self) -> IntArray:
        """``(N,)`` id of each row."""
        return self.values[:, _ID].astype(np.int64)

    @property
    def tlwh(self) -> NDArray[np.float64]:
        """``(N, 4)`` left, top, width, height in pixels."""
        return self.values[:, 2:6]

    @property
    def flag(self) -> NDArray[np.float64]:
        """``(N,)`` seventh column: flag of ground truth, score of results; 1 where the file has none."""
        return self.values[:, _FLAG] if self.columns > _FLAG else np.ones(len(self.values))

    @property
    def class_id(self) -> IntArray:
        """``(N,)`` eighth column cut to an integer, MOT's class numbers where the file has them; -1 where it has none."""
        return self.values[:, _CLASS].astype(np.int64) if self.columns > _CLASS else np.full(len(self.values), -1)

    def where(self, row: int) -> str:
        """Return ``file:line`` of a row, for messages."""
        return f"{self.path}:{self.line[row]}"


def read_rows(path: Path) -> Rows:
    """Read a MOT text file: comma- or space-separated numbers, blank lines allowed.

    Args:
        path: the file.

    Returns:
        Its rows; none for an empty file.

    Raises:
        DataError: the file cannot be read, or what ``parse_rows`` refuses.
    """
    return parse_rows(str(path), _text(path))


def parse_rows(path: str, text: str) -> Rows:
    """Parse MOT text: comma- or space-separated numbers, blank lines allowed.

    Args:
        path: where the text came from, for messages.
        text: of the whole file.

    Returns:
        Its rows; none for an empty text.

    Raises:
        DataError: a line has too few or other columns than the first, a field that is no finite number between -2**53 and
            2**53 in ASCII digits, a frame or id that is no whole number, a frame below 1, a negative id or side, or an id that
            the frame already has.
    """
    lines = text.split("\n")  # splitlines() would make two rows at a form feed; of CR LF, _fields drops the CR
    if foreign := _FOREIGN.search(text):
        number = text.count("\n", 0, foreign.start()) + 1
        raise DataError(
            f"{path}:{number}: {lines[number - 1]!r:.80} holds {foreign.group()!r}; a row is ASCII numbers with "
            "commas or blanks between, mend the line"
        )
    numbered = [(number, fields) for number, line in enumerate(lines, start=1) if (fields := _fields(line))]
    if not numbered:
        return Rows(path, np.zeros(0, np.int64), np.zeros((0, 10)))
    _check_columns(path, numbered)
    try:
        values = np.array([fields for _, fields in numbered], dtype=np.float64)
    except ValueError:
        values = np.array([_numbers(path, number, fields) for number, fields in numbered])
    rows = Rows(path, np.array([number for number, _ in numbered], np.int64), values)
    _check_values(rows)
    _check_unique(rows)
    return rows


def is_mot_text(path: Path) -> bool:
    """Tell whether a file's first row is MOT text, as opposed to a summary or a note that lies beside results."""
    try:
        first = next((fields for text in _text(path).split("\n") if (fields := _fields(text))), [])
        return len(first) >= _MIN_COLUMNS and bool(np.isfinite([float(field) for field in first]).all())
    except (DataError, ValueError):
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file ({error.reason} at byte {error.start}); pass MOT text") from error


def _fields(text: str) -> list[str]:
    text = text.strip().rstrip(",").strip()
    if not text:
        return []
    return text.split(",") if "," in text else re.split(r"\s+", text)


def _check_columns(path: str, numbered: list[tuple[int, list[str]]]) -> None:
    first, wanted = numbered[0][0], len(numbered[0][1])
    for number, fields in numbered:
        if len(fields) < _MIN_COLUMNS:
            raise DataError(
                f"{path}:{number}: {len(fields)} columns, but MOT text has at least {_MIN_COLUMNS} "
                "(frame, id, left, top, width, height); mend or remove the line"
            )
        if len(fields) != wanted:
            raise DataError(f"{path}:{number}: {len(fields)} columns where line {first} has {wanted}; mend or remove the line")


def _numbers(path: str, number: int, fields: list[str]) -> list[float]:
    values = []
    for column, field in enumerate(fields, start=1):
        try:
            values.append(float(field))
        except ValueError:
            raise DataError(f"{path}:{number}: column {column} is {field.strip()!r}, not a number; mend the line") from None
    return values


def _check_values(rows: Rows) -> None:
    values = rows.values
    whole = values[:, [_FRAME, _ID]]
    problems = (
        (~(np.abs(values) < _EXACT).all(axis=1), "a field is not a finite number between -2**53 and 2**53"),
        ((whole != np.rint(whole)).any(axis=1), "frame and id must be whole numbers"),
        (values[:, _FRAME] < 1, "frames count from 1"),
        (values[:, _ID] < 0, "ids must not be negative"),
        ((values[:, [_WIDTH, _HEIGHT]] < 0).any(axis=1), "width and height must not be negative"),
    )
    for bad, reason in problems:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            shown = ", ".join(f"{value:g}" for value in values[row, :_MIN_COLUMNS])
            raise DataError(f"{rows.where(row)}: {reason} (frame, id and box are {shown}); mend or remove the line")


def _check_unique(rows: Rows) -> None:
    order = np.lexsort((rows.line, rows.track_id, rows.frame))
    frame, track_id = rows.frame[order], rows.track_id[order]
    repeated = np.flatnonzero((frame[1:] == frame[:-1]) & (track_id[1:] == track_id[:-1]))
    if len(repeated):
        first, second = int(order[repeated[0]]), int(order[repeated[0] + 1])
        raise DataError(
            f"{rows.where(second)}: id {rows.track_id[second]} is already in frame {rows.frame[second]} "
            f"(line {rows.line[first]}); an id may stand once in a frame"
        )
