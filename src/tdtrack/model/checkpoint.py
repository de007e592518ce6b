"""The joint model on disk: one safetensors file that says what it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tdtrack.config import ModelConfig
from tdtrack.errors import ConfigError, OutputError, WeightsError
from tdtrack.files import atomic_write, reason_of
from tdtrack.model.joint import JointModel
from tdtrack.model.target import TeacherTarget

__all__ = [
    "MODEL_FILE",
    "load_model",
    "load_weights",
    "read_metadata",
    "read_pickled",
    "read_teacher_target",
    "save_model",
    "write_pickled",
]

MODEL_FILE = "model.safetensors"
"""Name of the final model in a run folder."""

_HEADER_KEY = "tdtrack"
_FORMAT = 1


def save_model(path: Path | str, model: JointModel, metadata: Mapping[str, Any]) -> None:
    """Write weights, architecture and metadata into one file, all or nothing.

    Args:
        path: file to write; its folder is made if missing.
        model: the model.
        metadata: anything JSON can hold that should travel with the weights.

    Raises:
        OutputError: the file cannot be written; names it and the reason.
    """
    header = {"format": _FORMAT, "model": asdict(model.config), "metadata": dict(metadata)}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = safetensors.torch.save(tensors, {_HEADER_KEY: json.dumps(header)})
    with atomic_write(path, "wb") as file:
        file.write(content)


def load_model(path: Path | str) -> tuple[JointModel, dict[str, Any]]:
    """Read a model back, in evaluation mode on the CPU.

    Args:
        path: a ``.safetensors`` file that :func:`save_model` wrote, or a run folder that holds ``model.safetensors``.

    Returns:
        The model and the metadata it was saved with. Its ``config.pretrained`` is False: nothing is downloaded.

    Raises:
        WeightsError: there is no such file, it is not a model of ours, or weights and architecture do not fit (names
            the first key that differs and both shapes).
    """
    file = _model_file(path)
    header = _read_header(file)
    config = replace(_model_config(file, header["model"]), pretrained=False)
    target = read_teacher_target(file)
    with torch.device("meta"):  # a header may claim any size: no memory is taken before the weights are seen to be there
        outline = JointModel(config)
    outline.teacher_target = target
    _check_fit(file, _shapes(file), outline.state_dict())
    model = JointModel(config)
    model.teacher_target = target
    load_weights(model, file)
    return model.eval(), header["metadata"]


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Read only the metadata of a saved model; same path and errors as :func:`load_model`."""
    metadata: dict[str, Any] = _read_header(_model_file(path))["metadata"]
    return metadata


def read_teacher_target(path: Path | str) -> TeacherTarget | None:
    """Read only what a saved model learned of its teacher; same path and errors as :func:`load_model`.

    Returns:
        Mean and directions; ``None`` for a model that learned the teacher's first numbers.
    """
    file = _model_file(path)
    _read_header(file)
    with safetensors.safe_open(file, framework="pt") as opened:
        if not {"teacher_target.mean", "teacher_target.directions"} <= set(opened.keys()):
            return None
        return TeacherTarget(opened.get_tensor("teacher_target.mean"), opened.get_tensor("teacher_target.directions"))


