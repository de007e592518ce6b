"""Fit what the tracker has to know about a trained model's embeddings to the embeddings themselves, without identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from tdtrack.association.calibration import (
    APPEARANCE_TEACHER,
    appearance_for,
    different_pairs,
    fit_appearance,
    within_object_normalisation,
)
from tdtrack.association.costs import unit_length
from tdtrack.boxes import box_area, clip_to_image, iou
from tdtrack.config import AssociationConfig, AugmentConfig
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import crop_boxes, load_image
from tdtrack.errors import DataError, ShapeError, WeightsError
from tdtrack.model import JointModel, load_model, save_model
from tdtrack.runtime.engine import FittedFrame
from tdtrack.runtime.exported import ExportedEngine
from tdtrack.runtime.onnxruntime_session import OnnxRuntimeSession
from tdtrack.runtime.rewrite import rewrite_metadata
from tdtrack.teacher import Teacher
from tdtrack.training.augment import change_light, choose_placement, cut_boxes, cut_window, pad_window, place_boxes
from tdtrack.types import FloatArray, IntArray

__all__ = ["calibrate_exported", "calibrate_model", "can_calibrate", "normalise_model"]

SEED = 0
FITTED = ("max_appearance_cost", "cosine_statistics")
MAX_IMAGES = 200  # a few thousand pairs fix a quantile; more images would only take longer
NORMALISED_ON = 400  # images; D numbers scatter in D (D + 1) / 2 ways, which takes more boxes than a quantile
AS_TRACKED = AugmentConfig(flip=0.0, min_scale=1.0, max_scale=1.0)
SECOND_VIEW = AugmentConfig(flip=0.5, min_scale=0.7, max_scale=1.1, brightness=0.3, contrast=0.3, min_visible=0.5)
SAME_IOU = 0.6  # two detections, brought into one view, that overlap more show one object
BOX_JITTER = 0.08  # standard deviation of a detected box's sides around the true one, in box sides


@dataclass
class _Views:
    """Embeddings of the boxes of many images, seen as they are and once more seen differently."""

    first: list[FloatArray]
    second: list[FloatArray]
    both: list[NDArray[np.bool_]]
    image: list[IntArray]

    def add(self, index: int, first: FloatArray, second: FloatArray, kept: IntArray) -> None:
        seen_twice = np.zeros(len(first), bool)
        seen_twice[kept] = True
        self.first.append(first)
        self.second.append(second)
        self.both.append(seen_twice)
        self.image.append(np.full(len(first), index, np.int64))

    def fit(self) -> dict[str, Any]:
        """Return the ceiling for FairMOT's association and the cosine statistics for the one by evidence."""
        first = np.concatenate(self.first)
        again = unit_length(first[np.concatenate(self.both)]) * unit_length(np.concatenate(self.second))
        same = np.maximum(0.0, 1.0 - again.sum(axis=1))
        different = different_pairs(first, np.concatenate(self.image))
        return fit_appearance(same, different)


def calibrate_model(
    path: Path, dataset: DetectionDataset, teacher: Teacher | None = None, *, again: bool = False
) -> dict[str, Any]:
    """Fit the tracker to the embeddings and store the result in the model file; what the model carries is left as it is.

    Two boxes of one image are different objects; a box and the same box scaled, mirrored, moved and lit otherwise are the
    same. The ceiling lies halfway between the two kinds of pairs; the statistics are what "evidence" starts from
    (``tdtrack.association.calibration``).

    Args:
        path: the model file, rewritten where something changes.
        dataset: boxes to look at, best ones that the model was not trained on; no identities.
        teacher: also fit two-stage tracking with this teacher's embeddings of crops.
        again: fit also what the model carries already; what it carries of a teacher stays where none is given.

    Returns:
        What is stored under ``"appearance"`` in the model's metadata: ``max_appearance_cost``, ``cosine_statistics`` and,
        of a teacher, both with the prefix ``teacher_``.

    Raises:
        DataError: no image has two boxes.
        WeightsError: the model cannot be read.
        OutputError: the model file cannot be rewritten.
    """
    model, metadata = load_model(path)
    carried: dict[str, Any] = metadata.get("appearance", {})
    if teacher is not None:
        carried = appearance_for(metadata, teacher.fingerprint)
    wanted = {f"{prefix}{key}" for prefix in ("", "teacher_")[: 1 if teacher is None else 2] for key in FITTED}
    kept = {key: value for key, value in carried.items() if not (again and key in wanted)}
    if kept.keys() >= wanted:
        return kept
    images = _some_images(dataset)
    found = _student_views(model, images, metadata["input_height"], metadata["input_width"]).fit()
    if teacher is not None:
        found |= {f"teacher_{key}": value for key, value in _teacher_views(teacher, images).fit().items()}
    fitted = found | kept
    if fitted != carried:
        save_model(path, model, {**metadata, "appearance": fitted, **_fitted_with(teacher)})
    return fitted


