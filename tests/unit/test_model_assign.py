"""Anchor assignment, case by case; the brute-force table is among the property tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdtrack.config import AssignConfig
from tdtrack.model import assign
from tdtrack.model.assign import BACKGROUND, IGNORED, assign_anchors

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [100, 100, 140, 140]])


def run(boxes: list[list[float]], ignore: list[bool] | None = None, config: AssignConfig | None = None) -> list[int]:
    xyxy = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    flags = torch.tensor(ignore if ignore is not None else [False] * len(boxes), dtype=torch.bool)
    result: Tensor = assign_anchors(ANCHORS, xyxy, flags, config or AssignConfig())
    assert result.dtype == torch.int64
    return result.tolist()


def test_no_boxes_is_all_background() -> None:
    assert run([]) == [BACKGROUND] * 4


def test_half_overlap_is_positive() -> None:
    assert run([[0, 0, 10, 5]], config=AssignConfig(force_best=False)) == [0, BACKGROUND, BACKGROUND, BACKGROUND]
    assert run([[0, 0, 10, 4.9]], config=AssignConfig(force_best=False)) == [BACKGROUND] * 4


def test_a_small_box_gets_its_best_anchor() -> None:
    assert run([[101, 101, 103, 103]]) == [BACKGROUND, BACKGROUND, BACKGROUND, 0]


def test_of_equal_anchors_the_first_is_forced() -> None:
    assert run([[8, 2, 12, 6]]) == [0, BACKGROUND, BACKGROUND, BACKGROUND]


def test_two_boxes_that_want_one_anchor_leave_it_to_the_first() -> None:
    assert run([[101, 101, 103, 103], [101, 101, 139, 139]])[3] == 0  # also against a better overlap, as in Model Garden
    assert run([[101, 101, 139, 139], [101, 101, 103, 103]])[3] == 0


def test_a_box_beyond_all_anchors_forces_nothing() -> None:
    assert run([[500, 500, 510, 510]]) == [BACKGROUND] * 4


def test_between_the_thresholds_is_ignored() -> None:
    config = AssignConfig(min_positive_iou=0.7, max_negative_iou=0.4, force_best=False)
    assert run([[0, 0, 10, 5]], config=config) == [IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]


def test_anchors_in_an_ignore_region_learn_nothing() -> None:
    # The region covers 100 %, 50 % and 40 % of the three small anchors; its IoU with the first is far below 0.5.
    assert run([[0, 0, 15, 14]], [True]) == [IGNORED, IGNORED, BACKGROUND, BACKGROUND]


def test_a_box_inside_an_ignore_region_still_counts() -> None:
    assert run([[0, 0, 200, 200], [0, 0, 10, 10], [12, 2, 14, 4]], [True, False, False]) == [1, 2, IGNORED, IGNORED]


def test_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 30, (200, 2), generator=generator)
    anchors = torch.cat([corner, corner + torch.randint(1, 20, (200, 2), generator=generator)], dim=1).float()
    boxes, ignore = anchors[::17] + 1, torch.arange(12) % 4 == 0
    whole = assign_anchors(anchors, boxes, ignore, AssignConfig())
    monkeypatch.setattr(assign, "_MAX_PAIRS", 100)
    assert torch.equal(assign_anchors(anchors, boxes, ignore, AssignConfig()), whole)
