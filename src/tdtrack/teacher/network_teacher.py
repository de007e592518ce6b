"""A teacher that is one of our own networks (needs torch)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tdtrack.errors import ConfigError, WeightsError
from tdtrack.teacher.crops import IMAGENET_MEAN, IMAGENET_STD, check_crops, resize_crops, unit_rows
from tdtrack.teacher.weights import NETWORKS, build_network, fill_network, fitting_architecture, read_checkpoint, weights_hash
from tdtrack.types import FloatArray, Image

__all__ = ["NetworkTeacher", "network_teacher"]

_CHUNK = 128  # crops per forward pass; bounds memory whatever the caller hands over


class NetworkTeacher:
    """A Re-ID network with its weights and preprocessing.

    Attributes:
        name: the architecture.
        dim: D_t.
        fingerprint: SHA-256 over the weights, the architecture and the crop size.
        input_height: height crops are resized to, in pixels.
        input_width: width crops are resized to, in pixels.
        network: the network itself, in evaluation mode.
        device: where it runs.
        remark: what of its checkpoint was left out; empty when nothing was.
    """

    remark = ""

    def __init__(self, architecture: str, network: nn.Module, height: int, width: int, device: torch.device) -> None:
        """Take a filled network into service.

        Args:
            architecture: its name.
            network: with weights; put into evaluation mode and moved here.
            height: of its input, in pixels.
            width: of its input, in pixels.
            device: where to run.
        """
        self.name = architecture
        self.dim = int(network.feature_dim)  # type: ignore[arg-type]
        self.input_height = height
        self.input_width = width
        self.fingerprint = sha256(f"{architecture} {height}x{width} {weights_hash(network)}".encode()).hexdigest()
        self.device = device
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255

    def features(self, crops: Sequence[Image]) -> FloatArray:
        """What the network gives, before normalisation.

        Args:
            crops: ``N`` RGB uint8 images of any size.

        Returns:
            ``(N, D_t)`` float32; ``(0, D_t)`` for none.

        Raises:
            ShapeError: a crop is not an RGB uint8 image, or empty.
        """
        check_crops(crops)
        features = np.empty((len(crops), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(crops), _CHUNK):
                resized = resize_crops(crops[start : start + _CHUNK], self.input_height, self.input_width)
                images = torch.from_numpy(resized).to(self.device).permute(0, 3, 1, 2).float()
                images = (images - self._mean) / self._std
                features[start : start + len(resized)] = self.network(images).cpu().numpy()
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


def network_teacher(architecture: str | None, weights: Path, device: str | None) -> NetworkTeacher:
    """Load a network teacher.

    Args:
        architecture: a key of ``NETWORKS``, or ``None`` to take it from the file.
        weights: checkpoint file.
        device: torch's name of a device, or ``None`` for a GPU if there is one, else the CPU.

    Returns:
        The teacher. The crop size is the one a teacher file states, and 256x128 (Sec. 3.3) for other checkpoints.

    Raises:
        WeightsError: the file cannot be read, does not fit the architecture, or fits none.
        ConfigError: the device does not exist.
    """
    tensors, metadata = read_checkpoint(weights)
    stated = metadata.get("architecture")
    if architecture is None:
        architecture = stated if stated in NETWORKS else fitting_architecture(tensors)
        if architecture is None:
            raise WeightsError(
                f"{weights}: these weights fit none of {', '.join(NETWORKS)}; export the network to .onnx instead"
            )
    network = build_network(architecture)
    fill_network(network, architecture, tensors, str(weights))
    height, width = metadata.get("crop_height", 256), metadata.get("crop_width", 128)
    teacher = NetworkTeacher(architecture, network, int(height), int(width), _choose_device(device))
    if "dropped_classifier" in metadata:
        identities = metadata["dropped_classifier"]
        teacher.remark = (
            f"{weights.name}: left out the classifier of {identities} training identities; features are all it takes"
        )
    return teacher


def _choose_device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts when it was built without CUDA
        raise ConfigError(f"device {device!r} cannot be used ({str(error).splitlines()[0]}); try 'cpu'") from error
    return chosen
