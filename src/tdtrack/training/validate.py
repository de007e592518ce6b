"""How good a model is on labelled images: average precision, and agreement with the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import box_iou

from tdtrack.boxes import box_area, clip_to_image
from tdtrack.config import DataSource, DetectConfig
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data.dataset import AnnotatedImage
from tdtrack.data.images import fit_image, load_image
from tdtrack.data.store import EmbeddingStore
from tdtrack.errors import ShapeError, StoreError, TdtrackError
from tdtrack.evaluation.detection import average_precision
from tdtrack.model import JointModel, Predictions, load_model
from tdtrack.model.detect import select_detections
from tdtrack.training.samples import LabelledSet, load_labelled_sets
from tdtrack.training.signals import ignore_interrupts
from tdtrack.types import Detections, FloatArray

__all__ = ["ModelReport", "embedding_agreement", "evaluate_model", "validate"]

_BATCH = 4  # images per forward pass; the result does not depend on it beyond rounding


@dataclass(frozen=True, slots=True, eq=False)
class ModelReport:
    """A model's quality on labelled images.

    Attributes:
        name: of the data sets.
        ap50: average precision at IoU 0.5, a fraction.
        recall: share of the boxes that some detection finds.
        num_images: images looked at.
        num_boxes: boxes that count.
        cosine: ``(E,)`` cosine between student and teacher per box; ``None`` where there are no teacher embeddings.
    """

    name: str
    ap50: float
    recall: float
    num_images: int
    num_boxes: int
    cosine: FloatArray | None

    @property
    def mean_cosine(self) -> float | None:
        """Mean agreement with the teacher; ``None`` where there is nothing to agree with."""
        return None if self.cosine is None or len(self.cosine) == 0 else float(self.cosine.mean())

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        lines = [
            f"{self.name}: {self.num_images} images, {self.num_boxes} boxes",
            f"AP at IoU 0.5        {self.ap50:.1%}   (recall {self.recall:.1%})",
        ]
        if self.cosine is not None and self.mean_cosine is not None:
            low, middle = np.quantile(self.cosine, [0.1, 0.5])
            lines.append(
                f"cosine with teacher  {self.mean_cosine:.3f} mean over {len(self.cosine)} boxes "
                f"(median {middle:.3f}, worst tenth below {low:.3f})"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and text, ready for JSON."""
        return {
            "name": self.name,
            "AP50": self.ap50,
            "recall": self.recall,
            "num_images": self.num_images,
            "num_boxes": self.num_boxes,
            "mean_cosine": self.mean_cosine,
            "num_cosines": 0 if self.cosine is None else len(self.cosine),
        }


def evaluate_model(
    model: Path | str,
    annotations: Path | str,
    images: Path | str = "",
    store: Path | str | None = None,
    *,
    format: DataFormat = "auto",
    split: str = "",
    box: BoxKind = "full",
    skip_bad: bool = False,
    device: str | None = None,
) -> ModelReport:
    """Measure a saved model on a data set.

    Args:
        model: run folder or ``.safetensors`` file.
        annotations: file or folder of a data set of any layout.
        images: folder that image names are relative to, as in ``load_dataset``.
        store: embedding store of the data set; without it there is no agreement to measure.
        format: the layout, as in ``load_dataset``.
        split: the part, as in ``load_dataset``.
        box: which of a person's boxes, as in ``load_dataset``.
        skip_bad: leave out what cannot be used, as it was when the store was made.
        device: where to compute; ``None`` takes a GPU if there is one.

    Raises:
        WeightsError: the model cannot be read.
        DataError: the data set cannot be used, or none of its boxes is of the model's classes.
        StoreError: the store does not fit the data set or the model.
    """
    network, metadata = load_model(model)
    source = DataSource(
        str(annotations), str(images), str(store or ""), skip_bad_boxes=skip_bad, format=format, split=split, box=box
    )
    sets = load_labelled_sets([source], network.config.classes, network.config.embedding_dim, need_stores=False)
    embeddings = sets[0].store
    if embeddings is not None and embeddings.teacher_fingerprint != metadata["teacher"]["fingerprint"]:
        raise StoreError(
            f"{store} was made by teacher {embeddings.teacher_name} ({embeddings.teacher_fingerprint[:12]}) but {model} "
            f"learned from {metadata['teacher']['name']} ({metadata['teacher']['fingerprint'][:12]}); "
            "annotate the data with the model's teacher"
        )
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return validate(network, sets, metadata["input_height"], metadata["input_width"], DetectConfig())


def embedding_agreement(
    model: JointModel, item: LabelledSet, input_height: int, input_width: int, *, workers: int = 0
) -> FloatArray:
    """Cosine between the model's and the teacher's embedding of every box that counts.

    Args:
        model: on its device.
        item: a data set with its store.
        input_height: height of the network input in pixels.
        input_width: its width.
        workers: loader processes.

    Returns:
        ``(E,)`` in order of image and box. See ``validate`` for how it is measured.

    Raises:
        ShapeError: the set has no store.
    """
    if item.store is None:
        raise ShapeError(f"{item.dataset.name} has no embedding store to agree with")
    return np.concatenate([cosine for _, cosine in _look(model, item, input_height, input_width, DetectConfig(), workers)])


