"""An exported model in 8-bit integers, calibrated on the user's own images, and what that cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.boxes import iou
from tdtrack.config import AssociationConfig
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data import load_dataset
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import fit_image, load_image
from tdtrack.errors import ConfigError, DataError, MissingExtraError, WeightsError
from tdtrack.evaluation.detection import average_precision
from tdtrack.files import atomic_write
from tdtrack.runtime import contract
from tdtrack.runtime.contract import ModelDescription
from tdtrack.runtime.engine import Engine
from tdtrack.runtime.exported import ExportedEngine, open_session
from tdtrack.types import Detections, FloatArray

__all__ = ["QuantizeReport", "compare_engines", "quantize_model", "split_images"]

_MIN_IOU = 0.5  # two engines found the same object
_SEED = 0


@dataclass(frozen=True)
class QuantizeReport:
    """What 8-bit integers cost, on images that were not calibrated on.

    Attributes:
        images: looked at.
        ap50_fp32: average precision at IoU 0.5 before, a fraction.
        ap50_int8: and after.
        mean_cosine: between the embeddings of detections that both find, from the tracker's score floor on; ``None`` where
            there are none.
        pairs: detections that both find.
        megabytes_fp32: size of the file before.
        megabytes_int8: and after.
    """

    images: int
    ap50_fp32: float
    ap50_int8: float
    mean_cosine: float | None
    pairs: int
    megabytes_fp32: float
    megabytes_int8: float

    def lines(self) -> list[str]:
        """Return the report for people, a line each."""
        cosine = (
            "no embeddings to compare"
            if self.mean_cosine is None
            else f"mean cosine {self.mean_cosine:.4f} over {self.pairs} boxes"
        )
        return [
            f"file size            {self.megabytes_fp32:.1f} MB -> {self.megabytes_int8:.1f} MB",
            f"AP at IoU 0.5        {self.ap50_fp32:.1%} -> {self.ap50_int8:.1%} on {self.images} other images",
            f"embeddings           {cosine}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return asdict(self)


def quantize_model(
    model: Path | str,
    annotations: Path | str,
    out: Path | str,
    *,
    images: str = "",
    format: DataFormat = "auto",
    split: str = "",
    box: BoxKind = "full",
    skip_bad: bool = False,
    calibration_images: int = 200,
    max_images: int = 500,
) -> QuantizeReport:
    """Write an int8 version of an exported model, and measure what it cost.

    The network's convolutions become 8-bit; what comes after, some hundred boxes and the lazy embedding head, stays as it is.

    Args:
        model: ``.onnx`` file made by ``tdtrack export``.
        annotations: file or folder of a data set of any layout: the user's own boxes; no identities.
        out: ``.onnx`` file to write.
        images: folder that image names are relative to, as in ``load_dataset``.
        format: the layout, as in ``load_dataset``.
        split: the part, as in ``load_dataset``.
        box: which of a person's boxes, as in ``load_dataset``.
        skip_bad: leave out what cannot be used.
        calibration_images: how many images to calibrate on; at most half of the data set.
        max_images: how many of the others to measure on.

    Returns:
        What it cost.

    Raises:
        ConfigError: ``out`` is ``model`` or not an ``.onnx`` file, or a number is below 1.
        WeightsError: the model cannot be read, or is int8 already.
        DataError: the data set cannot be used, has fewer than two images, or does not have the model's classes.
        OutputError: the file cannot be written.
        MissingExtraError: nncf or onnx is not installed.
    """
    source, target = Path(model), Path(out)
    if target.suffix.lower() != ".onnx" or target.resolve() == source.resolve():
        raise ConfigError(f"out is {out}; name another file that ends in .onnx")
    if calibration_images < 1 or max_images < 1:
        raise ConfigError(f"calibration_images is {calibration_images} and max_images {max_images}; both must be at least 1")
    if not source.is_file():
        raise WeightsError(f"{source} is not a file; give the .onnx file that tdtrack export wrote")
    exact = _open(source)
    description = exact.description
    if description.precision != "fp32":
        raise WeightsError(f"{source} is {description.precision} already; give the fp32 file that tdtrack export wrote")
    dataset = load_dataset(annotations, images, format=format, split=split, box=box, skip_bad=skip_bad)
    calibration, measured = split_images(dataset, description.classes, calibration_images, max_images)
    content = _quantized(source, description, calibration, exact.batch or 1)
    with atomic_write(target, "wb") as file:
        file.write(content)
    rounded = _open(target)
    sizes = [path.stat().st_size / 1e6 for path in (source, target)]
    return QuantizeReport(len(measured), *compare_engines(exact, rounded, measured), *sizes)


def _open(path: Path) -> ExportedEngine:
    return ExportedEngine(open_session(path, "onnxruntime", device="cpu", precision=None))


def split_images(
    dataset: DetectionDataset, classes: tuple[str, ...], calibration: int, measured: int
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Draw images to calibrate on and others to measure on; always the same ones.

    Args:
        dataset: the user's.
        classes: of the model.
        calibration: how many to calibrate on, at most half.
        measured: how many of the others to measure on.

    Raises:
        DataError: the data set has fewer than two images, or other classes than the model.
    """
    if dataset.classes != classes:
        raise DataError(
            f"{dataset.name} has classes {dataset.classes}, the model {classes}; give data with the model's classes, in order"
        )
    if len(dataset) < 2:
        raise DataError(
            f"{dataset.name} has {len(dataset)} image; calibrating and measuring need different ones, so at least 2"
        )
    order = np.random.default_rng(_SEED).permutation(len(dataset))
    drawn = [dataset.images[index] for index in order]
    cut = min(calibration, len(drawn) // 2)
    return drawn[:cut], drawn[cut : cut + measured]


def _quantized(source: Path, description: ModelDescription, images: Sequence[AnnotatedImage], batch: int) -> bytes:
    """Return the int8 model's file."""
    for package in ("nncf", "onnx"):
        _require(package)
    import nncf
    import onnx

    from tdtrack.runtime.graph import POST

    def feed(record: AnnotatedImage) -> dict[str, NDArray[np.uint8]]:
        fitted, _ = fit_image(load_image(record.path), description.input_height, description.input_width)
        return {contract.IMAGES: np.repeat(fitted[None], batch, axis=0)}

    loaded = onnx.load(source)
    with _quiet():
        rounded = nncf.quantize(
            loaded,
            nncf.Dataset(images, feed),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(patterns=[f".*{POST}.*"]),
            # Processors without VNNI add two products in 16 bits: weights keep to 7 bits, or the sum would overflow.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )
    del rounded.metadata_props[:]
    text = replace(description, precision="int8").to_json()
    onnx.helper.set_model_props(rounded, {contract.METADATA_KEY: text})
    return bytes(rounded.SerializeToString())


def _require(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingExtraError(package, "openvino", "quantising a model")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's log to errors."""
    logger = logging.getLogger("nncf")
    former = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(former)


def compare_engines(exact: Engine, other: Engine, images: Sequence[AnnotatedImage]) -> tuple[float, float, float | None, int]:
    """Measure how far an engine is from the exact one.

    Args:
        exact: the measure of things.
        other: what is compared.
        images: with their boxes.

    Returns:
        AP at IoU 0.5 of the exact engine and of the other; mean cosine between the embeddings of detections that both find (of
        one class, IoU at least 0.5, each the other's nearest, sure enough for a tracker), ``None`` without any; their number.
    """
    found: tuple[list[Detections], list[Detections]] = ([], [])
    cosines: list[FloatArray] = []
    for record in images:
        pixels = load_image(record.path)
        a, b = exact(pixels), other(pixels)
        found[0].append(a)
        found[1].append(b)
        cosines.append(_cosines(a, b))
    cosine = np.concatenate(cosines)
    mean = float(cosine.mean()) if len(cosine) else None
    return average_precision(images, found[0]).ap, average_precision(images, found[1]).ap, mean, len(cosine)


def _cosines(a: Detections, b: Detections) -> FloatArray:
    """Return the cosine of every pair of mutually nearest detections."""
    if a.embedding is None or b.embedding is None or len(a) == 0 or len(b) == 0:
        return np.zeros(0, np.float32)
    overlap = iou(a.xyxy, b.xyxy) * (a.class_id[:, None] == b.class_id[None])
    nearest, back = overlap.argmax(axis=1), overlap.argmax(axis=0)
    mutual = back[nearest] == np.arange(len(a))
    rows = np.flatnonzero(mutual & (overlap.max(axis=1) >= _MIN_IOU) & (a.score >= AssociationConfig.min_score))
    cosine: FloatArray = (a.embedding[rows] * b.embedding[nearest[rows]]).sum(axis=1)
    return cosine
