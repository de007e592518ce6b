"""FairMOT's association, with and without appearance.

Source:
    Sec. 3.5 adopts FairMOT (Zhang et al. 2021). What its publication leaves open follows its published program
    (``src/lib/tracker``), down to details that look accidental; they are named where they occur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tdtrack.association import kalman
from tdtrack.association.candidates import Candidates
from tdtrack.association.costs import blend_motion, cosine_distance, forbid_other_classes, iou_distance, unit_length
from tdtrack.association.kalman import Floats
from tdtrack.association.matching import assign, unmatched
from tdtrack.boxes import xyah_to_xyxy
from tdtrack.config import AssociationConfig
from tdtrack.types import IntArray, Tracks

__all__ = ["FairMot"]

FAIRMOT_CEILING = 0.4
"""FairMOT's appearance ceiling, for want of one fitted to the embeddings."""


@dataclass(slots=True, eq=False)
class _Track:
    """One object over time.

    Attributes:
        track_id: its number.
        class_id: class of the detection that started it.
        score: score of the last detection.
        mean: ``(8,)`` Kalman state.
        covariance: ``(3, 4)``, as ``kalman`` keeps it.
        embedding: ``(D,)`` running appearance of unit length, or ``None`` without appearance.
        start_frame: frame of its first detection.
        last_frame: frame of its last detection.
        confirmed: seen twice, or started in the first frame.
        lost: not found in the last frame.
        expired: was lost for too long; when it is lost (again) it goes at once.
    """

    track_id: int
    class_id: int
    score: float
    mean: Floats
    covariance: Floats
    embedding: Floats | None
    start_frame: int
    last_frame: int
    confirmed: bool
    lost: bool = False
    expired: bool = False

    @property
    def age(self) -> int:
        """Frames from the first to the last detection."""
        return self.last_frame - self.start_frame


