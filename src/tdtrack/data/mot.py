"""MOTChallenge folders: ``seqinfo.ini``, ``img1/``, ``gt/gt.txt``, ``det/det.txt``."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tdtrack.benchmarks import known_sequence, scene_of, sequence_sets
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
    "find_sequence_folders",
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
BACKGROUND = (3, 4, 5, 6, 9, 10, 11)
"""Cars, bicycles, motorbikes, other vehicles, and three kinds of occluders."""
CLASSES = (UNKNOWN_CLASS, PEDESTRIAN, *DISTRACTORS, *BACKGROUND)

_IMAGE_ID_STEP = MAX_RECORDS + 1
_ANNOTATION_ID_STEP = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """What ``seqinfo.ini`` says, or what is known of a sequence of MOTChallenge without one.

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
        info: its description.
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
    name = section.get("name", "").strip() or path.resolve().parent.name
    if path_inside(path.parent, name) != path.parent / name or "/" in name:
        raise DataError(f"{path}: name is {name!r:.80}; results are called by it, so it must be a plain file name")
    return SequenceInfo(
        name=name,
        frame_rate=positive("frameRate", whole=False),
        length=length,
        width=int(positive("imWidth", whole=True)),
        height=int(positive("imHeight", whole=True)),
        image_dir=image_dir,
        image_ext=f".{section.get('imExt', '').strip().removeprefix('.') or 'jpg'}",
    )


def read_sequence(folder: Path | str) -> MotSequence:
    """Read the description of one sequence and list its frames.

    Args:
        folder: holds ``seqinfo.ini`` and, usually, the frames in ``img1`` as ``000001.jpg`` and so on. Without ``seqinfo.ini``,
            as MOT15 is published, a sequence of MOTChallenge is known by the folder's name; its size is the first frame's.

    Raises:
        DataError: ``seqinfo.ini`` is wrong, or missing where it is needed, or a frame's file name is not a number of its own.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    if (folder / "seqinfo.ini").exists() or not (folder / "img1").is_dir():
        info = read_sequence_info(folder / "seqinfo.ini")
        return MotSequence(folder, info, _list_frames(folder / info.image_dir, info.image_ext))
    frames = _list_frames(folder / "img1", ".jpg")
    return MotSequence(folder, _published_info(folder, frames), frames)


def _list_frames(folder: Path, suffix: str) -> tuple[Path, ...]:
    """Return the frames in a folder, in order; none where there is no folder."""
    frames: list[Path] = []
    if is_there(folder) and folder.is_dir():
        entries = folder.iterdir()
        frames = [path for path in entries if path.suffix.lower() == suffix.lower() and not path.name.startswith(".")]
    frames.sort(key=_frame_number)
    for path, following in pairwise(frames):
        if _frame_number(path) == _frame_number(following):
            raise DataError(f"{following}: this is frame {_frame_number(path)}, and so is {path.name}; remove one of them")
    return tuple(frames)


def _published_info(folder: Path, frames: tuple[Path, ...]) -> SequenceInfo:
    """Describe a sequence that comes without ``seqinfo.ini``.

    Raises:
        DataError: its name is not one of MOTChallenge's, or its first frame cannot be read; says what to write.
    """
    name = folder.absolute().name
    known = known_sequence(name)
    write = (
        f"write {folder / 'seqinfo.ini'} with the lines [Sequence], frameRate=(frames per second), "
        "seqLength=(number of frames), imWidth=(pixels) and imHeight=(pixels)"
    )
    if known is None:
        raise DataError(f"{folder}: there is no seqinfo.ini, and {name} is no sequence of MOTChallenge; {write}")
    if not frames:
        raise DataError(f"{folder}: there is no seqinfo.ini, and no .jpg image in img1 to tell the size by; {write}")
    (size,) = probe_images(frames[:1], [None])
    if isinstance(size, ImageFault):
        raise DataError(f"{folder}: there is no seqinfo.ini, and {size.message}; mend the image, or {write}")
    length, frame_rate = known
    return SequenceInfo(name, frame_rate, length, *size)


def find_sequence_folders(folder: Path) -> list[Path]:
    """Return the sequences of a folder without reading them: itself, or else those directly in it, by name.

    A sequence is told by its ``seqinfo.ini``; where there is none, by ``img1`` and the name of a sequence of
    MOTChallenge, or ``img1`` beside ``gt`` or ``det``.
    """
    if _is_sequence(folder):
        return [folder]
    return sorted(
        {path.parent for sign in ("seqinfo.ini", "img1") for path in folder.glob(f"*/{sign}") if _is_sequence(path.parent)}
    )


def _is_sequence(folder: Path) -> bool:
    if (folder / "seqinfo.ini").is_file():
        return True
    named = known_sequence(folder.absolute().name) is not None
    return (folder / "img1").is_dir() and (named or (folder / "gt").is_dir() or (folder / "det").is_dir())


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
    found = find_sequence_folders(folder)
    if not found:
        raise DataError(
            f"{folder}: no MOT sequence here: neither this folder nor one directly in it holds seqinfo.ini (or img1/ and gt/)"
        )
    return [read_sequence(path) for path in found]


def _frame_number(path: Path) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", path.stem) or int(path.stem) < 1:
        raise DataError(f"{path}: the name of a frame must be its number, from 1, such as 000001{path.suffix}")
    return int(path.stem)


def read_mot(request: Request) -> tuple[DetectionDataset, list[Problem]]:
    """Read the ground-truth boxes of MOT sequences and forget who is who.

    Flagged pedestrians, and flagged boxes of files without classes (MOT15), are objects. Pedestrians without a flag and the
    challenge's distractor classes are ignore regions. Vehicles and occluders are background and left out. Boxes are cut at
    the border of the frame. Of MOT17's three copies of a scene only the first that has frames and ground truth is read.

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
    scenes: dict[str, MotSequence] = {}
    sequences = find_sequences(folder)
    wanted = sequence_sets()[split] if split else tuple(sequence.folder.name for sequence in sequences)
    if missing := sorted(set(wanted) - {sequence.folder.name for sequence in sequences}):
        raise DataError(f"{folder}: {', '.join(missing)} of {split} are not here; name the folder that holds all of {split}")
    if not any(sequence.frames for sequence in sequences):
        raise DataError(f"{folder}: the data set has no images; a sequence keeps its frames in img1/000001.jpg and so on")
    for sequence in sequences:
        if sequence.folder.name in wanted:
            scene = scene_of(sequence.folder.name)
            scenes[scene] = max(scenes.get(scene, sequence), sequence, key=_completeness)  # the first of the best
    for number, sequence in enumerate(sequences, start=1):
        if sequence.folder.name not in wanted:
            continue
        used = scenes[scene_of(sequence.folder.name)]
        if used is not sequence and used.frames:
            message = f"shows the same scene as {used.folder.name}, which is used"
            problems.append(Problem("scene-twice", str(sequence.folder), message, dropped=False))
            continue
        images.extend(_read_frames(sequence, number, problems, decode=decode))
    names = ", ".join(sequence.info.name for sequence in sequences if sequence.folder.name in wanted)
    name = split or folder.resolve().name
    return DetectionDataset(name, ("person",), tuple(images), "", f"MOT ground truth of {names}"), problems


