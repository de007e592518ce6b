"""The joint model in PyTorch as an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.model import load_model
from tdtrack.runtime.engine import FittedFrame, fit_frame
from tdtrack.types import Detections, Image

__all__ = ["TorchEngine"]


class TorchEngine:
    """A joint model that detects and embeds in one forward pass per frame (Sec. 3.2).

    Attributes:
        label: engine, device and precision, for people.
        classes: class names, in the order of class ids.
        embedding_dim: D_s.
        metadata: what the model file says of itself.
        input_height: height of the network input, in pixels.
        input_width: width of the network input, in pixels.
        device: where the network runs.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        device: str | None = None,
        precision: str | None = None,
        compiled: bool = False,
        min_score: float = DetectConfig.min_score,
        max_detections: int = DetectConfig.max_detections,
    ) -> None:
        """Load the weights and move them to the device.

        Args:
            model: a run folder or a ``.safetensors`` file.
            device: torch's name; ``None`` takes CUDA, then Apple's GPU, then the CPU.
            precision: "fp32" or "bf16"; ``None`` is fp32.
            compiled: compile the network on its first frame.
            min_score: detections below are dropped, in ``[0, 1]``.
            max_detections: detections kept per frame, the best.

        Raises:
            WeightsError: the file cannot be used, or does not say which input size it was trained for.
            ConfigError: the device is unknown or absent, the precision is another, or a threshold is out of range.
        """
        if not 0 <= min_score <= 1:
            raise ConfigError(f"min_score is {min_score}; it must lie in [0, 1]")
        if max_detections < 1:
            raise ConfigError(f"max_detections is {max_detections}; it must be at least 1")
        if precision not in (None, "fp32", "bf16"):
            raise ConfigError(
                f"precision {precision} is not one of the torch engine; choose fp32 or bf16, or export and quantize the model"
            )
        network, metadata = load_model(model)
        self.metadata: Mapping[str, Any] = metadata
        self.input_height = _input_side(model, metadata, "input_height")
        self.input_width = _input_side(model, metadata, "input_width")
        self.classes = network.config.classes
        self.embedding_dim: int | None = network.config.embedding_dim
        self.device = _pick_device(device)
        self._network = network.to(self.device).to(memory_format=torch.channels_last)
        if compiled:  # the convolutions; suppression and the lazy head have shapes that change with every frame
            for part in (self._network.backbone, self._network.pyramid, self._network.class_subnet, self._network.box_subnet):
                part.compile()
        self._bf16 = precision == "bf16"
        self.label = f"torch {torch.__version__}, {self.device}, {precision or 'fp32'}{', compiled' if compiled else ''}"
        self._config = DetectConfig(min_score=min_score, max_detections=max_detections)

    def __call__(self, frame: Image) -> Detections:
        """Detect in one frame, ``(H, W, 3)`` RGB uint8 of any size; boxes come in its pixels, best first."""
        return self.detect_fitted([self.fit(frame)])[0]

    def fit(self, frame: Image) -> FittedFrame:
        """Fit an ``(H, W, 3)`` RGB uint8 frame into the network's input."""
        return fit_frame(frame, self.input_height, self.input_width)

    @torch.inference_mode()
    def detect_fitted(self, frames: Sequence[FittedFrame]) -> list[Detections]:
        """Detect in several frames at once.

        Args:
            frames: from :meth:`fit`.

        Returns:
            One record per frame, in order, boxes in pixels of the frame, best first, with unit embeddings.
        """
        if not frames:
            return []
        images = torch.from_numpy(np.stack([frame.image for frame in frames])).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            found = self._network.detect(images.permute(0, 3, 1, 2), self._config)  # channels last as they come
        return [
            frame.detections(*(column.cpu().numpy() for column in (one.xyxy, one.score, one.class_id, one.embedding)))
            for frame, one in zip(frames, found)
        ]


def _input_side(model: Path | str, metadata: Mapping[str, Any], key: str) -> int:
    """Return the height or width the model was trained at."""
    value = metadata.get(key)
    if not isinstance(value, int) or value < 1:
        raise WeightsError(f"{model}: its metadata gives {key} as {value!r}; save it with the input size of its training")
    return value


def _pick_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best there is; a small allocation proves that it works."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used ({reason}); choose cpu, or a device of this machine") from error
    return device
