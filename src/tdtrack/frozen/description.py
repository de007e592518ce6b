"""What a detector's numbers mean: told by its graph where it can be, by the user in a few lines where it cannot."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tdtrack.errors import ConfigError, WeightsError
from tdtrack.files import reason_of
from tdtrack.frozen.coco_names import COCO_NAMES
from tdtrack.frozen.graph import DetectorGraph

__all__ = ["FAMILIES", "DetectorDescription", "describe_detector", "read_description_file"]

FAMILIES = {
    "yolox": "one output (B, N, 5 + K): box, objectness and class scores at every cell of the strides",
    "nanodet": "one output (B, N, K + 4 R): class scores and four distributions over distances at every cell of the strides",
    "yolov5": "one output (B, N, 5 + K): boxes as centre and size in pixels, objectness and class scores",
    "yolov8": "one output (B, 4 + K, N): boxes as centre and size in pixels, class scores",
    "rows": "one output (B, N, 6): corners in pixels, score, class",
    "detr": "two outputs, (B, N, K) logits and (B, N, 4) boxes as centre and size, fractions of the image",
    "boxes": "three outputs for one image: (N, 4) corners in pixels, (N,) labels, (N,) scores, as torchvision's",
    "tdtrack": "the outputs of tdtrack export",
}
"""What can be understood, by name."""

_RANKS = {
    **dict.fromkeys(("yolox", "nanodet", "yolov5", "yolov8", "rows"), (3,)),
    "detr": (3, 3),
    "boxes": (2, 1, 1),
    "tdtrack": (3, 2, 2, 1),
}
"""Sides of the outputs that each family reads."""

_MAX_CLASSES = 100_000


@dataclass(frozen=True)
class DetectorDescription:
    """How to feed a detector and how to read it.

    Attributes:
        family: one of ``FAMILIES``.
        outputs: names of the outputs that the family reads, in its order.
        classes: names, in the order of the detector's class ids (torchvision's begin with a background).
        colours: order of the input's channels, "rgb" or "bgr".
        mean: subtracted from each channel, in the same order, 0 to 255.
        std: what each is then divided by.
        strides: input pixels per cell, of the levels in the order of the output; for "yolox" and "nanodet".
        decoded: "yolox" only: boxes are in pixels already.
        offset: "nanodet" only: where in a cell distances start, in cells.
    """

    family: str
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    colours: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    strides: tuple[int, ...] = ()
    decoded: bool = False
    offset: float = 0.0

    def cells(self, height: int, width: int) -> int:
        """Return how many cells the levels of an input have."""
        return sum(-(-height // stride) * -(-width // stride) for stride in self.strides)


def describe_detector(graph: DetectorGraph, told: Mapping[str, Any] | None = None) -> DetectorDescription:
    """Understand a detector.

    Args:
        graph: the detector.
        told: fields of ``DetectorDescription`` that the user gives; they come before what is guessed.

    Returns:
        The description.

    Raises:
        WeightsError: the outputs are of no known family, or of several; says what was found and how to describe it.
        ConfigError: what is told does not fit the graph.
    """
    told = dict(told or {})
    guess = _guess(graph, told.get("family"))
    if guess is None and "family" in told:
        guess = _described(graph, told["family"], tuple(graph.outputs), None)
    if guess is None:
        families = "\n".join(f"  {name}: {text}" for name, text in FAMILIES.items())
        raise WeightsError(
            f"{graph.label} is not understood: {graph.describe()}; describe it in a YAML file given with "
            "--detector-description, for instance\n  family: yolox\n  outputs: [output]\n  strides: [8, 16, 32]\n"
            f"  colours: bgr\n  classes: [person]\nwhere family is one of\n{families}"
        )
    merged = replace(guess, **told)
    _check(graph, merged)
    return merged


def read_description_file(path: Path | str) -> dict[str, Any]:
    """Read the user's description of a detector: fields of ``DetectorDescription`` in YAML.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown or of another kind.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {reason_of(error)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    known: dict[str, Callable[[Any], bool]] = {
        "family": lambda value: isinstance(value, str) and value in FAMILIES,
        "outputs": _list_of(str),
        "classes": _list_of(str),
        "colours": lambda value: value in ("rgb", "bgr"),
        "mean": lambda value: _list_of(int | float)(value) and len(value) == 3,
        "std": lambda value: _list_of(int | float)(value) and len(value) == 3 and all(value),
        "strides": lambda value: _list_of(int)(value) and all(0 < stride <= 1024 for stride in value),
        "decoded": lambda value: isinstance(value, bool),
        "offset": lambda value: isinstance(value, int | float),
    }
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings; give some of {', '.join(known)}")
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown field {key!r}; known are {', '.join(known)}")
        if not known[key](value):
            raise ConfigError(f"{path}: {key} is {value!r:.80}, which it cannot be; see {', '.join(FAMILIES)} in the docs")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _list_of(kind: Any) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list)
        and 0 < len(value) <= _MAX_CLASSES
        and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
    )