class FairMot:
    """FairMOT's association, and the same with overlap alone.

    Every frame, in this order: tracks seen so far and lost ones are matched by appearance and motion (by overlap with
    the predicted box where the method is "motion"); tracks of the last frame that remain, by overlap; tracks seen
    once, by overlap; what remains of the detections starts new tracks. A track counts from its second detection on, or
    from its first in the first frame of the video. Memory is bounded by the tracks of the last ``max_lost_seconds``.
    """

    def __init__(self, config: AssociationConfig, frame_rate: float) -> None:
        """Start without tracks.

        Args:
            config: method "fairmot" or "motion", floors and ceilings.
            frame_rate: frames per second; turns ``max_lost_seconds`` into frames.
        """
        self.config = config
        self.max_lost_frames = math.floor(config.lost_seconds * frame_rate + 1e-9)  # 0.7 s at 10 fps are 7 frames
        self._next_id = 1
        self._tracked: list[_Track] = []
        self._lost: list[_Track] = []

    def move_camera(self, affine: Floats) -> None:
        """Move all tracks with the picture: ``(2, 3)`` affine map of the last frame's pixels to this one's."""
        tracks = self._tracked + self._lost
        for track, mean, covariance in zip(tracks, *kalman.move(*_states(tracks), affine)):
            track.mean, track.covariance = mean, covariance

    def step(self, candidates: Candidates, frame: int, elapsed: float | None = None) -> Tracks:  # noqa: ARG002
        """Take in the next frame.

        Args:
            candidates: the detections that take part, all at or above ``min_score``.
            frame: its index; one more than in the last call.
            elapsed: not used: FairMOT counts frames.

        Returns:
            The confirmed tracks that were found in this frame, in order of id, with filtered boxes.
        """
        confirmed = [track for track in self._tracked if track.confirmed]
        tentative = [track for track in self._tracked if not track.confirmed]
        pool = confirmed + self._lost
        _predict(pool)  # FairMOT does not move tentative tracks before their second detection

        config = self.config
        free = np.arange(len(candidates))
        cost, ceiling = self._first_cost(pool, candidates)
        pool, free = self._link(pool, candidates, free, cost, ceiling, frame)

        unseen = [track for track in pool if not track.lost]
        cost = iou_distance(_boxes(unseen), candidates.xyxy[free])
        unseen, free = self._link(unseen, candidates, free, cost, config.max_iou_distance, frame)
        for track in unseen:
            track.lost = True

        cost = iou_distance(_boxes(tentative), candidates.xyxy[free])
        never_confirmed, free = self._link(tentative, candidates, free, cost, config.max_unconfirmed_iou_distance, frame)
        started = self._start(candidates, free, frame)

        self._keep(never_confirmed, unseen, started, frame)
        found = sorted((track for track in self._tracked if track.confirmed), key=lambda track: track.track_id)
        return Tracks(
            frame,
            np.array([track.track_id for track in found], np.int64),
            _boxes(found).astype(np.float32),
            np.array([track.score for track in found], np.float32),
            np.array([track.class_id for track in found], np.int64),
        )

    def skip(self, frames: int) -> None:
        """Move tracks on by frame times in which nobody looked; none counts as lost for it."""
        for _ in range(min(frames, self.max_lost_frames)):  # after longer, no prediction is worth anything
            _predict([track for track in self._tracked if track.confirmed] + self._lost)

    def forget(self) -> None:
        """Drop all tracks."""
        self._tracked, self._lost = [], []

    def _first_cost(self, pool: Sequence[_Track], candidates: Candidates) -> tuple[Floats, float]:
        """Return the cost of the first matching and its ceiling: the one place where the two methods differ."""
        config = self.config
        if not pool or candidates.embedding is None:  # no appearance, or nothing to compare
            return iou_distance(_boxes(pool), candidates.xyxy), config.max_motion_iou_distance
        cost = blend_motion(
            cosine_distance(_embeddings(pool), candidates.embedding),
            kalman.squared_mahalanobis(*_states(pool), candidates.xyah),
            appearance_weight=config.appearance_weight,
            max_gating_distance=config.max_gating_distance,
        )
        return cost, FAIRMOT_CEILING if config.max_appearance_cost is None else config.max_appearance_cost

    def _link(
        self, tracks: list[_Track], candidates: Candidates, free: IntArray, cost: Floats, ceiling: float, frame: int
    ) -> tuple[list[_Track], IntArray]:
        """Match tracks with free candidates, take the matches in, and return what remains of both."""
        track_class = np.array([track.class_id for track in tracks], np.int64)
        rows, columns = assign(forbid_other_classes(cost, track_class, candidates.class_id[free]), ceiling)
        self._absorb([tracks[row] for row in rows], candidates, free[columns], frame)
        return [tracks[row] for row in unmatched(len(tracks), rows)], free[unmatched(len(free), columns)]

    def _absorb(self, tracks: list[_Track], candidates: Candidates, rows: IntArray, frame: int) -> None:
        """Correct every track with its detection: one candidate row each."""
        if not tracks:
            return
        means, covariances = kalman.update(*_states(tracks), candidates.xyah[rows])
        for track, row, mean, covariance in zip(tracks, rows, means, covariances):
            track.mean, track.covariance = mean, covariance
            track.score, track.last_frame = float(candidates.score[row]), frame
            track.confirmed, track.lost = True, False
        if candidates.embedding is not None:
            share = self.config.smoothing
            running = unit_length(share * _embeddings(tracks) + (1 - share) * candidates.embedding[rows])
            for track, embedding in zip(tracks, running):
                track.embedding = embedding

    def _start(self, candidates: Candidates, free: IntArray, frame: int) -> list[_Track]:
        """Start a track at every free candidate that is sure enough."""
        chosen = free[candidates.at_least(self.config.new_score)[free]]
        means, covariances = kalman.initiate(candidates.xyah[chosen])
        started = [
            _Track(
                track_id=self._next_id + offset,
                class_id=int(candidates.class_id[row]),
                score=float(candidates.score[row]),
                mean=means[offset],
                covariance=covariances[offset],
                embedding=None if candidates.embedding is None else candidates.embedding[row],
                start_frame=frame,
                last_frame=frame,
                confirmed=frame == 0,
            )
            for offset, row in enumerate(chosen)
        ]
        self._next_id += len(started)
        return started

    def _keep(self, never_confirmed: list[_Track], just_lost: list[_Track], started: list[_Track], frame: int) -> None:
        """Decide which tracks live on, and in which order the next frame sees them."""
        gone = set(map(id, never_confirmed))
        refound = [track for track in self._lost if not track.lost]
        still_lost = [track for track in self._lost if track.lost]
        tracked = [track for track in self._tracked if not track.lost and id(track) not in gone] + started + refound
        # As in FairMOT, a track whose time is up is marked now and goes one frame later. Found again in that frame, it
        # keeps the mark, and goes as soon as it is lost the next time.
        lost = [track for track in still_lost + just_lost if not track.expired]
        for track in still_lost:
            track.expired = track.expired or frame - track.last_frame > self.max_lost_frames
        self._tracked, self._lost = self._without_duplicates(tracked, lost)

    def _without_duplicates(self, tracked: list[_Track], lost: list[_Track]) -> tuple[list[_Track], list[_Track]]:
        """Where a tracked and a lost track lie on each other, drop the one with the shorter history (the tracked if equal)."""
        classes = [np.array([track.class_id for track in tracks], np.int64) for tracks in (tracked, lost)]
        distance = forbid_other_classes(iou_distance(_boxes(tracked), _boxes(lost)), *classes)
        drop_tracked, drop_lost = set(), set()
        for row, column in zip(*np.nonzero(distance < self.config.max_duplicate_iou_distance)):
            if tracked[row].age > lost[column].age:
                drop_lost.add(column)
            else:
                drop_tracked.add(row)
        return (
            [track for row, track in enumerate(tracked) if row not in drop_tracked],
            [track for column, track in enumerate(lost) if column not in drop_lost],
        )


def _states(tracks: Sequence[_Track]) -> tuple[Floats, Floats]:
    """Return ``(T, 8)`` means and ``(T, 3, 4)`` covariances."""
    means = np.array([track.mean for track in tracks]).reshape(-1, 8)
    return means, np.array([track.covariance for track in tracks]).reshape(-1, 3, 4)


def _embeddings(tracks: Sequence[_Track]) -> Floats:
    """Return the ``(T, D)`` running embeddings of tracks that have them, at least one."""
    return np.array([track.embedding for track in tracks])


def _boxes(tracks: Sequence[_Track]) -> Floats:
    """Return the ``(T, 4)`` xyxy boxes of the current states."""
    boxes: Floats = xyah_to_xyxy(np.array([track.mean[:4] for track in tracks]).reshape(-1, 4))
    return boxes


def _predict(tracks: Sequence[_Track]) -> None:
    """Move all tracks on by one frame."""
    means, covariances = _states(tracks)
    # A lost object keeps its path but not its change of size, which would blow its box up.
    means[[track.lost for track in tracks], kalman.HEIGHT_VELOCITY] = 0.0
    for track, mean, covariance in zip(tracks, *kalman.predict(means, covariances)):
        track.mean, track.covariance = mean, covariance
