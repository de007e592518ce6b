"""Batches for training a teacher: which crops, and what is done to them.

Everything random follows from the seed and the step, never from what was drawn before, so that training can stop and resume
anywhere.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tdtrack.data.images import load_image
from tdtrack.errors import DataError
from tdtrack.teacher.crops import IMAGENET_MEAN, IMAGENET_STD, resize_crops
from tdtrack.teacher.reid import ReidCrops
from tdtrack.types import IntArray

__all__ = ["IdentitySampler", "augment_crops", "load_crops"]

_MAX_SHIFT = 0.08  # of the height and of the width, as a detector's boxes are off
_MAX_ZOOM = 0.12
_MAX_GAIN = 0.3  # brightness, contrast and saturation
_MAX_TINT = 0.08  # of each colour, as white balance differs between cameras
_ERASED_AREA = (0.02, 0.25)
_ERASED_ASPECT = (0.4, 2.5)  # width over height, of a square crop


def load_crops(crops: ReidCrops, height: int, width: int, workers: int = 2) -> NDArray[np.uint8]:
    """Read crops into memory at one size.

    Args:
        crops: ``N`` files.
        height: in pixels.
        width: in pixels.
        workers: decoding threads.

    Returns:
        ``(N, height, width, 3)`` RGB uint8.

    Raises:
        DataError: a file cannot be read.
    """
    cached = np.empty((len(crops), height, width, 3), dtype=np.uint8)

    def read(index: int) -> None:
        cached[index] = resize_crops([load_image(crops.paths[index])], height, width)[0]

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        for _ in pool.map(read, range(len(crops))):
            pass
    return cached


class IdentitySampler:
    """Draws some identities and some crops of each (PK sampling).

    Attributes:
        num_identities: how many there are.
        label: ``(N,)`` int64, identities renumbered from 0; -1 for junk, which is never drawn.
    """

    def __init__(self, identity: IntArray, identities: int, crops_each: int, seed: int) -> None:
        """Group crops by identity.

        Args:
            identity: ``(N,)`` as read; negative ones are junk.
            identities: drawn per batch; all of them where there are fewer.
            crops_each: drawn of each; one with fewer crops gives some twice.
            seed: of all draws.

        Raises:
            DataError: there are fewer than two identities.
        """
        known = np.unique(identity[identity >= 0])
        if len(known) < 2:
            raise DataError(f"the crops show {len(known)} identities; a teacher learns to tell at least 2 apart")
        self.num_identities = len(known)
        self.label = np.where(identity >= 0, np.searchsorted(known, identity), -1).astype(np.int64)
        self._members = [np.flatnonzero(identity == person) for person in known]
        self._identities = min(identities, len(known))
        self._crops_each = crops_each
        self._seed = seed

    def draw(self, step: int) -> IntArray:
        """Draw the batch of one step.

        Args:
            step: from 0.

        Returns:
            Indices of crops, all of one identity together. Every identity comes once before any comes again, but for the few
            that are left over when they do not divide into batches.
        """
        epoch, place = divmod(step, self.num_identities // self._identities)
        order = np.random.default_rng([self._seed, 0, epoch]).permutation(self.num_identities)
        people = order[place * self._identities : (place + 1) * self._identities]
        generator = np.random.default_rng([self._seed, 1, step])
        drawn = []
        for person in people:
            members = self._members[person]
            drawn.append(generator.choice(members, self._crops_each, replace=len(members) < self._crops_each))
        return np.concatenate(drawn)


def augment_crops(crops: NDArray[np.uint8], generator: np.random.Generator, erase: float, device: torch.device) -> Tensor:
    """Vary crops as cameras and detectors do, all in one go.

    Args:
        crops: ``(B, H, W, 3)`` RGB uint8.
        generator: of the draws.
        erase: probability that a rectangle is erased, in ``[0, 1]``.
        device: where the result goes.

    Returns:
        ``(B, 3, H, W)`` float32, ImageNet-normalised, channels last in memory: flipped or not, shifted, zoomed, of other
        brightness, contrast, saturation and tint, perhaps with a rectangle of mean colour.

    Source:
        Flip, shift, jitter and erasing are the usual ones of Re-ID (Luo et al., "Bag of Tricks", CVPRW 2019).
    """
    count = len(crops)

    def uniform(low: float, high: float, columns: int = 1) -> Tensor:
        return torch.from_numpy(generator.uniform(low, high, (count, columns)).astype(np.float32)).to(device)

    images = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float()
    zoom = 1 + uniform(-_MAX_ZOOM, _MAX_ZOOM, 2)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    warp = torch.zeros(count, 2, 3, device=device)
    warp[:, 0, 0] = zoom[:, 0] * flip[:, 0]
    warp[:, 1, 1] = zoom[:, 1]
    warp[:, :, 2] = uniform(-2 * _MAX_SHIFT, 2 * _MAX_SHIFT, 2)  # the grid is 2 wide
    grid = F.affine_grid(warp, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    grey = images.mean(dim=1, keepdim=True)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    saturation, contrast, brightness = ((1 + uniform(-_MAX_GAIN, _MAX_GAIN)).view(-1, 1, 1, 1) for _ in range(3))
    tint = (1 + uniform(-_MAX_TINT, _MAX_TINT, 3)).view(-1, 3, 1, 1)
    images = grey + saturation * (images - grey)
    images = (middle + contrast * (images - middle)) * (brightness * tint)
    images = images.clamp_(0, 255)

    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1) * 255
    images = (images - mean) / std
    area = uniform(*_ERASED_AREA)
    aspect = torch.exp(uniform(float(np.log(_ERASED_ASPECT[0])), float(np.log(_ERASED_ASPECT[1]))))
    half_width, half_height = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    centre = uniform(0, 1, 2)
    columns = (torch.arange(images.shape[3], device=device) + 0.5) / images.shape[3]
    rows = (torch.arange(images.shape[2], device=device) + 0.5) / images.shape[2]
    chosen = uniform(0, 1) < erase
    across = ((columns - centre[:, :1]).abs() <= half_width) & chosen
    down = (rows - centre[:, 1:]).abs() <= half_height
    images = images.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)
    return images.contiguous(memory_format=torch.channels_last)
