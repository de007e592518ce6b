"""CityPersons: person boxes on Cityscapes images, in ``anno_train.mat`` and ``anno_val.mat``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.mat import cells, load_mat, numbers, text
from tdtrack.data.reading import Gathering, Request, path_inside

__all__ = ["read_citypersons"]

_PARTS = ("train", "val", "test")
_COLUMNS = 10  # class, left, top, width, height, instance, then the visible box
_PEDESTRIAN = 1
_CLASSES = range(6)  # 0 ignore, 1 pedestrian, 2 rider, 3 sitting, 4 other, 5 group


def read_citypersons(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read a CityPersons annotation file.

    Pedestrians (class 1) are objects; riders, sitting and other persons, groups and ignored regions are ignore regions, as in
    the benchmark's own evaluation. Instance ids are dropped.

    Args:
        request: the ``.mat`` file. Images are ``<part>/<city>/<name>`` in the image folder, or
            ``leftImg8bit/<part>/<city>/<name>`` in it; by default the folders above the file are tried.

    Returns:
        One image per cell, and all problems. Image ids are positions in the file, from 1.

    Raises:
        DataError: the file cannot be read or holds no CityPersons annotations.

    Source:
        The ``README`` beside the published annotations: one cell per image with city name, image name and boxes
        ``[class, x1, y1, w, h, instance, x1_vis, y1_vis, w_vis, h_vis]``.
    """
    path = request.path
    variable, value = load_mat(path, *(f"anno_{part}_aligned" for part in _PARTS))
    part = variable.split("_")[1]
    folder = _image_folder(request, part)
    gathering = Gathering()
    for number, cell in enumerate(cells(value), start=1):
        _read_cell(gathering, cell, number, folder, request)
    return gathering.finish(
        f"citypersons-{part}", ("person",), f"CityPersons, {path.name}, {request.box} boxes", decode=request.decode
    )


def _image_folder(request: Request, part: str) -> Path:
    above = request.path.absolute().parents  # of a name alone, the folders above are not in it
    roots = [request.images] if request.images else list(above[:3])
    places = [root / inner for root in roots for inner in (f"leftImg8bit/{part}", part)]
    return next((place for place in places if place.is_dir()), places[0] if not request.images else request.images)


def _read_cell(gathering: Gathering, cell: Any, number: int, folder: Path, request: Request) -> None:
    place = f"{request.path}: image {number}"
    records = cells(cell)
    fields = list(records[0]) if len(records) == 1 and isinstance(records[0], dict) else []
    if len(fields) < 3:
        gathering.refuse("image-malformed", place, "the cell is not one struct of city name, image name and boxes")
        return
    city, name, boxes = (records[0][field] for field in fields[:3])  # by position: the names are spelled in two ways
    city_name, image_name, table = text(city), text(name), numbers(boxes)
    if city_name is None or image_name is None:
        gathering.refuse("image-malformed", place, f"{fields[0]} {city!r:.40} and {fields[1]} {name!r:.40} are not two texts")
        return
    image = path_inside(folder, f"{city_name}/{image_name}")
    if image is None:
        message = f"image {city_name!r:.40}/{image_name!r:.80} leads out of the image folder {folder}"
        gathering.refuse("image-outside-folder", place, message)
        return
    if table is None or (table.size and (table.ndim != 2 or table.shape[1] != _COLUMNS)):
        shape = "no numbers" if table is None else f"shape {table.shape}"
        gathering.refuse("box-malformed", place, f"{fields[2]} has {shape}, expected {_COLUMNS} columns")
        return  # without its boxes, the image would count as one without people
    gathering.add_image(number, image, f"{place} ({image_name})")
    table = table.reshape(-1, _COLUMNS)
    known = np.isin(table[:, 0], _CLASSES)
    for row in np.flatnonzero(~known).tolist():
        message = f"class {table[row, 0]:g} is not one of CityPersons' 0 to 5"
        gathering.refuse("unknown-class", f"{place} ({image_name}): box {row + 1}", message)
    rows = np.flatnonzero(known)
    tlwh = table[rows, 6:10] if request.box == "visible" else table[rows, 1:5]
    gathering.add_boxes(rows + 1, tlwh, ignore=table[rows, 0] != _PEDESTRIAN)
