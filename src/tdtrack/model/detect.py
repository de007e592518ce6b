"""From raw predictions to detections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from tdtrack.config import DetectConfig
from tdtrack.model.boxcode import decode_boxes

__all__ = ["Candidates", "DetectedTensors", "select_detections"]


@dataclass(eq=False)
class Candidates:
    """What non-maximum suppression kept in one image, best first.

    Attributes:
        xyxy: ``(n, 4)`` in input pixels, inside the input, with positive area.
        score: ``(n,)`` in ``[0, 1]``, descending.
        class_id: ``(n,)`` int64 in ``[0, K)``.
        anchor: ``(n,)`` int64, the anchor each box came from.
    """

    xyxy: Tensor
    score: Tensor
    class_id: Tensor
    anchor: Tensor


@dataclass(eq=False)
class DetectedTensors:
    """The detections of one image, best first.

    Attributes:
        xyxy: ``(n, 4)`` float32 in input pixels, inside the input, with positive area.
        score: ``(n,)`` float32 in ``[0, 1]``, descending.
        class_id: ``(n,)`` int64 in ``[0, K)``.
        embedding: ``(n, D_s)`` float32 of unit length.
    """

    xyxy: Tensor
    score: Tensor
    class_id: Tensor
    embedding: Tensor


def select_detections(
    class_logits: Tensor, box_codes: Tensor, anchors: Tensor, height: int, width: int, config: DetectConfig
) -> Candidates:
    """Keep the detections of one image.

    Args:
        class_logits: ``(N, K)`` before the sigmoid.
        box_codes: ``(N, 4)``.
        anchors: ``(N, 4)`` xyxy in input pixels.
        height: of the input, in pixels.
        width: of the input, in pixels.
        config: thresholds and caps.

    Returns:
        At most ``config.max_detections``, best first; of equal scores the lower anchor index. An anchor may give one
        detection per class.

    Source:
        Sec. 3.2; the cap before suppression from TensorFlow Model Garden's RetinaNet.
    """
    classes = class_logits.shape[1]
    scores = class_logits.float().sigmoid().flatten()
    chosen = torch.nonzero(scores >= config.min_score).flatten()
    best = torch.argsort(scores[chosen], descending=True, stable=True)[: config.pre_nms_top]
    chosen = chosen[best]
    anchor = chosen.div(classes, rounding_mode="floor")
    xyxy = clip_boxes_to_image(decode_boxes(box_codes[anchor].float(), anchors[anchor]), (height, width))
    has_area = ((xyxy[:, 2:] - xyxy[:, :2]) > 0).all(dim=1)  # a box beyond the border clips to a line that nothing suppresses
    chosen, anchor, xyxy = chosen[has_area], anchor[has_area], xyxy[has_area]
    kept = batched_nms(xyxy, scores[chosen], chosen % classes, config.nms_iou)[: config.max_detections]
    return Candidates(xyxy[kept], scores[chosen[kept]], chosen[kept] % classes, anchor[kept])
