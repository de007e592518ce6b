"""COCO JSON: images, boxes, categories."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tdtrack.data.checks import check_boxes
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset, Problem, images_from_columns
from tdtrack.data.images import ImageFault, probe_images
from tdtrack.data.reading import LightRecords, Request, is_there, path_inside
from tdtrack.errors import DataError, OutputError
from tdtrack.files import atomic_write, reason_of
from tdtrack.types import ANY_CLASS, IntArray

__all__ = ["read_coco", "write_coco"]

_MARKS = ("iscrowd", "ignore")
_LOOKED_FOR = 20  # images; the first may be missing where others are there
_COMMON_NAMES = {"annotations", "_annotations.coco", "instances_default"}  # names that every data set's file has


def read_coco(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read a COCO JSON file.

    Category ids may be any numbers; class ids follow their order. ``iscrowd`` and ``ignore`` make an ignore region, which with
    ``"category_id": null`` is one for every class. A box that reaches over the border of its image is cut there.
    Segmentations and key points are passed over.

    Args:
        request: the JSON file, and the folder its file names are relative to: by default ``images`` beside it, or its own,
            whichever has the first of the images.

    Returns:
        The images in order of id, with or without boxes, and all problems.

    Raises:
        DataError: the file is no COCO data set.
    """
    return _read(request.path, request.images, decode=request.decode)


def write_coco(
    path: Path | str,
    images: Sequence[AnnotatedImage],
    classes: Sequence[str],
    *,
    images_dir: Path | str,
    description: str = "",
    licence: str = "",
) -> None:
    """Write images and boxes as COCO JSON; reading it gives the same boxes back to the bit.

    Args:
        path: the JSON file to write.
        images: in the order they are to have in the file.
        classes: class names in order of class id; category ids count from 1. Ignore regions get ``iscrowd`` 1, those of every
            class no category.
        images_dir: folder the file names become relative to.
        description: where the data comes from.
        licence: of the data.

    Raises:
        OutputError: the file cannot be written, or an image does not lie under ``images_dir``.
    """
    image_records, annotation_records = [], []
    for image in images:
        file_name = _relative(image.path, Path(images_dir))
        image_records.append({"id": image.image_id, "file_name": file_name, "width": image.width, "height": image.height})
        corners = image.xyxy.astype(np.float64)  # differences of float32 are exact here, so reading gives the same corners
        tlwh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        for annotation_id, box, class_id, ignore in zip(
            image.annotation_id.tolist(), tlwh.tolist(), image.class_id.tolist(), image.ignore.tolist()
        ):
            annotation_records.append(
                {
                    "id": annotation_id,
                    "image_id": image.image_id,
                    "category_id": None if class_id == ANY_CLASS else class_id + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(ignore),
                }
            )
    content = {
        "info": {"description": description},
        "licenses": [{"id": 1, "name": licence, "url": ""}] if licence else [],
        "images": image_records,
        "annotations": annotation_records,
        "categories": [{"id": class_id + 1, "name": name} for class_id, name in enumerate(classes)],
    }
    with atomic_write(path, "w") as file:
        json.dump(content, file, separators=(",", ":"))
        file.write("\n")


def _default_images(annotations: Path, records: list[Any]) -> Path:
    """Return where the images of a COCO file are when no one says: ``images`` beside it, or its own folder."""
    beside = annotations.parent / "images"
    folders = [beside, annotations.parent] if beside.is_dir() else [annotations.parent]
    names = [record.get("file_name") for record in records[:_LOOKED_FOR] if isinstance(record, dict)]
    places = ((folder, path_inside(folder, name)) for name in names if isinstance(name, str) for folder in folders)
    return next((folder for folder, place in places if place is not None and is_there(place)), folders[0])


def _relative(path: Path, folder: Path) -> str:
    # Names first: a link inside the folder is the file the user means. Then what they point to.
    for file, root in ((path.absolute(), folder.absolute()), (path.resolve(), folder.resolve())):
        if file.is_relative_to(root):
            return file.relative_to(root).as_posix()
    raise OutputError(f"image {path} does not lie in {folder}, which the file names are to be relative to")


