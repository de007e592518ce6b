"""How much a look says: cosines of embeddings turned into log-likelihood ratios, calibrated by the video itself.

What a cosine of 0.8 means depends on the network and on the number of dimensions kept. Two kinds of pairs need no
identities: boxes of one frame are different objects, and a box that motion alone links for certain is the same. Their
running means and variances give the ratio of the two likelihoods, in which appearance and motion can be added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tdtrack.association.kalman import Floats

__all__ = ["CosineStatistics", "LookScale"]

MEMORY = 5_000.0
"""Pairs that a running statistic remembers; older ones fade."""

GENERIC_PAIRS = 20.0
"""Pairs that the statistics before the video count for, where they are not of this network."""

CALIBRATED_PAIRS = 100.0
"""The same, where ``tdtrack calibrate`` measured them on this network."""

GENERIC = (0.9, 0.1, 0.5, 0.15)
"""Means and standard deviations of a network that nobody measured: same objects, different objects."""

BALANCE = 0.7
"""Where looks speak neither way, from the different pairs' mean (0) to the same pairs' (1). In the middle the two would be
equally likely, were there as many of both; but a detection meets one track of its own and many of others, and the pairs that
motion links for certain are the easy ones."""

MAX_EVIDENCE = 20.0
"""A look speaks for or against a pair by at most this much."""

MIN_VARIANCE = 1e-6
"""Of cosines, so that identical looks do not divide by zero."""

MAX_DIFFERENT_BOXES = 64
"""Boxes of a frame that are compared with each other for the statistics; more would only cost time."""


@dataclass(slots=True)
class CosineStatistics:
    """Running mean and variance of cosines.

    Attributes:
        mean: of the pairs seen.
        variance: of the pairs seen.
        pairs: how many they count for.
    """

    mean: float
    variance: float
    pairs: float

    def add(self, mean: float, variance: float, pairs: float) -> None:
        """Take in more pairs by their own mean and variance."""
        share = pairs / (self.pairs + pairs)
        spread = variance + (1 - share) * (mean - self.mean) ** 2
        self.variance += share * (spread - self.variance)
        self.mean += share * (mean - self.mean)
        self.pairs = min(self.pairs + pairs, MEMORY)


class LookScale:
    """Turns cosines into log-likelihood ratios."""

    def __init__(self, calibrated: tuple[float, float, float, float] | None) -> None:
        """Start from what is known before the video.

        Args:
            calibrated: mean and standard deviation of the cosine between views of one object, then between objects; ``None``
                starts from generic values that the first frames outweigh.
        """
        same_mean, same_deviation, mean, deviation = GENERIC if calibrated is None else calibrated
        pairs = GENERIC_PAIRS if calibrated is None else CALIBRATED_PAIRS
        self.same = CosineStatistics(same_mean, same_deviation**2, pairs)
        self.different = CosineStatistics(mean, deviation**2, pairs)

    def observe_frame(self, embedding: Floats) -> None:
        """Learn from ``(N, D)`` unit-length looks of one frame's boxes, which are different objects; the first ones count."""
        looks = embedding[:MAX_DIFFERENT_BOXES]
        count = len(looks)
        if count < 2:
            return
        cosine = looks @ looks.T
        np.fill_diagonal(cosine, 0.0)  # a box and itself
        mean = cosine.sum() / (count * (count - 1))
        square = np.vdot(cosine, cosine) / (count * (count - 1))
        self.different.add(float(mean), float(max(square - mean * mean, 0.0)), count * (count - 1) / 2)

    def observe_same(self, cosine: Floats) -> None:
        """Learn from cosines, any shape, between views of one object."""
        if cosine.size:
            self.same.add(float(cosine.mean()), float(cosine.var()), cosine.size)

    def evidence(self, cosine: Floats) -> Floats:
        """Weigh cosines.

        Args:
            cosine: any shape.

        Returns:
            Log-likelihood ratios of "same" against "different": linear in the cosine, as for two normal distributions of one
            variance (the mean of both), zero at ``BALANCE`` and cut at plus and minus ``MAX_EVIDENCE``.
        """
        variance = max((self.same.variance + self.different.variance) / 2, MIN_VARIANCE)
        gap = max(self.same.mean - self.different.mean, 0.0)
        ratio: Floats = np.clip(gap / variance * (cosine - self.different.mean - BALANCE * gap), -MAX_EVIDENCE, MAX_EVIDENCE)
        return ratio
