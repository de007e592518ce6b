"""An exported model as an engine, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.runtime import contract
from tdtrack.runtime.contract import ModelDescription
from tdtrack.runtime.engine import FittedFrame, fit_frame
from tdtrack.types import Detections, Image

__all__ = ["ExportedEngine", "Session"]


class Session(Protocol):
    """What runs an exported model: ONNX Runtime or OpenVINO.

    Attributes:
        label: its name, device and precision, for people.
        description: what the file says of itself.
        batch: images per call; ``None`` where any number will do.
    """

    label: str
    description: ModelDescription
    batch: int | None

    def run(self, images: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Return the outputs by name (``tdtrack.runtime.contract``) for ``(B, H, W, 3)`` images."""
        ...


class ExportedEngine:
    """A model in one file, detecting and embedding in one pass; never imports torch.

    Attributes:
        label: engine, device and precision, for people.
        classes: class names, in the order of class ids.
        embedding_dim: D, or ``None`` where the model gives no embeddings.
        metadata: what the trained model says of itself.
        description: all that the file says of itself.
        batch: images that the network takes at once; ``None`` where any number will do.
    """

    def __init__(
        self,
        session: Session,
        *,
        min_score: float = DetectConfig.min_score,
        max_detections: int = DetectConfig.max_detections,
    ) -> None:
        """Take a session that is ready to run.

        Args:
            session: of the file.
            min_score: detections below are dropped, in ``[0, 1]``; the file's own floor holds as well.
            max_detections: detections kept per frame, the best; the file's own cap holds as well.

        Raises:
            ConfigError: a threshold is out of range.
        """
        if not 0 <= min_score <= 1:
            raise ConfigError(f"min_score is {min_score}; it must lie in [0, 1]")
        if max_detections < 1:
            raise ConfigError(f"max_detections is {max_detections}; it must be at least 1")
        self._session = session
        self._min_score = np.float32(min_score)
        self._max_detections = max_detections
        self.label = session.label
        self.description = session.description
        self.batch = session.batch
        self.classes = session.description.classes
        self.embedding_dim = session.description.embedding_dim
        self.metadata: Mapping[str, Any] = session.description.metadata

    def __call__(self, frame: Image) -> Detections:
        """Detect in one frame, ``(H, W, 3)`` RGB uint8 of any size; boxes come in its pixels, best first."""
        return self.detect_fitted([self.fit(frame)])[0]

    def fit(self, frame: Image) -> FittedFrame:
        """Fit an ``(H, W, 3)`` RGB uint8 frame into the network's input."""
        return fit_frame(frame, self.description.input_height, self.description.input_width)

    def detect_fitted(self, frames: Sequence[FittedFrame]) -> list[Detections]:
        """Detect in several frames at once.

        Args:
            frames: from :meth:`fit`.

        Returns:
            One record per frame, in order, boxes in pixels of the frame, best first.
        """
        size = self.batch or max(len(frames), 1)
        found: list[Detections] = []
        for start in range(0, len(frames), size):
            part = frames[start : start + size]
            images = [frame.image for frame in part]
            images += [images[-1]] * (size - len(images))  # a file made for a fixed batch takes no fewer
            outputs = self._session.run(np.stack(images))
            found += [self._detections(outputs, row, frame) for row, frame in enumerate(part)]
        return found

    def _detections(self, outputs: Mapping[str, NDArray[Any]], row: int, frame: FittedFrame) -> Detections:
        """Return one image's rows in pixels of its frame."""
        count = int(outputs[contract.COUNT][row])
        if not 0 <= count <= self.description.max_detections:
            raise ShapeError(
                f"{self.label} counts {count} detections, the model holds at most {self.description.max_detections}"
            )
        score = outputs[contract.SCORES][row, :count]
        wanted = min(int((score >= self._min_score).sum()), self._max_detections)  # the best come first
        columns = [outputs[name][row, :wanted].copy() for name in (contract.BOXES, contract.SCORES, contract.CLASSES)]
        embedding = None if self.embedding_dim is None else outputs[contract.EMBEDDINGS][row, :wanted].copy()
        return frame.detections(columns[0], columns[1], columns[2], embedding)


def open_session(path: Path, engine: str, *, device: str | None, precision: str | None) -> Session:
    """Start the runtime of an exported file.

    Args:
        path: the ``.onnx`` file.
        engine: "onnxruntime" or "openvino".
        device: where it runs; ``None`` takes the best there is.
        precision: "fp32", "bf16" or "int8"; ``None`` takes the file's own.
    """
    if engine == "openvino":
        from tdtrack.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession(path, device=device, precision=precision)
    from tdtrack.runtime.onnxruntime_session import OnnxRuntimeSession

    return OnnxRuntimeSession(path, device=device, precision=precision)