@dataclass(frozen=True, slots=True)
class _ImageRecord:
    image_id: int
    path: Path
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """The annotations whose record is well formed, as columns, and the images that have others."""

    annotation_id: IntArray
    image_id: IntArray
    class_id: IntArray
    tlwh: np.ndarray[Any, np.dtype[np.float64]]
    ignore: np.ndarray[Any, np.dtype[np.bool_]]
    refused_on: set[int]


def _read(path: Path, images_dir: Path | None, *, decode: bool) -> tuple[DetectionDataset, list[Problem]]:
    content = _load_json(path)
    folder = images_dir or _default_images(path, content["images"])
    problems: list[Problem] = []
    class_of, classes = _read_categories(path, content["categories"], problems)
    records, shared = _read_images(path, folder, content["images"], problems)
    boxes = _read_annotations(path, content["annotations"], class_of, problems)
    row = _rows_of(boxes.image_id, np.array([record.image_id for record in records], np.int64))
    sizes = _find_images(path, records, np.bincount(row[row >= 0], minlength=len(records)), problems, decode=decode)
    for index in np.flatnonzero(row < 0).tolist():
        message = f"image {boxes.image_id[index]} is not in the list of images"
        where = f"{path}: annotation {boxes.annotation_id[index]}"
        problems.append(Problem("annotation-without-image", where, message, dropped=True))

    unread = boxes.refused_on - set(boxes.image_id.tolist())  # without a box they would count as images without objects
    sizes[[record.image_id in unread | shared for record in records]] = 0
    on_image = np.flatnonzero((row >= 0) & np.all(sizes[row] > 0, axis=1)) if records else row[:0]
    checked = check_boxes(boxes.tlwh[on_image], sizes[row[on_image]])
    for index in checked.worth_saying.tolist():
        kind, message = checked.describe(index)
        where = f"{path}: annotation {boxes.annotation_id[on_image[index]]}"
        problems.append(Problem(kind, where, message, dropped=not checked.usable[index]))
    keep = on_image[checked.usable]
    sizes[np.setdiff1d(row[on_image[checked.misplaced]], row[keep])] = 0
    usable_image = np.all(sizes > 0, axis=1)
    images = images_from_columns(
        [
            (record.image_id, record.path, width, height)
            for record, (width, height), usable in zip(records, sizes.tolist(), usable_image)
            if usable
        ],
        (np.cumsum(usable_image) - 1)[row[keep]],
        boxes.annotation_id[keep],
        checked.xyxy[checked.usable],
        boxes.class_id[keep],
        boxes.ignore[keep],
    )
    licence, source = _provenance(path, content)
    name = path.resolve().parent.name if path.stem in _COMMON_NAMES else path.stem
    return DetectionDataset(name, classes, images, licence, source), problems


def _rows_of(image_id: IntArray, known: IntArray) -> IntArray:
    """Return the position of each image id in ``known``, -1 where it is not there."""
    if not len(known):
        return np.full(len(image_id), -1, np.int64)
    order = np.argsort(known)
    row = order[np.searchsorted(known[order], image_id).clip(max=len(known) - 1)]
    return np.where(known[row] == image_id, row, -1)


def _find_images(
    path: Path, records: list[_ImageRecord], num_boxes: IntArray, problems: list[Problem], *, decode: bool
) -> IntArray:
    """Return the ``(len(records), 2)`` width and height of each image file, zeros where it cannot be used."""
    sizes = np.zeros((len(records), 2), np.int64)
    found = probe_images([record.path for record in records], [record.size for record in records], decode=decode)
    nowhere = all(isinstance(outcome, ImageFault) and outcome.kind == "image-missing" for outcome in found)
    hint = ", nor does any other; pass the folder that the file names are relative to with --images" if nowhere else ""
    for index, (record, outcome) in enumerate(zip(records, found)):
        if isinstance(outcome, ImageFault):
            message = f"{outcome.message}{hint} (it has {num_boxes[index]} boxes)"
            problems.append(Problem(outcome.kind, f"{path}: image {record.image_id}", message, dropped=True))
        else:
            sizes[index] = outcome
    return sizes