def can_calibrate(dataset: DetectionDataset) -> bool:
    """Tell whether some image has two boxes, from which different objects are known."""
    return any(map(_has_two, dataset.images))


def normalise_model(path: Path, datasets: Sequence[DetectionDataset], out: Path | None = None) -> Path:
    """Map a model's embeddings so that what views of one box differ in counts for less, without identities.

    The map becomes part of the last embedding layer, so that nothing else has to know of it. Fit ceilings afterwards, and enrol
    people anew. A model that is normalised already stays as it is.

    Args:
        path: the model file.
        datasets: boxes to look at; those it was trained on will do.
        out: where the result goes; ``None`` rewrites the model file.

    Returns:
        Where the result is.

    Raises:
        DataError: no image has two boxes, or the model gives all of them one embedding.
        WeightsError: the model cannot be read.
        OutputError: the result cannot be written.

    Source:
        ``tdtrack.association.calibration.within_object_normalisation``.
    """
    model, metadata = load_model(path)
    if not metadata.get("normalised"):
        images = _some_images(*datasets, count=NORMALISED_ON)
        views = _student_views(model, images, metadata["input_height"], metadata["input_width"])
        first = np.concatenate(views.first)
        pairs = first[np.concatenate(views.both)], np.concatenate(views.second)
        try:
            offset, matrix = within_object_normalisation(first, *pairs)
        except ShapeError as error:
            raise DataError(f"{_names(datasets)}: {path} cannot be normalised on it: {error}") from error
        model.map_embeddings(torch.from_numpy(offset), torch.from_numpy(matrix), metadata["teacher"]["dim"])
        of_teacher = {key: value for key, value in metadata.get("appearance", {}).items() if key.startswith("teacher_")}
        metadata = {**metadata, "appearance": of_teacher, "normalised": True}
    save_model(out or path, model, metadata)
    return out or path


def calibrate_exported(path: Path, dataset: DetectionDataset, teacher: Teacher | None = None) -> dict[str, Any]:
    """Do for an exported file what ``calibrate_model`` does for a trained model, on what the file itself detects.

    Args:
        path: the ``.onnx`` file, rewritten.
        dataset: images to look at; their boxes matter to the teacher alone.
        teacher: see ``calibrate_model``.

    Returns:
        See ``calibrate_model``.

    Raises:
        DataError: too little was found, or found again, to compare.
        WeightsError: the file cannot be read, or gives no embeddings.
        OutputError: the file cannot be rewritten.
    """
    engine = ExportedEngine(OnnxRuntimeSession(path, device="cpu"), min_score=AssociationConfig.min_score)
    if engine.embedding_dim is None:
        raise WeightsError(f"{path} gives no embeddings, so there is nothing to calibrate; export a model that does")
    images = _some_images(dataset)
    views = _exported_views(engine, images)
    try:
        found = views.fit() if views.first else None
    except ShapeError:  # of one kind of pairs there is none
        found = None
    if found is None:
        raise DataError(
            f"{dataset.name}: {path} finds too few objects twice in {len(images)} images; give images of what it detects"
        )
    if teacher is not None:
        found |= {f"teacher_{key}": value for key, value in _teacher_views(teacher, images).fit().items()}
    fitted: dict[str, Any] = engine.description.metadata.get("appearance", {}) | found
    rewrite_metadata(path, engine.description, {"appearance": fitted, **_fitted_with(teacher)})
    return fitted


def _names(datasets: Sequence[DetectionDataset]) -> str:
    return ", ".join(dataset.name for dataset in datasets)


