"""What the default association knows of its tracks, a column per fact."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tdtrack.association.kalman import Floats
from tdtrack.types import BoolArray, IntArray

__all__ = ["TrackTable", "empty_table"]


@dataclass(slots=True, eq=False)
class TrackTable:
    """All tracks, a row each.

    Attributes:
        track_id: ``(T,)``.
        class_id: ``(T,)``.
        score: ``(T,)`` of the last detection.
        trust: ``(T,)`` fading sum of the log-odds that the detections' scores give an object.
        mean: ``(T, 8)`` Kalman states.
        covariance: ``(T, 3, 4)``.
        look: ``(T, D)`` running embedding of unit length; zeros where none was seen.
        looks: ``(T,)`` embeddings in it.
        hits: ``(T,)`` detections so far.
        seen: ``(T,)`` time of the last detection, seconds.
        confirmed: ``(T,)``.
    """

    track_id: IntArray
    class_id: IntArray
    score: Floats
    trust: Floats
    mean: Floats
    covariance: Floats
    look: Floats
    looks: IntArray
    hits: IntArray
    seen: Floats
    confirmed: BoolArray

    def __len__(self) -> int:
        return len(self.track_id)

    def select(self, rows: IntArray | BoolArray) -> TrackTable:
        """Return the given rows."""
        return TrackTable(*(getattr(self, column.name)[rows] for column in fields(self)))

    def extended(self, other: TrackTable) -> TrackTable:
        """Return these rows and then the other's."""
        columns = [column.name for column in fields(self)]
        return TrackTable(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns))


def empty_table() -> TrackTable:
    """Return a table without rows."""
    whole, real = np.zeros(0, np.int64), np.zeros(0)
    states = np.zeros((0, 8)), np.zeros((0, 3, 4))
    return TrackTable(whole, whole, real, real, *states, np.zeros((0, 0)), whole, whole, real, np.zeros(0, np.bool_))
