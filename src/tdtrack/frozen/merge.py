"""The user's detector and the head as one exported model: the contract of ``tdtrack.runtime.contract``, and no special case.

The detector's nodes and weights go in as they are, under a prefix, and its own outputs stay outputs: bit for bit what they
were, which ``differences`` measures. Ours come before and behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.frozen.decode import Decoded, add_decoding
from tdtrack.frozen.description import DetectorDescription
from tdtrack.frozen.graph import DetectorGraph
from tdtrack.frozen.head import HeadArrays
from tdtrack.frozen.pooling import CELLS, Reading
from tdtrack.runtime import contract
from tdtrack.runtime.contract import DETECTOR_PREFIX, ModelDescription
from tdtrack.runtime.export import OPSET
from tdtrack.runtime.graph import GraphBuilder, Kept, add_outputs, add_suppression, unit_rows

__all__ = ["differences", "merge", "prepare_input"]

_IR_VERSION = 8


def merge(
    detector: DetectorGraph,
    description: DetectorDescription,
    *,
    classes: Sequence[str] = (),
    readings: Sequence[Reading] = (),
    head: HeadArrays | None = None,
    detect: DetectConfig | None = None,
    metadata: dict[str, Any] | None = None,
) -> tuple[ModelProto, ModelDescription]:
    """Build the model.

    Args:
        detector: the user's.
        description: of it.
        classes: those that are kept; none keeps all.
        readings: what the head is given.
        head: the head; ``None`` gives detections without embeddings.
        detect: thresholds and caps.
        metadata: what the model says of itself.

    Returns:
        The model and its description, which it holds.

    Raises:
        ConfigError: a class is not the detector's.
        WeightsError: the detector's operators cannot be brought to the operator set that is needed.
    """
    detect = detect or DetectConfig()
    kept_classes = _class_rows(detector, description, classes)
    built = _prefixed(detector)
    graph = GraphBuilder()
    prepared = _add_preparation(graph, detector, description)
    graph.nodes.append(helper.make_node("Identity", [prepared], [DETECTOR_PREFIX + detector.image.name]))
    before = len(graph.nodes)
    outputs = [DETECTOR_PREFIX + name for name in description.outputs]
    decoded = add_decoding(graph, detector, description, outputs)
    kept = _add_suppression(graph, decoded, detector, description, kept_classes, detect)
    embeddings = None
    if head is not None:
        embeddings = (_add_head(graph, readings, head, kept), head.dim)
    batch: int | str = detector.image.batch or ("batch" if description.family != "boxes" else 1)
    contract_outputs = add_outputs(graph, kept, embeddings, decoded.scores, batch, detect.max_detections)
    nodes = [*graph.nodes[:before], *built.graph.node, *graph.nodes[before:]]
    del built.graph.node[:], built.graph.input[:]
    built.graph.node.extend(nodes)
    built.graph.initializer.extend(graph.initializers)
    sides = [batch, detector.image.height, detector.image.width, 3]
    built.graph.input.append(helper.make_tensor_value_info(contract.IMAGES, TensorProto.UINT8, sides))
    built.graph.output.extend(contract_outputs)
    del built.graph.value_info[:], built.metadata_props[:]
    said = ModelDescription(
        classes=tuple(description.classes[row] for row in kept_classes),
        input_height=detector.image.height,
        input_width=detector.image.width,
        embedding_dim=None if head is None else head.dim,
        min_score=detect.min_score,
        nms_iou=1.0 if decoded.suppressed else detect.nms_iou,
        max_detections=detect.max_detections,
        metadata=metadata or {},
    )
    helper.set_model_props(built, {contract.METADATA_KEY: said.to_json()})
    built.producer_name = "tdtrack"
    onnx.checker.check_model(built)
    return built, said


def _class_rows(detector: DetectorGraph, description: DetectorDescription, classes: Sequence[str]) -> list[int]:
    """Return the detector's ids of the kept classes."""
    rows = {name: row for row, name in enumerate(description.classes)}
    for name in classes:
        if name not in rows:
            known = ", ".join(list(rows)[:20]) + (", ..." if len(rows) > 20 else "")
            raise ConfigError(f"{detector.label} does not know the class {name!r}; it knows {known}")
    return [rows[name] for name in classes] or list(range(len(description.classes)))


