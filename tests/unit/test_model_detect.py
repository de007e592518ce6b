"""Selection of detections against a loop over Sec. 3.2's rules."""

from __future__ import annotations

import pytest
import torch

from tdtrack.config import DetectConfig, ModelConfig
from tdtrack.model import JointModel
from tdtrack.model.boxcode import encode_boxes
from tdtrack.model.detect import select_detections

ANCHOR = torch.tensor([16.0, 16.0, 48.0, 80.0])


def logit(score: float) -> float:
    return float(torch.logit(torch.tensor(score)))


def select(boxes: list[list[float]], scores: list[list[float]], **settings: float) -> list[tuple[list[int], int, int]]:
    anchors = ANCHOR.expand(len(boxes), 4)
    codes = encode_boxes(torch.tensor(boxes), anchors)
    logits = torch.tensor([[logit(score) for score in row] for row in scores])
    found = select_detections(logits, codes, anchors, 100, 120, DetectConfig(**settings))  # type: ignore[arg-type]
    assert (found.score.diff() <= 0).all()
    rows = zip(found.xyxy.round().int().tolist(), found.class_id.tolist(), found.anchor.tolist())
    return [(box, class_id, anchor) for box, class_id, anchor in rows]


def test_the_better_of_two_overlapping_boxes_stays() -> None:
    boxes = [[10.0, 10, 40, 90], [12.0, 10, 42, 90], [70.0, 10, 100, 90]]
    assert select(boxes, [[0.6], [0.9], [0.3]]) == [([12, 10, 42, 90], 0, 1), ([70, 10, 100, 90], 0, 2)]


def test_another_class_is_not_suppressed() -> None:
    boxes = [[10.0, 10, 40, 90], [12.0, 10, 42, 90]]
    assert select(boxes, [[0.01, 0.6], [0.9, 0.01]]) == [([12, 10, 42, 90], 0, 1), ([10, 10, 40, 90], 1, 0)]


def test_one_anchor_may_hold_two_classes() -> None:
    assert select([[10.0, 10, 40, 90]], [[0.6, 0.7]]) == [([10, 10, 40, 90], 1, 0), ([10, 10, 40, 90], 0, 0)]


def test_scores_below_the_minimum_are_dropped() -> None:
    boxes = [[10.0, 10, 40, 90], [70.0, 10, 100, 90]]
    assert [row[2] for row in select(boxes, [[0.04], [0.06]])] == [1]
    assert select(boxes, [[0.01], [0.02]]) == []


def test_boxes_are_clipped_and_those_outside_vanish() -> None:
    assert select([[-10.0, 20, 40, 130], [130.0, 10, 160, 60]], [[0.5], [0.9]]) == [([0, 20, 40, 100], 0, 0)]


def test_caps_keep_the_best() -> None:
    boxes = [[10.0 * i, 10, 10.0 * i + 8, 40] for i in range(8)]
    scores = [[0.1 + 0.1 * i] for i in range(8)]
    assert [row[2] for row in select(boxes, scores, max_detections=3)] == [7, 6, 5]
    assert [row[2] for row in select(boxes, scores, pre_nms_top=2)] == [7, 6]


def loop_nms(boxes: list[list[float]], scores: list[float], classes: list[int], max_iou: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        overlaps = []
        for j in kept:
            if classes[i] == classes[j]:
                a, b = boxes[i], boxes[j]
                common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
                overlaps.append(common / union)
        if all(overlap <= max_iou for overlap in overlaps):
            kept.append(i)
    return kept


def test_selection_equals_loops() -> None:
    torch.manual_seed(0)
    corner = torch.rand(300, 2) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(300, 2) * 30], dim=1)
    anchors = boxes + torch.randn(300, 4)
    logits = torch.randn(300, 2) * 2 - 1
    found = select_detections(logits, encode_boxes(boxes, anchors), anchors, 100, 120, DetectConfig(min_score=0.2))
    pairs = [(a, k) for a in range(300) for k in range(2) if logits[a, k].sigmoid() >= 0.2]
    scores = [float(logits[a, k].sigmoid()) for a, k in pairs]
    kept = loop_nms([boxes[a].tolist() for a, _ in pairs], scores, [k for _, k in pairs], 0.5)
    assert list(zip(found.anchor.tolist(), found.class_id.tolist())) == [pairs[i] for i in kept]
    torch.testing.assert_close(found.score, torch.tensor([scores[i] for i in kept]))


@pytest.fixture(scope="module")
def model() -> JointModel:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="test_resnet",
        classes=("a", "b"),
        embedding_dim=6,
        fpn_width=16,
        subnet_depth=1,
        subnet_width=8,
        embedding_width=8,
    )
    built = JointModel(config).eval()
    for last in (built.class_subnet.last, built.box_subnet.last, built.embedding_head.conv2):
        torch.nn.init.normal_(last.weight, std=0.2)
    return built


def test_faithful_and_lean_detection_agree(model: JointModel) -> None:
    images = torch.randint(0, 256, (2, 3, 90, 130), dtype=torch.uint8)
    config = DetectConfig(min_score=0.0, max_detections=50)
    lean, faithful = model.detect(images, config), model.detect(images, config, dense=True)
    assert [len(one.score) for one in lean] == [50, 50]
    for a, b in zip(lean, faithful, strict=True):
        assert torch.equal(a.xyxy, b.xyxy)
        assert torch.equal(a.score, b.score)
        assert torch.equal(a.class_id, b.class_id)
        torch.testing.assert_close(a.embedding, b.embedding, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.embedding.norm(dim=1), torch.ones(50))
        assert (a.xyxy >= 0).all()
        assert (a.xyxy <= torch.tensor([130, 90, 130, 90])).all()
        assert (a.xyxy[:, 2:] > a.xyxy[:, :2]).all()


def test_images_of_a_batch_do_not_see_each_other(model: JointModel) -> None:
    images = torch.randint(0, 256, (2, 3, 90, 130), dtype=torch.uint8)
    config = DetectConfig(min_score=0.0, max_detections=20)
    together = model.detect(images, config)
    for index in range(2):
        (alone,) = model.detect(images[index : index + 1], config)
        torch.testing.assert_close(alone.xyxy, together[index].xyxy, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(alone.embedding, together[index].embedding, rtol=0, atol=1e-4)


def test_nothing_found_has_no_rows(model: JointModel) -> None:
    for dense in (False, True):
        (found,) = model.detect(torch.zeros(1, 3, 64, 64), DetectConfig(min_score=1.0), dense=dense)
        assert found.xyxy.shape == (0, 4)
        assert found.score.shape == found.class_id.shape == (0,)
        assert found.embedding.shape == (0, 6)


def test_detection_works_under_bfloat16_autocast(model: JointModel) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = model.detect(torch.rand(1, 3, 64, 64) * 255, DetectConfig(min_score=0.0, max_detections=5))
    assert found.xyxy.dtype == found.score.dtype == found.embedding.dtype == torch.float32
