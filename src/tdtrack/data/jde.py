"""JDE's and FairMOT's layout: ``labels_with_ids`` beside ``images``, one text file per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.reading import (
    Gathering,
    ImageFinder,
    Request,
    is_there,
    list_deep,
    path_inside,
    read_label_rows,
    read_text_lines,
)
from tdtrack.errors import DataError

__all__ = ["LABEL_FOLDER", "find_label_folders", "label_of", "read_jde"]

LABEL_FOLDER = "labels_with_ids"
_COLUMNS = ("class", "identity", "centre x", "centre y", "width", "height")


def read_jde(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read JDE labels; the identity column is dropped.

    Every row is a person: the layout has one class, 0. Rows are fractions of the image's width and height.

    Args:
        request: a folder with ``labels_with_ids`` in it, or up to three folders down; or a list of image paths
            (``caltech.train``), relative to the image folder, by default the list's own.

    Returns:
        One image per label file or list entry, in order of path, and all problems; image ids are positions in that order,
        from 1.

    Raises:
        DataError: there is no label folder, or a list or label file cannot be read.

    Source:
        JDE's ``DATASET_ZOO.md``: ``[class] [identity] [x_center] [y_center] [width] [height]``, the label path being the
        image's with ``images`` replaced by ``labels_with_ids``.
    """
    path = request.path
    gathering = Gathering(relative=True, lines=True)
    pairs = _listed(request, gathering) if path.is_file() else _labelled(path, gathering)
    for number, (image, label) in enumerate(pairs, start=1):
        gathering.add_image(number, image, str(label))
        if not is_there(label):
            gathering.remark("labels-missing", str(label), f"there are no labels for {image.name}; it counts as empty")
            continue
        rows, line = read_label_rows(label, _COLUMNS, (0,), gathering)
        other = rows[:, 0] != 0
        for row in np.flatnonzero(other).tolist():
            gathering.refuse("unknown-class", f"{label}:{line[row]}", f"class {rows[row, 0]:g}; this layout has one class, 0")
        tlwh = np.concatenate([rows[:, 2:4] - rows[:, 4:6] / 2, rows[:, 4:6]], axis=1)
        gathering.add_boxes(line[~other], tlwh[~other])
    name = path.name if path.is_file() else path.resolve().name
    return gathering.finish(name, ("person",), f"JDE labels, {path.name}", decode=request.decode)


def find_label_folders(path: Path) -> list[Path]:
    """Return the ``labels_with_ids`` folders in a folder or up to three further down, in order."""
    return sorted(
        found for depth in range(4) for found in path.glob("/".join(["*"] * depth + [LABEL_FOLDER])) if found.is_dir()
    )


def label_of(image: Path, root: Path, folder: str) -> Path:
    """Return where an image's labels are: the last ``images`` of its path replaced, ``.txt`` for its ending.

    That may be ``root`` itself, where its sibling of the other name is there.
    """
    parts = list(image.relative_to(root).parts[:-1])
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = folder
    elif root.absolute().name == "images" and (beside := root.absolute().parent / folder).is_dir():
        root = beside
    return root.joinpath(*parts, f"{image.stem}.txt")


def _labelled(path: Path, gathering: Gathering) -> list[tuple[Path, Path]]:
    folders = find_label_folders(path)
    if not folders:
        raise DataError(f"{path}: no {LABEL_FOLDER} folder here or up to three folders down")
    finder = ImageFinder(gathering)
    return [
        (finder.find(folder.parent / "images" / label.relative_to(folder).parent, label.stem), label)
        for folder in folders
        for label in list_deep(folder, (".txt",))
    ]


def _listed(request: Request, gathering: Gathering) -> list[tuple[Path, Path]]:
    root = request.images or request.path.parent
    pairs = []
    for number, line in enumerate(read_text_lines(request.path, "a list of images"), start=1):
        if not line.strip():
            continue
        image = path_inside(root, line.strip())
        if image is None:
            message = f"{line.strip()!r:.80} leads out of the image folder {root}; pass the folder it is in with --images"
            gathering.refuse("image-outside-folder", f"{request.path}:{number}", message)
            continue
        pairs.append((image, label_of(image, root, LABEL_FOLDER)))
    return sorted(pairs)
