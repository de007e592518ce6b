"""One door to every supported data set."""

from __future__ import annotations

from pathlib import Path

from tdtrack.config import DataSource
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data.dataset import DetectionDataset, Problem, refuse_dropped, refuse_empty
from tdtrack.data.formats import Format, find_format
from tdtrack.data.reading import Request
from tdtrack.errors import ConfigError, DataError

__all__ = ["inspect_dataset", "load_dataset", "load_source"]


def load_dataset(
    annotations: Path | str,
    images: Path | str = "",
    *,
    format: DataFormat = "auto",
    split: str = "",
    box: BoxKind = "full",
    skip_bad: bool = False,
) -> DetectionDataset:
    """Read a data set of any published layout, and forget who is who.

    Args:
        annotations: its file or folder; ``docs/data.md`` shows each layout.
        images: folder that image names are relative to; empty looks where the layout keeps them.
        format: the layout; ``auto`` tells it by its signs.
        split: part of a layout that holds several, for instance ``val``; empty is the part to train on.
        box: which of a person's boxes, where a layout has more than one.
        skip_bad: leave out boxes and images that cannot be used instead of stopping at the first.

    Returns:
        The images in order of image id.

    Raises:
        DataError: there is no such data set, it is damaged or empty, or a box or image in it cannot be used.
        ConfigError: the layout has no such split or box, or brings its own images.
    """
    layout, request = _request(annotations, images, format, split, box, decode=False)
    dataset, problems = layout.read(request)
    if not skip_bad:
        refuse_dropped(problems)
    return refuse_empty(dataset, request.path, problems)


def load_source(source: DataSource) -> DetectionDataset:
    """Read the data set that a recipe names; raises what ``load_dataset`` raises."""
    return load_dataset(
        source.annotations,
        source.images,
        format=source.format,
        split=source.split,
        box=source.box,
        skip_bad=source.skip_bad_boxes,
    )


def inspect_dataset(
    annotations: Path | str,
    images: Path | str = "",
    *,
    format: DataFormat = "auto",
    split: str = "",
    box: BoxKind = "full",
    decode: bool = False,
) -> tuple[str, DetectionDataset | None, list[Problem]]:
    """Read a data set as far as it goes, and list what is wrong with it.

    Args:
        annotations: as in ``load_dataset``.
        images: as in ``load_dataset``.
        format: as in ``load_dataset``.
        split: as in ``load_dataset``.
        box: as in ``load_dataset``.
        decode: decode every image, which also finds those that are cut short.

    Returns:
        The layout's title; what ``load_dataset`` gives when it skips what cannot be used (``None`` where nothing is left); and
        all problems.

    Raises:
        DataError: there is nothing at the path.
        ConfigError: as in ``load_dataset``.
    """
    path = Path(annotations)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    title = "unknown layout"
    problems: list[Problem] = []
    try:
        layout, request = _request(annotations, images, format, split, box, decode=decode)
        title = layout.title
        dataset, problems = layout.read(request)
        return title, refuse_empty(dataset, path, problems), problems
    except DataError as error:
        message = str(error).removeprefix(f"{path}: ")
        return title, None, [*problems, Problem("unusable-data-set", str(path), message, dropped=True)]


def _request(
    annotations: Path | str, images: Path | str, format: DataFormat, split: str, box: BoxKind, *, decode: bool
) -> tuple[Format, Request]:
    path = Path(annotations)
    layout = find_format(path, format)
    if images and layout.own_images:
        raise ConfigError(f"{path} is a folder of sequences, which bring their own images; leave --images {images} out")
    if split and split not in layout.splits:
        has = f"its splits are {', '.join(layout.splits)}" if layout.splits else "each part is a file or folder of its own"
        raise ConfigError(f"{path}: {layout.title} has no split {split!r}; {has}")
    if box not in layout.boxes:
        raise ConfigError(f"{path}: {layout.title} has no {box} boxes; it has {', '.join(layout.boxes)}")
    if images and not Path(images).is_dir():
        raise DataError(f"{path}: image folder {images} does not exist; pass the folder that holds the images with --images")
    return layout, Request(path, Path(images) if images else None, split, box, decode)
