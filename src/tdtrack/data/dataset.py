"""The one form every data set takes in memory: images and their boxes, no identities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tdtrack.errors import DataError, ShapeError
from tdtrack.types import BoolArray, FloatArray, IntArray

__all__ = [
    "MAX_BOXES",
    "AnnotatedImage",
    "DetectionDataset",
    "Problem",
    "images_from_columns",
    "refuse_dropped",
    "refuse_empty",
]

MAX_BOXES = 50_000
"""Most boxes of one image: crowd counting knows 20,000, and what is cut out of an image is in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One image and its boxes.

    Attributes:
        image_id: unique in the data set.
        path: the image file.
        width: of the file, in pixels.
        height: of the file, in pixels.
        annotation_id: ``(G,)`` int64, unique in the data set.
        xyxy: ``(G, 4)`` float32, corners in pixels, inside the image, ``x2 > x1`` and ``y2 > y1``.
        class_id: ``(G,)`` int64 in ``[0, K)``; of an ignore region of every class ``tdtrack.types.ANY_CLASS``.
        ignore: ``(G,)`` bool, regions that count neither as object nor as background (crowds, distractors).
    """

    image_id: int
    path: Path
    width: int
    height: int
    annotation_id: IntArray
    xyxy: FloatArray
    class_id: IntArray
    ignore: BoolArray

    def __post_init__(self) -> None:
        """Check that the rows pair up.

        Raises:
            ShapeError: a column does not have one row per box, or a box that is no ignore region has no class; names the image
                and the shape or the class.
        """
        n = len(self.annotation_id)
        for name, wanted in (("annotation_id", (n,)), ("xyxy", (n, 4)), ("class_id", (n,)), ("ignore", (n,))):
            shape = getattr(self, name).shape
            if shape != wanted:
                raise ShapeError(f"image {self.image_id}: {name} has shape {shape}, expected {wanted}")
        if n and (lowest := int(np.where(self.ignore, 0, self.class_id).min())) < 0:
            raise ShapeError(f"image {self.image_id}: a box has class {lowest}; only ignore regions may be without a class")

    def __len__(self) -> int:
        """Return the number of boxes G, ignore regions included."""
        return len(self.annotation_id)


@dataclass(frozen=True, slots=True, eq=False)
class DetectionDataset:
    """Images with boxes and classes, in order of image id.

    Attributes:
        name: short, for tables and logs.
        classes: the K class names, in order of class id.
        images: in order of image id.
        licence: of the data, as far as the files say it; may be empty.
        source: where the data came from, free text.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    licence: str
    source: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def num_boxes(self) -> int:
        """Boxes of all images, ignore regions included."""
        return sum(len(image) for image in self.images)

    @property
    def annotation_id(self) -> IntArray:
        """``(num_boxes,)`` annotation ids, image by image."""
        return np.concatenate([np.zeros(0, np.int64), *(image.annotation_id for image in self.images)])

    def fingerprint(self) -> str:
        """Return a digest that two data sets share exactly when they hold the same boxes on the same images.

        Returns:
            64 hexadecimal digits over class names, image ids, file names and sizes, annotation ids, boxes, class ids and
            ignore marks. Folders, the data set's name and the pixels do not count, so a data set can be moved.
        """
        digest = hashlib.sha256()
        for image in self.images:
            header = [image.image_id, image.path.name, image.width, image.height, len(image)]
            digest.update(json.dumps(header, separators=(",", ":")).encode())
            for column, dtype in (
                (image.annotation_id, "<i8"),
                (image.xyxy, "<f4"),
                (image.class_id, "<i8"),
                (image.ignore, "|b1"),
            ):
                digest.update(np.ascontiguousarray(column, dtype=dtype).tobytes())
        digest.update(json.dumps(self.classes).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a data set that is not as it should be.

    Attributes:
        kind: in kebab-case, for instance ``"box-without-area"``.
        where: the file and the line, image or annotation.
        message: what is wrong with which value, as a clause.
        dropped: what ``where`` names cannot be used, and is left out if the user says so.
    """

    kind: str
    where: str
    message: str
    dropped: bool

    def __str__(self) -> str:
        """Return place and message in one line."""
        return f"{self.where}: {self.message}"


def refuse_dropped(problems: Sequence[Problem]) -> None:
    """Stop at the first thing that would be left out.

    Args:
        problems: in order of appearance; those that drop nothing are passed over.

    Raises:
        DataError: the first problem that drops something, how many more there are, and what to do.
    """
    dropped = [problem for problem in problems if problem.dropped]
    if dropped:
        more = f" ({len(dropped) - 1} more; tdtrack doctor lists them)" if len(dropped) > 1 else ""
        raise DataError(f"{dropped[0]}; fix it or pass --skip-bad-boxes{more}")


def refuse_empty(dataset: DetectionDataset, where: Path, problems: Sequence[Problem]) -> DetectionDataset:
    """Return the data set if there is anything to learn from.

    Args:
        dataset: what could be used.
        where: the file or folder it was read from.
        problems: all that were met on the way.

    Raises:
        DataError: it has no images or no boxes; names the first thing that was left out, if any was.
    """
    if dataset.num_boxes:
        return dataset
    first = next((problem for problem in problems if problem.dropped), None)
    why = f"; what it had cannot be used, first: {str(first).removeprefix(f'{where}: ')}" if first else ""
    what = f"{len(dataset)} images but no boxes" if len(dataset) else "no images"
    raise DataError(f"{where}: the data set has {what}{why}")


def images_from_columns(
    images: Sequence[tuple[int, Path, int, int]],
    image_row: IntArray,
    annotation_id: IntArray,
    xyxy: FloatArray,
    class_id: IntArray,
    ignore: BoolArray,
) -> tuple[AnnotatedImage, ...]:
    """Deal the boxes of a whole data set out to its images.

    Args:
        images: ``(image id, file, width, height)`` of each image.
        image_row: ``(N,)`` row of ``images`` each box belongs to.
        annotation_id: ``(N,)``.
        xyxy: ``(N, 4)``.
        class_id: ``(N,)``.
        ignore: ``(N,)``.

    Returns:
        One record per image in order of image id; the boxes of an image keep their order.

    Raises:
        DataError: an image has more than ``MAX_BOXES`` boxes.
    """
    counts = np.bincount(image_row, minlength=len(images))
    if counts.max(initial=0) > MAX_BOXES:
        most = int(counts.argmax())
        raise DataError(f"image {images[most][1]} has {counts[most]} boxes; one image may have {MAX_BOXES}, cut it into tiles")
    order = np.argsort(image_row, kind="stable")
    ends = np.searchsorted(image_row[order], np.arange(len(images)), side="right")
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(images) else ends
    records = []
    for (image_id, path, width, height), start, end in zip(images, starts, ends):
        rows = order[start:end]
        records.append(
            AnnotatedImage(image_id, path, width, height, annotation_id[rows], xyxy[rows], class_id[rows], ignore[rows])
        )
    return tuple(sorted(records, key=lambda record: record.image_id))
