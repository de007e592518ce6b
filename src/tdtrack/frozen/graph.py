"""Someone else's detector as an ONNX graph: checked, measured, and searched for feature maps.

The file comes from anywhere. It is parsed, never imported; only operators of the ONNX standard are accepted, and nothing
outside the file is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tdtrack.errors import ConfigError, MissingExtraError, WeightsError
from tdtrack.files import reason_of

if find_spec("onnx") is None:
    raise MissingExtraError("onnx", "train", "reading a detector")

import onnx
from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["DetectorGraph", "FeatureMap", "ImageInput", "read_graph", "read_model"]

Shape = tuple[int, ...]

_STANDARD = ("", "ai.onnx")
_MAX_BYTES = 2_000_000_000  # protobuf's own limit
_MAX_SIDE = 8192
_STRIDES = (2, 4, 8, 16, 32, 64)
_POINTWISE = frozenset(
    {"BatchNormalization", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul", "PRelu", "Relu"}
    | {"Selu", "Sigmoid", "Softplus", "Tanh"}
)
"""What may still follow a convolution within one layer."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The detector's one input.

    Attributes:
        name: in the graph.
        height: in pixels.
        width: in pixels.
        channels_last: ``(B, H, W, 3)`` instead of ``(B, 3, H, W)``.
        dtype: ``float32``, ``float16`` or ``uint8``.
        batch: B; ``None`` where any number will do.
    """

    name: str
    height: int
    width: int
    channels_last: bool
    dtype: type[Any]
    batch: int | None

    def zeros(self, batch: int = 1) -> NDArray[Any]:
        """Return an input without a picture."""
        sides = (self.height, self.width, 3) if self.channels_last else (3, self.height, self.width)
        return np.zeros((batch, *sides), self.dtype)


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A value of the graph that can be read at places of the image.

    Attributes:
        name: in the graph.
        stride: input pixels per cell.
        channels: C.
        height: in cells.
        width: in cells.
        share: of the detector's multiply-adds, those done when it is there.
        backbone: nothing else is carried on beside it: the last such map of its stride is what the backbone's next stage reads.
    """

    name: str
    stride: int
    channels: int
    height: int
    width: int
    share: float
    backbone: bool


class DetectorGraph:
    """A checked detector.

    Attributes:
        label: what messages call it.
        model: the file, unchanged but for an input size that was open.
        image: its input.
        outputs: shape of every output for one image, by name.
        maps: feature maps in the order in which they are computed.
        multiply_adds: of convolutions and matrix products, for one image.
        entries: the file's own metadata.
    """

    def __init__(self, label: str, model: ModelProto, image: ImageInput, pinned: Sequence[str] = ()) -> None:
        """Run it once on an empty image and look at every value.

        Args:
            label: what messages call it.
            model: a checked file.
            image: its input.
            pinned: values that are feature maps of the backbone because the caller says so; none finds them.

        Raises:
            WeightsError: it does not run.
        """
        self.label, self.model, self.image = label, model, image
        shapes = _shapes(label, model, image)
        self.outputs: dict[str, Shape] = {output.name: shapes[output.name] for output in model.graph.output}
        cost = _multiply_adds(model, shapes)
        self.multiply_adds = sum(cost)
        self.maps = _feature_maps(model, shapes, cost, image, frozenset(pinned))
        self.entries = {entry.key: entry.value for entry in model.metadata_props}

    def map_named(self, name: str) -> FeatureMap:
        """Return a feature map.

        Raises:
            ConfigError: the graph has no map of this name; lists those it has.
        """
        for candidate in self.maps:
            if candidate.name == name:
                return candidate
        raise ConfigError(
            f"{self.label} has no feature map {name!r}; it has {', '.join(item.name for item in self.maps) or 'none'} "
            "(tdtrack doctor lists them)"
        )

    def backbone_maps(self, strides: Sequence[int]) -> tuple[FeatureMap, ...]:
        """Return, for each stride that the backbone has, the last of its maps."""
        last = {item.stride: item for item in self.maps if item.backbone}
        return tuple(last[stride] for stride in strides if stride in last)

    def describe(self) -> str:
        """Return what was found, for messages."""
        outputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.outputs.items())
        return f"input {self.image.name} of {self.image.height}x{self.image.width}, outputs {outputs}"

    def lines(self) -> list[str]:
        """Return a report for people: input, outputs, and the feature maps with stride, width and cost."""
        rows = [
            f"{self.label}: {self.describe()}",
            f"{self.multiply_adds / 1e6:,.0f} M multiply-adds; feature maps (--features NAME,NAME chooses; * is the default):",
            f"  {'name':<40} stride  channels  cells      computed after",
        ]
        chosen = {item.name for item in self.backbone_maps(_STRIDES)}
        rows += [
            f"{'*' if item.name in chosen else ' '} {item.name:<40} {item.stride:>6}  {item.channels:>8}  "
            f"{f'{item.height}x{item.width}':<9}  {item.share:.0%} of the detector"
            for item in self.maps
        ]
        return rows


