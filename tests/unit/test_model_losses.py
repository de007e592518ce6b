"""Losses against loops over Sec. 3.4's formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tdtrack.config import AssignConfig, LossConfig, ModelConfig
from tdtrack.errors import ShapeError
from tdtrack.model import JointModel, Predictions, Targets, compute_losses
from tdtrack.model.assign import IGNORED, assign_anchors
from tdtrack.model.boxcode import encode_boxes
from tdtrack.model.losses import box_loss, classification_loss, embedding_loss

TINY = ModelConfig(
    backbone="test_resnet", classes=("a", "b"), embedding_dim=6, fpn_width=16, subnet_depth=1, subnet_width=8, embedding_width=8
)


def loop_focal(logits: Tensor, target: Tensor, valid: Tensor, alpha: float, gamma: float) -> float:
    total = 0.0
    for a in range(len(logits)):
        for k in range(logits.shape[1]):
            p = 1 / (1 + math.exp(-float(logits[a, k])))
            if valid[a] and target[a, k] == 1:
                total -= alpha * (1 - p) ** gamma * math.log(p)
            elif valid[a]:
                total -= (1 - alpha) * p**gamma * math.log(1 - p)
    return total


def loop_huber(codes: Tensor, target: Tensor, delta: float) -> float:
    total = 0.0
    for row, want in zip(codes.tolist(), target.tolist()):
        errors = [abs(c - t) for c, t in zip(row, want)]
        total += sum(0.5 * e * e if e <= delta else delta * (e - 0.5 * delta) for e in errors) / 4
    return total


def loop_embedding(student: Tensor, teacher: Tensor, image: Tensor, num_images: int) -> float:
    means = []
    for b in range(num_images):
        rows = [p for p in range(len(student)) if image[p] == b]
        distances = [sum((float(student[p, d]) - float(teacher[p, d])) ** 2 for d in range(student.shape[1])) for p in rows]
        means.append(sum(distances) / len(rows) if rows else 0.0)
    return sum(means) / num_images


def make_targets(dim: int = 9) -> Targets:
    torch.manual_seed(5)
    return Targets(
        boxes=[torch.tensor([[8.0, 8, 40, 80], [60, 10, 100, 90], [0, 96, 160, 128]]), torch.zeros(0, 4)],
        class_id=[torch.tensor([0, 1, 0]), torch.zeros(0, dtype=torch.int64)],
        ignore=[torch.tensor([False, False, True]), torch.zeros(0, dtype=torch.bool)],
        embedding=[torch.randn(3, dim), torch.zeros(0, dim)],
    )


@pytest.fixture(scope="module")
def model() -> JointModel:
    torch.manual_seed(0)
    built = JointModel(TINY)
    for last in (built.class_subnet.last, built.box_subnet.last, built.embedding_head.conv2):
        torch.nn.init.normal_(last.weight, std=0.1)  # the real initial weights all but silence the heads
    return built


@pytest.fixture(scope="module")
def predictions(model: JointModel) -> Predictions:
    torch.manual_seed(1)
    return model(torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8))


def test_focal_equals_loops() -> None:
    torch.manual_seed(0)
    logits, valid = torch.randn(40, 3) * 3, torch.rand(40) > 0.2
    target = (torch.rand(40, 3) > 0.7).float()
    for alpha, gamma in ((0.25, 1.5), (0.4, 2.0), (0.25, 0.0)):
        got = classification_loss(logits, target, valid, alpha, gamma)
        assert float(got) == pytest.approx(loop_focal(logits, target, valid, alpha, gamma), rel=1e-5)


def test_focal_with_gamma_zero_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(50, 2), (torch.rand(50, 2) > 0.5).float()
    everything = torch.ones(50, dtype=torch.bool)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    torch.testing.assert_close(classification_loss(logits, target, everything, 0.5, 0.0), plain / 2)
    weighted = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target, weight=torch.where(target == 1, 0.25, 0.75), reduction="sum"
    )
    torch.testing.assert_close(classification_loss(logits, target, everything, 0.25, 0.0), weighted)


def test_focal_stays_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = classification_loss(logits, torch.eye(2), torch.ones(2, dtype=torch.bool), 0.25, 1.5)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_huber_equals_loops() -> None:
    torch.manual_seed(0)
    codes, target = torch.randn(30, 4) * 0.2, torch.randn(30, 4) * 0.2
    assert float(box_loss(codes, target, 0.1)) == pytest.approx(loop_huber(codes, target, 0.1), rel=1e-5)


def test_embedding_equals_loops_over_eq_1() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(20, 4), torch.randn(20, 7)
    image = torch.randint(0, 3, (20,))  # of 5 images, two hold no anchor
    got = embedding_loss(student, teacher, image, 5)
    assert float(got) == pytest.approx(loop_embedding(student, teacher, image, 5), rel=1e-5)


def test_embedding_of_nothing_is_zero_and_differentiable() -> None:
    student = torch.zeros(0, 4, requires_grad=True)
    loss = embedding_loss(student, torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64), 2)
    loss.backward()
    assert float(loss.detach()) == 0


def test_embedding_refuses_what_does_not_fit() -> None:
    image = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"have 6 dimensions, the teacher only 4; set model\.embedding_dim to 4"):
        embedding_loss(torch.zeros(2, 6), torch.zeros(2, 4), image, 1)
    with pytest.raises(ShapeError, match="2 anchors but 1 teacher embeddings"):
        embedding_loss(torch.zeros(2, 4), torch.zeros(1, 4), image, 1)


def test_batch_losses_equal_loops(model: JointModel, predictions: Predictions) -> None:
    targets, config = make_targets(), LossConfig(class_weight=0.7, box_weight=3.0, embedding_weight=2.0)
    got = compute_losses(model, predictions, targets, AssignConfig(), config)
    dense = model.embed_dense(predictions).detach()
    focal = huber = 0.0
    students, teachers, images = [], [], []
    for b in range(2):
        assignment = assign_anchors(predictions.anchors, targets.boxes[b], targets.ignore[b], AssignConfig())
        one_hot = torch.zeros(len(assignment), 2)
        for a in torch.nonzero(assignment >= 0).flatten().tolist():
            box = int(assignment[a])
            one_hot[a, int(targets.class_id[b][box])] = 1
            code = encode_boxes(targets.boxes[b][box : box + 1], predictions.anchors[a : a + 1])
            huber += loop_huber(predictions.box_codes[b, a : a + 1].detach(), code, config.huber_delta)
            students.append(dense[b, a])
            teachers.append(targets.embedding[b][box])
            images.append(b)
        assert (assignment == IGNORED).any() == (b == 0)
        focal += loop_focal(
            predictions.class_logits[b].detach(), one_hot, assignment != IGNORED, config.focal_alpha, config.focal_gamma
        )
    positives = len(students)
    distance = loop_embedding(torch.stack(students), torch.stack(teachers), torch.tensor(images), 2)
    assert got.positives == positives > 10
    assert got.classification.item() == pytest.approx(focal / (positives + 1), rel=1e-4)
    assert got.box.item() == pytest.approx(huber / (positives + 1), rel=1e-4)
    assert got.embedding.item() == pytest.approx(distance, rel=1e-4)
    eq2 = 0.7 * got.classification.item() + 3.0 * got.box.item() + 2.0 * got.embedding.item()
    assert got.total.item() == pytest.approx(eq2, rel=1e-6)


def test_only_the_first_teacher_dimensions_count(model: JointModel, predictions: Predictions) -> None:
    wide, narrow = make_targets(9), make_targets(9)
    narrow.embedding = [rows[:, :6] for rows in narrow.embedding]
    losses = [compute_losses(model, predictions, t, AssignConfig(), LossConfig()).embedding for t in (wide, narrow)]
    assert losses[0].item() == losses[1].item()


def test_a_batch_without_boxes_trains() -> None:
    torch.manual_seed(0)
    model = JointModel(TINY)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    no_rows = torch.zeros(0, dtype=torch.int64)
    empty = Targets([torch.zeros(0, 4)] * 2, [no_rows] * 2, [no_rows.bool()] * 2, [torch.zeros(0, 9)] * 2)
    losses = compute_losses(model, model(images), empty, AssignConfig(), LossConfig())
    losses.total.backward()
    assert losses.positives == 0
    assert losses.box.item() == losses.embedding.item() == 0
    assert losses.classification.item() > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_every_weight_learns_from_a_batch_with_boxes() -> None:
    torch.manual_seed(0)
    model = JointModel(TINY)
    losses = compute_losses(model, model(torch.rand(2, 3, 128, 160) * 255), make_targets(), AssignConfig(), LossConfig())
    losses.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_targets_that_do_not_pair_up_are_refused(model: JointModel, predictions: Predictions) -> None:
    with pytest.raises(ShapeError, match=r"image 0 of the batch.*2 classes"):
        Targets([torch.zeros(1, 4)], [torch.zeros(2)], [torch.zeros(1)], [torch.zeros(1, 8)])
    one = make_targets()
    one = Targets(one.boxes[:1], one.class_id[:1], one.ignore[:1], one.embedding[:1])
    with pytest.raises(ShapeError, match="predictions of 2 images but targets of 1"):
        compute_losses(model, predictions, one, AssignConfig(), LossConfig())


def test_losses_are_float32_under_bfloat16_autocast(model: JointModel) -> None:
    images = torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = model(images)
        assert predictions.class_logits.dtype == torch.bfloat16
        losses = compute_losses(model, predictions, make_targets(), AssignConfig(), LossConfig())
    assert losses.total.dtype == losses.classification.dtype == losses.box.dtype == losses.embedding.dtype == torch.float32
    losses.total.backward()
    model.zero_grad()
