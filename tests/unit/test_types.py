from __future__ import annotations

import numpy as np
import pytest

from tdtrack import Detections, Tracks
from tdtrack.errors import ShapeError


def test_detections_convert_to_the_documented_types() -> None:
    found = Detections([[0, 1, 2, 3]], [0.5], [0], [[1, 0, 0]])  # type: ignore[arg-type]
    assert (found.xyxy.dtype, found.score.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)
    assert found.embedding is not None and found.embedding.dtype == np.float32
    assert len(found) == 1


def test_empty_detections_keep_their_columns() -> None:
    assert len(Detections.empty()) == 0
    assert Detections.empty().embedding is None
    empty = Detections.empty(128).embedding
    assert empty is not None and empty.shape == (0, 128)
    assert Detections([], [], []).xyxy.shape == (0, 4)  # type: ignore[arg-type]


def test_rows_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"score has shape \(2,\), expected \(1\)"):
        Detections([[0, 1, 2, 3]], [0.5, 0.6], [0])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="embedding has shape"):
        Detections([[0, 1, 2, 3]], [0.5], [0], [[1.0], [2.0]])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="track_id"):
        Tracks(0, [[1]], [[0, 1, 2, 3]], [0.5], [0])  # type: ignore[arg-type]


def test_a_box_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ShapeError, match="row 1 is"):
        Detections([[0, 1, 2, 3], [0, np.nan, 2, 3]], [0.5, 0.5], [0, 0])  # type: ignore[arg-type]


def test_select_keeps_rows_together_and_in_order() -> None:
    xyxy = np.arange(12).reshape(3, 4)
    found = Detections(xyxy, [0.1, 0.2, 0.3], [0, 1, 2], np.eye(3))  # type: ignore[arg-type]
    picked = found.select(np.array([2, 0]))
    assert picked.class_id.tolist() == [2, 0]
    assert picked.xyxy[0].tolist() == [8, 9, 10, 11]
    assert picked.embedding is not None and picked.embedding.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert len(found.select(found.score > 0.15)) == 2