def _guess(graph: DetectorGraph, family: str | None) -> DetectorDescription | None:
    """Return what the shapes of the outputs say, or ``None``; a family that is told narrows it down."""
    found = [guess for guess in _guesses(graph) if family in (None, guess.family)]
    return found[0] if len({guess.family for guess in found}) == 1 else None


def _guesses(graph: DetectorGraph) -> list[DetectorDescription]:
    shapes = graph.outputs
    if set(shapes) >= {"boxes", "scores", "classes", "count"} and "tdtrack" in graph.entries:
        return [DetectorDescription("tdtrack", ("boxes", "scores", "classes", "count"), _tdtrack_classes(graph))]
    if len(shapes) == 1:
        return _single(graph, *next(iter(shapes.items())))
    by_rank = sorted(shapes, key=lambda name: (-len(shapes[name]), shapes[name][-1:] != (4,)))
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes.values()):
        boxes, logits = by_rank
        if shapes[boxes][2] == 4 and shapes[boxes][:2] == shapes[logits][:2]:
            return [_described(graph, "detr", (logits, boxes), shapes[logits][2])]
    if len(shapes) == 3 and shapes[by_rank[0]][-1:] == (4,) and len(shapes[by_rank[0]]) == 2:
        label, score = _label_and_score(graph, by_rank[1:])
        if label:
            return [_described(graph, "boxes", (by_rank[0], label, score), None)]
    return []


