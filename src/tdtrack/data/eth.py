"""ETH (BIWI walking pedestrians): one image a line in ``.idl`` files."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.reading import MAX_RECORDS, Gathering, Request, is_there, path_inside, read_text_lines
from tdtrack.errors import DataError

__all__ = ["find_idl_files", "read_eth"]

_LINE = re.compile(r'"(?P<name>[^"]+)"\s*(?::\s*(?P<boxes>.*))?')
_NUMBER = r"\s*([-+]?[0-9]+(?:\.[0-9]+)?)\s*"
_BOX = re.compile(rf"\({_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\)(?:\s*:\s*[-+0-9.eE]+)?")


def read_eth(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read ETH's own annotation files; the copies that JDE publishes are read as ``jde``.

    A box is two opposite corners, in either order: the published files have some upside down.

    Args:
        request: one ``.idl`` file, a folder with one, or a folder of such folders. Names in the file are relative to the image
            folder, by default the file's own; their last part alone, and ``image_00000001_0.png`` for ``image_00000001.png``,
            are tried too, because the published archives unpack so.

    Returns:
        One image per line, and all problems. Image id: number of the file by name, from 1, times 1,000,000, plus the line.

    Raises:
        DataError: there is no ``.idl`` file, a folder has several, or one cannot be read.

    Source:
        Lines as published: ``"left/image_00000001.png": (212, 204, 232, 261):-1, (223, 181, 259, 285):-1;``. Which frames
        JDE removed because MOT16 has them too is not known from the files: leave those sequences out.
    """
    files = find_idl_files(request.path)
    gathering = Gathering()
    for number, file in enumerate(files, start=1):
        lines = read_text_lines(file, "an ETH annotation file")
        if len(lines) > MAX_RECORDS:
            raise DataError(f"{file}: {len(lines)} lines; a file may have {MAX_RECORDS}, split it")
        for line_number, line in enumerate(lines, start=1):
            if line.strip():
                _read_line(gathering, line.strip(), file, line_number, number, request.images or file.parent)
    root = request.path if request.path.is_dir() else request.path.parent
    source = f"ETH, {', '.join(file.relative_to(root).as_posix() for file in files)}"
    return gathering.finish(root.resolve().name, ("person",), source, decode=request.decode)


def find_idl_files(path: Path) -> list[Path]:
    """Return the annotation files of one sequence or of a folder of sequences, in order of name.

    Raises:
        DataError: there is none, or a folder has several, of which one must be chosen.
    """
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.idl")) or sorted(path.glob("*/*.idl"))
    if not found:
        raise DataError(f"{path}: no .idl file here or one folder down; name the folder of an ETH sequence")
    for first, second in pairwise(found):
        if first.parent == second.parent:
            raise DataError(f"{first.parent}: holds {first.name} and {second.name}; name the file to read")
    return found


def _read_line(gathering: Gathering, line: str, file: Path, line_number: int, number: int, folder: Path) -> None:
    place = f"{file}:{line_number}"
    found = _LINE.fullmatch(line.rstrip(";. \t\r"))
    if found is None:
        gathering.refuse("image-malformed", place, f"{line!r:.80} is not an image name in quotes and its boxes")
        return
    image = _find_image(folder, found["name"])
    if image is None:
        gathering.refuse("image-outside-folder", place, f"image {found['name']!r:.80} leads out of the image folder {folder}")
        return
    gathering.add_image(number * (MAX_RECORDS + 1) + line_number, image, place)
    boxes = _BOX.findall(found["boxes"] or "")
    rest = _BOX.sub("", found["boxes"] or "").strip(", \t")
    if rest:
        gathering.refuse("box-malformed", place, f"{rest!r:.80} is not a box (left, top, right, bottom):score")
    corners = np.array(boxes, np.float64).reshape(-1, 2, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    gathering.add_boxes(range(1, len(corners) + 1), np.concatenate([low, high - low], axis=1))


def _find_image(folder: Path, name: str) -> Path | None:
    image = path_inside(folder, name)
    if image is None:
        return None
    stereo = image.with_name(f"{image.stem}_0{image.suffix}")
    places = (image, folder / image.name, stereo, folder / stereo.name)
    return next((place for place in places if is_there(place)), image)