def read_graph(path: Path | str, input_size: tuple[int, int] | None = None) -> DetectorGraph:
    """Read and check a detector.

    Args:
        path: the ``.onnx`` file.
        input_size: height and width in pixels, where the file leaves them open.

    Returns:
        The detector.

    Raises:
        WeightsError: the file is missing, damaged, or holds what is not standard ONNX; it has no single image input; or it does
            not run.
        ConfigError: the input size is open and not given, or given and another.
    """
    return read_model(str(path), _load(Path(path)), input_size)


def read_model(
    label: str, model: ModelProto, input_size: tuple[int, int] | None = None, pinned: Sequence[str] = ()
) -> DetectorGraph:
    """Check a detector that is in memory; see ``read_graph``.

    Args:
        label: what messages call it.
        model: the detector.
        input_size: see ``read_graph``.
        pinned: values that are feature maps because the caller says so.
    """
    _refuse_foreign(label, model)
    graph = DetectorGraph(label, model, _image_input(label, model, input_size), pinned)
    if not graph.multiply_adds:
        raise WeightsError(f"{label} holds neither convolutions nor matrix products ({graph.describe()}); give a detector")
    return graph


def _load(path: Path) -> ModelProto:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise WeightsError(f"{path} has {size / 1e9:.1f} GB; an ONNX file has at most 2 GB")
        model = onnx.load_model(str(path), load_external_data=False)
        onnx.checker.check_model(model)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {reason_of(error)}; give the detector's .onnx file") from error
    except WeightsError:
        raise
    except Exception as error:  # protobuf's and the checker's, of many classes
        raise WeightsError(f"{path} is no whole ONNX model ({_first_line(error)}); export the detector again") from error
    return model


def _refuse_foreign(label: str, model: ModelProto) -> None:
    """Refuse everything but operators of the standard and weights inside the file."""
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                raise WeightsError(f"{label} keeps the weights {tensor.name!r:.60} in another file; save it as one file")
        for node in graph.node:
            if not all(isinstance(name, str) for name in (node.name, *node.input, *node.output)):  # bytes are no text
                raise WeightsError(f"{label} has names that are no text; export the detector again")
            if node.domain not in _STANDARD:
                raise WeightsError(
                    f"{label} uses the operator {node.op_type!r:.60} of {node.domain!r:.60}, which is not ONNX's own; "
                    "export the detector with standard operators"
                )
            for attribute in node.attribute:
                if attribute.t.data_location == TensorProto.EXTERNAL:
                    raise WeightsError(f"{label} keeps a constant of {node.name!r:.60} in another file; save it as one file")
    if model.functions:
        raise WeightsError(f"{label} defines functions of its own; export the detector with functions inlined")


def _graphs(graph: Any) -> Iterable[Any]:
    """Yield a graph and those in its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _image_input(label: str, model: ModelProto, input_size: tuple[int, int] | None) -> ImageInput:
    """Find the input and settle its size."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    types = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.UINT8: np.uint8}
    found = ", ".join(value.name for value in inputs) or "none"
    if len(inputs) != 1:
        raise WeightsError(
            f"{label} has the inputs {found}; a detector with one image input is needed: export it with that only"
        )
    tensor = inputs[0].type.tensor_type
    sides = list(tensor.shape.dim)
    if len(sides) != 4 or tensor.elem_type not in types:
        raise WeightsError(
            f"{label}: input {found} has {len(sides)} sides and element type {tensor.elem_type}; "
            "an image input has four, of float32, float16 or uint8"
        )
    last = sides[3].dim_value == 3 and sides[1].dim_value != 3
    if not last and sides[1].dim_value not in (0, 3):
        raise WeightsError(
            f"{label}: input {found} has {sides[1].dim_value} channels; a detector of RGB or BGR images is needed"
        )
    size = []
    for index, axis in enumerate((1, 2) if last else (2, 3)):
        own, wanted = sides[axis].dim_value, None if input_size is None else input_size[index]
        if own and wanted not in (None, own):
            raise ConfigError(f"input size {input_size} was asked for, but {label} is made for {own} there; leave it out")
        side = own or wanted
        if not side:
            raise ConfigError(f"{label} leaves its input size open; say it with --input-size HEIGHT,WIDTH")
        if not 32 <= side <= _MAX_SIDE:
            raise ConfigError(f"{label}: an input side of {side} pixels cannot be used; 32 to {_MAX_SIDE} can")
        sides[axis].dim_value = side
        size.append(side)
    sides[3 if last else 1].dim_value = 3
    return ImageInput(inputs[0].name, size[0], size[1], last, types[tensor.elem_type], sides[0].dim_value or None)


