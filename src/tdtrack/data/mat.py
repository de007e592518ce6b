"""MATLAB files (level 5, what MATLAB writes as -v6 and -v7), read as the untrusted input they are.

SciPy's reader is not used: on a file with a few wrong bytes it can end the process (a segmentation fault, which no ``except``
sees). This one checks every length against the bytes that are there, and bounds what a compressed file may unpack to.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.errors import DataError
from tdtrack.files import reason_of

__all__ = ["cells", "load_mat", "numbers", "text"]

_HEADER_BYTES = 128
_MAX_BYTES = 512_000_000  # unpacked; the largest published annotation file has a tenth of it
_MAX_DEPTH = 16
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)


class _DamageError(ValueError):
    """What the bytes say cannot be."""


def load_mat(path: Path, *wanted: str) -> tuple[str, Any]:
    """Read one variable of a MATLAB file; nothing in such a file can run code here.

    Args:
        path: the file.
        wanted: names of the variable, in order of preference.

    Returns:
        The name found and its value, of nested: float64 arrays in MATLAB's shape, texts, lists (cells, in MATLAB's order) and
        lists of dictionaries (structs by field).

    Raises:
        DataError: the file cannot be read, is damaged, or holds none of the variables; says what it holds.

    Source:
        MathWorks, "MAT-File Format", level 5.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the MATLAB file: {reason_of(error)}") from error
    try:
        reader, body = _open(content)
        held = {reader.name_of(*variable): variable for variable in reader.variables(body)}
        name = next((name for name in wanted if name in held), None)
        if name is not None:
            return name, reader.matrix(*held[name], depth=0)
    except (ValueError, OverflowError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: damaged, or not a MATLAB file of level 5 ({error}); fetch it again") from error
    raise DataError(f"{path}: holds {', '.join(held) or 'no variable'}, but {' or '.join(wanted)} was looked for")


def cells(value: object) -> list[Any]:
    """Return the elements of a cell or struct array; none for anything else, an empty matrix for one."""
    return value if isinstance(value, list) else []


def numbers(value: object) -> NDArray[np.float64] | None:
    """Return a numeric matrix, or ``None`` for anything else."""
    return value if isinstance(value, np.ndarray) else None


def text(value: object) -> str | None:
    """Return a text, or ``None`` for anything else."""
    return value if isinstance(value, str) else None


def _open(content: bytes) -> tuple[_Reader, bytes]:
    mark = content[126:128]
    if len(content) < _HEADER_BYTES or mark not in (b"IM", b"MI"):
        raise _DamageError("it does not begin with the format's own header")
    if content[124:126] not in (b"\0\1", b"\1\0"):
        raise _DamageError("it is of another version; save it as -v7")
    return _Reader("<" if mark == b"IM" else ">"), content[_HEADER_BYTES:]


class _Reader:
    """Decodes elements: a tag of type and length, then the content, filled up to eight bytes."""

    def __init__(self, order: str) -> None:
        self.order = order
        self._words = struct.Struct(f"{order}II")
        self._plain = struct.Struct(f"{order}IIIIIIiiII")

    def variables(self, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Yield buffer, first and last byte of each variable's content."""
        position, room = 0, _MAX_BYTES
        while position < len(body):
            kind, start, end, position = self.element(body, position, len(body), aligned=False)
            if kind == _MATRIX:
                yield body, start, end
            elif kind == _COMPRESSED:
                unpacked = zlib.decompressobj().decompress(body[start:end], room)
                room -= len(unpacked)
                if room <= 0:
                    raise _DamageError(f"it unpacks to more than {_MAX_BYTES} bytes")
                inner, first, last, _ = self.element(unpacked, 0, len(unpacked), aligned=True)
                if inner == _MATRIX:
                    yield unpacked, first, last

    def element(self, buffer: bytes, position: int, limit: int, *, aligned: bool = True) -> tuple[int, int, int, int]:
        """Return type, first and last byte of the content of the element at a position, and where the next one begins."""
        if position + 8 > limit:
            raise _DamageError(f"an element is cut short at byte {position}")
        kind, length = self._words.unpack_from(buffer, position)
        if kind >> 16:  # short content lies in the tag itself
            length, kind = kind >> 16, kind & 0xFFFF
            if length > 4:
                raise _DamageError(f"a short element claims {length} bytes at byte {position}")
            return kind, position + 4, position + 4 + length, position + 8
        start = position + 8
        end = start + length
        if end > limit:
            raise _DamageError(f"an element claims {length} bytes where {limit - start} are left, at byte {position}")
        padding = -length % 8 if aligned or kind == _MATRIX else 0
        return kind, start, end, min(end + padding, limit)

    def _head(self, buffer: bytes, position: int, limit: int) -> tuple[int, tuple[int, ...], str, int]:
        """Return class, shape and name of a matrix, and where its content begins."""
        if (
            position + self._plain.size <= limit
        ):  # nameless and flat, as nearly all in cells and structs are: one step, not seven
            flags_kind, flags_size, flags, _, shape_kind, shape_size, rows, columns, name_kind, name_size = (
                self._plain.unpack_from(buffer, position)
            )
            tags = (flags_kind, flags_size, shape_kind, shape_size, name_kind, name_size)
            if tags == (6, 8, 5, 8, 1, 0) and rows >= 0 and columns >= 0:
                return flags & 0xFF, (rows, columns), "", position + self._plain.size
        _, start, end, position = self.element(buffer, position, limit)
        if end - start < 4:
            raise _DamageError(f"a matrix has no class at byte {start}")
        kind = self._words.unpack_from(buffer[start:end].ljust(8, b"\0"))[0] & 0xFF
        _, start, end, position = self.element(buffer, position, limit)
        shape = tuple(int(side) for side in np.frombuffer(buffer[start : end - (end - start) % 4], f"{self.order}i4"))
        if len(shape) < 2 or min(shape) < 0:
            raise _DamageError(f"a matrix has the shape {shape} at byte {start}")
        _, start, end, position = self.element(buffer, position, limit)
        return kind, shape, buffer[start:end].decode("latin-1"), position

    def name_of(self, buffer: bytes, position: int, limit: int) -> str:
        """Return the name of a matrix."""
        return self._head(buffer, position, limit)[2]

    def matrix(self, buffer: bytes, position: int, limit: int, *, depth: int) -> Any:
        """Return the value of a matrix, of which the content begins at a position."""
        if position == limit:  # how an empty cell is written
            return np.zeros((0, 0))
        if depth > _MAX_DEPTH:
            raise _DamageError(f"it is nested more than {_MAX_DEPTH} deep")
        kind, shape, _, position = self._head(buffer, position, limit)
        count = math.prod(shape)
        if kind == _CELL:
            return self._values(buffer, position, limit, count, depth)
        if kind == _STRUCT:
            return self._structs(buffer, position, limit, count, depth)
        if kind == _CHAR:
            stored, start, end, _ = self.element(buffer, position, limit) if count else (1, 0, 0, 0)
            return self._text(stored, buffer[start:end])
        if kind in _NUMERIC:
            stored, start, end, _ = self.element(buffer, position, limit)
            return self._array(stored, buffer[start:end], shape, count)
        raise _DamageError(f"it holds a value of class {kind}, which annotations have no use for")

    def _values(self, buffer: bytes, position: int, limit: int, count: int, depth: int) -> list[Any]:
        if count > (limit - position) // 8:
            raise _DamageError(f"{count} elements are claimed in {limit - position} bytes")
        values = []
        for _ in range(count):
            kind, start, end, position = self.element(buffer, position, limit)
            if kind != _MATRIX:
                raise _DamageError(f"an element of type {kind} stands where a matrix belongs, at byte {start}")
            values.append(self.matrix(buffer, start, end, depth=depth + 1))
        return values

    def _structs(self, buffer: bytes, position: int, limit: int, count: int, depth: int) -> list[Any]:
        _, start, end, position = self.element(buffer, position, limit)
        if end - start != 4:
            raise _DamageError(f"a struct's field names have no length at byte {start}")
        length = int.from_bytes(buffer[start:end], "little" if self.order == "<" else "big")
        _, start, end, position = self.element(buffer, position, limit)
        if length < 1 or end == start or (end - start) % length:
            return []  # a struct without fields holds nothing
        names = [buffer[at : at + length].partition(b"\0")[0].decode("latin-1") for at in range(start, end, length)]
        values = self._values(buffer, position, limit, count * len(names), depth)
        return [dict(zip(names, values[at : at + len(names)])) for at in range(0, len(values), len(names))]

    def _text(self, stored: int, content: bytes) -> str:
        if stored not in _TEXTS:
            raise _DamageError(f"a text is stored as type {stored}")
        encoding = _TEXTS[stored]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self.order == "<" else "-be"
        return content.decode(encoding)

    def _array(self, stored: int, content: bytes, shape: tuple[int, ...], count: int) -> NDArray[np.float64]:
        if stored not in _NUMBERS:
            raise _DamageError(f"numbers are stored as type {stored}")
        found = np.frombuffer(content, f"{self.order}{_NUMBERS[stored]}")
        if len(found) != count:
            raise _DamageError(f"{len(found)} numbers fill a matrix of shape {shape}")
        return found.astype(np.float64).reshape(shape, order="F")
