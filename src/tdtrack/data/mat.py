"""MATLAB files, read as the untrusted input they are."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from tdtrack.errors import DataError
from tdtrack.files import reason_of

__all__ = ["cells", "load_mat", "numbers", "text"]

_MAX_ELEMENTS = 50_000_000  # a hundred times what the largest published annotation file holds


def load_mat(path: Path, *wanted: str) -> tuple[str, NDArray[Any]]:
    """Read one variable of a MATLAB file (versions 4 to 7.2; nothing in them can run code).

    Args:
        path: the file.
        wanted: names of the variable, in order of preference.

    Returns:
        The name found and its value: numbers as they are, cells as ``(rows, columns)`` object arrays, structs as structured
        arrays.

    Raises:
        DataError: the file cannot be read, is damaged, or holds none of the variables; says what it holds.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = {name: shape for name, shape, _ in scipy.io.whosmat(str(path), appendmat=False)}
            name = next((name for name in wanted if name in held), None)
            if name is not None and math.prod(held[name]) <= _MAX_ELEMENTS:
                value = scipy.io.loadmat(str(path), variable_names=[name], appendmat=False)[name]
                return name, np.asarray(value)
    except OSError as error:
        raise DataError(f"{path}: cannot read the MATLAB file: {reason_of(error)}") from error
    except Exception as error:  # SciPy's reader meets damage with whatever error its next step happens to raise
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(f"{path}: damaged, or not a MATLAB file of version 4 to 7.2 ({said:.120}); fetch it again") from error
    if name is not None:
        raise DataError(f"{path}: variable {name} claims {held[name]} elements; this is no annotation file")
    raise DataError(f"{path}: holds {', '.join(held) or 'no variable'}, but {' or '.join(wanted)} was looked for")


def cells(value: object) -> list[Any]:
    """Return the elements of a cell or struct array in MATLAB's order; none for anything else, an empty matrix for one."""
    if isinstance(value, np.ndarray) and (value.dtype == object or value.dtype.names):
        return list(value.ravel(order="F"))
    return []


def numbers(value: object) -> NDArray[np.float64] | None:
    """Return a numeric matrix as float64, or ``None`` for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        return value.astype(np.float64)
    return None


def text(value: object) -> str | None:
    """Return a MATLAB string, or ``None`` for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
        return str(value.item())
    return None
