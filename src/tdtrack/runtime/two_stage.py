"""The two-stage counterpart: the same detector, the Re-ID network on crops (Tab. 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tdtrack.data.images import crop_boxes
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.runtime.engine import Engine
from tdtrack.types import Detections, FloatArray, Image

__all__ = ["TwoStageEngine"]


class Embedder(Protocol):
    """What turns crops into vectors; every teacher does."""

    @property
    def dim(self) -> int:
        """D_t."""
        ...

    def embed(self, crops: Sequence[Image]) -> FloatArray:
        """Return ``(N, D_t)`` float32 of unit length for RGB uint8 crops of any size."""
        ...


class TwoStageEngine:
    """Detects with one network and embeds every box with another, one crop at a time.

    The paper's counterpart to one-stage tracking (Sec. 4.3): slower with every person in the picture.

    Attributes:
        classes: of the detector.
        embedding_dim: D_t.
        label: of the detector, and what embeds crops.
        metadata: of the detector, and under ``"embedded_by"`` the fingerprint of a teacher that has one.
    """

    def __init__(self, detector: Engine, teacher: Embedder, *, min_embed_score: float = 0.0) -> None:
        """Join the two.

        Args:
            detector: where boxes and scores come from; its own embeddings are put aside.
            teacher: has ``dim`` and ``embed(crops)``.
            min_embed_score: detections below are dropped, in ``[0, 1]``: a tracker would not use them, so no crop is
                spent on them. Give the tracker's ``min_score``.

        Raises:
            ConfigError: the floor is out of range.
        """
        if not 0 <= min_embed_score <= 1:
            raise ConfigError(f"min_embed_score is {min_embed_score}; it must lie in [0, 1]")
        self.classes = detector.classes
        self.embedding_dim: int | None = teacher.dim
        self.label = f"{getattr(detector, 'label', type(detector).__name__)}, crops: {type(teacher).__name__}"
        mark = getattr(teacher, "fingerprint", None)
        self.metadata: Mapping[str, Any] = {**detector.metadata, **({} if mark is None else {"embedded_by": mark})}
        self._detector = detector
        self._teacher = teacher
        self._min_score = min_embed_score

    def __call__(self, frame: Image) -> Detections:
        """Detect in one frame and embed the crops.

        Args:
            frame: ``(H, W, 3)`` RGB uint8.

        Returns:
            The detector's boxes from the floor on, in its order, with the teacher's unit embeddings.

        Raises:
            ShapeError: the teacher does not return one vector of its width per crop.
        """
        return self.embed(frame, self._detector(frame))

    def embed(self, frame: Image, found: Detections) -> Detections:
        """Embed the crops of boxes that are known already.

        Args:
            frame: ``(H, W, 3)`` RGB uint8.
            found: boxes in it; embeddings they carry are put aside.

        Returns:
            The boxes from the floor on, in their order, with the teacher's unit embeddings.

        Raises:
            ShapeError: the teacher does not return one vector of its width per crop.
        """
        kept = found.select(found.score >= np.float32(self._min_score))
        if len(kept) == 0:
            return kept.with_embedding(np.zeros((0, self._teacher.dim), np.float32))
        embedding = self._teacher.embed(crop_boxes(frame, kept.xyxy))
        wanted = (len(kept), self._teacher.dim)
        if embedding.shape != wanted:
            raise ShapeError(f"the teacher returned {embedding.shape} for {len(kept)} crops; it must return {wanted}")
        return kept.with_embedding(embedding)
