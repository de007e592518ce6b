"""What is learned of the teacher's embeddings, as one table: in memory, or in a file where it would not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tdtrack.errors import OutputError
from tdtrack.files import reason_of
from tdtrack.model import TeacherTarget

if TYPE_CHECKING:
    from tdtrack.training.samples import LabelledSet

__all__ = ["TABLE_BYTES", "learned_embeddings"]

TABLE_BYTES = 2_000_000_000
"""A larger table is read from a file: 8 million boxes of 128 numbers."""


def learned_embeddings(
    sets: Sequence[LabelledSet], embedding_dim: int, target: TeacherTarget | None, folder: Path
) -> NDArray[np.float16]:
    """Return what is learned of every box's embedding.

    Stores are read once, part by part. A table beyond ``TABLE_BYTES`` goes through a file without a name, which is gone when
    the process ends, however it ends; the system keeps in memory what it has room for.

    Args:
        sets: with stores.
        embedding_dim: D_s.
        target: what is learned; ``None`` is the first D_s numbers.
        folder: where the file would be; made if need be.

    Returns:
        ``(G, D_s)``, not to be written into, in order of set, image and box; zeros for ignore regions.

    Raises:
        OutputError: the file does not fit on the disk.
        StoreError: a store is damaged.
    """
    rows = sum(item.dataset.num_boxes for item in sets)
    blocks = (block for item in sets for block in _blocks(item, embedding_dim, target))
    if rows * embedding_dim * np.dtype(np.float16).itemsize <= TABLE_BYTES:
        table = np.empty((rows, embedding_dim), np.float16)
        start = 0
        for block in blocks:
            table[start : start + len(block)] = block
            start += len(block)
        return table
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            for block in blocks:
                file.write(block.tobytes())
            file.flush()
            return np.memmap(file, np.float16, "r", shape=(rows, embedding_dim))
    except OSError as error:
        raise OutputError(f"cannot keep the embeddings of {rows} boxes in {folder}: {reason_of(error)}") from error


def _blocks(item: LabelledSet, embedding_dim: int, target: TeacherTarget | None) -> Iterator[NDArray[np.float16]]:
    """Yield consecutive rows of one set's part of the table."""
    total = item.dataset.num_boxes
    counted = np.flatnonzero(item.counted)
    first, seen = 0, 0
    for teacher in item.teacher_rows():
        rows = counted[seen : seen + len(teacher)]
        seen += len(rows)
        end = int(counted[seen]) if seen < len(counted) else total
        block = np.zeros((end - first, embedding_dim), np.float16)
        block[rows - first] = teacher[:, :embedding_dim] if target is None else target(torch.from_numpy(teacher)).numpy()
        yield block
        first = end
    yield np.zeros((total - first, embedding_dim), np.float16)
