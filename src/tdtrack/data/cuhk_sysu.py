"""CUHK-SYSU person search: ``annotation/Images.mat`` and ``Image/SSM``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.mat import cells, load_mat, numbers, text
from tdtrack.data.reading import Gathering, Request, path_inside
from tdtrack.errors import DataError

__all__ = ["read_cuhk_sysu"]


def read_cuhk_sysu(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read the boxes of CUHK-SYSU; its identities lie in other files and are never opened.

    Args:
        request: the data set's folder. ``train`` is every image that is not in the test gallery (``annotation/pool.mat``),
            ``test`` the gallery, ``all`` both. The image folder is ``Image/SSM``.

    Returns:
        The images of the split, and all problems. Image ids are positions in ``Images.mat``, from 1, in every split.

    Raises:
        DataError: a file cannot be read or has another content.

    Source:
        ``Img`` is a struct array of ``imname``, ``nAppear`` and ``box``, itself a struct array whose ``idlocate`` is left,
        top, width, height; ``pool`` is a cell of image names. As public readers of the data set have it. Some published boxes
        have no area: ``--skip-bad-boxes``.
    """
    root = request.path
    path = root / "annotation" / "Images.mat"
    folder = request.images or root / "Image" / "SSM"
    records = cells(load_mat(path, "Img")[1])
    pool = set() if request.split == "all" else _pool(root / "annotation" / "pool.mat")
    gathering = Gathering()
    for number, record in enumerate(records, start=1):
        _read_image(gathering, record, f"{path}: image {number}", number, folder, request.split or "train", pool)
    return gathering.finish(
        f"cuhk-sysu-{request.split or 'train'}", ("person",), f"CUHK-SYSU, {path.name}", decode=request.decode
    )


def _pool(path: Path) -> set[str]:
    names = [text(cell) for cell in cells(load_mat(path, "pool")[1])]
    if not names or None in names:
        raise DataError(f"{path}: pool is not a cell of image names, so train and test cannot be told apart; fetch it again")
    return {name for name in names if name is not None}


def _read_image(gathering: Gathering, record: Any, place: str, number: int, folder: Path, split: str, pool: set[str]) -> None:
    name = text(record.get("imname")) if isinstance(record, dict) else None
    if name is None:
        gathering.refuse("image-malformed", place, "the record is not a struct with an imname")
        return
    if split != "all" and (name in pool) != (split == "test"):
        return
    image = path_inside(folder, name)
    if image is None:
        gathering.refuse("image-outside-folder", place, f"imname {name!r:.80} leads out of the image folder {folder}")
        return
    place = f"{place} ({name})"
    boxes = record.get("box")
    if not isinstance(boxes, list) and not (isinstance(boxes, np.ndarray) and boxes.size == 0):
        gathering.refuse("image-malformed", place, "box is missing or no struct array")
        return
    gathering.add_image(number, image, place)
    kept: list[int] = []
    sides = []
    for position, box in enumerate(cells(boxes), start=1):
        given = numbers(box.get("idlocate")) if isinstance(box, dict) else None
        if given is None or given.size != 4:
            gathering.refuse(
                "box-malformed", f"{place}: box {position}", "idlocate is not four numbers (left, top, width, height)"
            )
            continue
        kept.append(position)
        sides.append(given.reshape(4))
    gathering.add_boxes(kept, np.array(sides, np.float64))
