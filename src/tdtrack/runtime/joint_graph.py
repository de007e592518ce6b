"""What the joint model adds behind its network in an exported file: decoded anchors and the lazy embedding head.

It says once, for every engine, what ``model.detect`` and ``EmbeddingHead.lazily_at`` say in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from tdtrack.config import DetectConfig
from tdtrack.runtime.graph import GraphBuilder, Kept, add_suppression, unit_rows
from tdtrack.types import FloatArray

__all__ = ["Anchors", "HeadWeights", "add_detections", "add_lazy_embeddings"]


@dataclass(frozen=True)
class Anchors:
    """Where predictions stand.

    Attributes:
        xyxy: ``(N, 4)`` float32 anchor boxes in input pixels.
        height: of the input, in pixels.
        width: of the input, in pixels.
        max_log_scale: largest growth that decoding believes.
    """

    xyxy: FloatArray
    height: int
    width: int
    max_log_scale: float


def add_detections(
    graph: GraphBuilder, class_logits: str, box_codes: str, num_classes: int, anchors: Anchors, config: DetectConfig
) -> Kept:
    """Add what ``select_detections`` does.

    Args:
        graph: grows.
        class_logits: ``(B, N, K)``.
        box_codes: ``(B, N, 4)`` as ``(dy, dx, dh, dw)``.
        num_classes: K.
        anchors: their boxes.
        config: thresholds and caps.

    Returns:
        Names of what was kept.

    Source:
        Sec. 3.2; the cap before suppression from TensorFlow Model Garden's RetinaNet.
    """
    scores = graph.reshape(graph.op("Sigmoid", class_logits), 0, -1)

    def decode(anchor: str) -> str:
        codes = graph.op("GatherND", box_codes, graph.op("Unsqueeze", anchor, graph.constant([2])), batch_dims=1)
        return _decode(graph, codes, anchor, anchors)

    return add_suppression(graph, scores, decode, len(anchors.xyxy), num_classes, (anchors.height, anchors.width), config)


def _decode(graph: GraphBuilder, codes: str, anchor: str, anchors: Anchors) -> str:
    """Turn codes into ``(B, k, 4)`` boxes as y1, x1, y2, x2, inside the input."""
    yxyx = anchors.xyxy[:, [1, 0, 3, 2]].astype(np.float64)
    centre, side = (yxyx[:, :2] + yxyx[:, 2:]) / 2, yxyx[:, 2:] - yxyx[:, :2]
    table = graph.constant(np.concatenate([centre, side], axis=1), np.float32)
    centre_name, side_name = graph.op("Split", graph.op("Gather", table, anchor), outputs=2, axis=2, num_outputs=2)
    shift, growth = graph.op("Split", codes, outputs=2, axis=2, num_outputs=2)
    middle = graph.op("Add", centre_name, graph.op("Mul", shift, side_name))
    growth = graph.op("Exp", graph.op("Min", growth, graph.constant(anchors.max_log_scale, np.float32)))
    half = graph.op("Mul", graph.op("Mul", growth, side_name), graph.constant(0.5, np.float32))
    corners = graph.op("Concat", graph.op("Sub", middle, half), graph.op("Add", middle, half), axis=2)
    border = graph.constant([anchors.height, anchors.width] * 2, np.float32)
    return str(graph.op("Min", graph.op("Max", corners, graph.constant(0, np.float32)), border))


@dataclass(frozen=True)
class HeadWeights:
    """The embedding head as arrays, in evaluation mode.

    Attributes:
        conv1: ``(W_e, C, 3, 3)``.
        scale: ``(L, W_e)`` what each level's batch norm multiplies with.
        shift: ``(L, W_e)`` and adds.
        conv2: ``(A * D, W_e, 3, 3)``, slot-major.
        bias2: ``(A * D,)``.
        slots: A.
    """

    conv1: FloatArray
    scale: FloatArray
    shift: FloatArray
    conv2: FloatArray
    bias2: FloatArray
    slots: int


def add_lazy_embeddings(
    graph: GraphBuilder, features: Sequence[str], level_shapes: Sequence[tuple[int, int]], kept: Kept, head: HeadWeights
) -> str:
    """Add what ``EmbeddingHead.lazily_at`` does, at the kept rows.

    Args:
        graph: grows.
        features: the pyramid's ``(B, C, H_l, W_l)`` by level.
        level_shapes: ``(H_l, W_l)`` by level.
        kept: where.
        head: the weights.

    Returns:
        ``(S, D)`` of unit length, S as in ``kept``.

    Source:
        Our choice; see ``EmbeddingHead.lazily_at``.
    """
    width = head.conv1.shape[0]
    slot = graph.op("Mod", kept.anchor, graph.constant(head.slots))
    cell = graph.op("Div", kept.anchor, graph.constant(head.slots))
    level, index, inside = _neighbours(graph, cell, kept.image, level_shapes)
    flat = [graph.reshape(graph.op("Transpose", name, perm=[0, 2, 3, 1]), 0, -1, head.conv1.shape[1]) for name in features]
    cells = graph.reshape(graph.op("Concat", *flat, axis=1), -1, head.conv1.shape[1])

    # Each of the 3x3 hidden cells sees 3x3 of the 5x5 cells: 81 gathered rows make one matrix product of the convolution.
    seen = np.array([5 * (y + dy) + x + dx for y in range(3) for x in range(3) for dy in range(3) for dx in range(3)])
    index, shown = (graph.op("Gather", name, graph.constant(seen), axis=1) for name in (index, inside))
    patches = graph.op("Mul", graph.op("Gather", cells, index), graph.op("Unsqueeze", shown, graph.constant([2])))
    patches = graph.reshape(patches, -1, 9, head.conv1[0].size)
    kernel = graph.constant(head.conv1.transpose(2, 3, 1, 0).reshape(-1, width), np.float32)
    hidden = graph.op("MatMul", patches, kernel)
    scale, shift = (
        graph.op("Unsqueeze", graph.op("Gather", graph.constant(table, np.float32), level), graph.constant([1]))
        for table in (head.scale, head.shift)
    )
    hidden = graph.op("Relu", graph.op("Add", graph.op("Mul", hidden, scale), shift))
    # The second convolution pads with zeros, not with what the first gives beyond the border.
    centre = graph.op("Gather", inside, graph.constant([6, 7, 8, 11, 12, 13, 16, 17, 18]), axis=1)
    hidden = graph.op("Mul", hidden, graph.op("Unsqueeze", centre, graph.constant([2])))
    return _project(graph, graph.reshape(hidden, -1, 9 * width), slot, head)


def _neighbours(graph: GraphBuilder, cell: str, image: str, level_shapes: Sequence[tuple[int, int]]) -> tuple[str, str, str]:
    """Find the 5x5 cells around cells.

    Returns:
        ``(S,)`` level, ``(S, 25)`` row of each neighbour in the table of all cells of the batch (any row for those beyond the
        border), and ``(S, 25)`` float32 1 inside the map, 0 beyond its border.
    """
    sizes = np.array([height * width for height, width in level_shapes])
    ends = sizes.cumsum()
    passed = graph.op("GreaterOrEqual", graph.column(cell), graph.constant(ends))
    level = graph.op("ReduceSum", graph.op("Cast", passed, to=TensorProto.INT64), graph.constant([1]), keepdims=0)

    def of_level(values: Any) -> str:
        return graph.column(graph.op("Gather", graph.constant(values), level))

    start, rows, columns = (
        of_level(ends - sizes),
        of_level([h for h, _ in level_shapes]),
        of_level([w for _, w in level_shapes]),
    )
    within = graph.op("Sub", graph.column(cell), start)
    y = graph.op("Add", graph.op("Div", within, columns), graph.constant(np.repeat(np.arange(-2, 3), 5)))
    x = graph.op("Add", graph.op("Mod", within, columns), graph.constant(np.tile(np.arange(-2, 3), 5)))
    zero, one = graph.constant(0), graph.constant(1)

    def clamp(value: str, side: str) -> str:
        return str(graph.op("Max", graph.op("Min", value, graph.op("Sub", side, one)), zero))

    held_y, held_x = clamp(y, rows), clamp(x, columns)
    inside = graph.op("And", graph.op("Equal", held_y, y), graph.op("Equal", held_x, x))
    base = graph.op("Add", graph.op("Mul", graph.column(image), graph.constant(int(ends[-1]))), start)
    index = graph.op("Add", base, graph.op("Add", graph.op("Mul", held_y, columns), held_x))
    return str(level), str(index), str(graph.op("Cast", inside, to=TensorProto.FLOAT))


def _project(graph: GraphBuilder, hidden: str, slot: str, head: HeadWeights) -> str:
    """Apply the last convolution, each row with its slot's kernel, and scale to unit length.

    Rows are sorted by slot, so that each kernel is multiplied where it lies: gathering one per row would copy them S times.
    """
    width = head.conv1.shape[0]
    kernels = head.conv2.reshape(head.slots, -1, width, 3, 3).transpose(0, 3, 4, 2, 1).reshape(head.slots, 9 * width, -1)
    biases = head.bias2.reshape(head.slots, -1)
    rows, parts = [], []
    for number in range(head.slots):
        mine = graph.reshape(graph.op("NonZero", graph.op("Equal", slot, graph.constant(number))), -1)
        product = graph.op("MatMul", graph.op("Gather", hidden, mine), graph.constant(kernels[number], np.float32))
        rows.append(mine)
        parts.append(graph.op("Add", product, graph.constant(biases[number], np.float32)))
    sorted_rows, embedded = graph.op("Concat", *rows, axis=0), graph.op("Concat", *parts, axis=0)
    back = graph.op("ScatterElements", sorted_rows, sorted_rows, _order_of(graph, sorted_rows), axis=0)
    return unit_rows(graph, graph.op("Gather", embedded, back))


def _order_of(graph: GraphBuilder, rows: str) -> str:
    return str(graph.op("Range", graph.constant(0), graph.op("Squeeze", graph.side(rows, 0)), graph.constant(1)))
