"""Learning an embedding head for a detector that stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tdtrack.config.check import require

__all__ = ["HeadConfig"]


@dataclass(frozen=True)
class HeadConfig:
    """The head on a frozen detector (not in the paper; ``benchmarks/frozen_detector.py`` compares the choices).

    Attributes:
        features: names of the feature maps that are read, finest first; none takes the backbone's at strides 4 and 8.
        place: "box" reads the whole box, "cell" what lies around the cell of its centre.
        embedding_dim: D; at most the teacher's.
        views: times each image is seen: once as it is, then scaled, mirrored and lit otherwise.
        epochs: times each view of each box is learned from.
        batch_size: boxes per iteration.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        relation_weight: of the squared difference between the cosines of the batch's embeddings and those of its teacher's,
            beside the cosine distance from the teacher.
        contrast_weight: of telling views of one box from all others.
        temperature: what cosines are divided by in that.
        min_score: with pseudo boxes: the detector's own boxes count from here on.
        seed: of views, weights and order.
    """

    features: tuple[str, ...] = ()
    place: Literal["box", "cell"] = "box"
    embedding_dim: int = 128
    views: int = 12
    epochs: int = 12
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    relation_weight: float = 10.0
    contrast_weight: float = 0.1
    temperature: float = 0.1
    min_score: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that nothing can be learned with.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        for name in ("embedding_dim", "views", "epochs"):
            require(getattr(self, name) >= 1, f"head.{name} is {getattr(self, name)}; it must be at least 1")
        require(self.batch_size >= 2, f"head.batch_size is {self.batch_size}; it must be at least 2")
        for name in ("learning_rate", "temperature"):
            require(getattr(self, name) > 0, f"head.{name} is {getattr(self, name)}; it must be positive")
        require(self.seed >= 0, f"head.seed is {self.seed}; it must not be negative")
        require(0 <= self.min_score <= 1, f"head.min_score is {self.min_score}; it must lie in [0, 1]")
        require(self.place in ("box", "cell"), f"head.place is {self.place!r}; it must be 'box' or 'cell'")
