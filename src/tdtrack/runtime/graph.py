"""The part of an exported model that comes after the network, as ONNX operators: suppression and the contract's outputs.

Everything here is shape arithmetic and gathers over a few hundred rows. What differs by network is in
``tdtrack.runtime.joint_graph`` (our own) and ``tdtrack.frozen`` (anyone's).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tdtrack.config import DetectConfig
from tdtrack.runtime import contract

__all__ = ["POST", "GraphBuilder", "Kept", "add_outputs", "add_suppression", "unit_rows"]

POST = "tdtrack_post"
"""Prefix of every node and value made here; quantisation leaves them alone."""

_UNIT_EPS = 1e-12  # torch.nn.functional.normalize's


@dataclass
class GraphBuilder:
    """Collects nodes; every call returns the name of the value it makes.

    Attributes:
        nodes: in topological order.
        initializers: constants.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add an operator; returns its output's name, or a list of names where it has several."""
        stem = f"{POST}_{len(self.nodes)}_{kind}"
        names = [stem if outputs == 1 else f"{stem}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=stem, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant."""
        name = f"{POST}_constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape; -1 is what remains, 0 keeps the side."""
        return str(self.op("Reshape", value, self.constant(shape)))

    def column(self, value: str) -> str:
        """Turn ``(n,)`` into ``(n, 1)``."""
        return str(self.op("Unsqueeze", value, self.constant([1])))

    def side(self, value: str, axis: int) -> str:
        """Return the length of an axis as ``(1,)`` int64."""
        return str(self.op("Shape", value, start=axis, end=axis + 1))


@dataclass(frozen=True)
class Kept:
    """Names of what suppression kept, S rows over the whole batch, sorted by image and then best first.

    Attributes:
        image: ``(S,)`` int64, index into the batch.
        position: ``(S,)`` int64, row of the padded outputs counted over the whole batch: ``image * M + rank``.
        anchor: ``(S,)`` int64.
        xyxy: ``(S, 4)`` float32.
        score: ``(S,)`` float32.
        class_id: ``(S,)`` int64.
        count: ``(B,)`` int64.
    """

    image: str
    position: str
    anchor: str
    xyxy: str
    score: str
    class_id: str
    count: str


def add_suppression(
    graph: GraphBuilder,
    scores: str,
    boxes_of: Callable[[str], str],
    num_boxes: int | None,
    num_classes: int,
    input_size: tuple[int, int],
    config: DetectConfig,
) -> Kept:
    """Keep the best boxes of each class, whatever network gave them.

    Args:
        graph: grows.
        scores: ``(B, N * K)`` in ``[0, 1]``, classes of one box side by side.
        boxes_of: adds the nodes that turn ``(B, k)`` box indices into ``(B, k, 4)`` corners y1, x1, y2, x2 in input pixels.
        num_boxes: N; ``None`` where it differs from image to image, and is at least 1.
        num_classes: K.
        input_size: height and width of the input, in pixels.
        config: thresholds and caps.

    Returns:
        Names of what was kept.
    """
    if num_boxes is None:
        candidates = graph.op("Min", graph.side(scores, 1), graph.constant([config.pre_nms_top]))
    else:
        candidates = graph.constant([min(config.pre_nms_top, num_boxes * num_classes)])
    score, index = graph.op("TopK", scores, candidates, outputs=2, axis=1)
    classes = graph.constant(num_classes)
    anchor, class_id = graph.op("Div", index, classes), graph.op("Mod", index, classes)
    yxyx = boxes_of(anchor)
    size = graph.op("Sub", *reversed(graph.op("Split", yxyx, outputs=2, axis=2, num_outputs=2)))
    smallest = graph.op("ReduceMin", size, graph.constant([2]), keepdims=0)
    has_area = graph.op("Greater", smallest, graph.constant(0, np.float32))
    score = graph.op("Where", has_area, score, graph.constant(-1, np.float32))
    # Boxes of different classes are moved apart, so that one suppression serves all classes and one cap holds for all.
    apart = graph.op(
        "Mul",
        graph.op("Cast", class_id, to=TensorProto.FLOAT),
        graph.constant(max(input_size) + 1, np.float32),
    )
    moved = graph.op("Add", yxyx, graph.op("Unsqueeze", apart, graph.constant([2])))
    chosen = graph.op(
        "NonMaxSuppression",
        moved,
        graph.op("Unsqueeze", score, graph.constant([1])),
        graph.constant([config.max_detections]),
        graph.constant([config.nms_iou], np.float32),
        # The operator asks for more than its floor, we for at least ours.
        graph.constant([np.nextafter(np.float32(config.min_score), np.float32(-1))], np.float32),
    )
    image = graph.op("Gather", chosen, graph.constant(0), axis=1)
    where = graph.op("Gather", chosen, graph.constant([0, 2]), axis=1)

    def pick(value: str) -> str:
        return str(graph.op("GatherND", value, where))

    xyxy = graph.op("Gather", pick(yxyx), graph.constant([1, 0, 3, 2]), axis=1)
    position, count = _positions(graph, image, scores, config.max_detections)
    return Kept(image, position, pick(anchor), xyxy, pick(score), pick(class_id), count)


def _positions(graph: GraphBuilder, image: str, like: str, rows: int) -> tuple[str, str]:
    """Return each kept row's place in the padded outputs, and how many rows each image has."""
    batch = graph.side(like, 0)
    images = graph.op("Range", graph.constant(0), graph.op("Squeeze", batch), graph.constant(1))
    member = graph.op("Cast", graph.op("Equal", graph.column(image), images), to=TensorProto.INT64)
    count = graph.op("ReduceSum", member, graph.constant([0]), keepdims=0)
    first = graph.op("Sub", graph.op("CumSum", count, graph.constant(0)), count)
    order = graph.op("Range", graph.constant(0), graph.op("Squeeze", graph.side(image, 0)), graph.constant(1))
    rank = graph.op("Sub", order, graph.op("Gather", first, image))
    return str(graph.op("Add", graph.op("Mul", image, graph.constant(rows)), rank)), str(count)


def unit_rows(graph: GraphBuilder, rows: str) -> str:
    """Scale the rows of a matrix to unit length; a row of zeros stays."""
    length = graph.op("ReduceL2", rows, graph.constant([1]), keepdims=1)
    return str(graph.op("Div", rows, graph.op("Max", length, graph.constant(_UNIT_EPS, np.float32))))


def _pad_rows(graph: GraphBuilder, values: str, position: str, like: str, rows: int, tail: Sequence[int], dtype: int) -> str:
    """Spread ``(S, *tail)`` rows over ``(B, rows, *tail)``, zero where there is none.

    Args:
        graph: grows.
        values: the rows.
        position: ``(S,)`` their places, counted over the batch.
        like: a value whose first side is B.
        rows: M.
        tail: sides of one row.
        dtype: ONNX element type.
    """
    total = graph.op("Mul", graph.side(like, 0), graph.constant([rows]))
    shape = graph.op("Concat", total, graph.constant(list(tail)), axis=0) if tail else total
    nothing = graph.op("ConstantOfShape", shape, value=helper.make_tensor("value", dtype, [1], [0]))
    spread = graph.op("ScatterND", nothing, graph.column(position), values)
    return graph.reshape(spread, -1, rows, *tail)


def add_outputs(
    graph: GraphBuilder, kept: Kept, embeddings: tuple[str, int] | None, like: str, batch: int | str, rows: int
) -> list[ValueInfoProto]:
    """Add the contract's outputs (``tdtrack.runtime.contract``).

    Args:
        graph: grows.
        kept: what suppression kept.
        embeddings: name of their ``(S, D)`` embeddings, and D; ``None`` where there are none.
        like: a value whose first side is B.
        batch: B, or the name of a side that is left open.
        rows: M.

    Returns:
        The outputs, to be declared by the graph.
    """
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    columns: list[tuple[str, str, tuple[int, ...], int]] = [
        (contract.BOXES, kept.xyxy, (4,), float32),
        (contract.SCORES, kept.score, (), float32),
        (contract.CLASSES, kept.class_id, (), int64),
    ]
    if embeddings is not None:
        columns.append((contract.EMBEDDINGS, embeddings[0], (embeddings[1],), float32))
    outputs = [helper.make_tensor_value_info(contract.COUNT, int64, [batch])]
    graph.nodes.append(helper.make_node("Identity", [kept.count], [contract.COUNT]))
    for name, values, tail, dtype in columns:
        padded = _pad_rows(graph, values, kept.position, like, rows, tail, dtype)
        graph.nodes.append(helper.make_node("Identity", [padded], [name]))
        outputs.append(helper.make_tensor_value_info(name, dtype, [batch, rows, *tail]))
    return outputs
