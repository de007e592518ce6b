"""Average precision against loops over its definition."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.errors import DataError, MissingExtraError, ShapeError
from tdtrack.evaluation.detection import average_precision
from tdtrack.types import ANY_CLASS, BoolArray, Detections, FloatArray, IntArray


@dataclass
class Truth:
    xyxy: FloatArray
    class_id: IntArray
    ignore: BoolArray


def truth(*boxes: tuple[float, ...], class_id: int = 0, ignore: bool = False) -> Truth:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Truth(rows, np.full(len(rows), class_id), np.full(len(rows), ignore))


def found(*boxes: tuple[float, ...], score: list[float] | None = None, class_id: int = 0) -> Detections:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(rows, np.array(score or [0.5] * len(rows)), np.full(len(rows), class_id))


def overlap(a: list[float], b: list[float], *, of_a: bool) -> float:
    """Intersection over union, or over the area of ``a`` (COCO's rule for ignore regions)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area_a if of_a else area_a + area_b - shared)


def loop_average_precision(truths: list[Truth], detections: list[Detections], class_id: int, min_iou: float) -> float:
    """Average precision of one class, step by step."""
    outcomes: list[tuple[float, str]] = []
    positives = 0
    for labels, found_here in zip(truths, detections):
        boxes = [
            row.tolist()
            for row, label, skip in zip(labels.xyxy, labels.class_id, labels.ignore)
            if label == class_id and not skip
        ]
        regions = [
            row.tolist()
            for row, label, skip in zip(labels.xyxy, labels.class_id, labels.ignore)
            if label in (class_id, ANY_CLASS) and skip
        ]
        positives += len(boxes)
        free = set(range(len(boxes)))
        mine = [
            (float(s), row.tolist())
            for row, s, label in zip(found_here.xyxy, found_here.score, found_here.class_id)
            if label == class_id
        ]
        for score, box in sorted(mine, key=lambda item: -item[0]):
            best = max(free, key=lambda index: (overlap(box, boxes[index], of_a=False), index), default=None)
            if best is not None and overlap(box, boxes[best], of_a=False) >= min_iou:
                free.remove(best)
                outcomes.append((score, "hit"))
            elif any(overlap(box, region, of_a=True) >= min_iou for region in regions):
                outcomes.append((score, "ignored"))
            else:
                outcomes.append((score, "false"))
    hits = false = 0
    points: list[tuple[float, float]] = []
    for _, outcome in sorted(outcomes, key=lambda item: -item[0]):
        hits += outcome == "hit"
        false += outcome == "false"
        if outcome != "ignored":
            points.append((hits / positives, hits / (hits + false)))
    levels = np.linspace(0, 1, 101)
    return sum(max((p for r, p in points if r >= level), default=0.0) for level in levels) / 101


box = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 10), st.integers(1, 10)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
labelled = st.tuples(box, st.integers(0, 1), st.sampled_from([False, False, True]))
region = st.tuples(box, st.just(ANY_CLASS), st.just(True))
scored = st.tuples(box, st.integers(0, 1), st.integers(0, 8))
scene = st.tuples(st.lists(labelled | labelled | region, max_size=5), st.lists(scored, max_size=7))


@settings(max_examples=150, deadline=None)
@given(st.lists(scene, min_size=1, max_size=4), st.sampled_from([0.3, 0.5, 0.75]))
def test_equals_loops(scenes: list[tuple[list, list]], min_iou: float) -> None:
    truths, detections = [], []
    for boxes, dets in scenes:
        truths.append(
            Truth(
                np.array([b for b, _, _ in boxes], np.float32).reshape(-1, 4),
                np.array([c for _, c, _ in boxes], np.int64),
                np.array([i for _, _, i in boxes], bool),
            )
        )
        detections.append(Detections(np.array([b for b, _, _ in dets]), [s / 8 for _, _, s in dets], [c for _, c, _ in dets]))
    classes = sorted({int(c) for t in truths for c, skip in zip(t.class_id, t.ignore) if not skip})
    if not classes:
        with pytest.raises(DataError):
            average_precision(truths, detections, min_iou=min_iou)
        return
    report = average_precision(truths, detections, min_iou=min_iou)
    expected = {c: loop_average_precision(truths, detections, c, min_iou) for c in classes}
    assert report.ap_per_class == pytest.approx(expected, abs=1e-9)
    assert report.ap == pytest.approx(sum(expected.values()) / len(expected), abs=1e-9)
    assert report.ap == pytest.approx(report.precision.mean(), abs=1e-6)