def validate(
    model: JointModel,
    sets: Sequence[LabelledSet],
    input_height: int,
    input_width: int,
    detect: DetectConfig,
    *,
    workers: int = 0,
) -> ModelReport:
    """Measure a model on labelled images, in one forward pass each.

    Images are fitted into the input as in tracking. The agreement of a box is the cosine
    (``JointModel.agreement``) between its teacher embedding and the model's embedding at the anchor that overlaps the box
    most, whether or not that anchor detects it: so it measures the embedding head alone.

    Args:
        model: on its device; its mode is as before afterwards.
        sets: what to look at, together.
        input_height: height of the network input in pixels.
        input_width: its width.
        detect: thresholds and caps of the detections whose precision is measured.
        workers: loader processes.

    Returns:
        The report; cosines of the sets that have a store.

    Raises:
        DataError: an image cannot be read, or no image has a box.

    Source:
        Sec. 4.1 for AP at IoU 0.5. The agreement is not in the paper.
    """
    found: list[Detections] = []
    cosines: list[FloatArray] = []
    for item in sets:
        for detections, cosine in _look(model, item, input_height, input_width, detect, workers):
            found.append(detections)
            cosines.append(cosine)
    report = average_precision([image for item in sets for image in item.dataset.images], found)
    has_teacher = any(item.store is not None for item in sets)
    return ModelReport(
        name=" + ".join(item.dataset.name for item in sets),
        ap50=report.ap,
        recall=report.recall,
        num_images=report.num_images,
        num_boxes=report.num_gt,
        cosine=np.concatenate(cosines) if has_teacher else None,
    )


class _FittedImages(Dataset["tuple[Tensor, float] | TdtrackError"]):
    """Images as tracking would see them, with the factor from image to input pixels."""

    def __init__(self, images: Sequence[AnnotatedImage], height: int, width: int) -> None:
        self.images, self.height, self.width = images, height, width

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, float] | TdtrackError:
        try:
            fitted, scale = fit_image(load_image(self.images[index].path), self.height, self.width)
        except TdtrackError as error:  # raised in a loader process, it would arrive as a traceback
            return error
        return torch.from_numpy(np.ascontiguousarray(fitted.transpose(2, 0, 1))), scale


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


@torch.no_grad()
def _look(
    model: JointModel, item: LabelledSet, height: int, width: int, detect: DetectConfig, workers: int
) -> list[tuple[Detections, FloatArray]]:
    """Return detections (without embeddings) and cosines of every image of a set."""
    records = item.dataset.images
    loader = DataLoader(
        _FittedImages(records, height, width),
        batch_size=_BATCH,
        num_workers=workers,
        collate_fn=_as_list,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # its own: a validation must not move the training's random numbers
    )
    device = next(model.parameters()).device
    results: list[tuple[Detections, FloatArray]] = []
    was_training = model.training
    model.eval()
    for batch in loader:
        for image in batch:
            if isinstance(image, TdtrackError):
                raise image
        predictions = model(torch.stack([image for image, _ in batch]).to(device))
        for row, (_, scale) in enumerate(batch):
            record = records[len(results)]
            detections = _detections(predictions, row, record, scale, height, width, detect)
            results.append((detections, _agreement(model, predictions, row, record, scale, item.store)))
    model.train(was_training)
    return results


def _detections(
    predictions: Predictions, row: int, record: AnnotatedImage, scale: float, height: int, width: int, detect: DetectConfig
) -> Detections:
    """Return one image's detections in its own pixels, as tracking has them: without boxes in the padding."""
    found = select_detections(
        predictions.class_logits[row], predictions.box_codes[row], predictions.anchors, height, width, detect
    )
    xyxy = clip_to_image(found.xyxy.cpu().numpy() / np.float32(scale), record.width, record.height)
    return Detections(xyxy, found.score.cpu().numpy(), found.class_id.cpu().numpy()).select(box_area(xyxy) > 0)


def _agreement(
    model: JointModel, predictions: Predictions, row: int, record: AnnotatedImage, scale: float, store: EmbeddingStore | None
) -> FloatArray:
    """Return one image's cosines, ``(E,)``; none without a store."""
    counted = ~record.ignore
    if store is None or not counted.any():
        return np.zeros(0, np.float32)
    device = predictions.anchors.device
    xyxy = torch.from_numpy(record.xyxy[counted] * np.float32(scale)).to(device)
    anchor = box_iou(xyxy, predictions.anchors).argmax(dim=1)
    student = model.embed_at(predictions, torch.full_like(anchor, row), anchor).float()
    teacher = torch.from_numpy(store.lookup(record.annotation_id[counted])).to(device)
    cosine: NDArray[np.float32] = model.agreement(student, teacher).cpu().numpy()
    return cosine
