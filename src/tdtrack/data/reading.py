"""What every reader of a published layout does alike: gather images and boxes, judge them, and name what is wrong."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.config.data import BoxKind
from tdtrack.data import dataset
from tdtrack.data.checks import check_boxes
from tdtrack.data.dataset import DetectionDataset, Problem, images_from_columns
from tdtrack.data.images import ImageFault, probe_images
from tdtrack.data.mot_rows import is_number
from tdtrack.errors import DataError
from tdtrack.files import reason_of
from tdtrack.types import BoolArray, IntArray

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_RECORDS",
    "Gathering",
    "ImageFinder",
    "LightRecords",
    "Request",
    "is_there",
    "list_deep",
    "list_images",
    "path_inside",
    "read_label_rows",
    "read_text_lines",
    "refuse_crowd",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings that make a file an image, in any case, where a layout does not name its own."""

MAX_RECORDS = 999_999
"""Most boxes of one image, and most frames of one video: more would run into the next one's ids."""

_CHARACTERS_A_BOX = 1000  # of text; the wordiest layout, CrowdHuman's, takes 250
_ID_STEP = MAX_RECORDS + 1
_FAR = 2.0  # fractions of an image beyond this are pixels, written where fractions belong


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be read, and how.

    Attributes:
        path: annotation file or folder of the data set.
        images: folder that image names are relative to; ``None`` looks where the layout keeps them.
        split: name of a part of the data set; empty takes what the layout trains on.
        box: which of a person's boxes.
        decode: decode every image, which also finds those that are cut short.
    """

    path: Path
    images: Path | None = None
    split: str = ""
    box: BoxKind = "full"
    decode: bool = False


@dataclass(frozen=True, slots=True)
class _Image:
    image_id: int
    path: Path
    place: str
    size: tuple[int, int] | None


@dataclass(slots=True)
class Gathering:
    """Images and boxes on their way into a data set, and everything that was wrong with them.

    Annotation ids are the image's id times 1,000,000 plus the box's record number: the same files always give the same ids,
    whatever is skipped.

    Attributes:
        relative: boxes are fractions of the image's width and height, not pixels.
        lines: records are lines of the image's place, a text file; otherwise they are counted within it.
        problems: what was met so far, in order of appearance.
    """

    relative: bool = False
    lines: bool = False
    problems: list[Problem] = field(default_factory=list)
    _told: int = 0
    _images: list[_Image] = field(default_factory=list)
    _image_row: list[IntArray] = field(default_factory=list)
    _record: list[IntArray] = field(default_factory=list)
    _tlwh: list[NDArray[np.float64]] = field(default_factory=list)
    _class_id: list[IntArray] = field(default_factory=list)
    _ignore: list[BoolArray] = field(default_factory=list)

    def refuse(self, kind: str, where: str, message: str) -> None:
        """Note something that cannot be used and is left out."""
        self.problems.append(Problem(kind, where, message, dropped=True))

    def remark(self, kind: str, where: str, message: str) -> None:
        """Note something that is worth knowing but used all the same."""
        self.problems.append(Problem(kind, where, message, dropped=False))

    def add_image(self, image_id: int, path: Path, place: str, size: tuple[int, int] | None = None) -> None:
        """Add an image; the boxes added next are its.

        Args:
            image_id: unique in the data set, positive.
            path: the image file, which may be missing.
            place: what to call its annotations in messages: a file, or a file and the image in it.
            size: width and height the file should have; ``None`` takes any.
        """
        self._told = len(self.problems)
        self._images.append(_Image(image_id, path, place, size))

    def add_boxes(
        self,
        record: Sequence[int] | IntArray,
        tlwh: NDArray[np.float64],
        class_id: IntArray | None = None,
        ignore: BoolArray | None = None,
    ) -> None:
        """Add boxes of the image that was added last; where all it had were refused, it goes too: it is not known to be empty.

        Args:
            record: ``(n,)`` line or number of each box, from 1, unique within the image.
            tlwh: ``(n, 4)`` left, top, width, height; not checked yet.
            class_id: ``(n,)`` in ``[0, K)``, or ``ANY_CLASS``; ``None`` is the first class.
            ignore: ``(n,)``; ``None`` is no ignore region.
        """
        count = len(record)
        if not count:
            if any(problem.dropped for problem in self.problems[self._told :]):
                self._images.pop()
            return
        if max(record) > MAX_RECORDS:
            self.refuse("too-many-boxes", self._images[-1].place, f"{max(record)} boxes; one image may have {MAX_RECORDS}")
            self._images.pop()
            return
        self._image_row.append(np.full(count, len(self._images) - 1, np.int64))
        self._record.append(np.asarray(record, np.int64))
        self._tlwh.append(np.asarray(tlwh, np.float64).reshape(count, 4))
        self._class_id.append(np.zeros(count, np.int64) if class_id is None else class_id)
        self._ignore.append(np.zeros(count, np.bool_) if ignore is None else ignore)

    def finish(
        self, name: str, classes: tuple[str, ...], source: str, *, decode: bool
    ) -> tuple[DetectionDataset, list[Problem]]:
        """Look at the image files and judge the boxes.

        Args:
            name: of the data set.
            classes: the K class names.
            source: where the data came from.
            decode: decode every image, not only its header.

        Returns:
            What can be used, and all problems.
        """
        image_row = np.concatenate([np.zeros(0, np.int64), *self._image_row])
        record = np.concatenate([np.zeros(0, np.int64), *self._record])
        tlwh = np.concatenate([np.zeros((0, 4)), *self._tlwh])
        class_id = np.concatenate([np.zeros(0, np.int64), *self._class_id])
        ignore = np.concatenate([np.zeros(0, np.bool_), *self._ignore])
        sizes = self._sizes(np.bincount(image_row, minlength=len(self._images)), decode=decode)

        found = np.flatnonzero(np.all(sizes[image_row] > 0, axis=1)) if len(self._images) else image_row
        far = found[:0]
        if self.relative:
            found, far = self._refuse_pixels(found, image_row, record, tlwh)
            tlwh[found] *= np.tile(sizes[image_row[found]], (1, 2))
        checked = check_boxes(tlwh[found], sizes[image_row[found]])
        for row in checked.worth_saying.tolist():
            kind, message = checked.describe(row)
            where = self._where(image_row[found[row]], record[found[row]])
            self.problems.append(Problem(kind, where, message, dropped=not checked.usable[row]))
        keep = found[checked.usable]
        lost = np.concatenate([far, found[checked.misplaced]])
        sizes[np.setdiff1d(image_row[lost], image_row[keep])] = 0  # images that lost every box are not known to be empty
        usable = np.all(sizes > 0, axis=1)
        image_id = np.array([image.image_id for image in self._images], np.int64)
        images = images_from_columns(
            [
                (image.image_id, image.path, width, height)
                for image, (width, height), fine in zip(self._images, sizes.tolist(), usable)
                if fine
            ],
            (np.cumsum(usable) - 1)[image_row[keep]],
            image_id[image_row[keep]] * _ID_STEP + record[keep],
            checked.xyxy[checked.usable],
            class_id[keep],
            ignore[keep],
        )
        return DetectionDataset(name, classes, images, "", source), self.problems

    def _sizes(self, num_boxes: IntArray, *, decode: bool) -> IntArray:
        """Return the ``(images, 2)`` width and height of each image file, zeros where it cannot be used."""
        sizes = np.zeros((len(self._images), 2), np.int64)
        paths, stated = [image.path for image in self._images], [image.size for image in self._images]
        outcomes = probe_images(paths, stated, decode=decode, upright=self.relative)
        seen: dict[Path, str] = {}
        for index, (image, outcome) in enumerate(zip(self._images, outcomes)):
            if isinstance(outcome, ImageFault):
                self.refuse(outcome.kind, image.place, f"{outcome.message} (it has {num_boxes[index]} boxes)")
                continue
            sizes[index] = outcome
            if image.path in seen:
                self.remark("duplicate-image-file", image.place, f"image file {image.path} is also that of {seen[image.path]}")
            seen[image.path] = image.place
        return sizes

    def _refuse_pixels(
        self, found: IntArray, image_row: IntArray, record: IntArray, tlwh: NDArray[np.float64]
    ) -> tuple[IntArray, IntArray]:
        """Return the boxes that are fractions, and the others; those in pixels would all be called outside their image."""
        far: BoolArray = np.any(np.abs(tlwh[found]) > _FAR, axis=1) & np.all(np.isfinite(tlwh[found]), axis=1)
        for row in found[far].tolist():
            left, top, width, height = tlwh[row].tolist()
            said = f"({left + width / 2:.6g}, {top + height / 2:.6g}, {width:.6g}, {height:.6g})"
            message = f"centre and size {said} are not fractions of the image; divide them by its width and height"
            self.refuse("box-not-fraction", self._where(image_row[row], record[row]), message)
        return np.asarray(found[~far], np.int64), np.asarray(found[far], np.int64)

    def _where(self, image_row: int, record: int) -> str:
        place = self._images[image_row].place
        return f"{place}:{record}" if self.lines else f"{place}: box {record}"


def path_inside(folder: Path, name: str) -> Path | None:
    """Join a folder and a file name that came out of a file.

    Args:
        folder: where the file must lie.
        name: with either kind of slash.

    Returns:
        The path; ``None`` where the name is empty, absolute, no text that a file can be named by, or leads out of the folder.
        Links inside the folder are followed wherever they lead: whoever made them had a say in this machine.
    """
    if re.search("[\0\ud800-\udfff]", name):  # half a letter can be neither opened nor printed
        return None
    joined = PurePosixPath(name.replace("\\", "/"))
    parts = joined.parts
    if not parts or joined.is_absolute() or ".." in parts or re.match("[A-Za-z]:", parts[0]):
        return None
    return folder.joinpath(*parts)


def is_there(path: Path) -> bool:
    """Tell whether there is something at a path; at one too long for the system there is not."""
    try:
        return path.exists()
    except OSError:
        return False


def refuse_crowd(where: str, characters: int) -> None:
    """Refuse the text about one image before it is parsed, where it is too long for any number of boxes that is allowed.

    Raises:
        DataError: it is.
    """
    if characters > _CHARACTERS_A_BOX * dataset.MAX_BOXES:
        raise DataError(
            f"{where}: {characters} characters about one image, which may have {dataset.MAX_BOXES} boxes; cut it into tiles"
        )


class LightRecords:
    """What ``json.loads`` calls with each object of a COCO file: drops outlines before they add up, and counts boxes.

    So an image with more boxes than ``MAX_BOXES`` is refused when that many are in memory, not when all are.
    """

    def __init__(self, path: Path) -> None:
        """Begin to count.

        Args:
            path: the file, for the message.
        """
        self._path = path
        self._boxes: Counter[object] = Counter()

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record without its outline and key points.

        Raises:
            DataError: its image has too many boxes.
        """
        image_id = record.get("image_id")
        if isinstance(image_id, int | float | str):
            record.pop("segmentation", None)
            record.pop("keypoints", None)
            self._boxes[image_id] += 1
            if self._boxes[image_id] > dataset.MAX_BOXES:
                most = dataset.MAX_BOXES
                raise DataError(f"{self._path}: image {image_id!r:.80} has more than {most} boxes; cut it into tiles")
        return record