def test_perfect_detections_give_one() -> None:
    boxes = [(0, 0, 10, 20), (30, 5, 45, 40)]
    report = average_precision([truth(*boxes), truth()], [found(*boxes), found()])
    assert (report.ap, report.recall, report.num_gt, report.num_detections, report.num_images) == (1.0, 1.0, 2, 2, 2)


def test_a_false_alarm_above_the_hit_halves_precision() -> None:
    report = average_precision([truth((0, 0, 10, 10))], [found((50, 50, 60, 60), (0, 0, 10, 10), score=[0.9, 0.5])])
    assert report.ap == pytest.approx(0.5)
    assert report.recall == 1.0


def test_an_ignore_region_forgives_what_lies_in_it() -> None:
    labels = truth((0, 0, 10, 10))
    region = Truth(
        np.concatenate([labels.xyxy, np.array([[40, 0, 100, 60]], np.float32)]), np.zeros(2, int), np.array([False, True])
    )
    detections = found((41, 1, 50, 20), (60, 10, 70, 30), (0, 0, 10, 10), score=[0.9, 0.8, 0.5])
    assert average_precision([region], [detections]).ap == 1.0
    assert average_precision([labels], [detections]).ap == pytest.approx(1 / 3)


def test_no_cap_on_detections() -> None:
    boxes = [(20 * i, 0, 20 * i + 10, 30) for i in range(450)]
    report = average_precision([truth(*boxes)], [found(*boxes, score=[1 - i / 1000 for i in range(450)])])
    assert (report.ap, report.recall) == (1.0, 1.0)


def test_no_detections_give_zero() -> None:
    report = average_precision([truth((0, 0, 5, 5))], [Detections.empty()])
    assert (report.ap, report.recall, report.num_detections) == (0.0, 0.0, 0)
    assert not report.precision.any()


def test_a_class_without_ground_truth_does_not_count() -> None:
    detections = [found((0, 0, 10, 10)), found((0, 0, 10, 10), class_id=3)]
    report = average_precision([truth((0, 0, 10, 10)), truth()], detections)
    assert report.ap_per_class == {0: 1.0}


def test_report_is_json() -> None:
    numbers = average_precision([truth((0, 0, 5, 5), class_id=2)], [found((0, 0, 5, 5), class_id=2)]).to_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["AP_per_class"] == {"2": 1.0}


def test_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    average_precision([truth((0, 0, 5, 5))], [found((0, 0, 5, 5))])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("truths", [[], [truth()], [truth((0, 0, 5, 5), ignore=True)]])
def test_no_ground_truth_is_refused(truths: list[Truth]) -> None:
    with pytest.raises(DataError, match="precision is undefined"):
        average_precision(truths, [Detections.empty()] * len(truths))


def test_images_must_pair_up() -> None:
    with pytest.raises(ShapeError, match="1 images of ground truth but detections of 2"):
        average_precision([truth((0, 0, 5, 5))], [found(), found()])


def test_a_score_must_be_a_number() -> None:
    with pytest.raises(ShapeError, match="image 0"):
        average_precision([truth((0, 0, 5, 5))], [found((0, 0, 5, 5), score=[float("nan")])])


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r"tdtrack\[eval\]"):
        average_precision([truth((0, 0, 5, 5))], [found()])
