"""``tdtrack teach --detector``: an embedding head for a detector that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tdtrack.association.calibration import different_pairs, fit_appearance
from tdtrack.config import DetectConfig, HeadConfig
from tdtrack.data import load_dataset
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import fit_image, load_image
from tdtrack.data.store import EmbeddingStore
from tdtrack.errors import ConfigError, DataError
from tdtrack.files import atomic_write
from tdtrack.frozen.cache import FeatureCache
from tdtrack.frozen.description import DetectorDescription, describe_detector, read_description_file
from tdtrack.frozen.detectors import open_detector
from tdtrack.frozen.graph import DetectorGraph
from tdtrack.frozen.learn import HeadReport, embed_cache, evaluate_head, learn_head
from tdtrack.frozen.merge import differences, merge
from tdtrack.frozen.pooling import Reading, choose_readings
from tdtrack.frozen.pseudo import write_pseudo_boxes
from tdtrack.runtime.engine import load_engine
from tdtrack.teach.boxes import TeachData, load_both, split, write_source
from tdtrack.teacher import Teacher
from tdtrack.types import FloatArray, IntArray
from tdtrack.version import __version__

__all__ = ["DetectorRequest", "TaughtDetector", "teach_detector"]

UNTOUCHED_IMAGES = 50
"""Images on which the detector's own outputs are compared before and after."""


@dataclass(frozen=True)
class DetectorRequest:
    """A detector, and what is to be made of it.

    Attributes:
        detector: an ``.onnx`` file, a run of ours, or ``torchvision:NAME``.
        out: the ``.onnx`` file to write; work in progress is kept in a folder beside it.
        licence: the detector's, for instance "Apache-2.0"; it travels with the model.
        weights: of a torchvision model.
        description: YAML file that says what the outputs mean, where they do not tell.
        classes: of the detector, those to keep; none keeps those that the data names.
        input_size: height and width, where the detector leaves them open.
        pseudo_boxes: images, videos and folders in which the detector's own boxes are learned from.
        every: of a video there, each that many-th frame.
    """

    detector: str
    out: str
    licence: str
    weights: str | None = None
    description: str | None = None
    classes: tuple[str, ...] = ()
    input_size: tuple[int, int] | None = None
    pseudo_boxes: tuple[str, ...] = ()
    every: int = 5

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            ConfigError: names what is missing.
        """
        if not self.licence.strip():
            raise ConfigError(
                "the detector's licence is not given; say it with --detector-licence, for instance Apache-2.0, AGPL-3.0 or "
                "unknown: it travels with the model"
            )
        if Path(self.out).suffix.lower() != ".onnx":
            raise ConfigError(f"out is {self.out}; a taught detector is one file: name one that ends in .onnx")
        if self.every < 1:
            raise ConfigError(f"every is {self.every}; it must be at least 1")


@dataclass(frozen=True)
class TaughtDetector:
    """What was made.

    Attributes:
        model: the file.
        report: of the head on held-out boxes.
        boxes: learned from.
        changed: numbers of the detector's own outputs that differ, on ``compared`` images.
        compared: images.
    """

    model: Path
    report: HeadReport
    boxes: int
    changed: int
    compared: int

    def lines(self) -> list[str]:
        """Return what the command prints."""
        own = "bit for bit what they were" if not self.changed else f"different in {self.changed} numbers"
        return [
            f"learned from {self.boxes} boxes",
            *self.report.lines(),
            f"the detector's own outputs    {own}, on {self.compared} images",
            f"model in {self.model}",
            f"next: tdtrack track VIDEO --model {self.model} --out tracks",
        ]


def teach_detector(
    data: Sequence[TeachData], request: DetectorRequest, teacher: Teacher, config: HeadConfig, detect: DetectConfig
) -> TaughtDetector:
    """Learn an embedding head on a frozen detector and write both as one model; a second call resumes.

    Args:
        data: labelled boxes; may be empty with pseudo boxes.
        request: the detector.
        teacher: gives each box its embedding.
        config: how the head reads and learns.
        detect: thresholds and caps that become part of the model.

    Returns:
        The model, calibrated, and its report.

    Raises:
        DataError: the data cannot be used, or there is none.
        WeightsError: the detector cannot be read, or is not understood.
        ConfigError: a setting does not fit the detector.
        StoreError: the work folder holds embeddings of other data or another teacher.
    """
    out = Path(request.out)
    work = out.with_name(f"{out.stem}-work")
    detector = open_detector(request.detector, weights=request.weights, input_size=request.input_size)
    told = {} if request.description is None else read_description_file(request.description)
    description = describe_detector(detector, told)
    sets = [load_both(item) for item in data]
    classes = _kept_classes(request, description, [part for part, _ in sets])
    if request.pseudo_boxes:
        sets.append(split(_pseudo(request, detector, description, classes, config, detect, work)))
    if not sets:
        raise DataError("there is nothing to learn from; give a data set, or pictures with --pseudo-boxes")
    learned, held_out = (_joined([pair[index] for pair in sets]) for index in (0, 1))
    sources = [write_source(part, work / "data", name, teacher) for part, name in ((learned, "train"), (held_out, "val"))]
    parts = [load_dataset(source.annotations, source.images) for source in sources]
    readings = choose_readings(detector, config.features, _aspect(parts[0]), config.place)
    caches = [
        FeatureCache.make(
            work / f"features-{name}", part, detector, description, readings, views=config.views, seed=config.seed
        )
        for part, name in zip(parts, ("train", "val"))
    ]
    stores = [EmbeddingStore.open(source.store) for source in sources]
    teachers = [store.lookup(part.annotation_id).astype(np.float32) for store, part in zip(stores, parts)]
    head = learn_head(caches[0], teachers[0], readings, config, work)
    metadata = {
        "version": __version__,
        "detector": _provenance(request, description, readings),
        "teacher": {"name": stores[0].teacher_name, "fingerprint": stores[0].teacher_fingerprint, "dim": stores[0].dim},
        "data": [{"name": part.name, "fingerprint": part.fingerprint(), "licence": part.licence} for part, _ in sets],
        "licence": "; ".join(sorted({part.licence for part, _ in sets} - {""})),
        "head": asdict(config),
        "appearance": _calibrated(embed_cache(head, caches[1]), caches[1], parts[1]),
    }
    built, _ = merge(
        detector, description, classes=classes, readings=readings, head=head.arrays(), detect=detect, metadata=metadata
    )
    looked_at = [fit_image(load_image(image.path), detector.image.height, detector.image.width)[0] for image in _some(parts[0])]
    changed = differences(detector, description, built, looked_at)
    with atomic_write(out, "wb") as file:
        file.write(built.SerializeToString())
    report = evaluate_head(head, caches[1], teachers[1])
    return TaughtDetector(out, report, len(np.unique(caches[0].box)), changed, len(looked_at))


def _kept_classes(
    request: DetectorRequest, description: DetectorDescription, sets: Sequence[DetectionDataset]
) -> tuple[str, ...]:
    """Return the detector's classes that the user or the data names."""
    if request.classes:
        return request.classes
    named = [name for part in sets for name in part.classes]
    kept = tuple(name for name in description.classes if name in named)
    if named and not kept:
        raise ConfigError(
            f"the data has the classes {', '.join(named[:10])}, none of which the detector knows "
            f"({', '.join(description.classes[:10])}, ...); say which of its classes are meant with --classes"
        )
    return kept


