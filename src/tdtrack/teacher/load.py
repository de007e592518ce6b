"""Any Re-ID network as a teacher, behind one small interface.

ONNX files and Python callables work without torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from tdtrack.data.store import MAX_DIM
from tdtrack.errors import ConfigError, MissingExtraError, ShapeError, WeightsError
from tdtrack.teacher.crops import check_crops, normalise_crops, resize_crops, unit_rows
from tdtrack.teacher.zoo import CHECKPOINTS, find_checkpoint
from tdtrack.types import FloatArray, Image

__all__ = ["ARCHITECTURES", "CallableTeacher", "OnnxTeacher", "Teacher", "load_teacher"]

ARCHITECTURES = (
    "osnet_x1_0",
    "osnet_x0_75",
    "osnet_x0_5",
    "osnet_x0_25",
    "osnet_ibn_x1_0",
    "osnet_ain_x1_0",
    "osnet_ain_x0_75",
    "osnet_ain_x0_5",
    "osnet_ain_x0_25",
    "resnet50",
    "resnet50_fc512",
)
"""Names of the networks we build ourselves; torchreid's names, kept here so that listing them needs no torch."""

_CHECKPOINTS = (".pth", ".pt", ".tar", ".safetensors")
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")
"""Begins an entry of ONNX's ``external_data``, a message of two texts: the key, then the length of the file's name."""

_CHUNK = 64  # crops per call of an ONNX graph with free batch size


@runtime_checkable
class Teacher(Protocol):
    """What annotation and two-stage tracking need of a Re-ID network.

    Attributes:
        name: for people.
        dim: D_t, numbers per embedding.
        fingerprint: changes whenever the embeddings would.
        input_height: height crops are resized to, in pixels; 0 if the teacher takes them as they are.
        input_width: width crops are resized to, in pixels; 0 if the teacher takes them as they are.
    """

    name: str
    dim: int
    fingerprint: str
    input_height: int
    input_width: int

    def embed(self, crops: Sequence[Image]) -> FloatArray:
        """Embeddings of crops.

        Args:
            crops: ``N`` RGB uint8 images of any size.

        Returns:
            ``(N, D_t)`` float32 of unit length; ``(0, D_t)`` for none.
        """
        ...


def load_teacher(
    name_or_file: str | Path | Teacher | Callable[[list[Image]], ArrayLike],
    weights: str | Path | None = None,
    device: str | None = None,
) -> Teacher:
    """Load a Re-ID network of any kind.

    Args:
        name_or_file: one of ``ARCHITECTURES`` (with ``weights``); one of ``tdtrack.teacher.zoo.CHECKPOINTS``, whose file the
            user has put into the weights folder; an ``.onnx`` file; a ``.safetensors`` file made by ``tdtrack train-teacher``;
            a torchreid checkpoint, whose architecture is then told from its contents; a callable from a list of ``N`` RGB
            uint8 crops to ``(N, D)`` numbers; or a teacher, which is returned as it is.
        weights: checkpoint of a named architecture.
        device: "cpu", "cuda", "cuda:1" ...; ``None`` takes a GPU if there is one.

    Returns:
        A teacher whose ``embed`` takes RGB uint8 crops of any size and gives ``(N, D_t)`` float32 rows of unit length.

    Raises:
        ConfigError: an unknown name (the nearest known one is named) or device.
        WeightsError: the file is missing, unreadable or of another architecture, or a named network has no weights.
        MissingExtraError: torch or ONNX Runtime is needed and not installed.

    Example:
        >>> teacher = load_teacher("osnet_x0_25", "osnet_x0_25_msmt17.pth")  # doctest: +SKIP
        >>> teacher.embed([crop]).shape  # doctest: +SKIP
        (1, 512)
    """
    if not isinstance(name_or_file, (str, Path)):
        if isinstance(name_or_file, Teacher):
            return name_or_file
        if callable(name_or_file):
            return CallableTeacher(name_or_file)
        raise ConfigError(f"a teacher is a name, a file or a callable, not {type(name_or_file).__name__}")
    name = str(name_or_file)
    if name in ARCHITECTURES:
        if weights is None:
            raise WeightsError(
                f"{name} was asked for without weights; pass a checkpoint trained for Re-ID as weights= (--weights), for "
                f"instance {_checkpoints_of(name)} or one made by tdtrack train-teacher"
            )
        if Path(weights).suffix == ".onnx":
            raise WeightsError(f"{weights}: an ONNX file holds its own network; pass it as the teacher, without weights")
        return _network(name, Path(weights), device)
    if name in CHECKPOINTS:
        if weights is not None:
            raise ConfigError(
                f"teacher {name!r} is a trained network, but weights={str(weights)!r} was given too; drop one, or name the "
                f"architecture {CHECKPOINTS[name].architecture} alone"
            )
        return _network(CHECKPOINTS[name].architecture, find_checkpoint(name), device)
    path = Path(name_or_file)
    if path.suffix not in (".onnx", *_CHECKPOINTS):
        nearest = get_close_matches(name, [*ARCHITECTURES, *CHECKPOINTS], n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"unknown teacher {name!r}; did you mean {nearest}? Known are {', '.join(ARCHITECTURES)}, what tdtrack teachers "
            f"lists, and files that end in .onnx, {', '.join(_CHECKPOINTS)}"
        )
    if weights is not None:
        raise ConfigError(
            f"teacher {name!r} is a file with its own weights, but weights={str(weights)!r} was given too; drop one"
        )
    if not path.is_file():
        raise WeightsError(f"{path}: no such teacher file; check the path, tdtrack teachers lists what can be had")
    return OnnxTeacher(path, device) if path.suffix == ".onnx" else _network(None, path, device)


