"""Small validated records of NumPy arrays that travel between the rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tdtrack.errors import ShapeError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Image = NDArray[np.uint8]
"""``(H, W, 3)`` RGB, uint8."""

ANY_CLASS = -1
"""Class of an ignore region that is one for every class."""

__all__ = ["ANY_CLASS", "BoolArray", "Detections", "FloatArray", "Image", "IntArray", "Tracks"]


def _column(name: str, value: ArrayLike, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Convert one field, refuse a shape that does not fit (``None`` in ``shape`` is any length)."""
    array = np.asarray(value, dtype=dtype)
    if array.size == 0 and array.ndim < len(shape) and shape[0] in (0, None):
        array = array.reshape(tuple(0 if side is None else side for side in shape))
    if array.ndim != len(shape) or any(want is not None and got != want for got, want in zip(array.shape, shape)):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ShapeError(f"{name} has shape {array.shape}, expected ({wanted})")
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found in one frame.

    Attributes:
        xyxy: ``(N, 4)`` float32, corners in pixels of the frame, ``x2 >= x1`` and ``y2 >= y1``.
        score: ``(N,)`` float32 in ``[0, 1]``.
        class_id: ``(N,)`` int64, index into the detector's class names.
        embedding: ``(N, D)`` float32 of unit length, or ``None`` where the detector gives none.
    """

    xyxy: FloatArray
    score: FloatArray
    class_id: IntArray
    embedding: FloatArray | None = None

    def __post_init__(self) -> None:
        """Convert to the documented dtypes and check that the rows pair up.

        Raises:
            ShapeError: a field does not have one row per box, or a box has a NaN or infinite side.
        """
        xyxy = _column("xyxy", self.xyxy, np.float32, (None, 4))
        n = len(xyxy)
        object.__setattr__(self, "xyxy", xyxy)
        object.__setattr__(self, "score", _column("score", self.score, np.float32, (n,)))
        object.__setattr__(self, "class_id", _column("class_id", self.class_id, np.int64, (n,)))
        if self.embedding is not None:
            object.__setattr__(self, "embedding", _column("embedding", self.embedding, np.float32, (n, None)))
        if not np.isfinite(xyxy).all():
            row = int(np.flatnonzero(~np.isfinite(xyxy).all(axis=1))[0])
            raise ShapeError(f"xyxy row {row} is {xyxy[row].tolist()}; every side must be a finite number of pixels")

    @classmethod
    def empty(cls, embedding_dim: int | None = None) -> Detections:
        """No boxes, with or without an embedding column of the given width."""
        embedding = None if embedding_dim is None else np.zeros((0, embedding_dim), np.float32)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), embedding)

    def __len__(self) -> int:
        """Return the number of boxes N."""
        return len(self.xyxy)

    def select(self, rows: IntArray | BoolArray) -> Detections:
        """Return the given rows (indices or a mask), in the given order."""
        embedding = None if self.embedding is None else self.embedding[rows]
        return Detections(self.xyxy[rows], self.score[rows], self.class_id[rows], embedding)

    def with_embedding(self, embedding: FloatArray | None) -> Detections:
        """Return the same boxes with another embedding column, or none."""
        return Detections(self.xyxy, self.score, self.class_id, embedding)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The confirmed tracks of one frame, in order of track id.

    Attributes:
        frame_index: the frame, counted from 0.
        track_id: ``(T,)`` int64 from 1, unique within one tracker until ``reset``.
        xyxy: ``(T, 4)`` float32, corners in pixels of the frame.
        score: ``(T,)`` float32, score of the detection that was matched last, in this frame unless the object is hidden.
        class_id: ``(T,)`` int64.
        hidden: ``(T,)`` bool, no detection was matched in this frame: the box is where the object should be.
    """

    frame_index: int
    track_id: IntArray
    xyxy: FloatArray
    score: FloatArray
    class_id: IntArray
    hidden: BoolArray | None = None

    def __post_init__(self) -> None:
        """Convert to the documented dtypes and check that the rows pair up; ``hidden`` is all false where not given.

        Raises:
            ShapeError: a field does not have one row per track.
        """
        track_id = _column("track_id", self.track_id, np.int64, (None,))
        n = len(track_id)
        object.__setattr__(self, "track_id", track_id)
        object.__setattr__(self, "xyxy", _column("xyxy", self.xyxy, np.float32, (n, 4)))
        object.__setattr__(self, "score", _column("score", self.score, np.float32, (n,)))
        object.__setattr__(self, "class_id", _column("class_id", self.class_id, np.int64, (n,)))
        hidden = np.zeros(n, bool) if self.hidden is None else self.hidden
        object.__setattr__(self, "hidden", _column("hidden", hidden, np.bool_, (n,)))

    def __len__(self) -> int:
        """Return the number of tracks T."""
        return len(self.track_id)