class ImageFinder:
    """Finds images by folder and stem; each folder is listed once."""

    def __init__(self, gathering: Gathering) -> None:
        """Begin without any listing.

        Args:
            gathering: told of images that share their stem, and so their labels.
        """
        self._gathering = gathering
        self._listings: dict[Path, dict[str, list[Path]]] = {}

    def find(self, folder: Path, stem: str) -> Path:
        """Return the image of that stem, or where it would be as ``.jpg``."""
        if folder not in self._listings:
            self._listings[folder] = {}
            for path in list_images(folder):
                self._listings[folder].setdefault(path.stem, []).append(path)
        *others, image = self._listings[folder].get(stem, [folder / f"{stem}.jpg"])
        for other in others:
            self._gathering.remark("labels-shared", str(other), f"shares its labels with {image.name}, which is used")
        return image


def list_images(folder: Path) -> list[Path]:
    """Return the images in a folder, in order of name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_seen(path, IMAGE_SUFFIXES))


def list_deep(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of some endings in a folder and all below it, in order of path; none where there is no folder.

    Links to folders are followed. A folder is entered once, by its own path rather than by a link, so links may make a loop.
    """
    entered: set[Path] = set()
    waiting = [folder]
    found: list[Path] = []
    for top in waiting:  # which grows: links wait until every folder of its own has been entered
        for name, folders, files in os.walk(top):
            place = Path(name)
            folders.sort()
            if (real := place.resolve()) in entered:
                folders.clear()
                continue
            entered.add(real)
            waiting += [path for path in map(place.joinpath, folders) if path.is_symlink()]
            found += [path for path in map(place.joinpath, files) if _is_seen(path, suffixes)]
    return sorted(found)


