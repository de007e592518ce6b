"""The box code: its formula by hand, and that decoding undoes encoding."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.model.boxcode import MAX_LOG_SCALE, decode_boxes, encode_boxes


@st.composite
def boxes(draw: st.DrawFn, min_side: float) -> torch.Tensor:
    x, y = draw(st.floats(-200, 1900)), draw(st.floats(-200, 1000))
    side = st.floats(min_side, 500)
    return torch.tensor([[x, y, x + draw(side), y + draw(side)]], dtype=torch.float64)


@settings(deadline=None)
@given(boxes(1.0), boxes(16.0))
def test_decode_undoes_encode(box: torch.Tensor, anchor: torch.Tensor) -> None:
    torch.testing.assert_close(decode_boxes(encode_boxes(box, anchor), anchor), box, rtol=1e-9, atol=1e-6)


@settings(deadline=None)
@given(boxes(1.0), boxes(16.0))
def test_code_is_dy_dx_dh_dw_without_variances(box: torch.Tensor, anchor: torch.Tensor) -> None:
    (x1, y1, x2, y2), (ax1, ay1, ax2, ay2) = box[0].tolist(), anchor[0].tolist()
    expected = [
        ((y1 + y2) / 2 - (ay1 + ay2) / 2) / (ay2 - ay1),
        ((x1 + x2) / 2 - (ax1 + ax2) / 2) / (ax2 - ax1),
        math.log((y2 - y1) / (ay2 - ay1)),
        math.log((x2 - x1) / (ax2 - ax1)),
    ]
    torch.testing.assert_close(encode_boxes(box, anchor)[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8)


def test_growth_is_limited() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 32.0]])
    decoded = decode_boxes(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), anchor)
    torch.testing.assert_close(decoded[:, 2:] - decoded[:, :2], torch.tensor([[1000.0, 2000.0]]))
    assert math.isclose(MAX_LOG_SCALE, math.log(62.5))


def test_a_box_without_area_gives_a_finite_code() -> None:
    assert encode_boxes(torch.tensor([[5.0, 5.0, 5.0, 5.0]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]])).isfinite().all()


def test_no_boxes_give_no_codes() -> None:
    assert encode_boxes(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert decode_boxes(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