def _prefixed(detector: DetectorGraph) -> ModelProto:
    """Return the detector in a new enough operator set, all its names out of ours' way."""
    model = ModelProto()
    model.CopyFrom(detector.model)
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter's failures have no common class
            raise WeightsError(
                f"{detector.label} uses operator set {version} and cannot be brought to {OPSET} "
                f"({str(error).strip().splitlines()[0][:120]}); export the detector with opset {OPSET}"
            ) from error
    model = onnx.compose.add_prefix(model, DETECTOR_PREFIX)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return model


def _add_preparation(graph: GraphBuilder, detector: DetectorGraph, description: DetectorDescription) -> str:
    """Turn the contract's images into the detector's input."""
    image, value = detector.image, contract.IMAGES
    planes = 3 if image.channels_last else 1
    if not image.channels_last:  # before all else: bytes move four times as fast as floats
        value = graph.op("Transpose", value, perm=[0, 3, 1, 2])
    if description.colours == "bgr":
        value = graph.op("Gather", value, graph.constant([2, 1, 0]), axis=planes)
    if image.dtype is np.uint8:
        return str(graph.op("Identity", value))
    value = graph.op("Cast", value, to=TensorProto.FLOAT)
    channel = (3,) if image.channels_last else (3, 1, 1)
    if any(description.mean):
        value = graph.op("Sub", value, graph.constant(np.reshape(description.mean, channel), np.float32))
    if set(description.std) != {1.0}:
        value = graph.op("Div", value, graph.constant(np.reshape(description.std, channel), np.float32))
    return str(graph.op("Cast", value, to=TensorProto.FLOAT16) if image.dtype is np.float16 else value)


def prepare_input(images: NDArray[np.uint8], detector: DetectorGraph, description: DetectorDescription) -> NDArray[Any]:
    """Do in NumPy what the merged file does before the detector.

    Args:
        images: ``(B, H, W, 3)`` RGB, of the input's size.
        detector: whose input it becomes.
        description: of it.
    """
    value: NDArray[Any] = images[..., ::-1] if description.colours == "bgr" else images
    if detector.image.dtype is not np.uint8:
        value = value.astype(np.float32)
        if any(description.mean):
            value -= np.array(description.mean, np.float32)
        if set(description.std) != {1.0}:
            value /= np.array(description.std, np.float32)
    if not detector.image.channels_last:
        value = value.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(value, detector.image.dtype)


def _add_suppression(
    graph: GraphBuilder,
    decoded: Decoded,
    detector: DetectorGraph,
    description: DetectorDescription,
    classes: Sequence[int],
    detect: DetectConfig,
) -> Kept:
    scores = decoded.scores
    if list(classes) != list(range(len(description.classes))):
        scores = graph.op("Gather", scores, graph.constant(list(classes)), axis=2)
    height, width = detector.image.height, detector.image.width
    border = graph.constant([height, width] * 2, np.float32)
    inside = graph.op("Min", graph.op("Max", decoded.yxyx, graph.constant(0, np.float32)), border)
    shape = detector.outputs[description.outputs[0]]
    boxes = None if description.family == "boxes" else shape[2 if description.family == "yolov8" else 1]

    def boxes_of(index: str) -> str:
        return str(graph.op("GatherND", inside, graph.op("Unsqueeze", index, graph.constant([2])), batch_dims=1))

    config = replace(detect, nms_iou=1.0) if decoded.suppressed else detect
    return add_suppression(graph, graph.reshape(scores, 0, -1), boxes_of, boxes, len(classes), (height, width), config)


def _add_head(graph: GraphBuilder, readings: Sequence[Reading], head: HeadArrays, kept: Kept) -> str:
    """Add pooling and head at the kept boxes; returns ``(S, D)`` of unit length."""
    parts = []
    for reading, arrays in zip(readings, head.maps):
        cells = reading.samples**2
        read = _add_reading(graph, reading, kept)
        # The mean over a bin's cells is part of the product.
        product = graph.op("MatMul", read, graph.constant(np.tile(arrays.weight / cells, (cells, 1)), np.float32))
        level = graph.op("Relu", graph.op("Add", product, graph.constant(arrays.bias, np.float32)))
        parts.append(graph.reshape(level, -1, reading.bins * len(arrays.bias)))
    read = graph.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    hidden = _linear(graph, read, head.hidden_weight, head.hidden_bias)
    return unit_rows(graph, _linear(graph, graph.op("Relu", hidden), head.out_weight, head.out_bias))