def _load_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), object_hook=LightRecords(path))
    except MemoryError as error:
        raise DataError(f"{path}: reading the annotations takes more memory than there is; split the data set") from error
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations: {reason_of(error)}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}; write the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8 text; this is not a JSON file") from error
    except RecursionError as error:
        raise DataError(f"{path}: the JSON is nested too deeply to be a COCO data set") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise DataError(f"{path}: the JSON cannot be read: {error}; write the file again") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: the JSON holds a {type(content).__name__}, not an object with images, annotations and categories"
        )
    for key in ("images", "annotations", "categories"):
        if key not in content:
            raise DataError(f"{path}: key {key!r} is missing; a COCO data set has images, annotations and categories")
        if not isinstance(content[key], list):
            raise DataError(f"{path}: {key!r} holds a {type(content[key]).__name__}, not a list")
    return content


def _read_categories(path: Path, records: list[Any], problems: list[Problem]) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return class id by category id, and the class names."""
    names: dict[int, str] = {}
    for position, record in enumerate(records):
        category_id = _integer(record.get("id")) if isinstance(record, dict) else None
        if category_id is None or not isinstance(record.get("name"), str):
            raise DataError(f"{path}: categories[{position}] is {_short(record)}; it needs a whole-number id and a name")
        if category_id in names:
            message = f"id already belongs to {names[category_id]!r}, so {record['name']!r} cannot have it"
            problems.append(Problem("duplicate-category-id", f"{path}: category {category_id}", message, dropped=True))
            continue
        names[category_id] = record["name"]
    ordered = sorted(names)
    return {category_id: class_id for class_id, category_id in enumerate(ordered)}, tuple(names[key] for key in ordered)


def _read_images(path: Path, folder: Path, records: list[Any], problems: list[Problem]) -> tuple[list[_ImageRecord], set[int]]:
    """Return the images, and the ids that several of them have: whose the boxes are cannot be told."""
    kept: list[_ImageRecord] = []
    file_of: dict[int, Path] = {}
    files: dict[Path, int] = {}
    shared: set[int] = set()
    for position, record in enumerate(records):
        image_id = _integer(record.get("id")) if isinstance(record, dict) else None
        file_name = record.get("file_name") if isinstance(record, dict) else None
        if image_id is None or not isinstance(file_name, str) or not file_name or "\0" in file_name:
            message = f"record {_short(record)} needs a whole-number id and a file_name"
            problems.append(Problem("image-malformed", f"{path}: images[{position}]", message, dropped=True))
            continue
        if (file := path_inside(folder, file_name)) is None:
            message = f"file_name {_short(file_name)} leads out of the image folder {folder}"
            problems.append(Problem("image-outside-folder", f"{path}: image {image_id}", message, dropped=True))
            continue
        where = f"{path}: image {image_id}"
        size = None
        if record.get("width") is not None or record.get("height") is not None:
            width, height = _integer(record.get("width")), _integer(record.get("height"))
            if width is None or height is None or width <= 0 or height <= 0:
                message = (
                    f"size {_short(record.get('width'))} x {_short(record.get('height'))} is not two positive whole numbers"
                )
                problems.append(Problem("image-malformed", where, message, dropped=True))
                continue
            size = (width, height)
        if image_id in file_of:
            message = f"the id is used twice; the second is {file_name!r}"
            if file != file_of[image_id]:
                message += ": whose the boxes are cannot be told, so both are left out"
                shared.add(image_id)
            problems.append(Problem("duplicate-image-id", where, message, dropped=True))
            continue
        if file in files:
            message = f"file {file_name!r} is also image {files[file]}"
            problems.append(Problem("duplicate-image-file", where, message, dropped=False))
        file_of[image_id] = file
        files[file] = image_id
        kept.append(_ImageRecord(image_id, file, size))
    return kept, shared


def _read_annotations(path: Path, records: list[Any], class_of: dict[int, int], problems: list[Problem]) -> _Boxes:
    """Check each record's form in one pass; the boxes themselves are judged later, all at once."""
    ids: list[int] = []
    image_ids: list[int] = []
    class_ids: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    ignores: list[bool] = []
    seen: set[int] = set()
    refused_on: set[int] = set()
    for position, record in enumerate(records):
        annotation_id, image_id = (
            (_integer(record.get(key)) for key in ("id", "image_id")) if isinstance(record, dict) else (None, None)
        )
        if annotation_id is None:
            message = f"record {_short(record)} has no whole-number id"
            problems.append(Problem("annotation-malformed", f"{path}: annotations[{position}]", message, dropped=True))
            refused_on |= set() if image_id is None else {image_id}
            continue
        box = _box(record.get("bbox"))
        marks = [_mark(record.get(name)) for name in _MARKS]
        class_id = class_of.get(record["category_id"]) if isinstance(record.get("category_id"), int | float) else None
        if any(marks) and record.get("category_id", "") is None:
            class_id = ANY_CLASS
        if image_id is None or class_id is None or box is None or None in marks or annotation_id in seen:
            kind, message = _fault(record, image_id, class_id, box)
            problems.append(Problem(kind, f"{path}: annotation {annotation_id}", message, dropped=True))
            refused_on |= set() if image_id is None else {image_id}
            continue
        seen.add(annotation_id)
        ids.append(annotation_id)
        image_ids.append(image_id)
        class_ids.append(class_id)
        boxes.append(box)
        ignores.append(any(marks))
    return _Boxes(
        np.array(ids, np.int64),
        np.array(image_ids, np.int64),
        np.array(class_ids, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(ignores, np.bool_),
        refused_on,
    )


def _fault(record: dict[str, Any], image_id: int | None, class_id: int | None, box: object) -> tuple[str, str]:
    """Return kind and message for an annotation whose record cannot be used."""
    if image_id is None:
        return "annotation-malformed", f"image_id {_short(record.get('image_id'))} is not a whole number"
    if class_id is None:
        return "unknown-category", f"category {_short(record.get('category_id'))} is not in the list of categories"
    if box is None:
        return "box-malformed", f"bbox {_short(record.get('bbox'))} is not four numbers (left, top, width, height)"
    for name in _MARKS:
        if _mark(record.get(name)) is None:
            return "annotation-malformed", f"{name} {_short(record[name])} is neither 0 nor 1"
    return "duplicate-annotation-id", "the id is used twice, so the second box cannot be told from the first"


def _integer(value: object) -> int | None:
    """Return a whole number that fits into int64, or ``None``; ``7.0`` is one, as some tools write ids so."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def _box(value: object) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(side, int | float) and not isinstance(side, bool) for side in value):
        return None
    try:
        left, top, width, height = (float(side) for side in value)
    except OverflowError:  # JSON has whole numbers of any length
        return math.inf, math.inf, math.inf, math.inf
    return left, top, width, height


def _mark(value: object) -> bool | None:
    """Return a mark, unset where it is missing or null; ``None`` for anything but 0, 1, false and true."""
    return bool(value) if value is None or (isinstance(value, int | float) and value in (0, 1)) else None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _provenance(path: Path, content: dict[str, Any]) -> tuple[str, str]:
    licences = content.get("licenses")
    names = [record.get("name") for record in licences if isinstance(record, dict)] if isinstance(licences, list) else []
    licence = "; ".join(dict.fromkeys(name for name in names if isinstance(name, str) and name))
    info = content.get("info")
    said = [info.get("description"), info.get("url")] if isinstance(info, dict) else []
    return licence, ", ".join([*(text for text in said if isinstance(text, str) and text), path.name])
