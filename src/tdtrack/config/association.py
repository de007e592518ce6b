"""Linking detections into tracks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tdtrack.config.check import require

__all__ = ["AssociationConfig"]

DEFAULT_LOST_SECONDS = 10.0


@dataclass(frozen=True)
class AssociationConfig:
    """How detections become tracks: by evidence (the default), FairMOT's way (Sec. 3.5), or by overlap alone.

    Attributes:
        method: "evidence" adds appearance and motion as log-likelihood ratios on a scale the video calibrates (ours);
            "fairmot" is the paper's; "motion" is FairMOT's tracker with overlap alone.
        min_score: detections at or above are sure; those below take no part (FairMOT: 0.4; Supp. A: 0.5 on MOT16/17, 0.3 on
            MOT20), but see ``min_low_score``.
        min_low_score: "evidence" only: detections between this and ``min_score`` may continue a track (ours).
        min_new_score: an unmatched detection starts a track only from this score; never below ``min_score``
            (FairMOT: equal to it).
        min_hits: "evidence" only: detections in consecutive frames after which a track is reported; 1 reports at once (ours).
        max_hidden_seconds: "evidence" only: a track without a detection is still reported, where it should be, for this long
            (ours; 0 never).
        max_lost_seconds: how long a lost track can be found again. ``None`` takes 10 for "evidence" (ours) and 1 for the others
            (FairMOT: 30 frames at 30 fps).
        cosine_statistics: "evidence" only: mean and standard deviation of the cosine between views of one object, then between
            objects, from ``tdtrack calibrate``. ``None`` takes those a model carries, and where none does starts generic; the
            video corrects both.
        max_appearance_cost: "fairmot" only, as all below: ceiling of the blended appearance and motion cost; must be fitted to
            the embedding space. ``None`` takes the one a model carries, and where none does FairMOT's 0.4.
        appearance_weight: share of the cosine distance in that cost; the rest is squared Mahalanobis distance (FairMOT: 0.98).
        max_gating_distance: squared Mahalanobis distance beyond which a match is impossible (chi-square 0.95, 4 d.o.f.).
        max_iou_distance: ceiling of the second stage, tracked tracks only (Sec. 3.5).
        max_unconfirmed_iou_distance: ceiling for tracks seen once (FairMOT).
        max_motion_iou_distance: ceiling of the first stage of "motion" (SORT: IoU 0.3).
        max_duplicate_iou_distance: a tracked and a lost track closer than this are one, the younger goes (FairMOT).
        smoothing: share of the old embedding in a track's running one (FairMOT: 0.9).
    """

    method: Literal["evidence", "fairmot", "motion"] = "evidence"
    min_score: float = 0.4
    min_low_score: float = 0.1
    min_new_score: float = 0.0
    min_hits: int = 2
    max_hidden_seconds: float = 0.2
    max_lost_seconds: float | None = None
    cosine_statistics: tuple[float, float, float, float] | None = None
    max_appearance_cost: float | None = None
    appearance_weight: float = 0.98
    max_gating_distance: float = 9.4877
    max_iou_distance: float = 0.5
    max_unconfirmed_iou_distance: float = 0.7
    max_motion_iou_distance: float = 0.7
    max_duplicate_iou_distance: float = 0.15
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        """Refuse values no tracker can work with.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        for name in ("min_score", "min_low_score", "min_new_score", "appearance_weight", "smoothing"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"tracker.{name} is {value}; it must lie in [0, 1]")
        for name in ("max_lost_seconds", "max_hidden_seconds"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"tracker.{name} is {value}; it must be at least 0")
        ceiling = self.max_appearance_cost
        require(ceiling is None or ceiling > 0, f"tracker.max_appearance_cost is {ceiling}; it must be above 0")
        require(self.min_hits >= 1, f"tracker.min_hits is {self.min_hits}; it must be at least 1")
        statistics = self.cosine_statistics
        require(
            statistics is None or (all(map(math.isfinite, statistics)) and statistics[1] > 0 and statistics[3] > 0),
            f"tracker.cosine_statistics is {statistics}; give mean and deviation above 0 of same pairs, then of different ones",
        )

    @property
    def floor(self) -> float:
        """Score below which a detection takes no part."""
        return min(self.min_low_score, self.min_score) if self.method == "evidence" else self.min_score

    @property
    def new_score(self) -> float:
        """Score from which an unmatched detection starts a track."""
        return max(self.min_score, self.min_new_score)

    @property
    def lost_seconds(self) -> float:
        """How long a lost track can be found again."""
        default = DEFAULT_LOST_SECONDS if self.method == "evidence" else 1.0
        return default if self.max_lost_seconds is None else self.max_lost_seconds
