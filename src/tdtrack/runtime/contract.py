"""What an exported model takes, gives and says of itself: the contract between the file and every engine.

One input and five outputs, for a batch of B images::

    images      (B, H, W, 3)  uint8    RGB frames, fitted into H x W as ``FIT`` says
    boxes       (B, M, 4)     float32  xyxy in pixels of the input; divide by the fitting scale for pixels of the frame
    scores      (B, M)        float32  descending, in [0, 1]
    classes     (B, M)        int64    index into the class names
    embeddings  (B, M, D)     float32  of unit length; absent where the model gives none
    count       (B,)          int64    how many of the M rows are detections; the rows after them are zero

The description is JSON under the key ``tdtrack`` of the file's metadata. The file may come from anywhere, so everything in
the description is checked before it is used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tdtrack.data.images import PAD_COLOUR
from tdtrack.errors import WeightsError

__all__ = [
    "BOXES",
    "CLASSES",
    "COUNT",
    "DETECTOR_PREFIX",
    "EMBEDDINGS",
    "FIT",
    "IMAGES",
    "METADATA_KEY",
    "SCORES",
    "ModelDescription",
    "check_signature",
    "output_names",
    "read_description",
]

IMAGES, BOXES, SCORES, CLASSES, EMBEDDINGS, COUNT = "images", "boxes", "scores", "classes", "embeddings", "count"

METADATA_KEY = "tdtrack"

DETECTOR_PREFIX = "detector_"
"""Of names that belong to a detector which was taught by ``tdtrack teach --detector``: its own outputs stay beside ours."""

FORMAT = 1

FIT: dict[str, Any] = {
    "scale": "min(input_height / frame_height, input_width / frame_width)",
    "resize": "bilinear, antialiased, to sides rounded to whole pixels",
    "place": "top left",
    "pad_colour": list(PAD_COLOUR),
}
"""How a frame of any size becomes an input, for programs that do it themselves; ours call ``fit_image``."""

_MAX_SIDE = 16_384
_MAX_ROWS = 100_000
_MAX_CLASSES = 100_000
_MAX_DIM = 65_536
_MAX_CHARACTERS = 4_000_000  # a long list of class names and data sets stays far below


@dataclass(frozen=True)
class ModelDescription:
    """What an exported model says of itself.

    Attributes:
        classes: class names, in the order of class ids.
        input_height: H, in pixels.
        input_width: W, in pixels.
        embedding_dim: D; ``None`` where the model gives no embeddings.
        min_score: the floor below which the graph drops detections, in ``[0, 1]``.
        nms_iou: of two boxes of one class that overlap more, the graph keeps the better.
        max_detections: M, rows per image.
        precision: "fp32" or "int8", of the weights and activations in the file.
        metadata: what the trained model says of itself: ``appearance`` (the fitted ceiling), ``teacher``, ``data`` with its
            licences, ``licence``, ``version`` and more.
    """

    classes: tuple[str, ...]
    input_height: int
    input_width: int
    embedding_dim: int | None
    min_score: float
    nms_iou: float
    max_detections: int
    precision: str = "fp32"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text that goes into the file."""
        return json.dumps({"format": FORMAT, **asdict(self), "fit": FIT, "boxes": "xyxy in pixels of the input"})


def read_description(label: str, entries: Mapping[str, str]) -> ModelDescription:
    """Read and check the description of an exported model.

    Args:
        label: what messages call the file.
        entries: the file's metadata.

    Returns:
        The description.

    Raises:
        WeightsError: there is none, it is damaged, of a later format, or something in it cannot be.
    """
    text = entries.get(METADATA_KEY)
    if text is None:
        raise WeightsError(
            f"{label} does not say what it is: its metadata has no {METADATA_KEY!r} entry; give a file made by tdtrack export"
        )
    try:
        values = json.loads(text) if len(text) <= _MAX_CHARACTERS else None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{label}: its description is not JSON ({error}); export the model again") from error
    if not isinstance(values, dict):
        raise WeightsError(
            f"{label}: its description is no JSON object of at most {_MAX_CHARACTERS} characters; export it again"
        )
    if values.get("format") != FORMAT:
        raise WeightsError(
            f"{label} has description format {values.get('format')!r}, this version reads {FORMAT}; use the one that wrote it"
        )
    return _checked(label, values)


