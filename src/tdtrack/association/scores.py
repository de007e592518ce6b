"""How much a score says: scores turned into log-odds that a detection shows an object, learned from the video itself.

What a score of 0.3 is worth depends on the detector: one finds half-hidden people there, another lamp posts. Nobody has to
say: detections of objects continue tracks, and false ones mostly do not.
"""

from __future__ import annotations

import numpy as np

from tdtrack.association.kalman import Floats
from tdtrack.types import BoolArray

__all__ = ["ScoreScale"]

BINS = 20
"""Intervals of the score in which detections are counted."""

PRIOR_DETECTIONS = 50.0
"""Detections in each interval that the assumption before the video counts for."""

MEMORY = 5_000.0
"""Detections that an interval remembers; older ones fade."""

MAX_LOG_ODDS = 4.0
"""A detection speaks for or against an object by at most this much, whatever has been counted."""


class ScoreScale:
    """Turns scores into log-odds that a detection shows an object."""

    def __init__(self, even: float) -> None:
        """Start from a detector whose scores are probabilities, up to one factor of the odds.

        Args:
            even: score at which a detection is as likely as not to show an object.
        """
        self._centre = (np.arange(BINS) + 0.5) / BINS
        even = min(max(even, self._centre[0]), self._centre[-1])
        odds = self._centre / (1 - self._centre) * (1 - even) / even
        self._count = np.full(BINS, PRIOR_DETECTIONS)
        self._real = PRIOR_DETECTIONS * odds / (1 + odds)
        self._weigh()

    def observe(self, score: Floats, real: BoolArray) -> None:
        """Learn from ``(N,)`` scores in ``[0, 1]`` and whether each detection turned out to show an object."""
        interval = np.minimum((score * BINS).astype(np.int64), BINS - 1)
        self._count += np.bincount(interval, minlength=BINS)
        self._real += np.bincount(interval, weights=real, minlength=BINS)
        fade = np.minimum(1.0, MEMORY / self._count)
        self._count *= fade
        self._real *= fade
        self._weigh()

    def log_odds(self, score: Floats) -> Floats:
        """Return what scores of any shape are worth, between the intervals by interpolation."""
        worth: Floats = np.interp(score, self._centre, self._worth)
        return worth

    def _weigh(self) -> None:
        """Turn counts into log-odds; the prior keeps every interval's share from 0 and, with the limit, from 1."""
        false = np.maximum(self._count - self._real, 1e-9)
        self._worth = np.clip(np.log(self._real / false), -MAX_LOG_ODDS, MAX_LOG_ODDS)
