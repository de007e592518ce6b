"""OpenVINO as the machine under an exported model: fp32, bf16 where the processor has it, int8."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.errors import ConfigError, MissingExtraError, ShapeError, WeightsError
from tdtrack.runtime import contract

try:
    import openvino
except ImportError as error:
    raise MissingExtraError("openvino", "openvino", "running a model in OpenVINO") from error

__all__ = ["OpenVinoSession"]

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8 is in the file; what is not quantised stays exact


class OpenVinoSession:
    """See ``tdtrack.runtime.exported.Session``."""

    def __init__(self, path: Path, *, device: str | None = None, precision: str | None = None) -> None:
        """Compile the file and check it.

        Args:
            path: the ``.onnx`` file.
            device: "cpu", or OpenVINO's name of another device ("GPU", "NPU"); ``None`` takes the CPU.
            precision: "fp32", or "bf16" where the processor computes in it; ``None`` takes the file's own.

        Raises:
            WeightsError: the file is damaged, or not a tdtrack model.
            ConfigError: the device or the precision cannot be had.
        """
        core = _core()
        where = (device or "cpu").upper()
        if where.partition(".")[0] not in core.available_devices and where not in core.available_devices:
            raise ConfigError(
                f"device {device!r} cannot be used: OpenVINO finds {', '.join(core.available_devices)}; choose one of them"
            )
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise WeightsError(f"{path} cannot be loaded by OpenVINO ({_first_line(error)}); export the model again") from error
        self.description = contract.read_description(str(path), _metadata(model))
        shapes = [
            {
                value.get_any_name(): tuple(side.get_length() if side.is_static else None for side in value.partial_shape)
                for value in values
            }
            for values in (model.inputs, model.outputs)
        ]
        self.batch = contract.check_signature(str(path), self.description, *shapes)
        self.precision = self._choose_precision(path, precision, core, where)
        try:
            self._compiled = core.compile_model(
                model, where, {"INFERENCE_PRECISION_HINT": _HINTS[self.precision], "PERFORMANCE_HINT": "LATENCY"}
            )
        except RuntimeError as error:
            raise WeightsError(f"{path} cannot be compiled by OpenVINO for {where} ({_first_line(error)})") from error
        self._names = contract.output_names(self.description)
        self.label = f"OpenVINO {openvino.__version__.partition('-')[0]}, {where.lower()}, {self.precision}"

    def _choose_precision(self, path: Path, wanted: str | None, core: Any, where: str) -> str:
        """Refuse a precision that would silently be another one."""
        own = self.description.precision
        if wanted in (None, own):
            return own
        if own == "int8" or wanted != "bf16":
            raise ConfigError(
                f"precision {wanted} cannot be had from {path}, which is {own}; make an int8 file with tdtrack quantize"
            )
        able = core.get_property(where, "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in able:
            raise ConfigError(f"precision bf16 cannot be used: this processor has {', '.join(able)}; leave it out")
        return "bf16"

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name.

        Raises:
            ShapeError: the graph failed on these images.
        """
        try:
            values = self._compiled(images, share_inputs=True)
        except RuntimeError as error:
            raise ShapeError(f"OpenVINO failed on images of shape {images.shape} ({_first_line(error)})") from error
        return {name: values[name] for name in self._names}


@cache
def _core() -> Any:
    """Return the process's one core, never destroyed.

    Every core gives the process an alternative signal stack and puts back, when it goes, the one that it found: of two that go
    in the order they came, the second puts back the first's freed one, and the next signal, be it Ctrl-C, ends the process with
    a segmentation fault (seen with OpenVINO 2026.4.1).
    """
    return openvino.Core()


def _metadata(model: Any) -> dict[str, str]:
    """Return the ONNX file's metadata, which OpenVINO keeps under ``framework``."""
    key = ["framework", contract.METADATA_KEY]
    return {contract.METADATA_KEY: str(model.get_rt_info(key).value)} if model.has_rt_info(key) else {}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
