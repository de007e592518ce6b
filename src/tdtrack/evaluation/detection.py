"""Average precision of detections, through faster-coco-eval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tdtrack.boxes import xyxy_to_tlwh
from tdtrack.errors import DataError, MissingExtraError, ShapeError
from tdtrack.types import ANY_CLASS, BoolArray, Detections, FloatArray, IntArray

__all__ = ["RECALL_LEVELS", "DetectionReport", "LabelledBoxes", "average_precision"]

RECALL_LEVELS = 101
"""Points of the interpolated precision curve: recall 0.00, 0.01 ... 1.00 (COCO)."""


class LabelledBoxes(Protocol):
    """Ground truth of one image; every record with these attributes will do.

    Attributes:
        xyxy: ``(G, 4)`` corners in pixels.
        class_id: ``(G,)`` class of each box; ``ANY_CLASS`` of regions of every class.
        ignore: ``(G,)`` true where a box is a region: detections inside it count neither for nor against.
    """

    @property
    def xyxy(self) -> FloatArray: ...  # noqa: D102
    @property
    def class_id(self) -> IntArray: ...  # noqa: D102
    @property
    def ignore(self) -> BoolArray: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class DetectionReport:
    """Average precision and what it was computed from.

    Attributes:
        ap: mean of ``ap_per_class``, a fraction in ``[0, 1]``.
        ap_per_class: average precision of every class with ground truth, by class id.
        precision: ``(101,)`` interpolated precision at recall 0.00, 0.01 ... 1.00, mean over classes.
        recall: share of the ground truth that is found when every detection counts, mean over classes.
        min_iou: overlap from which a detection finds a box.
        num_images: images evaluated, those without boxes included.
        num_gt: ground-truth boxes, ignore regions not counted.
        num_detections: detections of all classes.
    """

    ap: float
    ap_per_class: dict[int, float]
    precision: FloatArray
    recall: float
    min_iou: float
    num_images: int
    num_gt: int
    num_detections: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers, lists and string keys, ready for JSON."""
        return {
            "AP": self.ap,
            "AP_per_class": {str(class_id): ap for class_id, ap in self.ap_per_class.items()},
            "precision": [float(value) for value in self.precision],
            "recall": self.recall,
            "min_iou": self.min_iou,
            "num_images": self.num_images,
            "num_gt": self.num_gt,
            "num_detections": self.num_detections,
        }


def average_precision(
    ground_truth: Sequence[LabelledBoxes], detections: Sequence[Detections], *, min_iou: float = 0.5
) -> DetectionReport:
    """Area under the precision-recall curve, by COCO's rules with all detections counted.

    Detections claim boxes of their class greedily, best score first, each the free box it overlaps most. A detection left
    over is a false alarm unless it lies in an ignore region by more than ``min_iou`` of its own area. Precision is made
    monotone and averaged over 101 recall levels.

    Args:
        ground_truth: one record per image.
        detections: what was found in the same images, in the same order. There is no cap on their number.
        min_iou: overlap from which a detection finds a box, in ``(0, 1]``.

    Returns:
        The report; ``ap`` is 0 where nothing was detected.

    Raises:
        ShapeError: there is not one set of detections per image, or a score is not a number.
        DataError: no image has a box that counts, so that precision is undefined.
        MissingExtraError: faster-coco-eval is not installed.

    Source:
        Sec. 4.1 (AP at IoU 0.5). COCO's 100 detections per image are lifted: crowds hold more people.
    """
    if len(ground_truth) != len(detections):
        raise ShapeError(f"{len(ground_truth)} images of ground truth but detections of {len(detections)}; pass one per image")
    for row, found in enumerate(detections):
        if not np.isfinite(found.score).all():
            raise ShapeError(f"detections of image {row} hold a score that is not a finite number; drop those rows")
    counted = [truth.class_id[~truth.ignore] for truth in ground_truth]
    classes = np.unique(np.concatenate(counted)) if counted else np.zeros(0, np.int64)
    if len(classes) == 0:
        raise DataError(
            f"none of the {len(ground_truth)} images has a ground-truth box that counts, so precision is undefined; "
            "evaluate on images with boxes"
        )
    precision, recall = _coco_curves(ground_truth, detections, [int(value) for value in classes], min_iou)
    per_class = precision.mean(axis=0)
    return DetectionReport(
        ap=float(per_class.mean()),
        ap_per_class={int(class_id): float(ap) for class_id, ap in zip(classes, per_class)},
        precision=precision.mean(axis=1).astype(np.float32),
        recall=float(recall.mean()),
        min_iou=min_iou,
        num_images=len(ground_truth),
        num_gt=sum(len(labels) for labels in counted),
        num_detections=sum(len(found) for found in detections),
    )


def _coco_curves(
    ground_truth: Sequence[LabelledBoxes], detections: Sequence[Detections], classes: list[int], min_iou: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(101, K)`` precision and ``(K,)`` greatest recall of the given classes."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingExtraError("faster-coco-eval", "eval", "average precision") from error

    images = [{"id": index + 1} for index in range(len(ground_truth))]
    categories = [{"id": class_id, "name": str(class_id)} for class_id in classes]
    boxes = _annotations("iscrowd", (_of_each_class(item, classes) for item in ground_truth))
    found = _annotations("score", ((item.xyxy, item.class_id, item.score) for item in detections))
    truth = COCO({"images": images, "categories": categories, "annotations": boxes}, print_function=_silent)
    result = COCO({"images": images, "categories": categories, "annotations": found}, print_function=_silent)

    evaluation = COCOeval_faster(truth, result, iouType="bbox", print_function=_silent)
    evaluation.params.iouThrs = np.array([min_iou])
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [max((len(item) for item in detections), default=0) or 1]
    evaluation.evaluate()
    evaluation.accumulate()
    # The summary would read index 2 of maxDets, which is not there; the curves are what it is made from.
    precision = np.asarray(evaluation.eval["precision"], np.float64).reshape(RECALL_LEVELS, len(classes))
    recall = np.asarray(evaluation.eval["recall"], np.float64).reshape(len(classes))
    return precision, recall


def _of_each_class(truth: LabelledBoxes, classes: list[int]) -> tuple[FloatArray, IntArray, NDArray[Any]]:
    """Return boxes, classes and crowd marks; a region of every class becomes one of each."""
    everywhere = truth.class_id == ANY_CLASS
    rows = np.repeat(np.arange(len(everywhere)), np.where(everywhere, len(classes), 1))
    class_id = truth.class_id[rows]
    class_id[everywhere[rows]] = np.tile(classes, int(everywhere.sum()))
    return truth.xyxy[rows], class_id, truth.ignore[rows].astype(np.int64)


def _annotations(field: str, images: Iterable[tuple[FloatArray, IntArray, NDArray[Any]]]) -> list[dict[str, Any]]:
    """Build COCO annotations with one column more, ids from 1 (COCO's matcher reads 0 as "unmatched")."""
    annotations: list[dict[str, Any]] = []
    for image_id, (xyxy, class_id, column) in enumerate(images, start=1):
        tlwh = xyxy_to_tlwh(xyxy.astype(np.float64)).tolist()
        for box, label, value in zip(tlwh, class_id.tolist(), column.tolist()):
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label, "bbox": box, "area": box[2] * box[3]}
            annotations.append(row | {"iscrowd": 0} | {field: value})
    return annotations


def _silent(*_: object) -> None:
    """Take the place of the evaluator's print."""
