"""Saved detections: tracking without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.errors import DataError, ShapeError
from tdtrack.files import atomic_write
from tdtrack.npz import read_arrays
from tdtrack.types import Detections, FloatArray, IntArray

__all__ = ["MAX_FRAMES", "read_detections_npz", "split_frames", "write_detections_npz"]

MAX_FRAMES = 10_000_000
"""Four days at 30 fps; a larger number is a mistake that would fill the memory with empty frames."""


def read_detections_npz(path: Path | str) -> list[Detections]:
    """Read the detections of a sequence from a NumPy archive.

    Args:
        path: an ``.npz`` with ``frame`` ``(N,)`` whole numbers from 1, ``xyxy`` ``(N, 4)`` pixels, ``score`` ``(N,)`` in
            ``[0, 1]`` and, where there are any, ``embedding`` ``(N, D)`` and ``class_id`` ``(N,)``. Rows in any order.

    Returns:
        One record per frame, at the frame's index from 0, up to the last frame with a row; frames without rows are empty.
        Within a frame the rows keep their order. Embeddings get unit length; class ids are 0 where the file has none.

    Raises:
        DataError: the file is no such archive, or an array is missing or has a wrong shape or value; names the array.
    """
    arrays = read_arrays(Path(path))
    for name in ("frame", "xyxy", "score"):
        if name not in arrays:
            raise DataError(f"{path}: array {name!r} is missing; found {sorted(arrays)}")
    frame = arrays["frame"]
    if frame.ndim != 1:
        raise DataError(f"{path}: array 'frame' has shape {frame.shape}, expected one number per row")
    n = len(frame)
    _check_shapes(path, arrays, n)
    _check_values(path, arrays)

    embedding = _unit_rows(arrays["embedding"]) if "embedding" in arrays else None
    class_id = arrays.get("class_id", np.zeros(n)).astype(np.int64)
    index = frame.astype(np.int64) - 1
    rows = Detections(arrays["xyxy"].astype(np.float32), arrays["score"].astype(np.float32), class_id, embedding)
    return split_frames(rows, index)


def split_frames(rows: Detections, frame_index: IntArray) -> list[Detections]:
    """Sort the detections of a video into frames, keeping their order within one.

    Args:
        rows: N detections.
        frame_index: ``(N,)`` the frame of each, in ``[0, MAX_FRAMES)``.

    Returns:
        One record per frame up to the last with a row; those of empty frames are one and the same.
    """
    order = np.argsort(frame_index, kind="stable")
    frames, starts = np.unique(frame_index[order], return_index=True)
    found = [rows.select(order[:0])] * (int(frame_index.max(initial=-1)) + 1)
    for frame, start, end in zip(frames.tolist(), starts.tolist(), [*starts[1:].tolist(), len(order)]):
        found[frame] = rows.select(order[start:end])
    return found


def write_detections_npz(path: Path | str, detections: Sequence[Detections]) -> None:
    """Save the detections of a sequence as :func:`read_detections_npz` reads them.

    Args:
        path: the ``.npz`` file to write, whole or not at all.
        detections: one record per frame, in order; all with embeddings of one width, or all without. Embeddings are kept in
            float16. Empty frames at the end leave no trace.

    Raises:
        ShapeError: some frames have embeddings and others none, or of another width.
        OutputError: the file cannot be written.
    """
    widths = {None if found.embedding is None else found.embedding.shape[1] for found in detections}
    if len(widths) > 1:
        raise ShapeError(f"frames with embeddings of different widths ({sorted(map(str, widths))}) cannot be saved together")
    counts = [len(found) for found in detections]
    arrays: dict[str, NDArray[Any]] = {
        "frame": np.repeat(np.arange(1, len(counts) + 1), counts),
        "xyxy": np.concatenate([np.zeros((0, 4), np.float32), *(found.xyxy for found in detections)]),
        "score": np.concatenate([np.zeros(0, np.float32), *(found.score for found in detections)]),
        "class_id": np.concatenate([np.zeros(0, np.int64), *(found.class_id for found in detections)]),
    }
    rows = [found.embedding for found in detections if found.embedding is not None]
    if rows:
        arrays["embedding"] = np.concatenate(rows).astype(np.float16)
    with atomic_write(Path(path), "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _check_shapes(path: Path | str, arrays: dict[str, NDArray[Any]], n: int) -> None:
    wanted = {"xyxy": (n, 4), "score": (n,), "class_id": (n,)}
    for name, shape in wanted.items():
        if name in arrays and arrays[name].shape != shape:
            raise DataError(f"{path}: array {name!r} has shape {arrays[name].shape}, expected {shape} for {n} frame numbers")
    embedding = arrays.get("embedding")
    if embedding is not None and (embedding.ndim != 2 or len(embedding) != n or embedding.shape[1] < 1):
        raise DataError(f"{path}: array 'embedding' has shape {embedding.shape}, expected ({n}, D) for {n} frame numbers")


def _check_values(path: Path | str, arrays: dict[str, NDArray[Any]]) -> None:
    for name in sorted(arrays.keys() & {"frame", "xyxy", "score", "embedding", "class_id"}):
        if arrays[name].dtype.kind not in "iuf":
            raise DataError(f"{path}: array {name!r} holds {arrays[name].dtype}, not numbers")
        finite = np.isfinite(arrays[name]).all(axis=tuple(range(1, arrays[name].ndim)))
        if not finite.all():
            raise DataError(f"{path}: array {name!r}, row {int(np.argmin(finite))} holds a value that is not finite")
    frame, xyxy, score = arrays["frame"], arrays["xyxy"], arrays["score"]
    faults = {
        "frame": ((frame < 1) | (frame > MAX_FRAMES) | (frame % 1 != 0), f"frames are whole numbers from 1 to {MAX_FRAMES}"),
        "xyxy": (np.any(xyxy[:, 2:] < xyxy[:, :2], axis=1), "x2 and y2 must not be less than x1 and y1"),
        "score": ((score < 0) | (score > 1), "scores lie between 0 and 1"),
    }
    if "class_id" in arrays:
        class_id = arrays["class_id"]
        faults["class_id"] = ((class_id < 0) | (class_id % 1 != 0), "class ids are whole numbers from 0")
    for name, (wrong, rule) in faults.items():
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(f"{path}: array {name!r}, row {row} is {arrays[name][row].tolist()}; {rule}")


def _unit_rows(embedding: NDArray[Any]) -> FloatArray:
    """Scale rows to unit length; a row of zeros stays."""
    rows = embedding.astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return scaled
