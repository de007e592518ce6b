"""Linking detections into tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tdtrack.config.check import require

__all__ = ["AssociationConfig"]


@dataclass(frozen=True)
class AssociationConfig:
    """FairMOT's association (Sec. 3.5), and the same without appearance.

    Attributes:
        method: "fairmot" uses appearance and motion; "motion" the same tracker with overlap alone.
        min_score: detections below do not take part (FairMOT: 0.4; Supp. A: 0.5 on MOT16/17, 0.3 on MOT20).
        min_new_score: an unmatched detection starts a track only from this score; never below ``min_score``
            (FairMOT: equal to ``min_score``).
        max_appearance_cost: ceiling of the blended appearance and motion cost; must be fitted to the embedding space. ``None``
            takes the one a model carries, and where none does FairMOT's 0.4.
        appearance_weight: share of the cosine distance in that cost; the rest is squared Mahalanobis distance (FairMOT: 0.98).
        max_gating_distance: squared Mahalanobis distance beyond which a match is impossible (chi-square 0.95, 4 d.o.f.).
        max_iou_distance: ceiling of the second stage, tracked tracks only (Sec. 3.5).
        max_unconfirmed_iou_distance: ceiling for tracks seen once (FairMOT).
        max_motion_iou_distance: ceiling of the first stage when there is no appearance (SORT: IoU 0.3).
        max_duplicate_iou_distance: a tracked and a lost track closer than this are one, the younger goes (FairMOT).
        smoothing: share of the old embedding in a track's running one (FairMOT: 0.9).
        max_lost_seconds: how long a lost track can be found again (FairMOT: 30 frames at 30 fps).
    """

    method: Literal["fairmot", "motion"] = "fairmot"
    min_score: float = 0.4
    min_new_score: float = 0.0
    max_appearance_cost: float | None = None
    appearance_weight: float = 0.98
    max_gating_distance: float = 9.4877
    max_iou_distance: float = 0.5
    max_unconfirmed_iou_distance: float = 0.7
    max_motion_iou_distance: float = 0.7
    max_duplicate_iou_distance: float = 0.15
    smoothing: float = 0.9
    max_lost_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values no tracker can work with.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        for name in ("min_score", "min_new_score", "appearance_weight", "smoothing"):
            require(0 <= getattr(self, name) <= 1, f"tracker.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        ceiling = self.max_appearance_cost
        require(ceiling is None or ceiling > 0, f"tracker.max_appearance_cost is {ceiling}; it must be above 0")
        require(self.max_lost_seconds >= 0, f"tracker.max_lost_seconds is {self.max_lost_seconds}; it must be at least 0")
