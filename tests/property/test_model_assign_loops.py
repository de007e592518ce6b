"""Anchor assignment equals a table filled in by loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.config import AssignConfig
from tdtrack.model.assign import BACKGROUND, IGNORED, assign_anchors

Box = tuple[float, float, float, float]


@st.composite
def box(draw: st.DrawFn) -> Box:
    """Boxes on a coarse integer grid, so that ties and exact halves are common and float32 is exact."""
    x, y = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    return float(x), float(y), float(x + draw(st.integers(1, 8))), float(y + draw(st.integers(1, 8)))


def overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def table(anchors: list[Box], boxes: list[Box], ignore: list[bool], config: AssignConfig) -> list[int]:
    objects = [index for index, flag in enumerate(ignore) if not flag]
    iou = {(a, g): overlap(anchors[a], boxes[g]) / (area(anchors[a]) + area(boxes[g]) - overlap(anchors[a], boxes[g]))
           for a in range(len(anchors)) for g in objects}  # fmt: skip
    result = []
    for a in range(len(anchors)):
        best = max(objects, key=lambda g: iou[a, g], default=None)
        if best is not None and iou[a, best] >= config.min_positive_iou:
            result.append(best)
        elif (best is not None and iou[a, best] >= config.max_negative_iou) or any(
            overlap(anchors[a], boxes[g]) >= 0.5 * area(anchors[a]) for g in range(len(boxes)) if ignore[g]
        ):
            result.append(IGNORED)
        else:
            result.append(BACKGROUND)
    for g in reversed(objects):
        a = max(range(len(anchors)), key=lambda a: iou[a, g])
        if config.force_best and iou[a, g] > 0:
            result[a] = g
    return result


@settings(max_examples=200, deadline=None)
@given(
    st.lists(box(), min_size=1, max_size=12),
    st.lists(st.tuples(box(), st.booleans()), max_size=6),
    st.sampled_from(
        [AssignConfig(), AssignConfig(force_best=False), AssignConfig(min_positive_iou=0.75, max_negative_iou=0.25)]
    ),
)
def test_assignment_equals_loops(anchors: list[Box], rows: list[tuple[Box, bool]], config: AssignConfig) -> None:
    boxes, ignore = [row[0] for row in rows], [row[1] for row in rows]
    got = assign_anchors(
        torch.tensor(anchors), torch.tensor(boxes).reshape(-1, 4), torch.tensor(ignore, dtype=torch.bool), config
    )
    assert got.tolist() == table(anchors, boxes, ignore, config)
