"""YOLO: ``data.yaml`` with class names, ``images/`` and ``labels/``, one text file per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.jde import label_of
from tdtrack.data.reading import (
    IMAGE_SUFFIXES,
    Gathering,
    Request,
    is_there,
    list_deep,
    path_inside,
    read_label_rows,
    read_text_lines,
)
from tdtrack.errors import DataError

__all__ = ["find_yaml", "read_yolo"]

_COLUMNS = ("class", "centre x", "centre y", "width", "height")
_MAX_CLASSES = 100_000
_HELD_OUT = {"val", "valid", "validation", "test", "testing"}  # folders of images that are not to be trained on


@dataclass(frozen=True, slots=True)
class _Description:
    """What ``data.yaml`` says: class names, where its paths begin, and the entries of the split."""

    classes: tuple[str, ...]
    root: Path
    entries: tuple[str, ...]


def read_yolo(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read YOLO labels.

    An image without a label file is one without objects, as in every YOLO trainer. Rows are fractions of the image's width and
    height. Polygons and key points are not boxes and are refused.

    Args:
        request: ``data.yaml`` (``names``, and ``train``, ``val``, ``test``: a folder, a text file of image paths, or several),
            a folder that holds one, or a folder with ``images``, ``labels`` and ``classes.txt``. All paths must lie in the
            image folder, by default ``path`` of the description if that lies beside it, or else the description's own folder.

    Returns:
        The images of the split in order of path, and all problems; image ids are positions in that order, from 1.

    Raises:
        DataError: the description or a list cannot be read, names no such split, or points out of the image folder.

    Source:
        Ultralytics' documentation of its data sets.
    """
    description = _describe(request)
    gathering = Gathering(relative=True, lines=True)
    images = sorted(
        {image for entry in description.entries for image in _images_of(entry, description.root, request, gathering)}
    )
    unlabelled = 0
    image_of: dict[Path, Path] = {}
    for number, image in enumerate(images, start=1):
        label = label_of(image, description.root, "labels")
        if (other := image_of.setdefault(label, image)) is not image:
            gathering.remark("labels-shared", str(image), f"shares its labels with {other.name}; both are used")
        gathering.add_image(number, image, str(label))
        if not is_there(label):
            unlabelled += 1
            continue
        rows, line = read_label_rows(label, _COLUMNS, (0,), gathering)
        known = (rows[:, 0] >= 0) & (rows[:, 0] < len(description.classes))
        for row in np.flatnonzero(~known).tolist():
            message = f"class {rows[row, 0]:g}, but there are {len(description.classes)} names, from 0"
            gathering.refuse("unknown-class", f"{label}:{line[row]}", message)
        tlwh = np.concatenate([rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 3:5]], axis=1)
        gathering.add_boxes(line[known], tlwh[known], rows[known, 0].astype(np.int64))
    if unlabelled:
        message = f"{unlabelled} of {len(images)} images have no label file and count as images without objects"
        gathering.remark("labels-missing", str(request.path), message)
    name = request.path.resolve().parent.name if request.path.is_file() else request.path.resolve().name
    return gathering.finish(name, description.classes, f"YOLO labels, {request.path.name}", decode=request.decode)


def find_yaml(folder: Path) -> list[Path]:
    """Return the YAML files in a folder that name classes, in order."""
    return [path for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if _names_classes(path)]


def _names_classes(path: Path) -> bool:
    try:
        return "names" in _load(path)
    except DataError:
        return path.stem == "data"  # reading it says what is wrong; any other file may be none of ours


def _describe(request: Request) -> _Description:
    path = request.path
    split = request.split or "train"
    if path.is_dir():
        found = find_yaml(path)
        if len(found) > 1:
            raise DataError(f"{path}: holds {' and '.join(item.name for item in found)}; name the one to read")
        if not found:
            return _undescribed(request, split)
        path = found[0]
    content = _load(path)
    classes = _class_names(path, content.get("names"))
    root = request.images or _root(path, content.get("path"))
    entries = content.get(split)
    if isinstance(entries, str):
        entries = [entries]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        named = ", ".join(name for name in ("train", "val", "test") if content.get(name))
        raise DataError(
            f"{path}: {split} is {entries!r:.80}, not a folder or text file of images; there is {named or 'no split'}"
        )
    return _Description(classes, root, tuple(entries))


