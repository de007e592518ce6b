"""Which annotated boxes can be used, and what is wrong with the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tdtrack.types import BoolArray, FloatArray

__all__ = ["CheckedBoxes", "check_boxes"]

_FINE, _CLIPPED, _NOT_FINITE, _NO_AREA, _OUTSIDE = range(5)
_KINDS = {
    _CLIPPED: "box-clipped",
    _NOT_FINITE: "box-not-finite",
    _NO_AREA: "box-without-area",
    _OUTSIDE: "box-outside-image",
}
_BORDER_TOLERANCE = 1.0  # pixels; one more is a habit of annotation tools that count pixels from 1


@dataclass(frozen=True, slots=True, eq=False)
class CheckedBoxes:
    """Boxes cut at the border of their image, with a verdict on each.

    Attributes:
        xyxy: ``(N, 4)`` float32 inside the image; meaningless where a box is not usable.
        usable: ``(N,)`` bool.
        misplaced: ``(N,)`` bool: not usable though it may have an area, so that there is an object somewhere.
        worth_saying: the rows whose box is not usable, or reaches more than a pixel over the border, ascending.
    """

    xyxy: FloatArray
    usable: BoolArray
    misplaced: BoolArray
    worth_saying: NDArray[np.int64]
    _verdict: NDArray[np.int8]
    _tlwh: NDArray[np.float64]
    _size: NDArray[np.int64]

    def describe(self, row: int) -> tuple[str, str]:
        """Return kind and message of the problem of one of ``worth_saying``."""
        verdict = int(self._verdict[row])
        left, top, width, height = self._tlwh[row].tolist()
        box = f"box ({left:.10g}, {top:.10g}, {width:.10g}, {height:.10g})"
        image = f"its {self._size[row, 0]}x{self._size[row, 1]} image"
        if verdict == _NOT_FINITE:
            said = f"{box} has a side that is not a finite number"
        elif verdict == _NO_AREA:
            # A positive side that float32 cannot tell from none is none, too.
            sides = [name for name, side in (("width", width), ("height", height)) if side <= 0] or ["area"]
            said = f"{box} has no {' and no '.join(sides)}" if min(width, height) >= 0 else f"{box} has a negative side"
        elif verdict == _OUTSIDE:
            said = f"{box} lies outside {image}"
        else:
            said = f"{box} reaches over the border of {image} and is cut there"
        return _KINDS[verdict], said


def check_boxes(tlwh: NDArray[np.float64], size: NDArray[np.int64]) -> CheckedBoxes:
    """Cut boxes at the border of their image and judge them.

    Args:
        tlwh: ``(N, 4)`` left, top, width, height in pixels, as annotated.
        size: ``(N, 2)`` width and height of each box's image.

    Returns:
        The cut boxes. Usable is a box with finite sides that has an area inside its image.
    """
    finite = np.all(np.isfinite(tlwh), axis=1)
    safe = np.where(finite[:, None], tlwh, 0.0)
    corners = np.concatenate([safe[:, :2], safe[:, :2] + safe[:, 2:]], axis=1)
    border = np.concatenate([size, size], axis=1).astype(np.float64)
    inside = np.clip(corners, 0.0, border)
    xyxy = inside.astype(np.float32)
    overlaps = np.all(inside[:, 2:] > inside[:, :2], axis=1)
    # A side can also be too short for float32; a box outside its image is called that, and not thin.
    has_area = np.all(safe[:, 2:] > 0, axis=1) & (np.all(xyxy[:, 2:] > xyxy[:, :2], axis=1) | ~overlaps)
    verdict = np.full(len(tlwh), _FINE, np.int8)
    verdict[np.any(np.abs(inside - corners) > _BORDER_TOLERANCE, axis=1)] = _CLIPPED
    verdict[~overlaps] = _OUTSIDE
    verdict[~has_area] = _NO_AREA
    verdict[~finite] = _NOT_FINITE
    usable = verdict <= _CLIPPED
    misplaced = np.isin(verdict, (_NOT_FINITE, _OUTSIDE))
    return CheckedBoxes(xyxy, usable, misplaced, np.flatnonzero(verdict != _FINE), verdict, tlwh, size)