def _is_seen(path: Path, suffixes: Sequence[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def read_text_lines(path: Path, what: str) -> list[str]:
    """Read a text file.

    Args:
        path: the file.
        what: it is, for the message.

    Returns:
        Its lines.

    Raises:
        DataError: it cannot be read or is no text.
    """
    try:
        # Not splitlines: it also breaks at characters that may stand inside a line, and line numbers would be off.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read {what}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8 text; this is not {what}") from error


def read_label_rows(
    path: Path, columns: Sequence[str], whole: Sequence[int], gathering: Gathering, *, one_image: bool = True
) -> tuple[NDArray[np.float64], IntArray]:
    """Read a label file: one box a line, numbers separated by commas or blanks.

    Args:
        path: the file; empty lines are passed over, and a comma may end a line.
        columns: what each number is.
        whole: which of them must be whole numbers.
        gathering: told of lines that cannot be used.
        one_image: the file is about one image, which bounds its size.

    Returns:
        ``(N, columns)`` numbers of the lines that are well formed (infinities and NaN where they need not be whole), and the
        ``(N,)`` line of each, from 1.

    Raises:
        DataError: the file cannot be read, or is too large for one image.
    """
    if one_image and is_there(path):
        refuse_crowd(str(path), path.stat().st_size)
    rows: list[list[float]] = []
    line_of: list[int] = []
    for number, line in enumerate(read_text_lines(path, "a label file"), start=1):
        text = line.strip().rstrip(",")
        if not text:
            continue
        fields = text.split(",") if "," in text else text.split()
        fault = ""
        row: list[float] = []
        if len(fields) != len(columns):
            fault = f"{len(fields)} columns {text!r:.80}, expected {len(columns)}: {', '.join(columns)}"
        else:
            try:
                row = [float(value) for value in fields]
            except ValueError:
                bad = next(index for index, value in enumerate(fields) if not is_number(value))
                fault = f"{columns[bad]} {fields[bad].strip()!r:.80} is not a number"
            else:
                bad = next((index for index in whole if not _is_whole(row[index])), -1)
                fault = f"{columns[bad]} {fields[bad].strip()} is not a whole number" if bad >= 0 else ""
        if fault:
            gathering.refuse("row-malformed", f"{path}:{number}", fault)
        else:
            rows.append(row)
            line_of.append(number)
    return np.array(rows, np.float64).reshape(-1, len(columns)), np.array(line_of, np.int64)


def _is_whole(value: float) -> bool:
    return value.is_integer() and abs(value) < 2**53
