"""The whole of it learns: two pictures of rectangles, and the boxes and embeddings come back."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, normalize

from tdtrack.config import AssignConfig, DetectConfig, LossConfig, ModelConfig
from tdtrack.model import JointModel, Targets, compute_losses, weight_decay_groups

BOXES = [torch.tensor([[10.0, 12, 34, 80], [70, 20, 100, 84]]), torch.tensor([[40.0, 6, 60, 60]])]
CLASSES = [torch.tensor([0, 1]), torch.tensor([0])]
COLOURS = [[(220.0, 30, 30), (20, 200, 60)], [(30, 40, 230)]]


def test_two_images_are_learnt_by_heart() -> None:
    torch.manual_seed(0)
    images = torch.full((2, 3, 96, 128), 90.0)
    for image, boxes, colours in zip(images, BOXES, COLOURS):
        for (x1, y1, x2, y2), colour in zip(boxes.int().tolist(), colours):
            image[:, y1:y2, x1:x2] = torch.tensor(colour)[:, None, None]
    teacher = [normalize(torch.randn(len(boxes), 24), dim=1) for boxes in BOXES]
    targets = Targets(BOXES, CLASSES, [torch.zeros(len(boxes), dtype=torch.bool) for boxes in BOXES], teacher)
    model = JointModel(
        ModelConfig(
            backbone="test_resnet",
            classes=("a", "b"),
            embedding_dim=16,
            max_level=5,
            fpn_width=32,
            subnet_depth=1,
            subnet_width=32,
            embedding_width=32,
            norm_momentum=0.1,
        )
    )
    optimizer = torch.optim.SGD(weight_decay_groups(model), lr=0.0, momentum=0.9, weight_decay=1e-4)
    history = []
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1.0, (step + 1) / 20)
        losses = compute_losses(model, model(images), targets, AssignConfig(), LossConfig())
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        history.append(float(losses.total.detach()))
    assert history[-1] < 0.02 * history[0]
    for found, boxes, classes, rows in zip(
        model.detect(images, DetectConfig(min_score=0.5)), BOXES, CLASSES, teacher, strict=True
    ):
        assert len(found.score) == len(boxes)
        for box, class_id, row in zip(boxes, classes, rows):
            distance = (found.xyxy - box).abs().amax(dim=1)
            nearest = int(distance.argmin())
            assert float(distance[nearest]) < 2
            assert int(found.class_id[nearest]) == int(class_id)
            assert float(cosine_similarity(found.embedding[nearest], row[:16], dim=0)) > 0.95
