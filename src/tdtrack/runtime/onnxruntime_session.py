"""ONNX Runtime as the machine under an exported model: CPU, CUDA or TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tdtrack.errors import ConfigError, ShapeError, WeightsError
from tdtrack.runtime import contract

__all__ = ["PROVIDERS", "OnnxRuntimeSession"]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""Device names and ONNX Runtime's names of what runs on them."""


class OnnxRuntimeSession:
    """See ``tdtrack.runtime.exported.Session``."""

    def __init__(self, path: Path, *, device: str | None = None, precision: str | None = None) -> None:
        """Load the file and check it.

        Args:
            path: the ``.onnx`` file.
            device: "cpu", "cuda", "cuda:1", "tensorrt"; ``None`` takes CUDA where ONNX Runtime was built with it.
            precision: the file's own, or ``None``; ONNX Runtime computes in what the file holds.

        Raises:
            WeightsError: the file is damaged, or not a tdtrack model.
            ConfigError: this build of ONNX Runtime does not have the device, or the precision is another.
        """
        kind, _, number = (device or _best_device()).partition(":")
        if kind not in PROVIDERS or PROVIDERS[kind] not in onnxruntime.get_available_providers():
            there = [name for name, provider in PROVIDERS.items() if provider in onnxruntime.get_available_providers()]
            raise ConfigError(
                f"device {device!r} cannot be used: this build of ONNX Runtime has {', '.join(there)}; "
                "choose one of these, or install onnxruntime-gpu in place of onnxruntime"
            )
        if number and not number.isdigit():
            raise ConfigError(f"device {device!r} names no number after the colon; write for instance {kind}:0")
        provider: Any = PROVIDERS[kind] if kind == "cpu" else (PROVIDERS[kind], {"device_id": number or "0"})
        fallback = [
            PROVIDERS[name]
            for name in ("cuda", "cpu")
            if name != kind and PROVIDERS[name] in onnxruntime.get_available_providers()
        ]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider, *fallback])
            entries = self._session.get_modelmeta().custom_metadata_map
            values = (self._session.get_inputs(), self._session.get_outputs())
            shapes = [{value.name: tuple(map(_side, value.shape)) for value in several} for several in values]
        except Exception as error:  # every failure has a class of its own, none of them public
            raise WeightsError(
                f"{path} cannot be loaded by ONNX Runtime ({_first_line(error)}); export the model again"
            ) from error
        self.description = contract.read_description(str(path), entries)
        self.batch = contract.check_signature(str(path), self.description, *shapes)
        if precision not in (None, self.description.precision):
            raise ConfigError(
                f"precision {precision} is not that of {path} ({self.description.precision}), which ONNX Runtime computes in; "
                "leave it out, take --engine openvino, or make an int8 file with tdtrack quantize"
            )
        self._outputs = contract.output_names(self.description)
        used = {provider: name for name, provider in PROVIDERS.items()}.get(self._session.get_providers()[0], "cpu")
        self.label = f"ONNX Runtime {onnxruntime.__version__}, {used}, {self.description.precision}"

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name.

        Raises:
            ShapeError: the graph failed on these images.
        """
        try:
            values = self._session.run(self._outputs, {contract.IMAGES: images})
        except Exception as error:  # see above
            raise ShapeError(f"ONNX Runtime failed on images of shape {images.shape} ({_first_line(error)})") from error
        return dict(zip(self._outputs, values))


def _side(side: Any) -> int | None:
    return side if isinstance(side, int) else None


def _best_device() -> str:
    return "cuda" if PROVIDERS["cuda"] in onnxruntime.get_available_providers() else "cpu"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
