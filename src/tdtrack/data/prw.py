"""PRW (person re-identification in the wild): ``frames/`` and one ``.mat`` file per frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.mat import cells, load_mat, numbers, text
from tdtrack.data.reading import Gathering, Request
from tdtrack.errors import DataError

__all__ = ["read_prw"]

_VARIABLES = ("box_new", "anno_file", "anno_previous")  # the annotators' tool changed over time
_COLUMNS = 5  # identity (-2 for strangers), left, top, width, height


def read_prw(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read the boxes of PRW; the identity column is dropped.

    Args:
        request: the data set's folder. ``train`` and ``test`` are the frames of ``frame_train.mat`` and ``frame_test.mat``,
            ``all`` every annotated one. The image folder is ``frames``.

    Returns:
        The frames of the split, and all problems. Image ids are positions among all annotation files by name, from 1, in every
        split. A frame of the split without an annotation file is left out.

    Raises:
        DataError: the split's list cannot be read, or there is no annotation.

    Source:
        Variables and columns as public readers of the data set have them: ``annotations/c1s1_000151.jpg.mat`` holds
        ``box_new``, ``anno_file`` or ``anno_previous``, rows ``[id, left, top, width, height]``. Some boxes begin left of or
        above the frame and are cut.
    """
    root = request.path
    split = request.split or "train"
    files = sorted((root / "annotations").glob("*.mat"))
    if not files:
        raise DataError(f"{root}: no annotation file in annotations/; PRW has one such as c1s1_000151.jpg.mat per frame")
    numbered = {file.name.removesuffix(".mat"): (number, file) for number, file in enumerate(files, start=1)}
    gathering = Gathering()
    wanted = list(numbered) if split == "all" else _split_names(root, split, numbered, gathering)
    folder = request.images or root / "frames"
    for name in wanted:
        number, file = numbered[name]
        table = _read_table(gathering, file)
        if table is not None:  # without its boxes, the image would count as one without people
            gathering.add_image(number, folder / name, str(file))
            gathering.add_boxes(np.arange(1, len(table) + 1), table[:, 1:])
    return gathering.finish(f"prw-{split}", ("person",), f"PRW, {split} frames", decode=request.decode)


def _split_names(root: Path, split: str, known: dict[str, tuple[int, Path]], gathering: Gathering) -> list[str]:
    path = root / f"frame_{split}.mat"
    names = []
    for number, cell in enumerate(cells(load_mat(path, f"img_index_{split}")[1]), start=1):
        stem = text(cell)
        name = f"{stem}.jpg"
        if name in known:
            names.append(name)
        else:
            gathering.refuse("image-malformed", f"{path}: frame {number}", f"{stem!r:.80} has no file in annotations/")
    return names


def _read_table(gathering: Gathering, file: Path) -> NDArray[np.float64] | None:
    """Return the rows of a frame; ``None`` where they cannot be read, which is noted."""
    try:
        table = numbers(load_mat(file, *_VARIABLES)[1])
    except DataError as error:
        gathering.refuse("labels-unreadable", str(file), str(error).removeprefix(f"{file}: "))
        return None
    if table is None or (table.size and (table.ndim != 2 or table.shape[1] != _COLUMNS)):
        shape = "no numbers" if table is None else f"shape {table.shape}"
        gathering.refuse("box-malformed", str(file), f"{shape}; expected {_COLUMNS} columns: id, left, top, width, height")
        return None
    return table.reshape(-1, _COLUMNS)
