"""MATLAB files: what SciPy writes is read as SciPy reads it; what no writer writes is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from layouts import matlab_cell, matlab_structs
from tdtrack.data.mat import cells, load_mat, numbers, text
from tdtrack.errors import DataError

VALUES = {
    "double": np.arange(6.0).reshape(2, 3) / 7,
    "single": np.arange(4, dtype=np.float32).reshape(1, 4),
    "bytes": np.array([[1, 255]], np.uint8),
    "negative": np.array([[-3], [7]], np.int16),
    "wide": np.array([[2**40]], np.int64),
    "logical": np.array([[True, False]]),
    "empty": np.zeros((0, 4)),
    "cube": np.arange(24.0).reshape(2, 3, 4),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", list(VALUES))
def test_numbers_come_back_in_their_shape(name: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"before": "text", name: VALUES[name]}, do_compression=compressed)
    found, value = load_mat(path, "nowhere", name)
    array = numbers(value)
    assert found == name and array is not None and array.dtype == np.float64
    np.testing.assert_array_equal(array, scipy.io.loadmat(path)[name])
    assert text(value) is None and cells(value) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_texts_cells_and_structs_come_back_nested(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    inner = matlab_structs([{"name": "a", "box": np.array([[1, 2]])}, {"name": "grün", "box": np.zeros((0, 0))}])
    value = matlab_cell([inner, "text", matlab_cell([], (0, 0)), np.ones((1, 1)), matlab_structs([])], (1, 5))
    scipy.io.savemat(path, {"v": value}, do_compression=compressed)
    people, word, nothing, one, none = cells(load_mat(path, "v")[1])
    assert [text(record["name"]) for record in cells(people)] == ["a", "grün"]
    assert [record["box"].tolist() for record in cells(people)] == [[[1, 2]], []]
    assert text(word) == "text" and numbers(word) is None
    assert cells(nothing) == cells(none) == cells(one) == []
    assert numbers(one).tolist() == [[1]]  # type: ignore[union-attr]


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], *parts: bytes) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    return element(14, flags + element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, b"v") + b"".join(parts))


def nested(depth: int) -> bytes:
    return matrix(1, (1, 1), nested(depth - 1)) if depth else matrix(1, (0, 0))


HEADER = b"MATLAB 5.0".ljust(124) + b"\0\1IM"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with the format's own header"),
        (b"MATLAB 7.3".ljust(124) + b"\0\2IM", "of another version; save it as -v7"),
        (HEADER + b"\x0e\0\0", "an element is cut short at byte 0"),
        (HEADER + struct.pack("<II", 14, 2**31), "claims 2147483648 bytes where 0 are left"),
        (HEADER + struct.pack("<II", 9 << 16 | 6, 0), "a short element claims 9 bytes"),
        (HEADER + matrix(6, (2**30, 2**30), element(9, b"")), "0 numbers fill a matrix of shape"),
        (HEADER + matrix(6, (-1, 1), element(9, b"")), r"a matrix has the shape \(-1, 1\)"),
        (HEADER + matrix(6, (1,), element(9, bytes(8))), r"a matrix has the shape \(1,\)"),
        (HEADER + matrix(1, (2**30, 2)), "2147483648 elements are claimed in 0 bytes"),
        (HEADER + matrix(1, (1, 1), element(5, bytes(4))), "an element of type 5 stands where a matrix belongs"),
        (HEADER + matrix(2, (1, 1), element(5, b""), element(1, b"")), "field names have no length"),
        (HEADER + matrix(6, (1, 1), element(16, b"1")), "numbers are stored as type 16"),
        (HEADER + matrix(4, (1, 1), element(9, bytes(8))), "a text is stored as type 9"),
        (HEADER + matrix(4, (1, 1), element(16, b"\xff")), "invalid start byte"),
        (HEADER + matrix(17, (1, 1)), "a value of class 17, which annotations have no use for"),
        (HEADER + nested(40), "nested more than 16 deep"),
        (HEADER + element(15, b"not zlib"), "incorrect header check"),
        (HEADER + matrix(6, (1, 1), element(9, bytes(8))).replace(b"v", b"w"), r"holds w, but v was looked for"),
    ],
)
def test_what_cannot_be_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.mat: .*{message}"):
        load_mat(tmp_path / "x.mat", "v")