def _undescribed(request: Request, split: str) -> _Description:
    folder = request.path
    for place in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if place.is_file():
            classes = tuple(line.strip() for line in read_text_lines(place, "a list of class names") if line.strip())
            root = request.images or folder
            return _Description(classes, root, (_split_folder(root, split),))
    raise DataError(f"{folder}: no data.yaml with names and no classes.txt, so the classes have no names; write one of them")


def _split_folder(root: Path, split: str) -> str:
    """Return the folder of a split's images; all of ``images`` are the part to train on where it has no others.

    Raises:
        DataError: there is no such split.
    """
    images = root / "images"
    if (images / split).is_dir():
        return f"images/{split}"
    folders = sorted(place.name for place in images.iterdir() if place.is_dir()) if images.is_dir() else []
    if split == "train" and not _HELD_OUT & set(folders):
        return "images"
    raise DataError(
        f"{images}: there is no folder {split} (there is {', '.join(folders) or 'none'}); "
        "rename one, or write a data.yaml that says which images are train, val and test"
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load("\n".join(read_text_lines(path, "a YOLO description")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that no calendar has is a plain ValueError
        raise DataError(f"{path}: broken YAML: {' '.join(str(error).split()):.120}") from error
    return content if isinstance(content, dict) else {}


def _class_names(path: Path, names: object) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{path}: names has the keys {list(names)!r:.80}; class numbers must run from 0 without gaps")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or len(names) > _MAX_CLASSES:
        raise DataError(f"{path}: names is {names!r:.80}, not a list of class names or a table from class number to name")
    return tuple(str(name) for name in names)


def _root(path: Path, given: object) -> Path:
    """Return the folder that paths begin at; descriptions are often moved, and then ``path`` leads nowhere."""
    inside = path_inside(path.parent, given) if isinstance(given, str) else None
    return inside if inside is not None and is_there(inside) and inside.is_dir() else path.parent


def _images_of(entry: str, root: Path, request: Request, gathering: Gathering) -> list[Path]:
    # Roboflow writes ../train/images for a folder that lies beside the description.
    here = root if entry in (".", "./") else None
    place = here or path_inside(root, entry) or path_inside(root, entry.removeprefix("../")) or _absolute_inside(root, entry)
    if place is None or not is_there(place):
        why = "leads out of" if place is None else "does not exist in"
        raise DataError(f"{request.path}: {entry!r:.80} {why} {root}; pass the folder it is in with --images")
    if place.is_dir():
        images = list_deep(place, IMAGE_SUFFIXES)
        _remark_strangers(place, root, images, gathering)
        return images
    images = []
    for number, line in enumerate(read_text_lines(place, "a list of images"), start=1):
        name = line.strip()
        if not name:
            continue
        image = path_inside(root, name) or _absolute_inside(root, name)
        if image is None:
            message = f"{name!r:.80} leads out of the image folder {root}; pass the folder it is in with --images"
            gathering.refuse("image-outside-folder", f"{place}:{number}", message)
        else:
            images.append(image)
    return images


def _remark_strangers(folder: Path, root: Path, images: list[Path], gathering: Gathering) -> None:
    """Say which label files of a folder of images belong to none of them."""
    labels = label_of(folder / "any", root, "labels").parent
    if labels == folder:  # what lies beside images may be any text
        return
    known = {label_of(image, root, "labels") for image in images}
    if strangers := [label for label in list_deep(labels, (".txt",)) if label not in known and label.name != "classes.txt"]:
        message = f"{len(strangers)} label files have no image in {folder}, first {strangers[0].relative_to(labels)}"
        gathering.remark("labels-without-image", str(labels), message)


def _absolute_inside(root: Path, name: str) -> Path | None:
    """Return an absolute path that lies in the image folder, as darknet's lists have them."""
    top = f"{root.absolute().as_posix()}/"
    return path_inside(root, name.removeprefix(top)) if name.startswith(top) else None
