"""MOTChallenge folders: ``seqinfo.ini``, ``img1/``, ``gt/gt.txt``, ``det/det.txt``."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tdtrack.benchmarks import sequence_sets
from tdtrack.data.checks import check_boxes
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset, Problem, images_from_columns
from tdtrack.data.images import ImageFault, probe_images
from tdtrack.data.mot_rows import MotRows, is_number, read_mot_rows
from tdtrack.data.reading import MAX_RECORDS, Request, is_there, path_inside
from tdtrack.errors import DataError
from tdtrack.files import reason_of
from tdtrack.types import IntArray

__all__ = [
    "MotRows",
    "MotSequence",
    "SequenceInfo",
    "find_sequences",
    "read_mot",
    "read_mot_rows",
    "read_sequence",
    "read_sequence_info",
]

PEDESTRIAN = 1
UNKNOWN_CLASS = -1
DISTRACTORS = (2, 7, 8, 12, 13)
"""People that MOTChallenge does not want tracked: on vehicles, standing still, pictured, mirrored, in a crowd."""

_COPIES = re.compile(r"(MOT17-\d+)-(DPM|FRCNN|SDP)")  # MOT17 ships every scene three times, once per detector
_IMAGE_ID_STEP = MAX_RECORDS + 1
_ANNOTATION_ID_STEP = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What ``seqinfo.ini`` says.

    Attributes:
        name: of the sequence.
        frame_rate: frames per second.
        length: number of frames of the whole sequence; the folder may hold fewer.
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        image_dir: folder of the frames, inside the sequence's.
        image_ext: ending of the frames' file names, with its dot.
    """

    name: str
    frame_rate: float
    length: int
    width: int
    height: int
    image_dir: str = "img1"
    image_ext: str = ".jpg"


@dataclass(frozen=True, slots=True)
class MotSequence:
    """One sequence on disk.

    Attributes:
        folder: the sequence's folder.
        info: what its ``seqinfo.ini`` says.
        frames: the frame images that exist, in order; a part of the sequence, or none, is normal.
    """

    folder: Path
    info: SequenceInfo
    frames: tuple[Path, ...]

    @property
    def frame_index(self) -> IntArray:
        """``(len(frames),)`` index of each image's frame, from 0: the number in its name, less 1."""
        return np.array([_frame_number(path) - 1 for path in self.frames], np.int64)

    @property
    def ground_truth_file(self) -> Path:
        """Where the ground truth is, if there is one."""
        return self.folder / "gt" / "gt.txt"

    @property
    def detections_file(self) -> Path:
        """Where the public detections are, if there are any."""
        return self.folder / "det" / "det.txt"

    def ground_truth(self) -> MotRows:
        """Read ``gt/gt.txt``.

        Raises:
            DataError: the file is missing (test sequences have none) or a line cannot be read.
        """
        return read_mot_rows(self.ground_truth_file)

    def detections(self) -> MotRows:
        """Read ``det/det.txt``.

        Raises:
            DataError: the file is missing or a line cannot be read.
        """
        return read_mot_rows(self.detections_file)


