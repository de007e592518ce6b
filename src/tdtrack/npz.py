"""Reading NumPy archives that may come from anywhere."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.errors import DataError
from tdtrack.files import is_bomb, reason_of

__all__ = ["read_arrays"]

# What zipfile and NumPy raise on damaged archives and headers, which are Python literals.
_DAMAGED = (
    *(SyntaxError, ValueError, EOFError, NotImplementedError, RuntimeError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file, running no code from it.

    What the archive says of its sizes is compared with the bytes it has before any memory is taken.

    Args:
        path: the file.

    Returns:
        Arrays by name, none of objects.

    Raises:
        DataError: the file cannot be read, is no archive of plain arrays, or claims more than it can hold.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return {entry.filename.removesuffix(".npy"): _read(path, archive, entry) for entry in archive.infolist()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    except _DAMAGED as error:
        raise DataError(f"{path}: not a NumPy archive of plain arrays (.npz): {error}") from error


def _read(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    if is_bomb(entry.file_size, entry.compress_size):
        raise DataError(f"{path}: {entry.filename} unpacks from {entry.compress_size} to {entry.file_size} bytes; refused")
    with archive.open(entry) as member:
        _check_size(path, entry, member)
    with archive.open(entry) as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _check_size(path: Path, entry: zipfile.ZipInfo, member: IO[bytes]) -> None:
    """Refuse an array whose header claims more than follows it; NumPy would take the memory first."""
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"{entry.filename} has array format {version}")
    shape, _, kind = _HEADERS[version](member)
    if any(side < 0 for side in shape) or kind.hasobject:
        raise ValueError(f"{entry.filename} holds {kind} of shape {shape}")
    claimed, there = math.prod(shape) * kind.itemsize, entry.file_size - member.tell()
    if claimed > there:
        raise DataError(f"{path}: {entry.filename} claims {kind} of shape {shape}, {claimed} bytes, but holds {there}")