def _some_images(*datasets: DetectionDataset, count: int = MAX_IMAGES) -> list[AnnotatedImage]:
    """Choose images with two boxes or more, evenly over all data sets."""
    images = [image for dataset in datasets for image in dataset.images if _has_two(image)]
    if not images:
        names = _names(datasets)
        raise DataError(f"{names}: no image has two boxes, so nothing tells different objects apart; add images that do")
    return images[:: -(-len(images) // count)]


def _has_two(image: AnnotatedImage) -> bool:
    return int((~image.ignore).sum()) >= 2


def _fitted_with(teacher: Teacher | None) -> dict[str, str]:
    return {} if teacher is None else {APPEARANCE_TEACHER: teacher.fingerprint}


def _exported_views(engine: ExportedEngine, images: list[AnnotatedImage]) -> _Views:
    """Detect in every image and in another view of it; what overlaps most in both is the same object."""
    height, width = engine.description.input_height, engine.description.input_width
    views = _Views([], [], [], [])
    rng = np.random.default_rng(SEED)
    for index, record in enumerate(images):
        pixels = load_image(record.path)
        placement = choose_placement(record.width, record.height, height, width, SECOND_VIEW, rng)
        fitted = pad_window(change_light(cut_window(pixels, placement), SECOND_VIEW, rng), height, width)
        other = FittedFrame(np.ascontiguousarray(fitted), 1.0, height, width)
        first, second = engine.detect_fitted([engine.fit(pixels), other])
        assert first.embedding is not None and second.embedding is not None
        if not len(first) or not len(second):
            continue
        overlap = iou(place_boxes(first.xyxy, record.width, record.height, placement), second.xyxy)
        nearest, back = overlap.argmax(axis=1), overlap.argmax(axis=0)
        rows = np.flatnonzero((back[nearest] == np.arange(len(first))) & (overlap.max(axis=1) >= SAME_IOU))
        views.add(index, first.embedding, second.embedding[nearest[rows]], rows)
    return views


def _student_views(model: JointModel, images: list[AnnotatedImage], height: int, width: int) -> _Views:
    model.eval()
    views = _Views([], [], [], [])
    rng = np.random.default_rng(SEED)
    for index, record in enumerate(images):
        pixels = load_image(record.path)
        xyxy = record.xyxy[~record.ignore]
        first, rows = _embed(model, pixels, xyxy, height, width, AS_TRACKED, rng)
        second, kept = _embed(model, pixels, xyxy[rows], height, width, SECOND_VIEW, rng)
        views.add(index, first, second, kept)
    return views


@torch.inference_mode()
def _embed(
    model: JointModel, pixels: Any, xyxy: FloatArray, height: int, width: int, view: AugmentConfig, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Embed the boxes that a view shows, each at the anchor that overlaps it most; also returns their rows."""
    image_height, image_width = pixels.shape[:2]
    placement = choose_placement(image_width, image_height, height, width, view, rng)
    fitted = pad_window(change_light(cut_window(pixels, placement), view, rng), height, width)
    boxes, rows, stump = cut_boxes(place_boxes(xyxy, image_width, image_height, placement), placement, view)
    boxes, rows = boxes[~stump], rows[~stump]
    predictions = model(torch.from_numpy(np.ascontiguousarray(fitted.transpose(2, 0, 1)))[None])
    if len(boxes) == 0:
        return np.zeros((0, model.config.embedding_dim), np.float32), rows
    anchor = box_iou(torch.from_numpy(boxes), predictions.anchors).argmax(dim=1)
    return model.embed_at(predictions, torch.zeros_like(anchor), anchor).float().numpy(), rows


def _teacher_views(teacher: Teacher, images: list[AnnotatedImage]) -> _Views:
    views = _Views([], [], [], [])
    rng = np.random.default_rng(SEED)
    for index, record in enumerate(images):
        pixels = load_image(record.path)
        xyxy = record.xyxy[~record.ignore]
        side = np.tile(xyxy[:, 2:] - xyxy[:, :2], 2)
        moved = clip_to_image(
            xyxy + (BOX_JITTER * side * rng.normal(size=xyxy.shape)).astype(np.float32), record.width, record.height
        )
        kept = np.flatnonzero(box_area(moved) > 0)
        lit = change_light(pixels, SECOND_VIEW, rng)
        again = [crop[:, ::-1] if rng.random() < 0.5 else crop for crop in crop_boxes(lit, moved[kept])]
        views.add(index, teacher.embed(crop_boxes(pixels, xyxy)), teacher.embed(again), kept)
    return views
