"""What turns a frame into detections, and how a model file becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tdtrack.config import DetectConfig
from tdtrack.errors import MissingExtraError, WeightsError
from tdtrack.types import Detections, Image

__all__ = ["Engine", "load_engine"]

_TORCH_SUFFIXES = (".safetensors",)


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


def load_engine(
    model: Path | str,
    *,
    device: str | None = None,
    min_score: float = DetectConfig.min_score,
    max_detections: int = DetectConfig.max_detections,
) -> Engine:
    """Load a trained model for detection.

    Args:
        model: a run folder that holds ``model.safetensors``, or such a file.
        device: torch's name of where it runs, for instance "cpu" or "cuda:0"; ``None`` takes a GPU where there is one.
        min_score: detections below are dropped, in ``[0, 1]``.
        max_detections: detections kept per frame, the best.

    Returns:
        The engine, ready to be called with frames.

    Raises:
        WeightsError: there is no such model, or it is of a kind that is not understood; says what is.
        MissingExtraError: torch is not installed.
        ConfigError: the device or a threshold is not usable.
    """
    path = Path(model)
    if not path.exists():
        raise WeightsError(f"{path} does not exist; give a run folder made by tdtrack train or teach, or a .safetensors file")
    if not path.is_dir() and path.suffix.lower() not in _TORCH_SUFFIXES:
        raise WeightsError(
            f"{path} is not a model that can be loaded ({path.suffix or 'no suffix'}); give a run folder or a .safetensors file"
        )
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "train", f"running the model {path}")
    from tdtrack.runtime.torch_engine import TorchEngine

    return TorchEngine(path, device=device, min_score=min_score, max_detections=max_detections)