def read_sequence_info(path: Path | str) -> SequenceInfo:
    """Read a ``seqinfo.ini``.

    Args:
        path: the file. ``name``, ``imDir`` and ``imExt`` may be missing; the folder's name, ``img1`` and ``.jpg`` stand in.

    Raises:
        DataError: the file cannot be read, or a key is missing or not a positive number; names the key.
    """
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot read the sequence's description: {reason_of(error)}") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not an INI file: {' '.join(str(error).split())}") from error
    if not parser.has_section("Sequence"):
        raise DataError(f"{path}: section [Sequence] is missing; found {parser.sections()}")
    section = parser["Sequence"]

    def positive(key: str, *, whole: bool) -> float:
        text = section.get(key)
        if text is None:
            raise DataError(f"{path}: key {key} is missing from [Sequence]")
        value = float(text) if is_number(text) else 0.0
        if not 0 < value < 2**31 or (whole and value % 1):
            raise DataError(f"{path}: {key} is {text!r}; it must be a positive {'whole ' if whole else ''}number")
        return value

    length = int(positive("seqLength", whole=True))
    if length > MAX_RECORDS:
        raise DataError(f"{path}: seqLength is {length}; a sequence may have {MAX_RECORDS} frames, split it")
    image_dir = section.get("imDir", "").strip() or "img1"
    if path_inside(path.parent, image_dir) is None:
        raise DataError(f"{path}: imDir {image_dir!r:.80} leads out of the sequence's folder; move the frames into it")
    return SequenceInfo(
        name=section.get("name", "").strip() or path.resolve().parent.name,
        frame_rate=positive("frameRate", whole=False),
        length=length,
        width=int(positive("imWidth", whole=True)),
        height=int(positive("imHeight", whole=True)),
        image_dir=image_dir,
        image_ext=section.get("imExt", "").strip() or ".jpg",
    )


def read_sequence(folder: Path | str) -> MotSequence:
    """Read the description of one sequence and list its frames.

    Args:
        folder: holds ``seqinfo.ini`` and, usually, the frames in ``img1`` as ``000001.jpg`` and so on.

    Raises:
        DataError: ``seqinfo.ini`` is missing or wrong, or a frame's file name is not a number of its own.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    info = read_sequence_info(folder / "seqinfo.ini")
    frames: list[Path] = []
    if is_there(folder / info.image_dir) and (folder / info.image_dir).is_dir():
        entries = (folder / info.image_dir).iterdir()
        frames = [path for path in entries if path.suffix.lower() == info.image_ext.lower() and not path.name.startswith(".")]
    frames.sort(key=_frame_number)
    for path, following in pairwise(frames):
        if _frame_number(path) == _frame_number(following):
            raise DataError(f"{following}: this is frame {_frame_number(path)}, and so is {path.name}; remove one of them")
    return MotSequence(folder, info, tuple(frames))


def find_sequences(folder: Path | str) -> list[MotSequence]:
    """Find the sequences in a folder: the folder itself, or those directly in it, by name.

    Args:
        folder: one sequence, or for instance ``MOT17/train``.

    Returns:
        At least one sequence, in order of folder name.

    Raises:
        DataError: there is none, or one is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    if (folder / "seqinfo.ini").is_file():
        return [read_sequence(folder)]
    found = sorted(path.parent for path in folder.glob("*/seqinfo.ini"))
    if not found:
        raise DataError(f"{folder}: no MOT sequence here: neither this folder nor one directly in it holds a seqinfo.ini")
    return [read_sequence(path) for path in found]


def _frame_number(path: Path) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", path.stem) or int(path.stem) < 1:
        raise DataError(f"{path}: the name of a frame must be its number, from 1, such as 000001{path.suffix}")
    return int(path.stem)


