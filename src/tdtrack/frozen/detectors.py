"""Opening a detector, whatever it comes as: an ONNX file, a trained model of ours, or a torch network.

All become an ONNX graph, so that reading, teaching and merging know one kind.
"""

from __future__ import annotations

import difflib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from onnx import helper, load_model_from_string
from torch import Tensor, nn

from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.frozen.graph import DetectorGraph, read_graph, read_model
from tdtrack.model import load_model
from tdtrack.runtime.export import OPSET, build_model

__all__ = ["TORCHVISION", "open_detector", "trace_detector"]

TORCHVISION = "torchvision:"
"""Prefix of a torchvision detection model's name."""

_DEFAULT_SIZE = (608, 1088)  # the paper's


def open_detector(detector: str, *, weights: str | None = None, input_size: tuple[int, int] | None = None) -> DetectorGraph:
    """Open a detector.

    Args:
        detector: an ``.onnx`` file; a run folder or ``.safetensors`` file of ours; or ``torchvision:NAME`` for a model of
            ``torchvision.models.detection``, for instance ``torchvision:fasterrcnn_resnet50_fpn``.
        weights: state dict of a torchvision model; it is read without running code from it.
        input_size: height and width in pixels, where the detector leaves them open; torchvision's take 608x1088 without.

    Raises:
        WeightsError: the file is missing, damaged, or no detector.
        ConfigError: the name is unknown, or weights or a size are given where they mean nothing.
    """
    if detector.startswith(TORCHVISION):
        return _torchvision(detector.removeprefix(TORCHVISION), weights, input_size or _DEFAULT_SIZE)
    if weights is not None:
        raise ConfigError(f"detector weights {weights} are for {TORCHVISION}NAME; {detector} holds its own")
    path = Path(detector)
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        return read_graph(path, input_size)
    if not path.exists():
        raise WeightsError(
            f"{path} does not exist; give an .onnx file, a run folder, a .safetensors file or {TORCHVISION}NAME as the detector"
        )
    network, metadata = load_model(path)
    height, width = input_size or (metadata["input_height"], metadata["input_width"])
    built, _ = build_model(network, height, width, metadata=metadata, detect=DetectConfig(), embedding="none")
    return read_model(str(path), built)


def trace_detector(
    module: nn.Module,
    height: int,
    width: int,
    *,
    features: Sequence[str] = (),
    classes: Sequence[str] = (),
    output_names: Sequence[str] | None = None,
    label: str | None = None,
) -> DetectorGraph:
    """Make a graph of a torch detector.

    Args:
        module: takes ``(B, 3, H, W)`` float32 and gives one tensor or a tuple of tensors, of a family that
            ``tdtrack.frozen.description`` knows.
        height: of the input, in pixels.
        width: of the input, in pixels.
        features: names of submodules whose outputs are to be feature maps, as ``module.named_modules`` gives them; they become
            values of the graph under these names.
        classes: class names, in the order of the detector's class ids.
        output_names: of the outputs, in order.
        label: what messages call it.

    Returns:
        The graph, to be given to ``describe_detector`` and ``merge``.

    Raises:
        ConfigError: there is no submodule of that name.
        WeightsError: the network cannot be traced.
    """
    label = label or type(module).__name__
    known = dict(module.named_modules())
    for name in features:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigError(f"{label} has no submodule {name!r}; did you mean {', '.join(near)}?")
    traced = _Hooked(module.eval(), features)
    images = torch.zeros(1, 3, height, width)
    buffer = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that sizes become constants is the purpose
            count = len(traced(images)) - len(features)
            names = list(output_names or [f"output_{index}" for index in range(count)])
            torch.onnx.export(
                traced,
                (images,),
                buffer,  # type: ignore[arg-type]  # without dynamo a file object will do
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[*names, *features],
            )
    except Exception as error:  # tracing fails in as many ways as there are networks
        raise WeightsError(f"{label} cannot be traced ({str(error).strip().splitlines()[0][:200]})") from error
    model = load_model_from_string(buffer.getvalue())
    kept = [output for output in model.graph.output if output.name not in features]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    if classes:
        helper.set_model_props(model, {"names": str(dict(enumerate(classes)))})
    return read_model(label, model, pinned=features)


class _Hooked(nn.Module):
    """A network that also gives what some of its submodules gave."""

    def __init__(self, module: nn.Module, features: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self._seen: dict[str, Tensor] = {}
        self._features = tuple(features)
        for name in features:
            module.get_submodule(name).register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._seen[name] = output

        return keep

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.module(images)
        outputs = (found,) if isinstance(found, Tensor) else tuple(found)
        return (*outputs, *(self._seen[name].clone() for name in self._features))


def _torchvision(name: str, weights: str | None, size: tuple[int, int]) -> DetectorGraph:
    """Build a torchvision detector and trace it at a fixed size."""
    names = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"torchvision has no detection model {name!r}; did you mean {near}?")
    state: Mapping[str, Tensor] | None = None
    if weights is not None:
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:  # a pickle that is none, or one that would run code
            raise WeightsError(f"{weights} is not a state dict ({str(error).splitlines()[0][:120]})") from error
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    if state is not None:
        try:
            model.load_state_dict(state)
        except (RuntimeError, AttributeError) as error:
            raise WeightsError(f"{weights} does not fit {name} ({str(error).splitlines()[-1].strip()[:120]})") from error
    names_of = torchvision.models.get_model_weights(name).DEFAULT.meta["categories"]
    return trace_detector(
        _Unresized(model, size),
        *size,
        classes=names_of,
        output_names=("boxes", "labels", "scores"),
        label=f"{TORCHVISION}{name}",
    )


class _Unresized(nn.Module):
    """A torchvision detector that takes its input as it comes, one image of a fixed size."""

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self._size = size
        transform: Any = model.transform
        transform.resize = lambda image, target: (image, target)
        transform.batch = self._batch

    def _batch(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:  # noqa: ARG002
        return torch.stack(images)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.model([images[0]])[0]
        return found["boxes"], found["labels"], found["scores"]
