"""Fitting appearance ceiling and scale to an embedding space, without identities.

How far apart two embeddings of one person are depends on the network that makes them, so a ceiling tuned for one is wrong
for the next (Sec. 3.5). Two things are known without any identity: two boxes of one image are different objects, and two
views of one box are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.association.costs import unit_length
from tdtrack.config import AssociationConfig
from tdtrack.errors import ShapeError
from tdtrack.types import FloatArray, IntArray

__all__ = [
    "APPEARANCE_TEACHER",
    "appearance_ceiling",
    "appearance_for",
    "cosine_statistics",
    "different_pairs",
    "fit_appearance",
    "middle_distance",
    "within_object_normalisation",
]

APPEARANCE_TEACHER = "appearance_teacher"
"""Entry of a model's metadata: fingerprint of the teacher whose embeddings ``teacher_`` entries of ``"appearance"`` fit."""

PAIRS_AT_ONCE = 65_536
"""Pairs compared in one step; bounds memory to two blocks of this many embeddings."""

MEAN_SQUARED_MAHALANOBIS = 4.0
"""Mean of chi-square with 4 degrees of freedom: what motion adds, on average, to the cost of a right match."""


def appearance_for(metadata: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """Return what a model's ``"appearance"`` says that holds where a teacher embeds crops.

    Args:
        metadata: of the model.
        fingerprint: of the teacher.

    Returns:
        The entries; those with the prefix ``teacher_`` only if they were fitted to this teacher's embeddings.

    Source:
        Sec. 3.5: a ceiling means nothing in another space.
    """
    fitted_with = metadata.get(APPEARANCE_TEACHER) or metadata.get("teacher", {}).get("fingerprint", fingerprint)
    carried: dict[str, Any] = metadata.get("appearance", {})
    return {key: value for key, value in carried.items() if fitted_with == fingerprint or not key.startswith("teacher_")}


def different_pairs(embedding: NDArray[Any], image_index: IntArray) -> FloatArray:
    """Measure the distances between different boxes of the same image.

    Args:
        embedding: ``(N, D)`` of any length but zero, one row per box.
        image_index: ``(N,)`` image of each box, in any order.

    Returns:
        ``(P,)`` float32 cosine distances in ``[0, 2]``, each unordered pair once; empty where no image has two boxes.

    Raises:
        ShapeError: the rows do not pair up.
    """
    if embedding.ndim != 2 or image_index.shape != (len(embedding),):
        raise ShapeError(
            f"embeddings have shape {embedding.shape} and image indices {image_index.shape}; one row per box is needed"
        )
    order = np.argsort(image_index, kind="stable")
    image = image_index[order]
    # In order of image, the partners of a box are the rows after it up to the end of its image.
    here = np.arange(len(image))
    partners = np.searchsorted(image, image, side="right") - here - 1
    first = np.repeat(here, partners)
    second = np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners) + first + 1
    distance = np.empty(len(first), np.float32)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        block = slice(start, start + PAIRS_AT_ONCE)
        a, b = (unit_length(embedding[order[rows[block]]]) for rows in (first, second))
        distance[block] = np.maximum(0.0, 1.0 - np.einsum("pd,pd->p", a, b))
    return distance


def middle_distance(same: NDArray[Any], different: NDArray[Any]) -> float:
    """Find the distance halfway between the typical view of the same object and the typical other object.

    Where errors on both sides balance lies lower, and lower than tracks need: views that augmentation makes are easier than an
    object's next appearance.

    Args:
        same: ``(S,)`` cosine distances between views of the same object.
        different: ``(P,)`` cosine distances between different objects.

    Returns:
        The mean of the two medians.

    Raises:
        ShapeError: one of the two is empty or not finite.
    """
    _check_pairs(same, different)
    return float(np.median(same) + np.median(different)) / 2


