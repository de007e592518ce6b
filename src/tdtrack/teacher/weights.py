"""Teacher networks by name, and the checkpoints that fill them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tdtrack.errors import WeightsError
from tdtrack.model.checkpoint import read_pickled
from tdtrack.teacher import osnet, resnet

__all__ = ["NETWORKS", "build_network", "fill_network", "fitting_architecture", "read_checkpoint", "weights_hash"]

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "osnet_x1_0": osnet.osnet_x1_0,
    "osnet_x0_75": osnet.osnet_x0_75,
    "osnet_x0_5": osnet.osnet_x0_5,
    "osnet_x0_25": osnet.osnet_x0_25,
    "osnet_ibn_x1_0": osnet.osnet_ibn_x1_0,
    "osnet_ain_x1_0": osnet.osnet_ain_x1_0,
    "osnet_ain_x0_75": osnet.osnet_ain_x0_75,
    "osnet_ain_x0_5": osnet.osnet_ain_x0_5,
    "osnet_ain_x0_25": osnet.osnet_ain_x0_25,
    "resnet50": resnet.resnet50,
    "resnet50_fc512": resnet.resnet50_fc512,
}
"""Architectures by torchreid's names; each call gives random weights."""

# torchreid's trainer stores rank-1, a NumPy number, beside the weights; these make numbers and nothing else
_SCALAR: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
_NUMPY_SCALARS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
]
_COUNTER = "num_batches_tracked"  # counts training steps; no output depends on it, and old checkpoints lack it


def build_network(architecture: str) -> nn.Module:
    """A network with random weights, ready for weights or for training.

    Args:
        architecture: a key of ``NETWORKS``.

    Returns:
        The network in training mode, with an attribute ``feature_dim``.
    """
    return NETWORKS[architecture]()


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a Re-ID network from disk, without running any code they may carry.

    Args:
        path: a ``.safetensors`` file, or a pickled state dict, perhaps wrapped as ``{"state_dict": ...}``.

    Returns:
        Tensors by name, without ``module.`` prefixes and without the identity classifier, which belongs to the data the
        network was trained on; and the metadata of a teacher file (empty for anything else). Where there was a classifier,
        the metadata say of how many identities under ``"dropped_classifier"``.

    Raises:
        WeightsError: the file is missing, unreadable or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; check the path, tdtrack teachers lists what can be had")
    metadata: dict[str, Any] = {}
    loaded: Any
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("tdtrack", "{}"))
                loaded = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    else:
        try:
            with torch.serialization.safe_globals(_NUMPY_SCALARS):
                loaded = read_pickled(path)
        except WeightsError as error:
            raise WeightsError(f"{error}; save the network's state dict alone") from error
        if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
            loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors; save the network's state dict")
    named = {str(key).removeprefix("module."): value for key, value in loaded.items()}
    if (classifier := named.get("classifier.weight")) is not None:
        metadata = {**metadata, "dropped_classifier": len(classifier)}
    return {key: value for key, value in named.items() if not key.startswith("classifier.")}, metadata


def fill_network(network: nn.Module, architecture: str, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights in full, or not at all.

    Args:
        network: what to fill, in place.
        architecture: its name, for messages.
        weights: tensors by name, as ``read_checkpoint`` gives them.
        where: the file they came from, for messages.

    Raises:
        WeightsError: names the first key that is missing, unexpected or of another shape, with both shapes, and the
            architecture the weights do fit if there is one.
    """
    problem = _first_mismatch(network.state_dict(), weights)
    if problem is not None:
        fitting = fitting_architecture(weights)
        hint = f"these weights fit {fitting}" if fitting else "they fit none of " + ", ".join(NETWORKS)
        raise WeightsError(f"{where}: does not fit {architecture}: {problem}; {hint}")
    network.load_state_dict(dict(weights), strict=False)  # all but step counters was compared above


def fitting_architecture(weights: Mapping[str, Tensor]) -> str | None:
    """Name of the architecture whose names and shapes these weights have, ``None`` if there is none.

    Args:
        weights: tensors by name, as ``read_checkpoint`` gives them.
    """
    with torch.device("meta"):
        for name, build in NETWORKS.items():
            if _first_mismatch(build().state_dict(), weights) is None:
                return name
    return None


def _first_mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    for key, tensor in wanted.items():
        if key.endswith(_COUNTER):
            continue
        if key not in found:
            return f"{key} {tuple(tensor.shape)} is missing"
        if found[key].shape != tensor.shape:
            return f"{key} has shape {tuple(found[key].shape)}, expected {tuple(tensor.shape)}"
    unexpected = next((key for key in found if key not in wanted), None)
    return None if unexpected is None else f"{unexpected} {tuple(found[unexpected].shape)} is unexpected"


def weights_hash(network: nn.Module) -> str:
    """SHA-256 over everything a network's output depends on.

    Args:
        network: on any device.

    Returns:
        Hexadecimal digest over names, shapes and float32 values; the file format they came from plays no part.
    """
    digest = sha256()
    for key, tensor in sorted(network.state_dict().items()):
        if not key.endswith(_COUNTER):
            digest.update(f"{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