def _completeness(sequence: MotSequence) -> tuple[bool, bool]:
    """Tell what a copy of a scene has: many keep the frames in one copy only."""
    return bool(sequence.frames), sequence.ground_truth_file.is_file()


def _read_frames(sequence: MotSequence, number: int, problems: list[Problem], *, decode: bool) -> tuple[AnnotatedImage, ...]:
    """Return the frames of one sequence, in order; ``number`` makes ids unique among the sequences."""
    rows = sequence.ground_truth()
    info, file = sequence.info, sequence.ground_truth_file
    if len(rows) and not sequence.frames:
        message = f"gt.txt has {len(rows)} boxes but {info.image_dir} no {info.image_ext} image: add the frames, or mend imExt"
        problems.append(Problem("image-missing", str(sequence.folder), message, dropped=True))
        return ()
    for row in np.flatnonzero(rows.frame_index >= info.length).tolist():
        message = f"frame {rows.frame_index[row] + 1} lies beyond the {info.length} frames of the sequence"
        problems.append(Problem("frame-beyond-end", f"{file}:{rows.line[row]}", message, dropped=True))

    found = probe_images(sequence.frames, [(info.width, info.height)] * len(sequence.frames), decode=decode)
    known = np.isin(rows.class_id, CLASSES)
    for row in np.flatnonzero(~known).tolist():
        message = f"class {rows.class_id[row]} is not one of MOTChallenge's 1 to 13"
        problems.append(Problem("unknown-class", f"{file}:{rows.line[row]}", message, dropped=True))
    unread = set(rows.frame_index[~known].tolist()) - set(rows.frame_index[known].tolist())

    frames: list[tuple[int, Path, int, int]] = []
    image_row = np.full(info.length, -1, np.int64)
    for path, index, outcome in zip(sequence.frames, sequence.frame_index.tolist(), found):
        if isinstance(outcome, ImageFault):
            problems.append(Problem(outcome.kind, f"{sequence.folder}: frame {index + 1}", outcome.message, dropped=True))
        elif index >= info.length:
            message = f"lies beyond the {info.length} frames of the sequence"
            problems.append(Problem("frame-beyond-end", str(path), message, dropped=True))
        elif index not in unread:
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
        ~(person[keep] & (rows.score[keep] != 0)),
    )
