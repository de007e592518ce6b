"""There and back through supervision."""

from __future__ import annotations

import numpy as np
import supervision as sv

from tdtrack.association import Tracker
from tdtrack.output.neighbours import from_supervision, to_supervision
from tdtrack.types import Detections


def test_detections_come_back_as_they_went() -> None:
    random = np.random.default_rng(0)
    looks = random.normal(size=(3, 5))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    boxes = [[0, 0, 10, 20], [5, 5, 30, 40], [7, 8, 9, 10]]
    ours = Detections(boxes, [0.9, 0.5, 0.1], [0, 2, 1], looks)
    for embedding in (ours.embedding, None):
        there = to_supervision(ours.with_embedding(embedding))
        back = from_supervision(there)
        np.testing.assert_array_equal(back.xyxy, ours.xyxy)
        np.testing.assert_array_equal(back.score, ours.score)
        np.testing.assert_array_equal(back.class_id, ours.class_id)
        assert (back.embedding is None) == (embedding is None)
    np.testing.assert_allclose(from_supervision(to_supervision(ours)).embedding, ours.embedding, atol=1e-7)


def test_tracks_carry_their_ids_and_bare_boxes_are_fine() -> None:
    bare = sv.Detections(xyxy=np.array([[0.0, 0, 10, 20], [50, 0, 60, 20]]))
    tracks = Tracker().update(from_supervision(bare))
    there = to_supervision(tracks)
    assert there.tracker_id.tolist() == [1, 2]
    assert there.confidence.tolist() == [1.0, 1.0]
    assert len(from_supervision(sv.Detections.empty())) == 0
