"""A trained model as one ONNX file that holds everything: network, suppression, lazy embedding head, and what it is."""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, MissingExtraError, WeightsError
from tdtrack.files import atomic_write
from tdtrack.model import JointModel, load_model
from tdtrack.model.anchors import pyramid_anchors, pyramid_shapes
from tdtrack.model.boxcode import MAX_LOG_SCALE
from tdtrack.runtime import contract
from tdtrack.runtime.contract import ModelDescription

if find_spec("onnx") is None:
    raise MissingExtraError("onnx", "train", "exporting a model")

import onnx
from onnx import ModelProto, helper

from tdtrack.runtime.graph import GraphBuilder, add_outputs, unit_rows
from tdtrack.runtime.joint_graph import Anchors, HeadWeights, add_detections, add_lazy_embeddings

__all__ = ["OPSET", "build_model", "export_model"]

OPSET = 18
"""ONNX operator set: the first whose reductions take axes as inputs; ONNX Runtime 1.15 and OpenVINO 2023.2 read it."""

_PRODUCER = "tdtrack"
_BATCH = "batch"

Embedding = Literal["lazy", "dense", "none"]


def export_model(
    model: Path | str, out: Path | str, *, detect: DetectConfig | None = None, batch: int | None = None
) -> ModelDescription:
    """Write a trained model as one ``.onnx`` file that any engine runs.

    Args:
        model: run folder or ``.safetensors`` file.
        out: file to write.
        detect: thresholds and caps that become part of the graph; ``None`` takes the defaults.
        batch: B, images per call; ``None`` leaves it open.

    Returns:
        What the file says of itself.

    Raises:
        WeightsError: the model cannot be read, or does not say its input size.
        ConfigError: the batch or a threshold is out of range, or ``out`` is not an ``.onnx`` file.
        OutputError: the file cannot be written.
    """
    if Path(out).suffix.lower() != ".onnx":
        raise ConfigError(f"out is {out}; name a file that ends in .onnx")
    network, metadata = load_model(model)
    height, width = metadata.get("input_height"), metadata.get("input_width")
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise WeightsError(
            f"{model}: its metadata gives the input size as {height}x{width}; save it with the input size of its training"
        )
    built, description = build_model(network, height, width, metadata=metadata, detect=detect or DetectConfig(), batch=batch)
    with atomic_write(out, "wb") as file:
        file.write(built.SerializeToString())
    return description


def build_model(
    model: JointModel,
    height: int,
    width: int,
    *,
    metadata: dict[str, Any],
    detect: DetectConfig,
    batch: int | None = None,
    embedding: Embedding = "lazy",
) -> tuple[ModelProto, ModelDescription]:
    """Build the ONNX model of a joint model.

    Args:
        model: in any mode; it is looked at in evaluation mode, on the CPU.
        height: of the input, in pixels.
        width: of the input, in pixels.
        metadata: what the trained model says of itself.
        detect: thresholds and caps.
        batch: B; ``None`` leaves it open.
        embedding: "lazy" embeds what suppression kept; "dense" embeds every anchor first, as the paper does, and "none" not at
            all: the two that ``benchmarks/speed_head.py`` compares with.

    Returns:
        The model and its description, which it holds.

    Raises:
        ConfigError: the batch is out of range.
    """
    if batch is not None and batch < 1:
        raise ConfigError(f"batch is {batch}; it must be at least 1, or left open")
    config = model.config
    description = ModelDescription(
        classes=config.classes,
        input_height=height,
        input_width=width,
        embedding_dim=None if embedding == "none" else config.embedding_dim,
        min_score=detect.min_score,
        nms_iou=detect.nms_iou,
        max_detections=detect.max_detections,
        metadata={**metadata, "model": asdict(config)},
    )
    built = _trace(_Network(model.eval(), dense=embedding == "dense"), height, width, batch)
    _finish(built, model, description, detect, embedding)
    onnx.checker.check_model(built)
    return built, description


class _Network(nn.Module):
    """What is traced: the joint model from bytes to raw predictions."""

    def __init__(self, model: JointModel, *, dense: bool) -> None:
        super().__init__()
        self.model = model
        self._dense = dense

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        predictions = self.model(images.permute(0, 3, 1, 2))
        embeddings = [self.model.embed_dense(predictions)] if self._dense else predictions.features
        return predictions.class_logits, predictions.box_codes, *embeddings


def _trace(network: _Network, height: int, width: int, batch: int | None) -> ModelProto:
    """Trace the network into ONNX; outputs are named ``raw_0``, ``raw_1`` and so on.

    By tracing, not by ``torch.export``: the network has no branch that depends on its input, and the newer exporter takes ten
    times as long for the same operators.
    """
    images = torch.zeros(batch or 2, height, width, 3, dtype=torch.uint8)
    with torch.no_grad():
        names = [f"raw_{index}" for index in range(len(network(images)))]  # and the anchors are made before tracing
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that shapes become constants is the purpose
            torch.onnx.export(
                network,
                (images,),
                buffer,  # type: ignore[arg-type]  # without dynamo a file object will do
                dynamo=False,
                opset_version=OPSET,
                input_names=[contract.IMAGES],
                output_names=names,
                dynamic_axes=None if batch is not None else {name: {0: _BATCH} for name in (contract.IMAGES, *names)},
            )
    return onnx.load_model_from_string(buffer.getvalue())


def _finish(
    built: ModelProto, model: JointModel, description: ModelDescription, detect: DetectConfig, embedding: Embedding
) -> None:
    """Put suppression, embeddings, the padded outputs and the description behind the traced network."""
    config, height, width = model.config, description.input_height, description.input_width
    shapes = pyramid_shapes(height, width, config.min_level, config.max_level)
    anchors = pyramid_anchors(shapes, config, torch.device("cpu")).numpy()
    logits, codes, *rest = (output.name for output in built.graph.output)
    graph = GraphBuilder()
    kept = add_detections(graph, logits, codes, len(config.classes), Anchors(anchors, height, width, MAX_LOG_SCALE), detect)
    embeddings = None
    if embedding != "none":
        vectors = (
            add_lazy_embeddings(graph, rest, shapes, kept, _head_weights(model))
            if embedding == "lazy"
            else unit_rows(
                graph,
                graph.op("GatherND", rest[0], graph.op("Concat", graph.column(kept.image), graph.column(kept.anchor), axis=1)),
            )
        )
        embeddings = (vectors, config.embedding_dim)
    batch = built.graph.input[0].type.tensor_type.shape.dim[0]
    outputs = add_outputs(graph, kept, embeddings, logits, batch.dim_value or batch.dim_param, detect.max_detections)
    built.graph.node.extend(graph.nodes)
    built.graph.initializer.extend(graph.initializers)
    del built.graph.output[:]
    built.graph.output.extend(outputs)
    built.producer_name = _PRODUCER
    helper.set_model_props(built, {contract.METADATA_KEY: description.to_json()})


def _head_weights(model: JointModel) -> HeadWeights:
    """Return the embedding head as arrays, its batch norms as scale and shift."""
    head = model.embedding_head

    def array(value: Tensor | None) -> Any:
        return torch.as_tensor(value).detach().cpu().double().numpy()

    norms: list[Any] = list(head.norms)
    scale = np.stack([array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps) for norm in norms])
    shift = np.stack([array(norm.bias) - array(norm.running_mean) * row for norm, row in zip(norms, scale)])
    weights = [array(value).astype(np.float32) for value in (head.conv1.weight, head.conv2.weight, head.conv2.bias)]
    return HeadWeights(weights[0], scale.astype(np.float32), shift.astype(np.float32), weights[1], weights[2], head.slots)
