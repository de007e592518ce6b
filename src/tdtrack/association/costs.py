"""What it costs to say that a track and a detection are the same object: ``(T, N)`` matrices, lower is better."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.association.kalman import Floats
from tdtrack.boxes import iou
from tdtrack.types import IntArray

__all__ = ["blend_motion", "cosine_distance", "forbid_other_classes", "iou_distance", "unit_length"]


def unit_length(embedding: NDArray[Any]) -> Floats:
    """Scale every row to length one.

    Args:
        embedding: ``(N, D)`` of any float type.

    Returns:
        ``(N, D)`` float64; a row of zeros stays zero and so has cosine distance 1 from everything.
    """
    rows = np.asarray(embedding, np.float64)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def cosine_distance(tracks: Floats, detections: Floats) -> Floats:
    """Compare appearance.

    Args:
        tracks: ``(T, D)`` of unit length.
        detections: ``(N, D)`` of unit length.

    Returns:
        ``(T, N)`` in ``[0, 2]``: one minus the cosine, never below zero by rounding.
    """
    return np.maximum(0.0, 1.0 - tracks @ detections.T)


def iou_distance(a: Floats, b: Floats) -> Floats:
    """Return ``(T, N)`` one minus IoU between ``(T, 4)`` and ``(N, 4)`` xyxy boxes, in ``[0, 1]``."""
    distance: Floats = 1.0 - iou(a, b)
    return distance


def blend_motion(
    appearance: Floats, squared_mahalanobis: Floats, *, appearance_weight: float, max_gating_distance: float
) -> Floats:
    """Mix appearance with motion, and forbid what motion rules out.

    Args:
        appearance: ``(T, N)`` cosine distances.
        squared_mahalanobis: ``(T, N)`` squared motion distances.
        appearance_weight: share of appearance in the blend, in ``[0, 1]``.
        max_gating_distance: squared motion distance beyond which a match is impossible.

    Returns:
        ``(T, N)`` costs; infinite beyond the gate.

    Source:
        FairMOT: weight 0.98, gate 9.4877 (95 % of chi-square with 4 degrees of freedom).
    """
    blend = appearance_weight * appearance + (1 - appearance_weight) * squared_mahalanobis
    return np.where(squared_mahalanobis > max_gating_distance, np.inf, blend)


def forbid_other_classes(cost: Floats, track_class: IntArray, detection_class: IntArray) -> Floats:
    """Make matches across classes impossible.

    Args:
        cost: ``(T, N)``.
        track_class: ``(T,)``.
        detection_class: ``(N,)``.

    Returns:
        ``(T, N)`` costs; infinite where the classes differ.
    """
    return np.where(track_class[:, None] == detection_class[None, :], cost, np.inf)
