"""Detections and tracks in the form of ``supervision``, which many tools of the field take and give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tdtrack.types import Detections, Tracks

if TYPE_CHECKING:
    import supervision as sv

__all__ = ["from_supervision", "to_supervision"]

EMBEDDING = "embedding"
"""Key of the embeddings in supervision's ``data``."""


def to_supervision(found: Detections | Tracks) -> sv.Detections:
    """Turn one frame's detections or tracks into ``supervision.Detections``.

    Args:
        found: detections, whose embeddings go to ``data["embedding"]``; or tracks, whose ids go to ``tracker_id``.

    Returns:
        The same boxes in the same order.
    """
    import supervision as sv

    same = sv.Detections(xyxy=found.xyxy, confidence=found.score, class_id=found.class_id.astype(int))
    if isinstance(found, Tracks):
        same.tracker_id = found.track_id.astype(int)
    elif found.embedding is not None:
        same.data[EMBEDDING] = found.embedding
    return same


def from_supervision(found: sv.Detections) -> Detections:
    """Turn ``supervision.Detections`` into ours, ready for ``Tracker.update``.

    Args:
        found: boxes; ``data["embedding"]`` ``(N, D)``, where there is one, becomes the embeddings.

    Returns:
        The same boxes in the same order; score 1 and class 0 where the original has none, embeddings of unit length.

    Raises:
        ShapeError: the embeddings do not pair up with the boxes, or a box is not finite.
    """
    count = len(found)
    score = np.ones(count, np.float32) if found.confidence is None else np.asarray(found.confidence, np.float32)
    kind = np.zeros(count, np.int64) if found.class_id is None else np.asarray(found.class_id, np.int64)
    embedding = found.data.get(EMBEDDING)
    if embedding is not None:
        rows = np.asarray(embedding, np.float32)
        length = np.linalg.norm(rows, axis=-1, keepdims=True)
        embedding = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return Detections(np.asarray(found.xyxy, np.float32), score, kind, embedding)