def read_mot(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read the ground-truth boxes of MOT sequences and forget who is who.

    Flagged pedestrians, and flagged boxes of files without classes (MOT15), are objects. Pedestrians without a flag and the
    challenge's distractor classes are ignore regions. Vehicles and occluders are background and left out. Boxes are cut at
    the border of the frame. Of MOT17's three copies of a scene only the first is read.

    Args:
        request: one sequence or a folder of them; as split a named set of sequences, for instance ``MOT15-val``.

    Returns:
        One image per frame whose file exists, with or without boxes, and all problems. Image id: number of the sequence by
        name, from 1, times 1,000,000, plus the frame's number in its file name. Annotation id: number of the sequence times
        1,000,000,000 plus the box's line in ``gt.txt``.

    Raises:
        DataError: there is no sequence, one of the split is missing, or there is no ground truth or no frame.
    """
    return _read(request.path, request.split, decode=request.decode)


def _read(folder: Path, split: str, *, decode: bool) -> tuple[DetectionDataset, list[Problem]]:
    problems: list[Problem] = []
    images: list[AnnotatedImage] = []
    scenes: dict[str, str] = {}
    sequences = find_sequences(folder)
    wanted = sequence_sets()[split] if split else tuple(sequence.folder.name for sequence in sequences)
    if missing := sorted(set(wanted) - {sequence.folder.name for sequence in sequences}):
        raise DataError(f"{folder}: {', '.join(missing)} of {split} are not here; name the folder that holds all of {split}")
    if not any(sequence.frames for sequence in sequences):
        raise DataError(f"{folder}: the data set has no images; a sequence keeps its frames in img1/000001.jpg and so on")
    for number, sequence in enumerate(sequences, start=1):
        if sequence.folder.name not in wanted:
            continue
        copy = _COPIES.fullmatch(sequence.info.name)
        first = scenes.setdefault(copy[1] if copy else sequence.folder.name, sequence.info.name)
        if first != sequence.info.name:
            message = f"shows the same frames as {first}, which is used"
            problems.append(Problem("scene-twice", str(sequence.folder), message, dropped=False))
            continue
        images.extend(_read_frames(sequence, number, problems, decode=decode))
    names = ", ".join(sequence.info.name for sequence in sequences if sequence.folder.name in wanted)
    name = split or folder.resolve().name
    return DetectionDataset(name, ("person",), tuple(images), "", f"MOT ground truth of {names}"), problems


def _read_frames(sequence: MotSequence, number: int, problems: list[Problem], *, decode: bool) -> tuple[AnnotatedImage, ...]:
    """Return the frames of one sequence, in order; ``number`` makes ids unique among the sequences."""
    rows = sequence.ground_truth()
    info, file = sequence.info, sequence.ground_truth_file
    for row in np.flatnonzero(rows.frame_index >= info.length).tolist():
        message = f"frame {rows.frame_index[row] + 1} lies beyond the {info.length} frames of the sequence"
        problems.append(Problem("frame-beyond-end", f"{file}:{rows.line[row]}", message, dropped=True))

    found = probe_images(sequence.frames, [(info.width, info.height)] * len(sequence.frames), decode=decode)
    frames: list[tuple[int, Path, int, int]] = []
    image_row = np.full(info.length, -1, np.int64)
    for path, index, outcome in zip(sequence.frames, sequence.frame_index.tolist(), found):
        if isinstance(outcome, ImageFault):
            problems.append(Problem(outcome.kind, f"{sequence.folder}: frame {index + 1}", outcome.message, dropped=True))
        elif index >= info.length:
            message = f"lies beyond the {info.length} frames of the sequence"
            problems.append(Problem("frame-beyond-end", str(path), message, dropped=True))
        else:
            image_row[index] = len(frames)
            frames.append((number * _IMAGE_ID_STEP + index + 1, path, info.width, info.height))

    person = np.isin(rows.class_id, (PEDESTRIAN, UNKNOWN_CLASS))
    wanted = np.flatnonzero((person | np.isin(rows.class_id, DISTRACTORS)) & (rows.frame_index < info.length))
    wanted = wanted[image_row[rows.frame_index[wanted]] >= 0]
    checked = check_boxes(rows.tlwh[wanted], np.tile(np.array([info.width, info.height], np.int64), (len(wanted), 1)))
    for row in checked.worth_saying.tolist():
        kind, message = checked.describe(row)
        problems.append(Problem(kind, f"{file}:{rows.line[wanted[row]]}", message, dropped=not checked.usable[row]))
    keep = wanted[checked.usable]
    return images_from_columns(
        frames,
        image_row[rows.frame_index[keep]],
        number * _ANNOTATION_ID_STEP + rows.line[keep],
        checked.xyxy[checked.usable],
        np.zeros(len(keep), np.int64),
        ~(person[keep] & (rows.score[keep] > 0)),
    )
