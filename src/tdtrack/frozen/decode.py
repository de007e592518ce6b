"""From a detector's raw outputs to scores and boxes, as ONNX operators: one function per family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from tdtrack.frozen.description import DetectorDescription
from tdtrack.frozen.graph import DetectorGraph
from tdtrack.runtime.graph import GraphBuilder
from tdtrack.types import FloatArray

__all__ = ["Decoded", "add_decoding"]


@dataclass(frozen=True)
class Decoded:
    """Names of what was decoded.

    Attributes:
        scores: ``(B, N, K)`` in ``[0, 1]``.
        yxyx: ``(B, N, 4)`` corners y1, x1, y2, x2 in input pixels.
        suppressed: boxes of one object are but one already.
    """

    scores: str
    yxyx: str
    suppressed: bool = False


@dataclass(frozen=True)
class _Raw:
    """What a family decodes: nodes go into ``graph``; ``outputs`` are the detector's, by the order of the description."""

    graph: GraphBuilder
    detector: DetectorGraph
    description: DetectorDescription
    outputs: tuple[str, ...]

    @property
    def classes(self) -> int:
        return len(self.description.classes)

    def floats(self, index: int = 0) -> str:
        """Return an output as float32."""
        return str(self.graph.op("Cast", self.outputs[index], to=TensorProto.FLOAT))

    def grid(self) -> tuple[FloatArray, FloatArray]:
        """Return ``(N, 2)`` cells (x, y) of all levels, and ``(N, 1)`` their strides."""
        cells, strides = [], []
        for stride in self.description.strides:
            y, x = np.mgrid[: -(-self.detector.image.height // stride), : -(-self.detector.image.width // stride)]
            cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
            strides.append(np.full((x.size, 1), stride))
        return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def add_decoding(
    graph: GraphBuilder, detector: DetectorGraph, description: DetectorDescription, outputs: Sequence[str]
) -> Decoded:
    """Add what turns raw outputs into scores and boxes.

    Args:
        graph: grows.
        detector: whose outputs they are.
        description: of it.
        outputs: names in the merged graph of ``description.outputs``.

    Source:
        YOLOX (Megvii), NanoDet and NanoDet-Plus (RangiLyu), YOLOv5 to v12 (Ultralytics), RT-DETR, torchvision: their
        published decoding.
    """
    return _FAMILIES[description.family](_Raw(graph, detector, description, tuple(outputs)))


def _columns(graph: GraphBuilder, value: str, *widths: int) -> list[str]:
    """Cut the last of three sides into parts."""
    parts: list[str] = graph.op("Split", value, graph.constant(widths), outputs=len(widths), axis=2)
    return parts


def _corners(graph: GraphBuilder, centre: str, side: str) -> str:
    """Turn centres (x, y) and sides (w, h) into y1, x1, y2, x2."""
    half = graph.op("Mul", side, graph.constant(0.5, np.float32))
    return _turned(graph, graph.op("Concat", graph.op("Sub", centre, half), graph.op("Add", centre, half), axis=2))


def _turned(graph: GraphBuilder, xyxy: str) -> str:
    return str(graph.op("Gather", xyxy, graph.constant([1, 0, 3, 2]), axis=2))


def _spread(graph: GraphBuilder, score: str, label: str, classes: int) -> str:
    """Turn ``(B, N, 1)`` scores and labels into ``(B, N, K)`` scores, zero for all other classes."""
    mine = graph.op("Equal", label, graph.constant(np.arange(classes), np.float32))
    return str(graph.op("Mul", score, graph.op("Cast", mine, to=TensorProto.FLOAT)))


def _yolox(raw: _Raw) -> Decoded:
    graph = raw.graph
    centre, side, sure, scores = _columns(graph, raw.floats(), 2, 2, 1, raw.classes)
    if not raw.description.decoded:
        cells, strides = (graph.constant(values, np.float32) for values in raw.grid())
        centre = graph.op("Mul", graph.op("Add", centre, cells), strides)
        side = graph.op("Mul", graph.op("Exp", side), strides)
    return Decoded(graph.op("Mul", scores, sure), _corners(graph, centre, side))


def _nanodet(raw: _Raw) -> Decoded:
    graph = raw.graph
    cells, strides = raw.grid()
    bins = (raw.detector.outputs[raw.description.outputs[0]][2] - raw.classes) // 4
    scores, spread = _columns(graph, raw.floats(), raw.classes, 4 * bins)
    share = graph.op("Softmax", graph.reshape(spread, 0, len(cells), 4, bins), axis=3)
    expected = graph.op("MatMul", share, graph.constant(np.arange(bins)[:, None], np.float32))
    distance = graph.op("Mul", graph.reshape(expected, 0, len(cells), 4), graph.constant(strides, np.float32))
    before, after = _columns(graph, distance, 2, 2)
    start = graph.constant((cells + raw.description.offset) * strides, np.float32)
    return Decoded(
        scores, _turned(graph, graph.op("Concat", graph.op("Sub", start, before), graph.op("Add", start, after), axis=2))
    )


def _yolov5(raw: _Raw) -> Decoded:
    centre, side, sure, scores = _columns(raw.graph, raw.floats(), 2, 2, 1, raw.classes)
    return Decoded(raw.graph.op("Mul", scores, sure), _corners(raw.graph, centre, side))


def _yolov8(raw: _Raw) -> Decoded:
    rows = raw.graph.op("Transpose", raw.floats(), perm=[0, 2, 1])
    centre, side, scores = _columns(raw.graph, rows, 2, 2, raw.classes)
    return Decoded(scores, _corners(raw.graph, centre, side))


def _rows(raw: _Raw) -> Decoded:
    xyxy, score, label = _columns(raw.graph, raw.floats(), 4, 1, 1)
    return Decoded(_spread(raw.graph, score, label, raw.classes), _turned(raw.graph, xyxy), suppressed=True)


def _detr(raw: _Raw) -> Decoded:
    graph = raw.graph
    size = graph.constant([raw.detector.image.width, raw.detector.image.height], np.float32)
    centre, side = (graph.op("Mul", part, size) for part in _columns(graph, raw.floats(1), 2, 2))
    return Decoded(graph.op("Sigmoid", raw.floats(0)), _corners(graph, centre, side), suppressed=True)


def _boxes(raw: _Raw) -> Decoded:
    graph = raw.graph
    # One box more, without area or score, so that there is never none.
    columns = []
    for index, sides in ((0, (1, 1, 4)), (1, (1, 1)), (2, (1, 1))):
        value = graph.op("Unsqueeze", raw.floats(index), graph.constant([0]))
        columns.append(graph.op("Concat", value, graph.constant(np.zeros(sides), np.float32), axis=1))
    xyxy, label, score = columns
    label, score = (graph.op("Unsqueeze", value, graph.constant([2])) for value in (label, score))
    return Decoded(_spread(graph, score, label, raw.classes), _turned(graph, xyxy), suppressed=True)


def _tdtrack(raw: _Raw) -> Decoded:
    graph = raw.graph  # rows beyond the count have no area, which suppression drops
    score, label = (graph.op("Unsqueeze", raw.floats(index), graph.constant([2])) for index in (1, 2))
    return Decoded(_spread(graph, score, label, raw.classes), _turned(graph, raw.floats(0)), suppressed=True)


_FAMILIES: dict[str, Callable[[_Raw], Decoded]] = {
    "yolox": _yolox,
    "nanodet": _nanodet,
    "yolov5": _yolov5,
    "yolov8": _yolov8,
    "rows": _rows,
    "detr": _detr,
    "boxes": _boxes,
    "tdtrack": _tdtrack,
}
