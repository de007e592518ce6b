"""Caltech pedestrians: ``annotations/set00/V000.vbb`` (MATLAB) and frames taken out of ``.seq`` videos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.mat import cells, load_mat, numbers, text
from tdtrack.data.reading import MAX_RECORDS, Gathering, Request, list_images
from tdtrack.errors import DataError

__all__ = ["find_annotations", "read_caltech"]

_VIDEO = re.compile(r"set([0-9]{2})/V([0-9]{3})")
_FLAT_NAME = re.compile(r"(set[0-9]{2})_(V[0-9]{3})_I?([0-9]{1,6})")
_FRAME_NAME = re.compile(r"I?([0-9]{1,6})")
_SETS = {"train": range(6), "test": range(6, 11), "all": range(100)}
_FIELDS = ("id", "pos", "occl", "posv")


def read_caltech(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read Caltech's annotations for the frames that exist as images.

    ``person`` is an object. ``people`` (a group), ``person?`` and ``person-fa`` (in doubt) are ignore regions, as is a box of
    any other label. With ``box`` visible, a partly hidden person has the box of what is in sight. The object ids are dropped.

    Args:
        request: the data set's folder. ``train`` is ``set00`` to ``set05``, ``test`` ``set06`` to ``set10``. The frames are
            ``images/set00/V000/I00029.jpg`` (Caltech's own toolbox, and ``tdtrack unpack-caltech``) or
            ``images/set00_V000_29.png`` (JDE and public converters), counted from 0.

    Returns:
        One image per frame that exists, with or without boxes, and all problems. Image id: 1,000 times the set plus the video,
        times 1,000,000, plus the frame from 1. Annotation ids follow the order in the frame.

    Raises:
        DataError: there are no annotations or no frames, or a file cannot be read.

    Source:
        ``vbb.m`` of the benchmark's toolbox, version 3.2.1: struct ``A`` with ``nFrame``, ``objLists`` (one struct array of
        ``id``, ``pos``, ``occl``, ``lock``, ``posv`` per frame) and ``objLbl`` by id. Sets: the benchmark's. Which labels are
        ignored is its rule for ``people``; for the labels in doubt it is ours, because they are neither surely people nor
        surely none.
    """
    split = request.split or "train"
    annotations = {video: file for video, file in find_annotations(request.path).items() if int(video[3:5]) in _SETS[split]}
    frames = _find_frames(request.images or request.path / "images")
    gathering = Gathering()
    for video, file in annotations.items():
        if frames.get(video):
            _read_video(gathering, file, video, frames[video], request)
    if not any(frames.get(video) for video in annotations):
        raise DataError(
            f"{request.path}: no frames of {split} in {request.images or request.path / 'images'}; take them out of the .seq "
            f"videos with tdtrack unpack-caltech {request.path}"
        )
    return gathering.finish(
        f"caltech-{split}", ("person",), f"Caltech pedestrians, {split}, {request.box} boxes", decode=request.decode
    )


def find_annotations(root: Path) -> dict[str, Path]:
    """Return the annotation file of each video, by names such as ``set00/V000``, in order.

    Raises:
        DataError: there is none.
    """
    files = sorted((root / "annotations").glob("set*/V*.vbb"))
    named = {f"{file.parent.name}/{file.stem}": file for file in files if _VIDEO.fullmatch(f"{file.parent.name}/{file.stem}")}
    if not named:
        raise DataError(f"{root}: no annotations/set00/V000.vbb here; name the folder that holds annotations/")
    return named


def _find_frames(folder: Path) -> dict[str, dict[int, Path]]:
    """Return the images of each video by frame, from 0."""
    frames: dict[str, dict[int, Path]] = {}
    for path in list_images(folder):
        if flat := _FLAT_NAME.fullmatch(path.stem):
            frames.setdefault(f"{flat[1]}/{flat[2]}", {})[int(flat[3])] = path
    for video in sorted(folder.glob("set*/V*")):
        for path in list_images(video):
            if name := _FRAME_NAME.fullmatch(path.stem):
                frames.setdefault(f"{video.parent.name}/{video.name}", {})[int(name[1])] = path
    return frames


def _read_video(gathering: Gathering, file: Path, video: str, frames: dict[int, Path], request: Request) -> None:
    try:
        lists, labels = _load_vbb(file)
    except DataError as error:
        gathering.refuse("labels-unreadable", str(file), str(error).removeprefix(f"{file}: "))
        return
    first_id = (int(video[3:5]) * 1000 + int(video[7:10])) * (MAX_RECORDS + 1) + 1
    for frame, path in sorted(frames.items()):
        place = f"{file}: frame {frame}"
        if frame >= len(lists):
            gathering.refuse("frame-beyond-end", str(path), f"frame {frame} lies beyond the {len(lists)} frames of {file}")
            continue
        gathering.add_image(first_id + frame, path, place)
        objects = cells(lists[frame])
        kept, sides, ignores = [], [], []
        for position, record in enumerate(objects, start=1):
            box = _box(record, request.box == "visible")
            number = numbers(record["id"]) if box is not None else None
            label = labels.get(float(number.item())) if number is not None and number.size == 1 else None
            if box is None or label is None:
                fault = "pos is not four numbers" if box is None else "its id has no label"
                gathering.refuse("box-malformed", f"{place}: box {position}", fault)
                continue
            kept.append(position)
            sides.append(box)
            ignores.append(label != "person")
        gathering.add_boxes(kept, np.array(sides, np.float64), ignore=np.array(ignores, np.bool_))


def _load_vbb(file: Path) -> tuple[list[Any], dict[float, str]]:
    """Return each frame's objects, and each object's label by id."""
    content = cells(load_mat(file, "A")[1])
    if len(content) != 1 or not isinstance(content[0], dict) or not {"objLists", "objLbl"} <= set(content[0]):
        raise DataError(f"{file}: A is not a struct with objLists and objLbl; this is not a video annotation file")
    given = enumerate(cells(content[0]["objLbl"]), start=1)
    labels = {float(number): label for number, cell in given if (label := text(cell))}
    return cells(content[0]["objLists"]), labels


def _box(record: Any, visible: bool) -> NDArray[np.float64] | None:
    if not isinstance(record, dict) or not set(_FIELDS) <= set(record):
        return None
    full, part, hidden = (numbers(record[field]) for field in ("pos", "posv", "occl"))
    if full is None or full.size != 4:
        return None
    if visible and part is not None and part.size == 4 and hidden is not None and hidden.any() and part.any():
        return part.reshape(4)
    return full.reshape(4)
