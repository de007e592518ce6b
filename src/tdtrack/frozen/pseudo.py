"""Boxes without labels: what the detector itself finds in images and videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import Progress, TextColumn

from tdtrack.data import load_dataset
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import is_upright
from tdtrack.errors import DataError
from tdtrack.files import atomic_write
from tdtrack.runtime.engine import Engine
from tdtrack.runtime.frames import ImageSource
from tdtrack.runtime.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoSource, open_source
from tdtrack.types import Detections, Image

__all__ = ["write_pseudo_boxes"]

_JPEG_QUALITY = 95
_FRAMES = "frames"
_READY = "boxes.ready.json"


def write_pseudo_boxes(sources: Sequence[str], engine: Engine, folder: Path, *, every: int, made_by: str) -> DetectionDataset:
    """Detect in unlabelled pictures and keep what is found as a COCO data set; a finished one of the same is read again.

    Args:
        sources: images, videos, and folders of either.
        engine: the detector, with the score from which its boxes count.
        folder: for ``boxes.json`` and the frames of videos.
        every: of a video, each that many-th frame.
        made_by: names the engine and its settings; boxes of another one are made anew, as those of other sources are.

    Returns:
        The data set.

    Raises:
        MediaError: a source cannot be read.
        DataError: nothing was found in any of them.
        OutputError: the frames cannot be written.
    """
    out, ready = folder / "boxes.json", folder / _READY
    root = Path(out.resolve().anchor)  # sources may lie anywhere
    key = json.dumps([made_by, every, [_stamp(Path(source)) for source in sources]])
    if not (out.is_file() and ready.is_file() and ready.read_text(encoding="utf-8") == key):
        ready.unlink(missing_ok=True)
        shutil.rmtree(folder / _FRAMES, ignore_errors=True)
        images: list[AnnotatedImage] = []
        boxes = 0
        with Progress(TextColumn("{task.description}"), console=Console(stderr=True)) as bar:
            task = bar.add_task("detect")
            for path, pixels in _pictures(sources, folder / _FRAMES, every, bar.console):
                images.append(_annotated(len(images) + 1, boxes + 1, path, pixels, engine(pixels)))
                boxes += len(images[-1])
                bar.update(task, description=f"detect: {boxes} boxes in {len(images)} images")
        if not boxes:
            raise DataError(
                f"the detector finds nothing in {', '.join(sources)}; lower --head.min_score or give pictures of what it knows"
            )
        found = [image for image in images if len(image)]
        write_coco(out, found, engine.classes, images_dir=root, description=f"the detector's own boxes in {', '.join(sources)}")
        with atomic_write(ready, "w") as file:
            file.write(key)
    return load_dataset(out, root)


def _stamp(source: Path) -> list[list[str | int]]:
    """Return what changes when a file, or one in a folder, is replaced; opening what is not there says so better."""
    below = [*source.iterdir(), *source.glob("*/*")] if (source / "img1").is_dir() else source.glob("*")
    files = sorted(below) if source.is_dir() else [source]
    stamps = [(file, file.stat()) for file in files if file.is_file()]
    return [[str(file.resolve()), status.st_size, status.st_mtime_ns] for file, status in stamps]


def _annotated(image_id: int, first: int, path: Path, pixels: Image, found: Detections) -> AnnotatedImage:
    return AnnotatedImage(
        image_id=image_id,
        path=path.resolve(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        annotation_id=np.arange(first, first + len(found)),
        xyxy=found.xyxy,
        class_id=found.class_id,
        ignore=np.zeros(len(found), np.bool_),
    )


def _pictures(sources: Sequence[str], frames: Path, every: int, console: Console) -> Iterator[tuple[Path, Image]]:
    """Yield image files and their pixels; frames of videos become files first, and so do images that a tag turns."""
    for place, source in enumerate(_opened(sources)):
        for number, frame in enumerate(source):
            if isinstance(source, ImageSource):
                stored = source.path_of(frame.index)
                if not source.upright or is_upright(stored):
                    yield stored, frame.image
                    continue
            elif number % every:
                continue
            path = frames / f"{place:04d}-{source.name}" / f"{frame.index:08d}.jpg"  # videos may have the same name
            with atomic_write(path, "wb") as file:
                PIL.Image.fromarray(frame.image).save(file, "JPEG", quality=_JPEG_QUALITY)
            yield path, frame.image
        source.close()
        if source.truncated:
            console.print(f"{source.name}: {source.truncated}", markup=False, highlight=False, soft_wrap=True)


def _opened(sources: Sequence[str]) -> Iterator[VideoSource]:
    """Open sources one by one; a folder that holds videos stands for them, and for its images."""
    for source in sources:
        path = Path(source)
        files = sorted(path.iterdir()) if path.is_dir() else []
        videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
        images = any(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
        yield from map(open_source, [*videos, *([path] if images or not videos else [])])