def _shapes(label: str, model: ModelProto, image: ImageInput) -> dict[str, Shape]:
    """Return the shape of every value, by running the graph with all of them as outputs."""
    opened = ModelProto()
    opened.CopyFrom(model)
    known = {output.name for output in opened.graph.output}
    opened.graph.output.extend(
        onnx.ValueInfoProto(name=name) for node in opened.graph.node for name in node.output if name and name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        values = session.run(names, {image.name: image.zeros(image.batch or 1)})
    except Exception as error:  # every failure has a class of its own, none of them public
        raise WeightsError(f"{label} does not run ({_first_line(error)}); export the detector again") from error
    shapes: dict[str, Shape] = {name: np.shape(value) for name, value in zip(names, values)}
    shapes[image.name] = image.zeros(image.batch or 1).shape
    shapes.update((tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer)
    return shapes


def _multiply_adds(model: ModelProto, shapes: Mapping[str, Shape]) -> list[int]:
    """Return the multiply-adds of every node."""
    cost = []
    for node in model.graph.node:
        produced = int(np.prod(shapes.get(node.output[0], (0,)), dtype=np.int64))
        if node.op_type == "Conv":
            produced *= int(np.prod(shapes[node.input[1]][1:], dtype=np.int64))
        elif node.op_type in ("MatMul", "Gemm"):
            produced *= shapes[node.input[0]][-1]
        else:
            produced = 0
        cost.append(produced)
    return cost


def _feature_maps(
    model: ModelProto, shapes: Mapping[str, Shape], cost: Sequence[int], image: ImageInput, pinned: frozenset[str]
) -> tuple[FeatureMap, ...]:
    """Return the maps that can be read: what ends a layer and either is all that goes on, or is read more than once."""
    nodes = list(model.graph.node)
    readers = _readers(nodes)
    strides = {name: stride for name, shape in shapes.items() if (stride := _stride(shape, image)) is not None}
    trunk = pinned or _trunk(nodes, shapes, strides, image)
    done, total = 0, max(1, sum(cost))
    maps = []
    for node, work in zip(nodes, cost):
        done += work
        for name in node.output:
            read = readers.get(name, [])
            ends_layer = any(reader.op_type not in _POINTWISE for reader in read)
            if name in strides and (name in pinned or (ends_layer and (name in trunk or len(read) > 1))):
                _, channels, height, width = shapes[name]
                maps.append(FeatureMap(name, strides[name], channels, height, width, done / total, name in trunk))
    return tuple(maps)


def _readers(nodes: Sequence[NodeProto]) -> dict[str, list[NodeProto]]:
    readers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _stride(shape: Shape, image: ImageInput) -> int | None:
    """Return the input pixels per cell of a ``(B, C, h, w)`` value that covers the image."""
    if len(shape) != 4 or shape[1] < 8:
        return None
    for stride in _STRIDES:
        if shape[2:] == (-(-image.height // stride), -(-image.width // stride)):
            return stride
    return None


def _trunk(
    nodes: Sequence[NodeProto], shapes: Mapping[str, Shape], strides: Mapping[str, int], image: ImageInput
) -> frozenset[str]:
    """Return the maps through which all of the way to the coarsest map leads: the ends of the backbone's blocks."""
    coarse = max((stride for stride in strides.values() if stride <= 32), default=0)
    target = next((name for node in nodes for name in node.output if strides.get(name) == coarse), None)
    if target is None:
        return frozenset()
    ancestors, needed = [], {target}
    for node in reversed(nodes):
        if needed & set(node.output):
            ancestors.append(node)
            needed.update(node.input)
    ancestors.reverse()
    left = Counter(name for node in ancestors for name in node.input)
    live, trunk, moving = {image.name}, set(), {image.name}
    for node in ancestors:
        for name in node.input:
            left[name] -= 1
            if not left[name]:
                live.discard(name)
        if node.op_type != "Shape" and moving & set(node.input):  # what does not depend on the picture is carried for free
            moving.update(node.output)
        live.update(name for name in node.output if left[name] and len(shapes[name]) >= 4 and name in moving)
        if len(live) == 1 and (name := next(iter(live))) in strides:
            trunk.add(name)
    return frozenset(trunk)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
