"""What a frozen detector's maps hold at every box of a data set, seen several times: computed once, learned from often.

A part holds a few images. Parts are written whole, so a run that was killed goes on after the last one, to the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tdtrack.config import AugmentConfig
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import load_image
from tdtrack.errors import DataError
from tdtrack.files import atomic_write
from tdtrack.frozen.description import DetectorDescription
from tdtrack.frozen.graph import DetectorGraph
from tdtrack.frozen.merge import prepare_input
from tdtrack.frozen.pooling import Reading, pool
from tdtrack.training.augment import change_light, choose_placement, cut_boxes, cut_window, pad_window, place_boxes
from tdtrack.types import FloatArray, Image, IntArray

__all__ = ["FeatureCache", "MapReader"]

AS_TRACKED = AugmentConfig(flip=0.0, min_scale=1.0, max_scale=1.0, min_box_side=4.0)
OTHERWISE = AugmentConfig(
    flip=0.5, min_scale=0.6, max_scale=1.6, brightness=0.3, contrast=0.3, min_visible=0.6, min_box_side=4.0
)
BOX_JITTER = 0.04
"""Standard deviation of a detected box's sides around the true one, in box sides."""

_IMAGES_PER_PART = 16
_READY = "ready.json"


class MapReader:
    """Runs a detector for the sake of its feature maps.

    Attributes:
        readings: which maps, and how they are read.
        height: of the input, in pixels.
        width: of the input, in pixels.
    """

    def __init__(self, detector: DetectorGraph, description: DetectorDescription, readings: Sequence[Reading]) -> None:
        """Prepare a session that gives the maps and nothing else."""
        self._detector, self._description, self.readings = detector, description, tuple(readings)
        self.height, self.width = detector.image.height, detector.image.width
        model = onnx.ModelProto()
        model.CopyFrom(detector.model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=reading.name) for reading in self.readings)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def read(self, fitted: Image, xyxy: FloatArray) -> list[FloatArray]:
        """Read the maps of one image at boxes.

        Args:
            fitted: ``(H, W, 3)`` RGB uint8, of the input's size.
            xyxy: ``(n, 4)`` in its pixels.

        Returns:
            ``(n, bins, C)`` by reading.
        """
        image = self._detector.image
        batch = np.repeat(fitted[None], image.batch or 1, axis=0)
        names = [reading.name for reading in self.readings]
        maps = self._session.run(names, {image.name: prepare_input(batch, self._detector, self._description)})
        return [pool(values[0], xyxy, reading) for values, reading in zip(maps, self.readings)]


class FeatureCache:
    """What was read, a row per view of a box.

    Attributes:
        reads: ``(M, bins, C)`` float16 by reading, on disk.
        box: ``(M,)`` box, counted over the data set.
        view: ``(M,)`` 0 for the image as it is tracked.
        key: names detector, data set and settings that it was read with.
    """

    def __init__(self, folder: Path, readings: int) -> None:
        """Open a finished cache."""
        self.reads: list[NDArray[np.float16]] = [
            np.load(folder / f"read-{index}.npy", mmap_mode="r", allow_pickle=False) for index in range(readings)
        ]
        self.box: IntArray = np.load(folder / "box.npy", allow_pickle=False)
        self.view: IntArray = np.load(folder / "view.npy", allow_pickle=False)
        self.key = (folder / _READY).read_text(encoding="utf-8")

    def __len__(self) -> int:
        """Return M."""
        return len(self.box)

    @classmethod
    def make(
        cls,
        folder: Path,
        dataset: DetectionDataset,
        detector: DetectorGraph,
        description: DetectorDescription,
        readings: Sequence[Reading],
        *,
        views: int,
        seed: int,
    ) -> FeatureCache:
        """Read a detector's maps at all boxes of a data set; what an earlier run read is kept.

        Args:
            folder: for the cache; what another detector, data set or setting left there is thrown away.
            dataset: images and boxes; ignored boxes are not read.
            detector: whose maps.
            description: of it.
            readings: which maps, and how.
            views: times each image is seen.
            seed: of the views.

        Raises:
            DataError: an image cannot be read, or no box is large enough in the detector's input.
            OutputError: the cache cannot be written.
        """
        key = _fingerprint(dataset, detector, description, readings, views, seed)
        ready = folder / _READY
        if not (ready.is_file() and ready.read_text(encoding="utf-8") == key):
            parts = folder.with_name(f"{folder.name}.{key[:16]}.parts")
            _read_parts(parts, dataset, MapReader(detector, description, readings), views, seed)
            ready.unlink(missing_ok=True)  # it does not speak for what is joined now
            _join(parts, folder, len(readings))
            with atomic_write(ready, "w") as file:
                file.write(key)
            shutil.rmtree(parts)
        cache = cls(folder, len(readings))
        if not len(cache):
            raise DataError(
                f"{dataset.name}: no box is large enough in an input of {detector.image.height}x{detector.image.width}; "
                "give images with larger objects, or a detector with a larger input"
            )
        return cache


