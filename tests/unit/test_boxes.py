from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tdtrack import boxes

SIDES = st.floats(1, 500, width=32)
TLWH = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(4)), elements=SIDES)


def iou_by_loops(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    table = np.zeros((len(a), len(b)))
    for i, (ax1, ay1, ax2, ay2) in enumerate(a):
        for j, (bx1, by1, bx2, by2) in enumerate(b):
            width = min(ax2, bx2) - max(ax1, bx1)
            height = min(ay2, by2) - max(ay1, by1)
            overlap = max(width, 0) * max(height, 0)
            union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
            table[i, j] = overlap / union
    return table


@given(TLWH, TLWH)
def test_iou_equals_loops(a: np.ndarray, b: np.ndarray) -> None:
    a, b = boxes.tlwh_to_xyxy(a), boxes.tlwh_to_xyxy(b)
    np.testing.assert_allclose(boxes.iou(a, b), iou_by_loops(a, b), atol=1e-12)


@given(TLWH)
def test_conversions_are_inverse(tlwh: np.ndarray) -> None:
    xyxy = boxes.tlwh_to_xyxy(tlwh)
    np.testing.assert_allclose(boxes.xyxy_to_tlwh(xyxy), tlwh, atol=1e-9)
    np.testing.assert_allclose(boxes.xyah_to_xyxy(boxes.xyxy_to_xyah(xyxy)), xyxy, atol=1e-9)


def test_aspect_ratio_is_width_over_height() -> None:
    np.testing.assert_allclose(boxes.xyxy_to_xyah(np.array([[0.0, 0.0, 20.0, 80.0]])), [[10, 40, 0.25, 80]])


def test_iou_of_boxes_without_area_is_zero() -> None:
    flat = np.array([[5.0, 5.0, 5.0, 9.0]])
    assert boxes.iou(flat, flat)[0, 0] == 0
    assert boxes.iou(np.zeros((0, 4)), flat).shape == (0, 1)


def test_clip_cuts_at_the_border() -> None:
    clipped = boxes.clip_to_image(np.array([[-5.0, 3.0, 50.0, 99.0]], np.float32), width=40, height=30)
    assert clipped.tolist() == [[0, 3, 40, 30]]
    assert clipped.dtype == np.float32
