"""CrowdHuman: one JSON object a line (``annotation_train.odgt``), three boxes a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.reading import Gathering, Request, path_inside, read_text_lines, refuse_crowd

__all__ = ["read_crowdhuman"]

_KEYS = {"full": "fbox", "visible": "vbox", "head": "hbox"}


def read_crowdhuman(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read a CrowdHuman annotation file.

    A ``person`` is an object unless ``extra.ignore``, or for heads ``head_attr.ignore``, is 1: those, and every ``mask``
    (crowds, statues, reflections), are ignore regions. Full boxes reach over the border of many images and are cut there.

    Args:
        request: the ``.odgt`` file. Images are ``<ID>.jpg`` in the image folder: ``Images`` or ``images`` beside the file, or
            its own folder.

    Returns:
        One image per line, and all problems. Image ids are line numbers, annotation ids follow the order in the line.

    Raises:
        DataError: the file cannot be read.

    Source:
        The layout as the data set's own site and public converters describe it (``ID``, ``gtboxes`` of ``tag``, ``fbox``,
        ``vbox``, ``hbox``, ``head_attr``, ``extra``).
    """
    path = request.path
    beside = (path.parent / name for name in ("Images", "images"))
    folder = request.images or next((place for place in beside if place.is_dir()), path.parent)
    gathering = Gathering()
    for number, line in enumerate(read_text_lines(path, "a CrowdHuman annotation file"), start=1):
        if line.strip():
            _read_line(gathering, line, f"{path}:{number}", number, folder, request)
    return gathering.finish(path.stem, ("person",), f"CrowdHuman, {path.name}, {request.box} boxes", decode=request.decode)


def _read_line(gathering: Gathering, line: str, place: str, number: int, folder: Path, request: Request) -> None:
    refuse_crowd(place, len(line))
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a plain ValueError
        gathering.refuse("image-malformed", place, f"broken JSON ({str(error).splitlines()[0]:.80})")
        return
    name = content.get("ID") if isinstance(content, dict) else None
    boxes = content.get("gtboxes") if isinstance(content, dict) else None
    if not isinstance(name, str) or not isinstance(boxes, list):
        gathering.refuse("image-malformed", place, f"record {line.strip()!r:.80} needs an ID and a list of gtboxes")
        return
    image = path_inside(folder, f"{name}.jpg")
    if image is None:
        gathering.refuse("image-outside-folder", place, f"ID {name!r:.80} leads out of the image folder {folder}")
        return
    gathering.add_image(number, image, place)
    kept: list[int] = []
    sides: list[list[float]] = []
    ignores: list[bool] = []
    for position, record in enumerate(boxes, start=1):
        tag = record.get("tag") if isinstance(record, dict) else None
        box = record.get(_KEYS[request.box]) if tag in ("person", "mask") else None
        if tag not in ("person", "mask"):
            gathering.refuse("unknown-class", f"{place}: box {position}", f"tag {tag!r:.80} is neither person nor mask")
        elif not isinstance(box, list) or not _is_box(box):
            message = f"{_KEYS[request.box]} {box!r:.80} is not four numbers (left, top, width, height)"
            gathering.refuse("box-malformed", f"{place}: box {position}", message)
        else:
            kept.append(position)
            sides.append([_number(side) for side in box])
            ignores.append(tag == "mask" or _is_ignored(record, request.box == "head"))
    gathering.add_boxes(kept, np.array(sides, np.float64), ignore=np.array(ignores, np.bool_))


def _is_box(box: list[Any]) -> bool:
    return len(box) == 4 and all(isinstance(side, int | float) and not isinstance(side, bool) for side in box)


def _number(side: float) -> float:
    try:
        return float(side)
    except OverflowError:  # JSON has whole numbers of any length
        return float("inf")


def _is_ignored(record: dict[str, Any], head: bool) -> bool:
    attributes = [record.get("extra"), record.get("head_attr") if head else None]
    return any(isinstance(given, dict) and given.get("ignore") == 1 for given in attributes)