def _fingerprint(
    dataset: DetectionDataset,
    detector: DetectorGraph,
    description: DetectorDescription,
    readings: Sequence[Reading],
    views: int,
    seed: int,
) -> str:
    digest = hashlib.sha256(detector.model.SerializeToString(deterministic=True))
    settings: list[Any] = [dataset.fingerprint(), asdict(description), [asdict(item) for item in readings], views, seed]
    digest.update(json.dumps([*settings, asdict(OTHERWISE), asdict(AS_TRACKED), BOX_JITTER]).encode())
    return digest.hexdigest()


def _read_parts(folder: Path, dataset: DetectionDataset, reader: MapReader, views: int, seed: int) -> None:
    """Write every part that is not there yet; the views of the next image are made while the detector looks at this one."""
    starts = np.cumsum([0, *(len(image) for image in dataset.images)])
    parts = [range(start, min(len(dataset), start + _IMAGES_PER_PART)) for start in range(0, len(dataset), _IMAGES_PER_PART)]
    missing = [part for part in parts if not _part_file(folder, part).is_file()]
    order = [index for part in missing for index in part]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar, ThreadPoolExecutor(1) as pool_of_one:

        def ask(place: int) -> Future[list[_Seen]]:
            image = dataset.images[order[place]]
            return pool_of_one.submit(_views_of, image, reader.height, reader.width, views, [seed, order[place]])

        task = bar.add_task("read features", total=len(dataset), completed=len(dataset) - len(order))
        following = ask(0) if order else None
        place = 0
        for part in missing:
            boxes, view_of, reads = [], [], []
            for index in part:
                assert following is not None
                seen, place = following.result(), place + 1
                following = ask(place) if place < len(order) else None
                for view, (fitted, xyxy, rows) in enumerate(seen):
                    if len(rows):
                        boxes.append(starts[index] + rows)
                        view_of.append(np.full(len(rows), view))
                        reads.append(reader.read(fitted, xyxy))
                bar.advance(task)
            _write_part(_part_file(folder, part), boxes, view_of, reads, reader.readings)


def _part_file(folder: Path, part: range) -> Path:
    return folder / f"{part.start:08d}.npz"


_Seen = tuple[Image, FloatArray, IntArray]
"""An image fitted into the input, boxes in its pixels, and which boxes of the image they are."""


def _views_of(image: AnnotatedImage, height: int, width: int, views: int, seed: list[int]) -> list[_Seen]:
    """Look at an image several times; the first time as it is tracked."""
    pixels = load_image(image.path)
    counted = np.flatnonzero(~image.ignore)
    found = []
    for view in range(views):
        rng = np.random.default_rng([*seed, view])
        config = AS_TRACKED if view == 0 else OTHERWISE
        placement = choose_placement(image.width, image.height, height, width, config, rng)
        fitted = pad_window(change_light(cut_window(pixels, placement), config, rng), height, width)
        boxes, rows, stump = cut_boxes(
            place_boxes(image.xyxy[counted], image.width, image.height, placement), placement, config
        )
        boxes, rows = boxes[~stump], rows[~stump]
        if view:
            side = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
            boxes = boxes + (BOX_JITTER * side * rng.normal(size=boxes.shape)).astype(np.float32)
        found.append((np.ascontiguousarray(fitted), boxes, counted[rows]))
    return found


def _write_part(
    path: Path,
    boxes: Sequence[IntArray],
    views: Sequence[IntArray],
    reads: Sequence[Sequence[FloatArray]],
    readings: Sequence[Reading],
) -> None:
    """Write what a few images gave, whole or not at all."""
    nothing = np.zeros(0, np.int64)
    columns: dict[str, NDArray[Any]] = {"box": np.concatenate([nothing, *boxes]), "view": np.concatenate([nothing, *views])}
    for index, reading in enumerate(readings):
        none = np.zeros((0, reading.bins, reading.channels), np.float16)
        limit = np.finfo(np.float16).max
        columns[f"read-{index}"] = np.concatenate(
            [none, *(np.clip(row[index], -limit, limit) for row in reads)], dtype=np.float16
        )
    with atomic_write(path, "wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def _join(parts: Path, folder: Path, readings: int) -> None:
    """Put the parts one behind another, a file per column, so that any row can be read without the others."""
    files = sorted(parts.glob("*.npz"))
    for column in ("box", "view", *(f"read-{index}" for index in range(readings))):
        shapes = []
        for file in files:
            with np.load(file, allow_pickle=False) as part:
                shapes.append((part[column].shape, part[column].dtype))
        total = (sum(shape[0] for shape, _ in shapes), *shapes[0][0][1:])
        with atomic_write(folder / f"{column}.npy", "wb") as out:
            header = {"descr": np.lib.format.dtype_to_descr(shapes[0][1]), "fortran_order": False, "shape": total}
            np.lib.format.write_array_header_1_0(out, header)
            for file in files:
                with np.load(file, allow_pickle=False) as part:
                    out.write(np.ascontiguousarray(part[column]).tobytes())
