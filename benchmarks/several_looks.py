"""Tried and left out: several looks of every track beside the running one, as DeepSORT keeps them.

``benchmarks/association.py parts`` measures it; the likest of the kept looks counts.
"""

from __future__ import annotations

import numpy as np

from tdtrack.association.candidates import Candidates
from tdtrack.association.evidence import ISOLATED_IOU, Evidence
from tdtrack.types import BoolArray, IntArray

KEPT = 10


class LastLooks(Evidence):
    """Keeps the last looks of each track."""

    def _compare(self, candidates: Candidates, alone: BoolArray) -> tuple[np.ndarray, BoolArray]:
        cosine, known = super()._compare(candidates, alone)
        if not hasattr(self, "kept"):
            self.kept: dict[int, np.ndarray] = {}
        if candidates.embedding is not None:
            living = self._tracks.track_id.tolist()
            self.kept = {track_id: self.kept[track_id] for track_id in living if track_id in self.kept}
            for row, track_id in enumerate(living):
                if track_id in self.kept:
                    likest = (self.kept[track_id] @ candidates.embedding.T).max(axis=0)
                    cosine[row] = np.maximum(cosine[row], likest)
        return cosine, known

    def _absorb(
        self, candidates: Candidates, worth: np.ndarray, rows: IntArray, columns: IntArray, overlap: np.ndarray
    ) -> None:
        super()._absorb(candidates, worth, rows, columns, overlap)
        if candidates.embedding is None:
            return
        for row, column in zip(rows, columns):
            look = candidates.embedding[column]
            if overlap[column] < ISOLATED_IOU and look.any():
                track_id = int(self._tracks.track_id[row])
                kept = self.kept.get(track_id, np.zeros((0, len(look))))
                self.kept[track_id] = self.choose(np.concatenate([kept, look[None]]))

    def choose(self, looks: np.ndarray) -> np.ndarray:
        return looks[-KEPT:]


class DifferentLooks(LastLooks):
    """Keeps looks that differ: of the likest two the older goes."""

    def choose(self, looks: np.ndarray) -> np.ndarray:
        if len(looks) <= KEPT:
            return looks
        cosine = looks @ looks.T
        np.fill_diagonal(cosine, -np.inf)
        first, second = np.unravel_index(cosine.argmax(), cosine.shape)
        return np.delete(looks, min(first, second), axis=0)
