"""Reading feature maps at boxes: which maps, at which places.

A box is cut into a grid of bins, and each bin is the mean of a few of the map's cells, taken where they lie: RoIAlign without
its interpolation, which would read four cells for each. ``pool`` says it in NumPy, for training; ``tdtrack.frozen.merge`` in
ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tdtrack.errors import ConfigError
from tdtrack.frozen.graph import DetectorGraph, FeatureMap
from tdtrack.types import FloatArray, IntArray

__all__ = ["Place", "Reading", "choose_readings", "pool"]

Place = Literal["box", "cell"]

SAMPLES = 2
"""Cells per bin along either side of a box, on the finest map; a bin of the others is one cell."""

CELLS = 3
"""Cells along either side of what "cell" reads."""

FINE, COARSE = 32, 8
"""Bins of a box on the finest map and on the others."""

STRIDES = (4, 8)
"""Maps that are read where the user names none. Coarser ones add cost and no recognition (``frozen_detector.py choices``)."""


@dataclass(frozen=True)
class Reading:
    """How one map is read.

    Attributes:
        name: of the map in the detector's graph.
        stride: input pixels per cell.
        channels: C.
        height: of the map, in cells.
        width: in cells.
        rows: bins from top to bottom.
        columns: bins from left to right.
        samples: cells per bin along either side.
        place: "box" spreads the bins over the box; "cell" reads the cells around the one in which the box's centre lies, as
            the paper's anchors do.
    """

    name: str
    stride: int
    channels: int
    height: int
    width: int
    rows: int
    columns: int
    samples: int = SAMPLES
    place: Place = "box"

    @property
    def bins(self) -> int:
        """Number of bins."""
        return self.rows * self.columns

    def steps(self) -> tuple[FloatArray, FloatArray]:
        """Return where the samples of a box lie from top to bottom and from left to right, as shares of its sides."""
        y, x = (
            (np.arange(bins * self.samples, dtype=np.float32) + np.float32(0.5)) / np.float32(bins * self.samples)
            for bins in (self.rows, self.columns)
        )
        return y, x


def choose_readings(detector: DetectorGraph, names: Sequence[str], aspect: float, place: Place = "box") -> tuple[Reading, ...]:
    """Choose maps and grids.

    Args:
        detector: whose maps.
        names: of the maps, finest first; none takes the backbone's at strides 4 and 8.
        aspect: typical width over height of a box; the grid has about square bins.
        place: see ``Reading``.

    Raises:
        ConfigError: a name is unknown, or the detector has no map that would do.
    """
    maps: tuple[FeatureMap, ...] = tuple(map(detector.map_named, names)) or detector.backbone_maps(STRIDES)
    if not maps:
        raise ConfigError(
            f"{detector.label} has no feature maps at strides {STRIDES}, only "
            f"{', '.join(f'{item.name} ({item.stride})' for item in detector.maps) or 'none'}; name some with --features, "
            "or give a detector with a convolutional backbone"
        )
    found = []
    for index, item in enumerate(maps):
        rows, columns = (CELLS, CELLS) if place == "cell" else _grid(COARSE if index else FINE, aspect)
        samples = SAMPLES if place == "box" and index == 0 else 1
        found.append(Reading(item.name, item.stride, item.channels, item.height, item.width, rows, columns, samples, place))
    return tuple(found)


def _grid(bins: int, aspect: float) -> tuple[int, int]:
    """Return rows and columns, powers of two with the given product, whose bins are nearest to square."""
    splits = [(2**power, bins // 2**power) for power in range(bins.bit_length())]
    return min(splits, key=lambda split: abs(np.log(split[1] / split[0] / aspect)))


def pool(features: FloatArray, xyxy: FloatArray, reading: Reading) -> FloatArray:
    """Read a map at boxes.

    Args:
        features: ``(C, h, w)``.
        xyxy: ``(n, 4)`` in pixels of the input.
        reading: how.

    Returns:
        ``(n, bins, C)`` float32, bins row by row.
    """
    y, x = cells_at(xyxy, reading)
    taken = features.transpose(1, 2, 0)[y[:, :, None], x[:, None, :]].astype(np.float32)
    side = reading.samples
    shaped = taken.reshape(len(xyxy), reading.rows, side, reading.columns, side, reading.channels)
    return np.asarray(shaped.mean(axis=(2, 4)).reshape(len(xyxy), reading.bins, reading.channels), np.float32)


def cells_at(xyxy: FloatArray, reading: Reading) -> tuple[IntArray, IntArray]:
    """Return the ``(n, rows * samples)`` rows and ``(n, columns * samples)`` columns of the map that boxes read."""
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
    if reading.place == "cell":
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        reach = np.float32(CELLS / 2 * reading.stride)
        boxes = np.concatenate([centre - reach, centre + reach], axis=1)
    found = []
    for step, low, cells in zip(reading.steps(), (1, 0), (reading.height, reading.width)):
        start, side = boxes[:, low, None], boxes[:, low + 2, None] - boxes[:, low, None]
        place = np.floor((start + side * step) / np.float32(reading.stride))
        found.append(np.clip(place, 0, cells - 1).astype(np.int64))
    return found[0], found[1]