def _checked(label: str, values: Mapping[str, Any]) -> ModelDescription:
    def fail(key: str, wanted: str) -> WeightsError:
        return WeightsError(f"{label}: its description gives {key} as {values.get(key)!r:.80}, not {wanted}; export it again")

    def whole(key: str, largest: int) -> int:
        value = values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            raise fail(key, f"a whole number in 1..{largest}")
        return value

    def fraction(key: str) -> float:
        value = values.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:  # NaN is neither
            raise fail(key, "a number in [0, 1]")
        return float(value)

    classes = values.get("classes")
    if (
        not isinstance(classes, list)
        or not 1 <= len(classes) <= _MAX_CLASSES
        or not all(isinstance(name, str) for name in classes)
    ):
        raise fail("classes", "a list of names")
    if values.get("fit") != FIT:
        raise fail("fit", "the one way of fitting a frame that this version knows")
    if values.get("precision") not in ("fp32", "int8"):
        raise fail("precision", "fp32 or int8")
    metadata = values.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("appearance", {}), dict):
        raise fail("metadata", "an object whose appearance is an object")
    for key, value in metadata.get("appearance", {}).items():
        statistics = key.endswith("cosine_statistics")  # means and deviations of cosines; all else is a ceiling
        numbers = value if statistics and isinstance(value, list) else [value]
        finite = all(isinstance(number, int | float) and abs(number) <= sys.float_info.max for number in numbers)
        if not finite or len(numbers) != (4 if statistics else 1) or min(numbers[1::2] if statistics else numbers) <= 0:
            wanted = "four numbers, deviations positive" if statistics else "a positive number"
            raise WeightsError(
                f"{label}: its description gives appearance.{key} as {value!r:.80}, not {wanted}; export it again"
            )
    return ModelDescription(
        classes=tuple(classes),
        input_height=whole("input_height", _MAX_SIDE),
        input_width=whole("input_width", _MAX_SIDE),
        embedding_dim=None if values.get("embedding_dim") is None else whole("embedding_dim", _MAX_DIM),
        min_score=fraction("min_score"),
        nms_iou=fraction("nms_iou"),
        max_detections=whole("max_detections", _MAX_ROWS),
        precision=str(values["precision"]),
        metadata=metadata,
    )


def output_names(description: ModelDescription) -> list[str]:
    """Return the names of the outputs that a file of this description promises."""
    return [BOXES, SCORES, CLASSES, COUNT, *([] if description.embedding_dim is None else [EMBEDDINGS])]


Side = int | None
"""A side of an input or output; ``None`` where it is only known at run time."""


def check_signature(
    label: str,
    description: ModelDescription,
    inputs: Mapping[str, tuple[Side, ...]],
    outputs: Mapping[str, tuple[Side, ...]],
) -> int | None:
    """Check that a graph takes and gives what its description promises; a detector's own outputs may stand beside that.

    Args:
        label: what messages call the file.
        description: of the file.
        inputs: shape of every input of the graph by name.
        outputs: shape of every output by name.

    Returns:
        B, or ``None`` where the graph takes any batch.

    Raises:
        WeightsError: an input or output is missing or too many, or has another shape.
    """
    height, width, rows, dim = (
        description.input_height,
        description.input_width,
        description.max_detections,
        description.embedding_dim,
    )
    outputs = {name: sides for name, sides in outputs.items() if not name.startswith(DETECTOR_PREFIX)}
    wanted: dict[str, tuple[Side, ...]] = {BOXES: (rows, 4), SCORES: (rows,), CLASSES: (rows,), COUNT: ()}
    if dim is not None:
        wanted[EMBEDDINGS] = (rows, dim)
    for kind, got, want in (("inputs", inputs, {IMAGES: (height, width, 3)}), ("outputs", outputs, wanted)):
        if set(got) != set(want):
            raise WeightsError(f"{label} has {kind} {sorted(got)}, a tdtrack model has {sorted(want)}; export it again")
        for name, sides in want.items():
            tail = got[name][1:]
            if len(got[name]) != len(sides) + 1 or any(a is not None and a != b for a, b in zip(tail, sides)):
                raise WeightsError(f"{label}: {name} has shape {got[name]}, not {('B', *sides)} as described; export it again")
    return inputs[IMAGES][0]
