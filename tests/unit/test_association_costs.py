"""Costs against loops and hand counts."""

from __future__ import annotations

import numpy as np
import pytest

from tdtrack.association.costs import blend_motion, cosine_distance, forbid_other_classes, iou_distance, unit_length
from tdtrack.association.matching import assign


def test_iou_distance_by_hand() -> None:
    a = np.array([[0.0, 0, 10, 10]])
    b = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]])
    np.testing.assert_allclose(iou_distance(a, b), [[0, 1 - 50 / 150, 1, 1 - 4 / 100]])
    assert iou_distance(np.zeros((0, 4)), b).shape == (0, 4)
    assert iou_distance(a, np.zeros((0, 4))).shape == (1, 0)


def test_cosine_distance_equals_a_loop() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(4, 16)), random.normal(size=(6, 16))
    loop = [[1 - x @ y / np.sqrt((x @ x) * (y @ y)) for y in b] for x in a]
    np.testing.assert_allclose(cosine_distance(unit_length(a), unit_length(b)), loop, atol=1e-12)


def test_cosine_distance_is_never_negative_and_two_at_most() -> None:
    rows = unit_length(np.random.default_rng(0).normal(size=(50, 7)))
    assert (np.diag(cosine_distance(rows, rows)) >= 0).all()
    np.testing.assert_allclose(np.diag(cosine_distance(rows, -rows)), 2)


def test_an_empty_look_resembles_nothing() -> None:
    rows = unit_length(np.array([[0.0, 0, 0], [3, 0, 4]], np.float32))
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, [[0, 0, 0], [0.6, 0, 0.8]], atol=1e-7)
    np.testing.assert_allclose(cosine_distance(rows[:1], rows), [[1, 1]])


def test_blend_by_hand() -> None:
    appearance = np.array([[0.5, 0.5, 0.5]])
    motion = np.array([[0.0, 9.4877, 9.4878]])
    blend = blend_motion(appearance, motion, appearance_weight=0.98, max_gating_distance=9.4877)
    np.testing.assert_allclose(blend, [[0.49, 0.49 + 0.02 * 9.4877, np.inf]])


def test_other_classes_cost_infinitely_much() -> None:
    cost = forbid_other_classes(np.ones((2, 3)), np.array([0, 1]), np.array([1, 0, 0]))
    assert cost.tolist() == [[np.inf, 1, 1], [1, np.inf, np.inf]]


def test_a_ceiling_is_not_a_cut_afterwards() -> None:
    # The plain assignment is (0, 1), (1, 0) for 1.0, and a cut at 0.6 keeps both. One pair for 0.0 and two left alone for
    # 0.3 each are cheaper.
    cost = np.array([[0.0, 0.5], [0.5, 1.2]])
    assert [pair.tolist() for pair in assign(cost, 0.6)] == [[0], [0]]


@pytest.mark.parametrize("value", [0.4, 0.5, np.inf, np.nan])
def test_a_pair_at_or_above_the_ceiling_is_none(value: float) -> None:
    assert len(assign(np.array([[value]]), 0.4)[0]) == 0