def _checkpoints_of(architecture: str) -> str:
    """Name the known checkpoints of an architecture, for a message."""
    names = [name for name, known in CHECKPOINTS.items() if known.architecture == architecture]
    return " or ".join(names) + " of torchreid's model zoo" if names else "one of torchreid's model zoo"


def _network(architecture: str | None, weights: Path, device: str | None) -> Teacher:
    for package in ("torch", "torchvision", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train", f"the teacher {architecture or weights}")
    from tdtrack.teacher.network_teacher import network_teacher

    return network_teacher(architecture, weights, device)


class OnnxTeacher:
    """An exported Re-ID network, run by ONNX Runtime.

    The graph takes one float ``(N, 3, H, W)`` input, RGB normalised by ImageNet's statistics, with free or fixed ``N``, and
    gives ``(N, D)`` first.

    Attributes:
        name: file name without its ending.
        dim: D_t.
        fingerprint: SHA-256 over the file, files beside it that hold its weights, and the crop size.
        input_height: read from the graph; 256 where it is free (Sec. 3.3).
        input_width: read from the graph; 128 where it is free (Sec. 3.3).
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        """Open a graph and run it once.

        Args:
            path: the ``.onnx`` file.
            device: "cpu" or "cuda"; ``None`` takes a GPU if ONNX Runtime has one.

        Raises:
            WeightsError: not a readable ONNX file, or its input or output is not an image batch and a feature batch.
            ConfigError: ONNX Runtime lacks the device.
            MissingExtraError: ONNX Runtime is not installed.
        """
        self._session = _open_session(path, device)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else None
        if shape is None or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            found = ", ".join(f"{entry.name} {entry.shape}" for entry in inputs)
            raise WeightsError(f"{path}: takes {found}; a teacher takes one batch of RGB images (N, 3, H, W)")
        batch, _, height, width = shape
        self._input = inputs[0].name
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self._fixed_batch = batch if isinstance(batch, int) and batch > 0 else None
        self.name = path.stem
        self.input_height = height if isinstance(height, int) else 256
        self.input_width = width if isinstance(width, int) else 128
        digest = sha256()
        for file in (path, *_external_data(path)):
            digest.update(file.read_bytes())
        digest.update(f"{self.input_height}x{self.input_width}".encode())
        self.fingerprint = digest.hexdigest()
        probe = self._run(np.zeros((1, self.input_height, self.input_width, 3), dtype=np.uint8))
        self.dim = probe.shape[1]
        if self.dim > MAX_DIM:
            raise WeightsError(
                f"{path}: gives {self.dim} numbers for a crop, no embedding has more than {MAX_DIM}; a detector is "
                "taught with tdtrack teach --detector"
            )

    def features(self, crops: Sequence[Image]) -> FloatArray:
        """What the graph gives, before normalisation.

        Args:
            crops: ``N`` RGB uint8 images of any size.

        Returns:
            ``(N, D_t)`` float32; ``(0, D_t)`` for none.

        Raises:
            ShapeError: a crop is not an RGB uint8 image, or empty.
        """
        check_crops(crops)
        features = np.empty((len(crops), self.dim), dtype=np.float32)
        chunk = self._fixed_batch or _CHUNK
        for start in range(0, len(crops), chunk):
            resized = resize_crops(crops[start : start + chunk], self.input_height, self.input_width)
            features[start : start + len(resized)] = self._run(resized)
        return features

    def embed(self, crops: Sequence[Image]) -> FloatArray:
        """Embeddings of crops.

        Args:
            crops: ``N`` RGB uint8 images of any size.

        Returns:
            ``(N, D_t)`` float32 of unit length; ``(0, D_t)`` for none.

        Raises:
            ShapeError: a crop is not an RGB uint8 image, or empty.
        """
        return unit_rows(self.features(crops))

    def _run(self, resized: np.typing.NDArray[np.uint8]) -> FloatArray:
        count = len(resized)
        images = normalise_crops(resized).astype(self._dtype, copy=False)
        if self._fixed_batch is not None and count < self._fixed_batch:
            filler = np.zeros((self._fixed_batch - count, *images.shape[1:]), dtype=images.dtype)
            images = np.concatenate([images, filler])
        output = np.asarray(self._session.run(None, {self._input: images})[0], dtype=np.float32)
        if output.ndim < 2 or len(output) != len(images):
            raise WeightsError(f"{self.name}.onnx: gives shape {output.shape} for {len(images)} crops; a teacher gives (N, D)")
        return output.reshape(len(output), -1)[:count]


def _external_data(path: Path) -> list[Path]:
    """Return the files that an ONNX file keeps weights in, each once; whether they are there, opening it has shown."""
    content = path.read_bytes()
    entries = _LOCATION.finditer(content)
    names = [content[entry.end() : entry.end() + entry.group(1)[0]].decode("utf-8", "replace") for entry in entries]
    return [file for name in dict.fromkeys(names) if (file := path.parent / name).is_file()]


def _open_session(path: Path, device: str | None) -> Any:
    if find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "train", f"the teacher {path}")
    import onnxruntime

    available = onnxruntime.get_available_providers()
    kind, colon, number = (device or "cuda").partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not number.isdigit()):
        raise ConfigError(f"device {device!r} is unknown; choose 'cpu', 'cuda' or one GPU such as 'cuda:1'")
    provider = "CUDAExecutionProvider" if kind == "cuda" else "CPUExecutionProvider"  # a Mac's GPU is for torch only
    if provider not in available:
        if device is not None:
            raise ConfigError(
                f"device {device!r} needs {provider}, and this ONNX Runtime has {', '.join(available)}; try 'cpu'"
            )
        provider = "CPUExecutionProvider"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # exporters leave harmless warnings in most graphs
    settings = {"device_id": number or "0"} if provider == "CUDAExecutionProvider" else {}
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise WeightsError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from error


class CallableTeacher:
    """Any Python function from crops to vectors.

    Attributes:
        name: the function's module and name.
        dim: D_t, found by running it once.
        fingerprint: SHA-256 over the name and the output for fixed crops; a function whose behaviour changes elsewhere
            keeps its fingerprint.
        input_height: 0, the function resizes for itself.
        input_width: 0, the function resizes for itself.
    """

    def __init__(self, function: Callable[[list[Image]], ArrayLike]) -> None:
        """Wrap a function and run it once.

        Args:
            function: takes a list of ``N`` RGB uint8 crops, gives ``(N, D)`` numbers of any length.

        Raises:
            ShapeError: the function gives something else.
        """
        self._function = function
        described = function if hasattr(function, "__qualname__") else type(function)
        self.name = f"{described.__module__}.{described.__qualname__}"
        self.input_height = self.input_width = 0
        generator = np.random.default_rng(0)
        probe = [generator.integers(0, 256, (height, 48, 3), dtype=np.uint8) for height in (96, 128)]
        output = self._call(probe)
        self.dim = output.shape[1]
        # float16, because summation order may differ between machines in the last bits of a float32
        digest = sha256(self.name.encode() + unit_rows(output).astype(np.float16).tobytes())
        self.fingerprint = digest.hexdigest()

    def features(self, crops: Sequence[Image]) -> FloatArray:
        """What the function gives, before normalisation.

        Args:
            crops: ``N`` RGB uint8 images of any size.

        Returns:
            ``(N, D_t)`` float32; ``(0, D_t)`` for none, without a call.

        Raises:
            ShapeError: a crop is not an RGB uint8 image, or the function gives another shape than before, or no numbers.
        """
        check_crops(crops)
        if len(crops) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        output = self._call(list(crops))
        if output.shape[1] != self.dim:
            raise ShapeError(f"teacher {self.name} gave {output.shape[1]} numbers a crop, {self.dim} before")
        return output

    def embed(self, crops: Sequence[Image]) -> FloatArray:
        """Embeddings of crops.

        Args:
            crops: ``N`` RGB uint8 images of any size.

        Returns:
            ``(N, D_t)`` float32 of unit length; ``(0, D_t)`` for none.

        Raises:
            ShapeError: a crop is not an RGB uint8 image, or the function gives another shape than before, or no numbers.
        """
        return unit_rows(self.features(crops))

    def _call(self, crops: list[Image]) -> FloatArray:
        output = np.asarray(self._function(crops), dtype=np.float32)
        if output.ndim != 2 or len(output) != len(crops) or output.shape[1] == 0:
            raise ShapeError(
                f"teacher {self.name} gave shape {output.shape} for {len(crops)} crops, expected ({len(crops)}, D)"
            )
        if not np.isfinite(output).all():
            raise ShapeError(f"teacher {self.name} gave values that are not finite")
        return output