def _pseudo(
    request: DetectorRequest,
    detector: DetectorGraph,
    description: DetectorDescription,
    classes: Sequence[str],
    config: HeadConfig,
    detect: DetectConfig,
    work: Path,
) -> DetectionDataset:
    """Let the detector label pictures."""
    alone, _ = merge(detector, description, classes=classes, detect=detect)
    path = work / "detector.onnx"
    content = alone.SerializeToString(deterministic=True)
    with atomic_write(path, "wb") as file:
        file.write(content)
    engine = load_engine(path, engine="onnxruntime", min_score=config.min_score)
    made_by = f"{sha256(content).hexdigest()} {config.min_score}"
    return write_pseudo_boxes(request.pseudo_boxes, engine, work / "pseudo", every=request.every, made_by=made_by)


def _joined(parts: Sequence[DetectionDataset]) -> DetectionDataset:
    """Put data sets one behind another, their ids counted anew; a box is a box, whatever its class."""
    if len(parts) == 1:
        return parts[0]
    images: list[AnnotatedImage] = []
    boxes = 0
    for image in (image for part in parts for image in part.images):
        ids = np.arange(boxes, boxes + len(image), dtype=np.int64) + 1
        images.append(replace(image, image_id=len(images) + 1, annotation_id=ids, class_id=np.zeros_like(image.class_id)))
        boxes += len(image)
    licence = "; ".join(sorted({part.licence for part in parts} - {""}))
    return DetectionDataset("joined", ("object",), tuple(images), licence, "; ".join(part.source for part in parts))


def _aspect(dataset: DetectionDataset) -> float:
    """Return the typical width over height of a box."""
    boxes = np.concatenate([image.xyxy[~image.ignore] for image in dataset.images])
    if not len(boxes):
        raise DataError(f"{dataset.name} has no box to learn from; give data with boxes, or pictures with --pseudo-boxes")
    side = boxes[:, 2:] - boxes[:, :2]
    return float(np.median(side[:, 0] / side[:, 1]))


def _some(dataset: DetectionDataset) -> list[AnnotatedImage]:
    step = max(1, len(dataset.images) // UNTOUCHED_IMAGES)
    return list(dataset.images[::step][:UNTOUCHED_IMAGES])


def _provenance(request: DetectorRequest, description: DetectorDescription, readings: Sequence[Reading]) -> dict[str, Any]:
    return {
        "name": Path(request.detector).name,
        "licence": request.licence,
        "family": description.family,
        "features": [asdict(reading) for reading in readings],
    }


def _calibrated(embedded: FloatArray, cache: FeatureCache, dataset: DetectionDataset) -> dict[str, Any]:
    """Fit the tracker to the embeddings: views of one box are the same, two boxes of one image differ."""
    image_of = np.repeat(np.arange(len(dataset)), [len(image) for image in dataset.images])
    first = np.flatnonzero(cache.view == 0)
    row_of: IntArray = np.full(len(image_of), -1)
    row_of[cache.box[first]] = first
    other = np.flatnonzero((cache.view > 0) & (row_of[cache.box] >= 0))
    same = 1 - (embedded[other] * embedded[row_of[cache.box[other]]]).sum(axis=1)
    different = different_pairs(embedded[first], image_of[cache.box[first]])
    if not (len(same) and len(different)):
        return {}
    return fit_appearance(same, different)