def read_pickled(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read tensors and plain values that ``torch.save`` wrote, running no code from the file.

    Args:
        path: the file.
        device: where the tensors go.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything else.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file stops the unpickler anywhere, with whatever that place raises
        reason = reason_of(error) if isinstance(error, OSError) else "damaged, or more than tensors and plain values"
        raise WeightsError(f"{path} cannot be read as a checkpoint ({reason})") from error


def write_pickled(path: Path, content: Any) -> None:
    """Write tensors and plain values as :func:`read_pickled` reads them, all or nothing.

    Args:
        path: file to write.
        content: tensors and plain values in dictionaries and lists.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # all that its writer says of a file that takes no more bytes
            raise OutputError(f"cannot write {path}: it ends early, perhaps for want of space ({error!s:.80})") from error


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Fill a model with saved weights, every one of them.

    Args:
        model: any module; left as it was when the weights do not fit.
        path: as in :func:`load_model`.

    Raises:
        WeightsError: the file cannot be read, or keys and shapes are not exactly the model's; names the first that
            differs and both shapes.
    """
    file = _model_file(path)
    try:
        tensors = safetensors.torch.load_file(file)
    except OSError as error:
        raise WeightsError(f"cannot read {file}: {reason_of(error)}") from error
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{file} is damaged or not a safetensors file ({error})") from error
    _check_fit(file, tensors, model.state_dict())
    model.load_state_dict(tensors)


def _check_fit(file: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    mends = "load it into the architecture it was trained as"
    for key, value in wanted.items():
        if key not in tensors:
            raise WeightsError(f"{file} has no {key}, the model expects it with shape {tuple(value.shape)}; {mends}")
        if tensors[key].shape != value.shape:
            got, want = tuple(tensors[key].shape), tuple(value.shape)
            raise WeightsError(f"{file}: {key} has shape {got}, the model expects {want}; {mends}")
    for key, value in tensors.items():
        if key not in wanted:
            raise WeightsError(f"{file} holds {key} with shape {tuple(value.shape)}, the model has no such weight; {mends}")


def _model_file(path: Path | str) -> Path:
    """Return the file a run folder or file path means."""
    file = Path(path)
    if file.suffix.lower() == ".onnx":
        raise WeightsError(f"{path} is an exported model; give the run folder or .safetensors file that it was made from")
    if file.is_dir():
        file = file / MODEL_FILE
        if not file.is_file():
            raise WeightsError(f"{path} holds no {MODEL_FILE}; give a run folder whose training has finished")
    elif not file.is_file():
        raise WeightsError(f"{path} does not exist; give a run folder or a .safetensors file")
    return file


def _read_header(file: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            entries = opened.metadata() or {}
    except OSError as error:
        raise WeightsError(f"cannot read {file}: {reason_of(error)}") from error
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{file} is damaged or not a safetensors file ({error})") from error
    if _HEADER_KEY not in entries:
        raise WeightsError(
            f"{file} is not a tdtrack model: its header has no {_HEADER_KEY!r} entry; give one that training wrote"
        )
    try:
        header: dict[str, Any] = json.loads(entries[_HEADER_KEY])
        version = header["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{file} has a damaged {_HEADER_KEY!r} header entry ({error!r}); train or copy it again") from error
    if version != _FORMAT:
        raise WeightsError(f"{file} has format {version}, this version reads {_FORMAT}; use the version that wrote it")
    if not isinstance(header.get("model"), dict) or not isinstance(header.get("metadata"), dict):
        raise WeightsError(
            f"{file} has a damaged {_HEADER_KEY!r} header entry: model and metadata must be objects; copy it again"
        )
    return header


def _model_config(file: Path, values: Mapping[str, Any]) -> ModelConfig:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        config = ModelConfig(**fields)
        for setting in dataclasses.fields(config):
            _check_type(setting.name, fields.get(setting.name, setting.default), setting.default)
        return config
    except (TypeError, ConfigError) as error:
        raise WeightsError(f"{file} describes an architecture this version cannot build ({error}); update tdtrack") from error


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse a setting of another type than its default; whole numbers are numbers too."""
    if isinstance(default, tuple):
        if not isinstance(value, tuple):
            raise TypeError(f"{name} is {value!r:.80}, not a list")
        for item in value:
            _check_type(name, item, default[0])
    elif type(value) is not type(default) and not (type(default) is float and type(value) is int):
        raise TypeError(f"{name} is {value!r:.80}, not of type {type(default).__name__}")


def _shapes(file: Path) -> dict[str, Any]:
    """Return what has the shape of each saved weight, without reading any."""
    with safetensors.safe_open(file, framework="pt") as opened:
        return {key: torch.empty(opened.get_slice(key).get_shape(), device="meta") for key in opened.keys()}  # noqa: SIM118
