"""Which sample comes when: a pure function of the seed, so that a run resumes in the middle of an epoch.

Training reads one endless sequence of samples, numbered by their **position** from 0. Iteration ``s`` reads positions
``s * B`` to ``s * B + B - 1``. A position says which image (through the shuffle of its epoch) and how it is augmented.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from tdtrack.errors import ConfigError
from tdtrack.types import IntArray

__all__ = ["PositionBatches", "sample_at", "sample_generator"]

_SHUFFLE, _AUGMENT = 0, 1  # keep the two random streams of one seed apart


def sample_at(position: int, num_samples: int, seed: int) -> int:
    """Return the sample at a position of the endless sequence; every epoch visits every sample once, in its own order.

    Args:
        position: from 0.
        num_samples: samples in an epoch, at least 1.
        seed: of the run.
    """
    epoch, place = divmod(position, num_samples)
    return int(_shuffled(num_samples, seed, epoch)[place])


@lru_cache(maxsize=2)  # a batch can straddle two epochs
def _shuffled(num_samples: int, seed: int, epoch: int) -> IntArray:
    return np.random.default_rng([_SHUFFLE, seed, epoch]).permutation(num_samples)


def sample_generator(position: int, seed: int) -> np.random.Generator:
    """Return the generator for the augmentation at a position; no two positions of a run share a stream."""
    return np.random.default_rng([_AUGMENT, seed, position])


class PositionBatches(Sampler[list[int]]):
    """The positions each iteration reads, for one of several devices."""

    def __init__(
        self, batch_size: int, first_step: int, last_step: int, *, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> None:
        """Cut the sequence into batches and take one device's share of each.

        Args:
            batch_size: samples per iteration over all devices.
            first_step: first iteration to read, 0 for a fresh run.
            last_step: iteration to stop before.
            rank: this device, from 0.
            world_size: number of devices.
            accumulate: micro-batches of equal size that a share will be cut into.

        Raises:
            ConfigError: the devices cannot share a batch evenly, or a share cannot be cut evenly.
        """
        parts = world_size * accumulate
        if batch_size % parts:
            by = f"{world_size} devices" if accumulate == 1 else f"{world_size} devices with {accumulate} micro-batches each"
            raise ConfigError(
                f"optimizer.batch_size is {batch_size}, which {by} cannot share evenly; make it a multiple of {parts}"
            )
        self.batch_size = batch_size
        self.steps = range(first_step, last_step)
        self.share = batch_size // world_size
        self.rank = rank

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this device's positions of every iteration."""
        for step in self.steps:
            first = step * self.batch_size + self.rank * self.share
            yield list(range(first, first + self.share))

    def __len__(self) -> int:
        """Return the number of iterations left."""
        return len(self.steps)
