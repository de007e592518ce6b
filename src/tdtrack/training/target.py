"""What a student learns of its teacher's embeddings, fitted to the training boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from tdtrack.errors import StoreError
from tdtrack.model import TeacherTarget, principal_directions
from tdtrack.training.samples import LabelledSet

__all__ = ["fit_target"]


def fit_target(sets: Sequence[LabelledSet], embedding_dim: int, kind: Literal["centred", "pca"]) -> TeacherTarget:
    """Find the mean of the teacher's embeddings of the training boxes, and the directions to learn about it.

    Args:
        sets: with stores of one teacher.
        embedding_dim: D_s, at most D_t.
        kind: "centred" for the teacher's first D_s numbers, "pca" for the directions in which its embeddings vary most.

    Returns:
        Mean and directions over all boxes that count; the same for the same stores.

    Raises:
        StoreError: the stores are of different width.

    Source:
        Not in the paper, which keeps the first D_s numbers as they are (Sec. 3.4).
    """
    widths = sorted({item.store.dim for item in sets if item.store is not None})
    if len(widths) != 1:
        raise StoreError(f"the embedding stores hold {widths} numbers per box; annotate all data sets with one teacher")
    mean = torch.zeros(widths[0], dtype=torch.float64)
    count = sum(int(item.counted.sum()) for item in sets)
    for rows in _rows(sets):
        mean += rows.sum(dim=0) / count
    if kind == "centred":
        return TeacherTarget(mean.float(), torch.eye(widths[0], embedding_dim))
    scatter = torch.zeros(widths[0], widths[0], dtype=torch.float64)
    for rows in _rows(sets):
        scatter += (rows - mean).T @ (rows - mean)
    directions = principal_directions(scatter / max(1, count), embedding_dim)
    return TeacherTarget(mean.float(), directions.float())


def _rows(sets: Sequence[LabelledSet]) -> Iterator[Tensor]:
    """Yield the embeddings of all boxes that count, ``(n, D_t)`` float64."""
    for item in sets:
        for rows in item.teacher_rows():
            yield torch.from_numpy(rows).double()