def _linear(graph: GraphBuilder, value: str, weight: Any, bias: Any) -> str:
    return str(graph.op("Gemm", value, graph.constant(weight, np.float32), graph.constant(bias, np.float32)))


def _add_reading(graph: GraphBuilder, reading: Reading, kept: Kept) -> str:
    """Add what ``tdtrack.frozen.pooling.pool`` does, but for the mean; returns ``(S, bins, samples * samples * C)``."""
    x1, y1, x2, y2 = graph.op("Split", kept.xyxy, outputs=4, axis=1, num_outputs=4)
    if reading.place == "cell":
        half, reach = graph.constant(0.5, np.float32), graph.constant(CELLS / 2 * reading.stride, np.float32)
        x, y = (graph.op("Mul", graph.op("Add", *pair), half) for pair in ((x1, x2), (y1, y2)))
        x1, y1, x2, y2 = (graph.op(kind, value, reach) for kind, value in (("Sub", x), ("Sub", y), ("Add", x), ("Add", y)))
    stride = graph.constant(reading.stride, np.float32)
    steps_y, steps_x = reading.steps()

    def cells(start: str, end: str, steps: Any, side: int) -> str:
        span = graph.op("Mul", graph.op("Sub", end, start), graph.constant(steps, np.float32))
        place = graph.op("Floor", graph.op("Div", graph.op("Add", start, span), stride))
        low, high = graph.constant(0, np.float32), graph.constant(side - 1, np.float32)
        return str(graph.op("Cast", graph.op("Clip", place, low, high), to=TensorProto.INT64))

    y, x = cells(y1, y2, steps_y, reading.height), cells(x1, x2, steps_x, reading.width)
    base = graph.op("Mul", graph.column(kept.image), graph.constant(reading.height * reading.width))
    row = graph.op("Add", base, graph.op("Mul", y, graph.constant(reading.width)))
    side = reading.samples
    row = graph.reshape(row, -1, reading.rows, 1, side, 1)
    index = graph.op("Add", row, graph.reshape(x, -1, 1, reading.columns, 1, side))
    table = graph.op("Transpose", DETECTOR_PREFIX + reading.name, perm=[0, 2, 3, 1])
    taken = graph.op("Gather", graph.reshape(table, -1, reading.channels), index, axis=0)
    return str(graph.op("Cast", graph.reshape(taken, -1, reading.bins, side * side * reading.channels), to=TensorProto.FLOAT))


def differences(detector: DetectorGraph, description: DetectorDescription, merged: ModelProto, images: Any) -> int:
    """Count numbers of the detector's own outputs that the merged file gives differently.

    Args:
        detector: the user's.
        description: of it.
        merged: from ``merge``.
        images: ``(n, H, W, 3)`` RGB uint8, fitted into the input.

    Returns:
        How many of all numbers are not bit for bit the same.

    Raises:
        WeightsError: the merged file does not run.
    """
    try:
        sessions = [
            onnxruntime.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
            for model in (detector.model, merged)
        ]
        count = 0
        for image in images:
            batch = np.repeat(image[None], detector.image.batch or 1, axis=0)
            own = sessions[0].run(list(detector.outputs), {detector.image.name: prepare_input(batch, detector, description)})
            names = [DETECTOR_PREFIX + name for name in detector.outputs]
            ours = sessions[1].run([*names, contract.COUNT], {contract.IMAGES: batch})
            for a, b in zip(own, ours):
                count += int((a != b).sum()) if np.shape(a) == np.shape(b) else np.size(a)
    except Exception as error:  # every failure of the runtime has a class of its own, none of them public
        raise WeightsError(f"{detector.label} with its head does not run ({str(error)[:200]})") from error
    return count


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options
