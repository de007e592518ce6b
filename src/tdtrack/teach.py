"""``tdtrack teach``: from boxes to a tracker in one command (annotate, train, validate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tdtrack.calibrate import calibrate_model
from tdtrack.config import DataSource, OptimizerConfig, TrainConfig
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data import load_dataset
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.errors import DataError
from tdtrack.teacher import Teacher
from tdtrack.teacher.annotate import annotate
from tdtrack.training import train
from tdtrack.training.validate import ModelReport, evaluate_model

__all__ = ["TeachData", "TeachResult", "laptop_settings", "teach"]

HOLD_OUT = 10  # every tenth image validates where the user names no validation set


@dataclass(frozen=True)
class TeachData:
    """The user's data.

    Attributes:
        data: file or folder of a data set of any layout.
        images: folder that image names are relative to, as in ``load_dataset``.
        val_data: data set to validate on; empty is ``data``: its ``val_split`` if that is named, or every tenth image.
        val_images: its image folder.
        val_split: its part, as in ``load_dataset``.
        format: layout of both, as in ``load_dataset``.
        split: part of ``data``, as in ``load_dataset``.
        box: which of a person's boxes, as in ``load_dataset``.
        skip_bad: drop what ``tdtrack doctor`` reports instead of stopping.
    """

    data: str
    images: str = ""
    val_data: str = ""
    val_images: str = ""
    val_split: str = ""
    format: DataFormat = "auto"
    split: str = ""
    box: BoxKind = "full"
    skip_bad: bool = False


@dataclass(frozen=True)
class TeachResult:
    """Where the model is and how good it is on the validation images."""

    model: Path
    report: ModelReport

    def lines(self) -> list[str]:
        """Return what the command prints."""
        return [
            *self.report.lines(),
            f"model in {self.model}",
            f"next: tdtrack track VIDEO --model {self.model.parent} --out tracks",
        ]


def laptop_settings() -> dict[str, Any]:
    """Return the settings ``teach`` starts from: a small network that a laptop trains in under an hour.

    Source:
        Our choice: the values of ``recipes/laptop-people.yaml``.
    """
    return {
        "input_height": 320,
        "input_width": 576,
        "workers": 1,
        "validate_every": 500,
        "checkpoint_every": 100,
        "model.backbone": "mobilenetv4_conv_small",
        "model.embedding_target": "pca",
        "model.fpn_width": 96,
        "model.subnet_depth": 2,
        "model.subnet_width": 96,
        "model.embedding_width": 128,
        "model.norm_momentum": 0.03,
        "augment.min_scale": 0.6,
        "augment.max_scale": 1.6,
        "augment.brightness": 0.2,
        "augment.contrast": 0.2,
        "optimizer.algorithm": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.embedding_learning_rate_scale": 0.05,
        "optimizer.share_anchor_slots": True,
        "optimizer.warmup_learning_rate": 0.0001,
        "optimizer.weight_decay": 0.02,
        "optimizer.warmup_steps": 100,
        "optimizer.steps": 2000,
        "optimizer.batch_size": 8,
        "optimizer.max_gradient_norm": 10.0,
        "optimizer.ema_decay": 0.99,
    }


def teach(data: TeachData, teacher: Teacher, settings: dict[str, Any]) -> TeachResult:
    """Annotate the boxes, train the joint model on them and validate it; a second call resumes.

    Args:
        data: the boxes, and how to validate.
        teacher: gives each box its embedding.
        settings: fields of ``TrainConfig`` except ``train`` and ``validation``.

    Returns:
        The final model and its validation report.

    Raises:
        DataError: the data set cannot be used, or is too small to hold out images from.
        StoreError: the run folder holds embeddings of other data or another teacher.
        ConfigError: the run folder holds a run with other settings.
    """
    out = Path(settings["out"])
    dataset, held_out = _load_both(data)
    sources = [_write_source(part, out / "data", name, teacher) for part, name in ((dataset, "train"), (held_out, "val"))]
    config = TrainConfig(**{**settings, "train": (sources[0],), "validation": (sources[1],)})
    config = replace(config, model=replace(config.model, classes=dataset.classes), optimizer=_fit_schedule(config.optimizer))
    model = train(config)
    calibrate_model(model, load_dataset(sources[1].annotations, sources[1].images), teacher)
    report = evaluate_model(model, sources[1].annotations, sources[1].images, sources[1].store)
    return TeachResult(model, report)


def _fit_schedule(optimizer: OptimizerConfig) -> OptimizerConfig:
    """A user who only shortens the training keeps a warm-up that fits into it."""
    return replace(optimizer, warmup_steps=min(optimizer.warmup_steps, optimizer.steps // 5))


def _load_both(data: TeachData) -> tuple[DetectionDataset, DetectionDataset]:
    """Return the images to learn from, and those to validate on."""

    def load(path: str, images: str, split: str) -> DetectionDataset:
        return load_dataset(path, images, format=data.format, split=split, box=data.box, skip_bad=data.skip_bad)

    dataset = load(data.data, data.images, data.split)
    if data.val_data:
        return dataset, load(data.val_data, data.val_images, data.val_split)
    if data.val_split:
        return dataset, load(data.data, data.images, data.val_split)
    return _split(dataset)


def _split(dataset: DetectionDataset) -> tuple[DetectionDataset, DetectionDataset]:
    """Hold out every tenth image, in order of image id: the same split each time."""
    train_images = tuple(image for position, image in enumerate(dataset.images) if position % HOLD_OUT)
    held_out = tuple(image for position, image in enumerate(dataset.images) if position % HOLD_OUT == 0)
    if not train_images or not sum(len(image.annotation_id) for image in held_out):
        raise DataError(
            f"{dataset.name}: {len(dataset.images)} images are too few to hold some out for validation; pass --val-data"
        )
    return replace(dataset, images=train_images), replace(dataset, images=held_out)


def _write_source(part: DetectionDataset, folder: Path, name: str, teacher: Teacher) -> DataSource:
    """Write one part as COCO JSON beside its embeddings, so that ``tdtrack train`` can be run on it again by hand."""
    root = _common_folder(part.images)
    source = DataSource(str(folder / f"{name}.json"), str(root), str(folder / f"{name}.parquet"))
    folder.mkdir(parents=True, exist_ok=True)
    write_coco(source.annotations, part.images, part.classes, images_dir=root, description=part.source, licence=part.licence)
    annotate(load_dataset(source.annotations, source.images), teacher, Path(source.store))
    return source


def _common_folder(images: Sequence[AnnotatedImage]) -> Path:
    folders = {image.path.resolve().parent for image in images}
    root = next(iter(folders))
    while not all(folder.is_relative_to(root) for folder in folders):
        root = root.parent
    return root
