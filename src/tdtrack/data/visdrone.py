"""VisDrone: ``images/`` and ``annotations/`` (DET), or ``sequences/`` and ``annotations/`` (VID, MOT)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.reading import MAX_RECORDS, Gathering, ImageFinder, Request, list_images, read_label_rows
from tdtrack.errors import DataError
from tdtrack.types import ANY_CLASS, IntArray

__all__ = ["CLASSES", "read_visdrone"]

CLASSES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
"""Categories 1 to 10; ``people`` sit or ride, ``pedestrian`` stand or walk."""

_BOX_COLUMNS = ("left", "top", "width", "height", "score", "category", "truncation", "occlusion")
_IGNORED, _OTHERS = 0, len(CLASSES) + 1


def read_visdrone(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read a part of VisDrone, still images or videos; target ids of videos are dropped.

    Categories 1 to 10 are the classes. Ignored regions (0), others (11) and boxes with score 0 are ignore regions; the first
    two are so for every class.

    Args:
        request: the folder of one part, for instance ``VisDrone2019-DET-train``.

    Returns:
        The images in order of name, and all problems. Image ids: position of the label file by name, from 1; in videos times
        1,000,000, plus the frame's number.

    Raises:
        DataError: there are no annotations.

    Source:
        The VisDrone2018 toolkits: ``left,top,width,height,score,category,truncation,occlusion`` per image, and the same after
        ``frame,target`` per video.
    """
    root = request.path
    files = sorted((root / "annotations").glob("*.txt"))
    if not files:
        raise DataError(f"{root}: no text file in annotations/")
    videos = (root / "sequences").is_dir()
    folder = request.images or root / ("sequences" if videos else "images")
    gathering = Gathering(lines=True)
    finder = ImageFinder(gathering)
    for number, file in enumerate(files, start=1):
        if videos:
            _read_video(gathering, file, number, folder / file.stem)
        else:
            gathering.add_image(number, finder.find(folder, file.stem), str(file))
            rows, line = read_label_rows(file, _BOX_COLUMNS, (5,), gathering)
            _add_boxes(gathering, file, rows, line)
    return gathering.finish(root.resolve().name, CLASSES, f"VisDrone, {root.resolve().name}", decode=request.decode)


def _read_video(gathering: Gathering, file: Path, number: int, folder: Path) -> None:
    rows, line = read_label_rows(file, ("frame", "target", *_BOX_COLUMNS), (0, 7), gathering, one_image=False)
    frames: dict[int, Path] = {}
    for path in list_images(folder):
        if not path.stem.isascii() or not path.stem.isdigit() or not 1 <= int(path.stem) <= MAX_RECORDS:
            gathering.refuse("image-malformed", str(path), "the name of a frame must be its number, from 1")
        else:
            frames[int(path.stem)] = path
    if not frames:
        gathering.refuse("image-missing", str(file), f"no frames in {folder}")
        return
    order = np.argsort(rows[:, 0], kind="stable")
    rows, line = rows[order], line[order]
    for row in np.flatnonzero(~np.isin(rows[:, 0], list(frames))).tolist():
        message = f"frame {rows[row, 0]:.0f} has no image in {folder}"
        gathering.refuse("annotation-without-image", f"{file}:{line[row]}", message)
    for frame, path in sorted(frames.items()):
        start, end = np.searchsorted(rows[:, 0], [frame, frame + 1])
        gathering.add_image(number * (MAX_RECORDS + 1) + frame, path, str(file))
        _add_boxes(gathering, file, rows[start:end, 2:], line[start:end])


def _add_boxes(gathering: Gathering, file: Path, rows: NDArray[np.float64], line: IntArray) -> None:
    category = rows[:, 5]
    known = (category >= _IGNORED) & (category <= _OTHERS)
    for row in np.flatnonzero(~known).tolist():
        gathering.refuse("unknown-class", f"{file}:{line[row]}", f"category {category[row]:g} is not one of VisDrone's 0 to 11")
    nameless = (category == _IGNORED) | (category == _OTHERS)
    class_id = np.where(nameless, ANY_CLASS, category - 1).astype(np.int64)
    ignore = nameless | (rows[:, 4] == 0)
    gathering.add_boxes(line[known], rows[known, :4], class_id[known], ignore[known])
