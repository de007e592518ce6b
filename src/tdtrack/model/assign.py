"""Which anchor learns which box."""

from __future__ import annotations

import torch
from torch import Tensor

from tdtrack.config import AssignConfig

__all__ = ["BACKGROUND", "IGNORED", "assign_anchors"]

BACKGROUND = -1
"""Assignment of an anchor that learns to find nothing."""
IGNORED = -2
"""Assignment of an anchor that learns nothing."""

_MAX_PAIRS = 1_000_000  # anchor-box pairs held at once: 4 MB a matrix, which stays near the CPU's caches


def assign_anchors(anchors: Tensor, xyxy: Tensor, ignore: Tensor, config: AssignConfig) -> Tensor:
    """Give every anchor of one image at most one box.

    An anchor takes the box it overlaps most if their IoU reaches ``min_positive_iou``; the first of equals. Then every
    box takes the anchor it overlaps most, whatever the IoU, if they overlap at all; of boxes that want the same anchor
    the first gets it, also from a box that the anchor overlaps more. What is left is background, unless it covers
    enough of an ignore region or its IoU lies between the two thresholds.

    Args:
        anchors: ``(N, 4)`` xyxy in input pixels.
        xyxy: ``(G, 4)`` boxes in input pixels; G may be 0, which makes every anchor background.
        ignore: ``(G,)`` bool, True for regions that are neither object nor background.
        config: the thresholds.

    Returns:
        ``(N,)`` int64: index into ``xyxy``, or ``BACKGROUND``, or ``IGNORED``. Ignore regions are never assigned.

    Source:
        Sec. 3.3 and TensorFlow Model Garden's RetinaNet, tie rules included; there a box without any overlap takes
        anchor 0, here none. Ignore regions are not in the paper: the share of the anchor is what COCO's crowds use.
    """
    assignment = torch.full((len(anchors),), BACKGROUND, dtype=torch.int64, device=anchors.device)
    objects = torch.nonzero(~ignore).flatten()
    if len(objects) > 0:
        box, iou, anchor, anchor_iou = _best_matches(anchors, xyxy[objects])
        assignment = assignment.masked_fill(iou >= config.max_negative_iou, IGNORED)
        assignment = torch.where(iou >= config.min_positive_iou, objects[box], assignment)
    if len(objects) < len(xyxy):
        inside = _share_inside(anchors, xyxy[ignore])
        assignment = assignment.masked_fill((assignment == BACKGROUND) & (inside >= config.min_ignore_share), IGNORED)
    if len(objects) > 0 and config.force_best:
        forced = torch.full_like(assignment, len(xyxy))
        wanted = anchor_iou > 0
        forced.scatter_reduce_(0, anchor[wanted], objects[wanted], "amin")
        assignment = torch.where(forced < len(xyxy), forced, assignment)
    return assignment


def _intersection(anchors: Tensor, xyxy: Tensor) -> Tensor:
    """Return the ``(N, G)`` overlap areas in square pixels."""
    width = torch.minimum(anchors[:, None, 2], xyxy[:, 2]) - torch.maximum(anchors[:, None, 0], xyxy[:, 0])
    height = torch.minimum(anchors[:, None, 3], xyxy[:, 3]) - torch.maximum(anchors[:, None, 1], xyxy[:, 1])
    return width.clamp_(min=0).mul_(height.clamp_(min=0))


def _area(xyxy: Tensor) -> Tensor:
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def _best_matches(anchors: Tensor, xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the best box of every anchor and the best anchor of every box; the first of equals.

    Returns:
        ``(N,)`` box index and its IoU, then ``(G,)`` anchor index and its IoU.
    """
    area = _area(xyxy)
    boxes, ious = [], []
    best_anchor = torch.zeros(len(xyxy), dtype=torch.int64, device=xyxy.device)
    best_iou = torch.zeros(len(xyxy), device=xyxy.device)
    rows = max(1, _MAX_PAIRS // len(xyxy))
    for start in range(0, len(anchors), rows):
        chunk = anchors[start : start + rows]
        overlap = _intersection(chunk, xyxy)
        iou = overlap / (_area(chunk)[:, None] + area - overlap)
        row_iou, row_box = iou.max(dim=1)
        boxes.append(row_box)
        ious.append(row_iou)
        top_iou, top_row = iou.max(dim=0)
        better = top_iou > best_iou  # strictly: an equal anchor of an earlier chunk stays
        best_anchor = torch.where(better, top_row + start, best_anchor)
        best_iou = torch.where(better, top_iou, best_iou)
    return torch.cat(boxes), torch.cat(ious), best_anchor, best_iou


def _share_inside(anchors: Tensor, regions: Tensor) -> Tensor:
    """Return the ``(N,)`` largest share of an anchor's area that one region covers."""
    rows = max(1, _MAX_PAIRS // len(regions))
    covered = [_intersection(chunk, regions).amax(dim=1) for chunk in torch.split(anchors, rows)]
    return torch.cat(covered) / _area(anchors)
