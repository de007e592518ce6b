"""The user's boxes: read, split, and written down beside their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tdtrack.config import DataSource
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data import load_dataset
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.errors import DataError
from tdtrack.teacher import Teacher
from tdtrack.teacher.annotate import annotate

__all__ = ["TeachData", "load_both", "split", "write_source"]

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


def load_both(data: TeachData) -> tuple[DetectionDataset, DetectionDataset]:
    """Return the images to learn from, and those to validate on."""

    def load(path: str, images: str, split: str) -> DetectionDataset:
        return load_dataset(path, images, format=data.format, split=split, box=data.box, skip_bad=data.skip_bad)

    dataset = load(data.data, data.images, data.split)
    if data.val_data:
        return dataset, load(data.val_data, data.val_images, data.val_split)
    if data.val_split:
        return dataset, load(data.data, data.images, data.val_split)
    return split(dataset)


def split(dataset: DetectionDataset) -> tuple[DetectionDataset, DetectionDataset]:
    """Hold out every tenth image, in order of image id: the same split each time."""
    train_images = tuple(image for position, image in enumerate(dataset.images) if position % HOLD_OUT)
    held_out = tuple(image for position, image in enumerate(dataset.images) if position % HOLD_OUT == 0)
    if not train_images or not sum(len(image.annotation_id) for image in held_out):
        raise DataError(
            f"{dataset.name}: {len(dataset.images)} images are too few to hold some out for validation; pass --val-data"
        )
    return replace(dataset, images=train_images), replace(dataset, images=held_out)


def write_source(part: DetectionDataset, folder: Path, name: str, teacher: Teacher) -> DataSource:
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