def appearance_ceiling(
    same: NDArray[Any], different: NDArray[Any], *, appearance_weight: float = AssociationConfig.appearance_weight
) -> float:
    """Choose ``max_appearance_cost`` for an embedding space.

    The rule: take the cosine distance halfway between the typical same and the typical different pair, weigh it as the tracker
    does, and add what the motion of a right match costs on average.

    Args:
        same: ``(S,)`` cosine distances between views of the same object, for instance a crop and its augmented view.
        different: ``(P,)`` cosine distances between different objects, for instance from ``different_pairs``.
        appearance_weight: share of the cosine distance in the tracker's cost.

    Returns:
        The ceiling, above 0 unless all distances are 0 and motion has no share.

    Raises:
        ShapeError: one of the two is empty or not finite.

    Source:
        Ours; the paper re-tunes the ceiling but does not say how (Sec. 3.5).
    """
    return appearance_weight * middle_distance(same, different) + (1 - appearance_weight) * MEAN_SQUARED_MAHALANOBIS


def cosine_statistics(same: NDArray[Any], different: NDArray[Any]) -> list[float]:
    """Describe an embedding space for the association by evidence.

    Args:
        same: ``(S,)`` cosine distances between views of the same object.
        different: ``(P,)`` cosine distances between different objects.

    Returns:
        Mean and standard deviation of the cosine of same pairs, then of different pairs; deviations are at least 0.001, so
        that a handful of pairs does not pass for certainty.

    Raises:
        ShapeError: one of the two is empty or not finite.
    """
    _check_pairs(same, different)
    return [number for pairs in (same, different) for number in (float(1 - pairs.mean()), max(float(pairs.std()), 1e-3))]


def fit_appearance(same: NDArray[Any], different: NDArray[Any]) -> dict[str, Any]:
    """Return all that calibration stores with a model: the ceiling for FairMOT's association, the statistics for evidence.

    Args:
        same: ``(S,)`` cosine distances between views of the same object.
        different: ``(P,)`` cosine distances between different objects.

    Raises:
        ShapeError: one of the two is empty or not finite.
    """
    return {
        "max_appearance_cost": appearance_ceiling(same, different),
        "cosine_statistics": cosine_statistics(same, different),
    }


def within_object_normalisation(
    embedding: NDArray[Any], first: NDArray[Any], second: NDArray[Any], *, ridge: float = 0.1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the linear map after which views of one object differ alike in every direction.

    Directions in which an object's views scatter say little about who it is; after the map they count less in a cosine.

    Args:
        embedding: ``(N, D)``, one row per box, not normalised.
        first: ``(S, D)``, boxes once more.
        second: ``(S, D)``, another view of each.
        ridge: added to the scatter in every direction, as a share of its mean over the directions; without it, directions in
            which a sample happens to vary little would count for too much.

    Returns:
        Offset ``(D,)`` and matrix ``(D, D)``: ``(e - offset) @ matrix`` takes the place of ``e``. The embeddings are about 0
        then, with the mean squared length that they had about their mean.

    Raises:
        ShapeError: the rows do not pair up, there are none, or they are not finite or all the same.

    Source:
        Within-class covariance normalisation (Hatch, Kajarekar and Stolcke, 2006), where a class is a box and its other view:
        ours, so that it needs no identities. Not in the paper.
    """
    if embedding.ndim != 2 or first.shape != second.shape or first.shape[1:] != embedding.shape[1:] or not len(first):
        raise ShapeError(
            f"embeddings have shape {embedding.shape}, their views {first.shape} and {second.shape}; rows must pair up"
        )
    offset = embedding.astype(np.float64).mean(axis=0)
    centred, difference = embedding - offset, first.astype(np.float64) - second
    within = difference.T @ difference / (2 * len(difference))
    spread = float(np.trace(within)) / len(within)
    if not (np.isfinite(spread) and spread > 0 and np.isfinite(centred).all() and centred.any()):
        raise ShapeError("the embeddings or their views are not finite, or all the same; nothing can be learned from them")
    values, vectors = np.linalg.eigh(within + ridge * spread * np.eye(len(within)))
    matrix = (vectors * values**-0.5) @ vectors.T
    return offset, matrix * np.sqrt(np.square(centred).sum() / np.square(centred @ matrix).sum())


def _check_pairs(same: NDArray[Any], different: NDArray[Any]) -> None:
    for name, values in (("same", same), ("different", different)):
        if values.size == 0 or not np.isfinite(values).all():
            raise ShapeError(
                f"{name} has {values.size} distances, not all finite or none at all; calibration needs both kinds of pairs"
            )
