"""Saved detections of other programs: MOT ``det.txt``, COCO results, NumPy archives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tdtrack.boxes import tlwh_to_xyxy
from tdtrack.data.mot_rows import read_mot_rows
from tdtrack.data.reading import LightRecords
from tdtrack.data.replay import MAX_FRAMES, read_detections_npz, split_frames
from tdtrack.errors import DataError
from tdtrack.files import reason_of
from tdtrack.types import Detections, FloatArray, IntArray

__all__ = ["read_detections"]


def read_detections(path: Path | str) -> list[Detections]:
    """Read the detections of one video.

    Args:
        path: by its ending a NumPy archive (``.npz``, see ``read_detections_npz``), MOT text (``.txt``, scores in the seventh
            column) or COCO results (``.json``, a list of ``image_id``, ``category_id``, ``bbox``, ``score``, where
            ``image_id`` is the frame's number from 1).

    Returns:
        One record per frame, at the frame's index from 0, up to the last frame with a row; frames without rows are empty.
        Class ids are COCO's categories as they are, and 0 for MOT text. Only archives hold embeddings.

    Raises:
        DataError: the file cannot be read, has another ending, or a row cannot be used; names file and row.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return read_detections_npz(path)
    if path.suffix == ".txt":
        rows = read_mot_rows(path)
        where = [f"{path}:{line}" for line in rows.line.tolist()]
        return _by_frame(rows.frame_index, rows.tlwh, rows.score, np.zeros(len(rows), np.int64), where)
    if path.suffix == ".json":
        return _read_coco_results(path)
    raise DataError(f"{path}: saved detections end in .npz, .txt (MOT) or .json (COCO results); rename or convert the file")


def _read_coco_results(path: Path) -> list[Detections]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"), object_hook=LightRecords(path))
    except OSError as error:
        raise DataError(f"{path}: cannot read the detections: {reason_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(results, list):
        raise DataError(f"{path}: COCO results are a list of boxes, this is a {type(results).__name__}; pass the results file")
    table = np.array([_coco_row(path, index, row) for index, row in enumerate(results)]).reshape(-1, 7)
    where = [f"{path}: result {index}" for index in range(len(table))]
    frame, kind = table[:, 0].astype(np.int64) - 1, table[:, 6].astype(np.int64)
    return _by_frame(frame, table[:, 1:5], table[:, 5], kind, where)


def _coco_row(path: Path, index: int, row: Any) -> list[float]:
    try:
        numbers = [float(value) for value in (row["image_id"], *row["bbox"], row["score"], row["category_id"])]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: result {index}: {row!r:.80} lacks a number in image_id, category_id, bbox or score ({error})"
        ) from error
    whole = len(numbers) == 7 and np.isfinite(numbers).all() and numbers[0] % 1 == numbers[6] % 1 == 0
    if not whole or not 1 <= numbers[0] <= 2**53 or abs(numbers[6]) > 2**53:
        raise DataError(
            f"{path}: result {index}: {row!r:.80}; image_id must be a frame number from 1, bbox four finite numbers"
        )
    return numbers


def _by_frame(frame: IntArray, tlwh: Any, score: Any, kind: IntArray, where: list[str]) -> list[Detections]:
    """Sort rows into frames, keeping their order within one."""
    late = np.flatnonzero(frame >= MAX_FRAMES)
    if len(late):
        raise DataError(f"{where[late[0]]}: frame {frame[late[0]] + 1}; a video may have {MAX_FRAMES}, split it")
    wrong = np.flatnonzero((score < 0) | (score > 1) | (tlwh[:, 2:] < 0).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where[row]}: score {score[row]:g}, box {tlwh[row].tolist()}; scores lie between 0 and 1 and boxes have no "
            "negative sides, so scale the scores of this detector first"
        )
    xyxy: FloatArray = tlwh_to_xyxy(tlwh).astype(np.float32)
    return split_frames(Detections(xyxy, score, kind), frame)
