"""The layouts that can be read, and the signs by which each is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tdtrack.benchmarks import sequence_sets
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data.caltech import read_caltech
from tdtrack.data.citypersons import read_citypersons
from tdtrack.data.coco import read_coco
from tdtrack.data.crowdhuman import read_crowdhuman
from tdtrack.data.cuhk_sysu import read_cuhk_sysu
from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.eth import read_eth
from tdtrack.data.jde import LABEL_FOLDER, find_label_folders, label_of, read_jde
from tdtrack.data.mot import find_sequence_folders, read_mot
from tdtrack.data.prw import read_prw
from tdtrack.data.reading import IMAGE_SUFFIXES, Request, path_inside
from tdtrack.data.visdrone import read_visdrone
from tdtrack.data.yolo import find_yaml, read_yolo
from tdtrack.errors import ConfigError, DataError

__all__ = ["FORMATS", "Format", "find_format"]


@dataclass(frozen=True, slots=True)
class Format:
    """One published layout.

    Attributes:
        title: what people call it.
        sign: what a file or folder of this layout has, for messages.
        has_sign: whether a path has it.
        read: gives what can be used, and all problems.
        splits: parts it can be asked for; empty where each part is a file or folder of its own.
        boxes: which of a person's boxes it can be asked for.
        own_images: its images lie where the layout says, so that an image folder would be a mistake.
    """

    title: str
    sign: str
    has_sign: Callable[[Path], bool]
    read: Callable[[Request], tuple[DetectionDataset, list[Problem]]]
    splits: tuple[str, ...] = ()
    boxes: tuple[BoxKind, ...] = ("full",)
    own_images: bool = False


def _has_yolo(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    return bool(find_yaml(path)) or ((path / "images").is_dir() and (path / "labels").is_dir())


def _has_jde(path: Path) -> bool:
    """Tell whether a folder has JDE's labels, or a text file begins with the path of an image that has them."""
    if path.is_dir():
        return bool(find_label_folders(path))
    if path.suffix.lower() in (".json", ".odgt", ".mat", ".idl", ".yaml", ".yml"):
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            image = path_inside(path.parent, file.readline(4096).strip())
        if image is None or image.suffix.lower() not in IMAGE_SUFFIXES:
            return False
        return label_of(image, path.parent, LABEL_FOLDER).is_file()
    except (OSError, UnicodeDecodeError):
        return False


FORMATS: dict[DataFormat, Format] = {
    "coco": Format("COCO", "a .json file", lambda path: path.is_file() and path.suffix.lower() == ".json", read_coco),
    "mot": Format(
        "MOT",
        "seqinfo.ini (or img1/ and gt/) in the folder or one below it",
        lambda path: bool(find_sequence_folders(path)),
        read_mot,
        splits=tuple(sequence_sets()),
        own_images=True,
    ),
    "crowdhuman": Format(
        "CrowdHuman",
        "an .odgt file",
        lambda path: path.is_file() and path.suffix.lower() == ".odgt",
        read_crowdhuman,
        boxes=("full", "visible", "head"),
    ),
    "citypersons": Format(
        "CityPersons",
        "a .mat file (anno_train.mat)",
        lambda path: path.is_file() and path.suffix.lower() == ".mat",
        read_citypersons,
        boxes=("full", "visible"),
    ),
    "caltech": Format(
        "Caltech pedestrians",
        "annotations/set00/V000.vbb",
        lambda path: any(path.glob("annotations/set*/V*.vbb")),
        read_caltech,
        splits=("train", "test", "all"),
        boxes=("full", "visible"),
    ),
    "eth": Format(
        "ETH",
        "an .idl file",
        lambda path: path.suffix.lower() == ".idl" if path.is_file() else any(path.glob("*.idl")) or any(path.glob("*/*.idl")),
        read_eth,
    ),
    "cuhk-sysu": Format(
        "CUHK-SYSU",
        "annotation/Images.mat",
        lambda path: (path / "annotation" / "Images.mat").is_file(),
        read_cuhk_sysu,
        splits=("train", "test", "all"),
    ),
    "prw": Format(
        "PRW",
        "frame_train.mat and annotations/",
        lambda path: (path / "frame_train.mat").is_file() and (path / "annotations").is_dir(),
        read_prw,
        splits=("train", "test", "all"),
    ),
    "yolo": Format(
        "YOLO", "a .yaml file with names, or images/ and labels/", _has_yolo, read_yolo, splits=("train", "val", "test")
    ),
    "jde": Format("JDE labels", f"{LABEL_FOLDER}/", _has_jde, read_jde),
    "visdrone": Format(
        "VisDrone",
        "annotations/*.txt beside images/ or sequences/",
        lambda path: (
            ((path / "images").is_dir() or (path / "sequences").is_dir()) and any((path / "annotations").glob("*.txt"))
        ),
        read_visdrone,
    ),
}
"""Every layout by the name that ``--format`` takes."""


def find_format(path: Path, name: str = "auto") -> Format:
    """Return the layout of a data set.

    Args:
        path: its file or folder.
        name: of the layout; ``auto`` tells it by the signs of the path.

    Raises:
        DataError: there is nothing at the path, it has the signs of no layout, or those of several.
        ConfigError: no layout has that name.
    """
    if name not in get_args(DataFormat):
        raise ConfigError(f"format is {name!r}; it must be one of {', '.join(get_args(DataFormat))}")
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if name != "auto":
        return next(layout for key, layout in FORMATS.items() if key == name)
    try:
        found = {key: layout for key, layout in FORMATS.items() if layout.has_sign(path)}
    except OSError as error:
        raise DataError(f"{path}: cannot look into it: {error.strerror}") from error
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        signs = "; and ".join(f"{layout.sign} ({key})" for key, layout in found.items())
        raise DataError(f"{path}: has the signs of several layouts: {signs}; pass --format")
    looked_for = "; ".join(f"{layout.sign} ({key})" for key, layout in FORMATS.items())
    raise DataError(f"{path}: no known layout: looked for {looked_for}; name the right file or folder, or pass --format")
