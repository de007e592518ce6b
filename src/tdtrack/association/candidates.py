"""The detections of one frame that take part in linking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tdtrack.association.costs import unit_length
from tdtrack.association.kalman import Floats
from tdtrack.boxes import xyxy_to_xyah
from tdtrack.errors import ShapeError
from tdtrack.types import BoolArray, Detections, IntArray

__all__ = ["MAX_CANDIDATES", "Candidates", "take_part"]

MAX_CANDIDATES = 5_000
"""Cost matrices of more boxes than this on both sides no longer fit in a few gigabytes; no detector with NMS finds them."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Detections that take part.

    Attributes:
        xyxy: ``(N, 4)`` float64, sides positive.
        xyah: ``(N, 4)`` the same boxes for the Kalman filter.
        score: ``(N,)`` float64.
        class_id: ``(N,)`` int64.
        embedding: ``(N, D)`` float32 of unit length, a row of zeros where a box has none; ``None`` where no box has one.
    """

    xyxy: Floats
    xyah: Floats
    score: Floats
    class_id: IntArray
    embedding: Floats | None

    def __len__(self) -> int:
        """Return the number of boxes N."""
        return len(self.xyxy)

    def at_least(self, score: float) -> BoolArray:
        """Return ``(N,)`` which ones score so much, in the float32 of detections: 0.4 is no less than 0.4."""
        return np.asarray(self.score >= np.float32(score))


def take_part(detections: Detections, *, min_score: float, frame_index: int, use_embedding: bool) -> Candidates:
    """Choose the detections that take part.

    Args:
        detections: everything found in the frame; embeddings, where used, are finite.
        min_score: floor; a NaN score is below it.
        frame_index: the frame, for the error message.
        use_embedding: keep embeddings.

    Returns:
        The boxes at or above the floor that have width and height, in order.

    Raises:
        ShapeError: there are more than any cost matrix could hold.
    """
    side = detections.xyxy[:, 2:] - detections.xyxy[:, :2]
    chosen = detections.select((detections.score >= min_score) & (side > 0).all(axis=1))
    if len(chosen) > MAX_CANDIDATES:
        raise ShapeError(
            f"frame {frame_index}: {len(chosen)} detections score {min_score} or more, and at most {MAX_CANDIDATES} can be "
            "linked; raise min_score, or suppress overlapping boxes in the detector"
        )
    xyxy = chosen.xyxy.astype(np.float64)
    embedding = unit_length(chosen.embedding) if use_embedding and chosen.embedding is not None else None
    return Candidates(xyxy, xyxy_to_xyah(xyxy), chosen.score.astype(np.float64), chosen.class_id, embedding)
