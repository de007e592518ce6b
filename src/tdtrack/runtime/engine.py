"""What turns a frame into detections, and how a model file becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tdtrack.boxes import clip_to_image
from tdtrack.config import DetectConfig
from tdtrack.data.images import fit_image
from tdtrack.errors import ConfigError, MissingExtraError, WeightsError
from tdtrack.types import Detections, FloatArray, Image, IntArray

__all__ = ["ENGINES", "PRECISIONS", "BatchEngine", "Engine", "FittedFrame", "fit_frame", "load_engine"]

_TORCH_SUFFIXES = (".safetensors",)
ENGINES = ("auto", "onnxruntime", "openvino", "torch")
PRECISIONS = ("fp32", "bf16", "int8")


class Engine(Protocol):
    """A detector, with or without embeddings. Any object with these will do."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of class ids."""
        ...

    @property
    def embedding_dim(self) -> int | None:
        """D_s, or ``None`` when detections carry no embedding."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the model file says of itself; ``"appearance"``, where it is, holds the fitted ceiling."""
        ...

    def __call__(self, frame: Image) -> Detections:
        """Detect in one frame, ``(H, W, 3)`` RGB uint8; boxes come in its pixels, inside it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FittedFrame:
    """A frame fitted into the network's input, and the way back.

    Attributes:
        image: ``(input_height, input_width, 3)`` RGB uint8.
        scale: pixels of the input per pixel of the frame.
        height: of the frame, in pixels.
        width: of the frame, in pixels.
    """

    image: Image
    scale: float
    height: int
    width: int

    def detections(self, xyxy: FloatArray, score: FloatArray, class_id: IntArray, embedding: FloatArray | None) -> Detections:
        """Return detections in pixels of the frame; a box in the padding, which clips to a line, is dropped.

        Args:
            xyxy: ``(n, 4)`` in pixels of the input.
            score: ``(n,)``.
            class_id: ``(n,)``.
            embedding: ``(n, D)`` or ``None``.
        """
        boxes = clip_to_image(xyxy / np.float32(self.scale), self.width, self.height)
        found = Detections(boxes, score, class_id, embedding)
        has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return found if has_area.all() else found.select(has_area)


@runtime_checkable
class BatchEngine(Protocol):
    """An engine that takes several frames at once, and whose frames can be fitted beforehand."""

    def fit(self, frame: Image) -> FittedFrame:
        """Fit an ``(H, W, 3)`` RGB uint8 frame into the network's input."""
        ...

    def detect_fitted(self, frames: Sequence[FittedFrame]) -> list[Detections]:
        """Return one record per frame, in order, in pixels of the frame."""
        ...


def fit_frame(frame: Image, height: int, width: int) -> FittedFrame:
    """Fit a frame into a ``height`` x ``width`` input."""
    image, scale = fit_image(frame, height, width)
    return FittedFrame(image, scale, frame.shape[0], frame.shape[1])


def load_engine(
    model: Path | str,
    *,
    engine: str = "auto",
    device: str | None = None,
    precision: str | None = None,
    compiled: bool = False,
    min_score: float = DetectConfig.min_score,
    max_detections: int = DetectConfig.max_detections,
) -> Engine:
    """Load a trained model for detection.

    Args:
        model: a ``.onnx`` file made by ``tdtrack export`` or ``quantize``; a run folder that holds ``model.safetensors``, or
            such a file.
        engine: "onnxruntime" and "openvino" run exported files, "torch" the others; "auto" picks the best that is installed for
            the kind of file: for an exported one ONNX Runtime where it has CUDA, else OpenVINO, else ONNX Runtime.
        device: where it runs, for instance "cpu" or "cuda:0"; ``None`` takes a GPU where there is one.
        precision: "fp32", "bf16" or "int8"; ``None`` takes what the file holds.
        compiled: torch only: compile the network first, which takes a minute and needs a C++ compiler.
        min_score: detections below are dropped, in ``[0, 1]``.
        max_detections: detections kept per frame, the best.

    Returns:
        The engine, ready to be called with frames; its ``label`` says which it is.

    Raises:
        WeightsError: there is no such model, or it is of a kind that is not understood; says what is.
        MissingExtraError: what the engine needs is not installed.
        ConfigError: the engine, device, precision or a threshold is not usable.
    """
    path = Path(model)
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}; choose one of {', '.join(ENGINES)}")
    if precision not in (None, *PRECISIONS):
        raise ConfigError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if not path.exists():
        raise WeightsError(
            f"{path} does not exist; give a run folder made by tdtrack train or teach, a .safetensors or an .onnx file"
        )
    exported = path.suffix.lower() == ".onnx" and not path.is_dir()
    if not exported and not path.is_dir() and path.suffix.lower() not in _TORCH_SUFFIXES:
        raise WeightsError(
            f"{path} is not a model that can be loaded ({path.suffix or 'no suffix'}); "
            "give a run folder, a .safetensors or an .onnx file"
        )
    if engine != "auto" and exported == (engine == "torch"):
        mends = "give its run folder" if exported else "make an .onnx file of it with tdtrack export"
        raise ConfigError(f"engine {engine} cannot run {path}; {mends}, or leave the engine to auto")
    if exported:
        if compiled:
            raise ConfigError(f"compiled is for the torch engine; {path} is an exported model")
        from tdtrack.runtime.exported import ExportedEngine, open_session

        chosen = _best_engine(device) if engine == "auto" else engine
        session = open_session(path, chosen, device=device, precision=precision)
        return ExportedEngine(session, min_score=min_score, max_detections=max_detections)
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", f"running the model {path}")
    from tdtrack.runtime.torch_engine import TorchEngine

    return TorchEngine(
        path, device=device, precision=precision, compiled=compiled, min_score=min_score, max_detections=max_detections
    )


def _best_engine(device: str | None) -> str:
    """Return what runs an exported file best here: a GPU that ONNX Runtime reaches, then OpenVINO, which is faster on a CPU."""
    if find_spec("openvino") is None or (device or "").partition(":")[0] in ("cuda", "tensorrt"):
        return "onnxruntime"
    if device is None:
        import onnxruntime

        return "onnxruntime" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else "openvino"
    return "openvino"