_INPUTS: dict[str, dict[str, Any]] = {
    "yolox": {"colours": "bgr"},
    "nanodet": {"colours": "bgr", "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)},
    "tdtrack": {},
}
"""What a family's public models are fed; all others, RGB from 0 to 1."""

_UNIT_RANGE = {"std": (255.0, 255.0, 255.0)}
_YOLOX_COCO, _NANODET_COCO = 80 + 5, 80 + 32
"""Columns of the public models; other numbers may be either family's."""


def _single(graph: DetectorGraph, name: str, shape: tuple[int, ...]) -> list[DetectorDescription]:
    """Return what one output may be."""
    if len(shape) != 3:
        return []
    height, width = graph.image.height, graph.image.width
    found = []
    _, rows, columns = shape
    for strides in ((8, 16, 32), (8, 16, 32, 64)):
        cells = sum(-(-height // stride) * -(-width // stride) for stride in strides)
        if rows == cells and columns > 5 and len(strides) == 3 and columns != _NANODET_COCO:
            decoded = _has_op(graph, "Exp")
            found.append(_described(graph, "yolox", (name,), columns - 5, strides=strides, decoded=decoded))
        if rows == cells and columns > 32 and columns != _YOLOX_COCO:
            offset = 0.5 if len(strides) == 3 else 0.0  # NanoDet-Plus, which has a fourth level, dropped the half cell
            found.append(_described(graph, "nanodet", (name,), columns - 32, strides=strides, offset=offset))
        if rows == 3 * cells and columns > 5:
            found.append(_described(graph, "yolov5", (name,), columns - 5))
        if columns == cells and rows > 4:
            found.append(_described(graph, "yolov8", (name,), rows - 4))
    if columns == 6 and not found:
        found.append(_described(graph, "rows", (name,), None))
    return found


def _described(
    graph: DetectorGraph, family: str, outputs: tuple[str, ...], num_classes: int | None, **more: Any
) -> DetectorDescription:
    """Fill in what the family's public models are fed, and name the classes as the file does; 80 without a name are COCO's."""
    names = _names_in(graph)
    if not names:
        names = COCO_NAMES if num_classes in (80, None) else tuple(f"class {index}" for index in range(num_classes or 0))
    return DetectorDescription(family, outputs, names, **_INPUTS.get(family, _UNIT_RANGE) | more)


def _names_in(graph: DetectorGraph) -> tuple[str, ...]:
    """Return the class names that a file carries as Ultralytics' do: a dictionary from class id to name."""
    try:
        names = ast.literal_eval(graph.entries.get("names", "")[:1_000_000])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    if not isinstance(names, dict) or sorted(names, key=str) != sorted(range(len(names)), key=str):
        return ()
    return tuple(str(names[index]) for index in range(len(names)))


def _tdtrack_classes(graph: DetectorGraph) -> tuple[str, ...]:
    from tdtrack.runtime.contract import read_description

    return read_description(graph.label, graph.entries).classes


def _label_and_score(graph: DetectorGraph, names: list[str]) -> tuple[str, str]:
    """Tell labels from scores: labels are whole numbers."""
    from onnx import TensorProto

    whole = {output.name for output in graph.model.graph.output if output.type.tensor_type.elem_type == TensorProto.INT64}
    labels = [name for name in names if name in whole]
    return (labels[0], next(name for name in names if name != labels[0])) if len(labels) == 1 else ("", "")


def _has_op(graph: DetectorGraph, kind: str) -> bool:
    return any(node.op_type == kind for node in graph.model.graph.node)


def _check(graph: DetectorGraph, description: DetectorDescription) -> None:
    """Refuse a description that the outputs contradict."""
    for name in description.outputs:
        if name not in graph.outputs:
            raise ConfigError(f"{graph.label} has no output {name!r}; {graph.describe()}")
    found = [len(graph.outputs[name]) for name in description.outputs]
    ranks = _RANKS[description.family]
    if found[: len(ranks)] != list(ranks) or (description.family == "tdtrack" and "tdtrack" not in graph.entries):
        raise ConfigError(
            f"{graph.label}: outputs {', '.join(description.outputs)} are not of family {description.family}: "
            f"{FAMILIES[description.family]}; {graph.describe()}"
        )
    last = description.outputs[1 if description.family == "detr" else 0]
    width = {"rows": 6, "detr": 4, "boxes": 4}.get(description.family, graph.outputs[last][-1])
    if graph.outputs[last][-1] != width:
        raise ConfigError(
            f"{graph.label}: output {last} has {graph.outputs[last][-1]} columns; {description.family} has {width}"
        )
    shape = graph.outputs[description.outputs[0]]
    classes = len(description.classes)
    widths = {"yolox": (-1, 5), "yolov5": (-1, 5), "yolov8": (1, 4), "detr": (-1, 0)}
    if description.family in widths:
        axis, beside = widths[description.family]
        if shape[axis] != classes + beside:
            raise ConfigError(
                f"{graph.label}: output {description.outputs[0]} is wide enough for {shape[axis] - beside} classes, "
                f"but {classes} are named; name them all in the description"
            )
    if description.family == "nanodet" and (shape[-1] <= classes or (shape[-1] - classes) % 4):
        raise ConfigError(
            f"{graph.label}: {shape[-1]} columns are not {classes} classes and four distributions; name the classes"
        )
    cells = description.cells(graph.image.height, graph.image.width)
    if description.family in ("yolox", "nanodet") and shape[1] != cells:
        raise ConfigError(
            f"{graph.label}: strides {description.strides} make {cells} cells, the output has {shape[1]}; give its strides"
        )
