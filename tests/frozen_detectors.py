"""Small torch detectors with random weights, one per family of outputs, and what their outputs mean, by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tdtrack.frozen.detectors import trace_detector
from tdtrack.frozen.graph import DetectorGraph

HEIGHT, WIDTH = 64, 96
STRIDES = (8, 16, 32)
CELLS = sum((HEIGHT // stride) * (WIDTH // stride) for stride in STRIDES)
CLASSES = ("person", "cow", "cart")
NANODET_BINS = 8


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1)
        self.short = nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))


class TinyDetector(nn.Module):
    """A residual backbone with strides 2 to 32, a top-down path, and a 1x1 head whose columns mean what the family says."""

    def __init__(self, family: str, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.family = family
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stages = nn.ModuleList([Block(8, 8, 2), Block(8, 16, 2), Block(16, 16, 2), Block(16, 24, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(width, 16, 1) for width in (16, 16, 24)])
        k = len(CLASSES)
        columns = {"yolox": 5 + k, "nanodet": k + 4 * NANODET_BINS, "yolov5": 3 * (5 + k), "yolov8": 4 + k}.get(family, 4 + k)
        self.head = nn.Conv2d(16, columns, 1)
        nn.init.normal_(self.head.weight, std=1.2)

    def forward(self, images: Tensor) -> Any:
        x = torch.relu(self.stem(images / 64))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        below: Tensor | None = None
        levels = []
        for lateral, features in zip(reversed(self.lateral), reversed(maps[1:])):
            here = lateral(features)
            below = here if below is None else here + nn.functional.interpolate(below, scale_factor=2.0)
            levels.append(self.head(below))
        rows = torch.cat([level.flatten(2) for level in reversed(levels)], dim=2)  # (B, columns, N)
        return self._family(rows)

    def _family(self, rows: Tensor) -> Any:
        k = len(CLASSES)
        if self.family == "yolox":
            return torch.cat([rows[:, :4] / 3, rows[:, 4:].sigmoid()], dim=1).transpose(1, 2)
        if self.family == "nanodet":
            return torch.cat([rows[:, :k].sigmoid(), rows[:, k:]], dim=1).transpose(1, 2)
        if self.family == "yolov5":
            flat = rows.transpose(1, 2).reshape(rows.shape[0], -1, 5 + k)
            return torch.cat([_centre_and_side(flat[..., :4]), flat[..., 4:].sigmoid()], dim=2)
        box, scores = rows[:, :4].transpose(1, 2), rows[:, 4:].sigmoid()
        if self.family == "yolov8":
            return torch.cat([_centre_and_side(box).transpose(1, 2), scores], dim=1)
        if self.family == "detr":
            return scores.transpose(1, 2).logit(), box[..., :4].sigmoid()
        best, label = scores[:, :, :40].max(dim=1)
        centre = _centre_and_side(box[:, :40])
        corners = torch.cat([centre[..., :2] - centre[..., 2:] / 2, centre[..., :2] + centre[..., 2:] / 2], dim=2)
        if self.family == "rows":
            return torch.cat([corners, best[..., None], label[..., None].float()], dim=2)
        return corners[0], label[0], best[0]  # "boxes"


def _centre_and_side(values: Tensor) -> Tensor:
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float32)
    return torch.cat([values[..., :2].sigmoid() * size, (values[..., 2:4] / 2).exp() * 12], dim=-1)


def tiny_graph(family: str, seed: int = 0, features: tuple[str, ...] = ()) -> DetectorGraph:
    names = {"detr": ("logits", "pred_boxes"), "boxes": ("boxes", "labels", "scores")}.get(family, ("output",))
    return trace_detector(
        TinyDetector(family, seed),
        HEIGHT,
        WIDTH,
        classes=CLASSES,
        output_names=names,
        features=features,
        label=f"tiny {family}",
    )


def decoded(family: str, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(N, 4)`` corners and ``(N, K)`` scores of one image, a box at a time."""
    boxes, scores = [], []
    for row in _rows(family, outputs):
        box, score = row
        boxes.append(
            [np.clip(box[0], 0, WIDTH), np.clip(box[1], 0, HEIGHT), np.clip(box[2], 0, WIDTH), np.clip(box[3], 0, HEIGHT)]
        )
        scores.append(score)
    return np.array(boxes), np.array(scores)


def _rows(family: str, outputs: list[np.ndarray]) -> list[tuple[list[float], np.ndarray]]:
    first = outputs[0][0] if family not in ("boxes",) else outputs[0]
    cells = [(x, y, stride) for stride in STRIDES for y in range(HEIGHT // stride) for x in range(WIDTH // stride)]
    found = []

    def centred(cx: float, cy: float, w: float, h: float) -> list[float]:
        return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]

    if family == "yolox":
        for (x, y, stride), row in zip(cells, first):
            box = centred((row[0] + x) * stride, (row[1] + y) * stride, np.exp(row[2]) * stride, np.exp(row[3]) * stride)
            found.append((box, row[4] * row[5:]))
    elif family == "nanodet":
        for (x, y, stride), row in zip(cells, first):
            sides = []
            for side in range(4):
                bins = row[3 + side * NANODET_BINS : 3 + (side + 1) * NANODET_BINS]
                share = np.exp(bins - bins.max()) / np.exp(bins - bins.max()).sum()
                sides.append(sum(index * part for index, part in enumerate(share)) * stride)
            cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
            found.append(([cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3]], row[:3]))
    elif family == "yolov5":
        found = [(centred(*row[:4]), row[4] * row[5:]) for row in first]
    elif family == "yolov8":
        found = [(centred(*row[:4]), row[4:]) for row in first.T]
    elif family == "detr":
        for logits, box in zip(first, outputs[1][0]):
            found.append((centred(box[0] * WIDTH, box[1] * HEIGHT, box[2] * WIDTH, box[3] * HEIGHT), 1 / (1 + np.exp(-logits))))
    else:
        rows = first if family == "rows" else np.column_stack([first, outputs[2], outputs[1]])
        for row in rows:
            score = np.zeros(len(CLASSES))
            score[int(row[5])] = row[4]
            found.append((list(row[:4]), score))
    return found


def greedy(boxes: np.ndarray, scores: np.ndarray, min_score: float, max_iou: float) -> list[tuple[float, int, np.ndarray]]:
    """Keep the best boxes of each class, one at a time; returns score, class and box, best first."""
    rows = [(scores[n, k], k, boxes[n]) for n in range(len(boxes)) for k in range(scores.shape[1]) if scores[n, k] >= min_score]
    kept: list[tuple[float, int, np.ndarray]] = []
    for score, label, box in sorted(rows, key=lambda row: -row[0]):
        if min(box[2] - box[0], box[3] - box[1]) > 0 and all(other != label or _iou(box, b) <= max_iou for _, other, b in kept):
            kept.append((score, label, box))
    return kept


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0.0) * max(h, 0.0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)
