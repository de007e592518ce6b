"""Linking detections into tracks, frame by frame: FairMOT's association, with and without appearance.

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
from tdtrack.association.costs import blend_motion, cosine_distance, forbid_other_classes, iou_distance, unit_length
from tdtrack.association.kalman import Floats
from tdtrack.association.matching import assign, unmatched
from tdtrack.boxes import xyah_to_xyxy, xyxy_to_xyah
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.types import Detections, IntArray, Tracks

__all__ = ["Tracker"]


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
        covariance: ``(8, 8)``.
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


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The detections of one frame that take part, in float64."""

    xyxy: Floats
    xyah: Floats
    score: Floats
    class_id: IntArray
    embedding: Floats | None


class Tracker:
    """Gives detections of one video ids that persist.

    Every frame, in this order: tracks seen so far and lost ones are matched by appearance and motion (by overlap with
    the predicted box where the method is "motion"); tracks of the last frame that remain, by overlap; tracks seen
    once, by overlap; what remains of the detections starts new tracks. A track counts from its second detection on, or
    from its first in the first frame of the video.

    Ids belong to the instance, start at 1 and are not used twice before ``reset``; a track that is never confirmed
    takes its id along, so there are gaps. Memory is bounded by the tracks of the last ``max_lost_seconds``.
    """

    def __init__(self, config: AssociationConfig = AssociationConfig(), *, frame_rate: float = 30.0) -> None:  # noqa: B008
        """Start without tracks.

        Args:
            config: method, score floors and ceilings.
            frame_rate: frames per second of the video; turns ``max_lost_seconds`` into frames.

        Raises:
            ConfigError: the method is unknown, or the frame rate is not a positive number.
        """
        if config.method not in ("fairmot", "motion"):
            raise ConfigError(f"association method is {config.method!r}; choose fairmot or motion")
        if not (math.isfinite(frame_rate) and frame_rate > 0):
            raise ConfigError(f"frame_rate is {frame_rate}; it must be a positive number of frames per second")
        self.config = config
        self.frame_rate = frame_rate
        self.max_lost_frames = math.floor(config.max_lost_seconds * frame_rate + 1e-9)  # 0.7 s at 10 fps are 7 frames
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; the next frame has index 0, the next track id 1, and embeddings may have another width."""
        self._next_frame = 0
        self._next_id = 1
        self._embedding_dim: int | None = None
        self._tracked: list[_Track] = []
        self._lost: list[_Track] = []

    def update(self, detections: Detections) -> Tracks:
        """Take in the next frame.

        Args:
            detections: what was found in it, in any order and with any scores; rows below ``min_score`` and boxes
                without width or height take no part. Frames without detections must be passed too: time advances
                with every call.

        Returns:
            The confirmed tracks that were found in this frame, in order of id, with filtered boxes; empty where
            there are none.

        Raises:
            ShapeError: the method needs embeddings and there are none, they are not finite, or their width differs
                from that of earlier frames. The tracker is as before the call.
        """
        candidates = self._take_part(detections)
        frame = self._next_frame
        self._next_frame += 1

        confirmed = [track for track in self._tracked if track.confirmed]
        tentative = [track for track in self._tracked if not track.confirmed]
        pool = confirmed + self._lost
        _predict(pool)  # FairMOT does not move tentative tracks before their second detection

        config = self.config
        free = np.arange(len(candidates.score))
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
        """Let time pass in which nobody looked: tracks move on as they last did, and none counts as lost for it.

        Args:
            frames: how many frame times, at least 0.
        """
        self._next_frame += frames
        for _ in range(min(frames, self.max_lost_frames)):  # after longer, no prediction is worth anything
            _predict([track for track in self._tracked if track.confirmed] + self._lost)

    def _take_part(self, detections: Detections) -> _Candidates:
        """Check a frame's embeddings and choose the detections that take part."""
        needs_embedding = self.config.method == "fairmot" and len(detections) > 0
        if needs_embedding:
            self._check_embedding(detections)
        side = detections.xyxy[:, 2:] - detections.xyxy[:, :2]
        chosen = detections.select((detections.score >= self.config.min_score) & (side > 0).all(axis=1))
        xyxy = chosen.xyxy.astype(np.float64)
        embedding = unit_length(chosen.embedding) if needs_embedding and chosen.embedding is not None else None
        return _Candidates(xyxy, xyxy_to_xyah(xyxy), chosen.score.astype(np.float64), chosen.class_id, embedding)

    def _check_embedding(self, detections: Detections) -> None:
        """Refuse embeddings that cannot be compared; remember their width."""
        if detections.embedding is None:
            raise ShapeError(
                f"frame {self._next_frame}: {len(detections)} detections have no embeddings, which method 'fairmot' compares; "
                "use method 'motion' or a model with embeddings"
            )
        width = detections.embedding.shape[1]
        if self._embedding_dim not in (None, width):
            raise ShapeError(
                f"frame {self._next_frame}: embeddings have {width} dimensions, those of earlier frames {self._embedding_dim}; "
                "call reset() between videos of different models"
            )
        bad = np.flatnonzero(~np.isfinite(detections.embedding).all(axis=1))
        if len(bad):
            raise ShapeError(
                f"frame {self._next_frame}: embedding row {bad[0]} has NaN or infinite entries; check the model that made it"
            )
        self._embedding_dim = width

    def _first_cost(self, pool: Sequence[_Track], candidates: _Candidates) -> tuple[Floats, float]:
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
        self, tracks: list[_Track], candidates: _Candidates, free: IntArray, cost: Floats, ceiling: float, frame: int
    ) -> tuple[list[_Track], IntArray]:
        """Match tracks with free candidates, take the matches in, and return what remains of both."""
        track_class = np.array([track.class_id for track in tracks], np.int64)
        rows, columns = assign(forbid_other_classes(cost, track_class, candidates.class_id[free]), ceiling)
        self._absorb([tracks[row] for row in rows], candidates, free[columns], frame)
        return [tracks[row] for row in unmatched(len(tracks), rows)], free[unmatched(len(free), columns)]

    def _absorb(self, tracks: list[_Track], candidates: _Candidates, rows: IntArray, frame: int) -> None:
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

    def _start(self, candidates: _Candidates, free: IntArray, frame: int) -> list[_Track]:
        """Start a track at every free candidate that is sure enough."""
        min_score = max(self.config.min_score, self.config.min_new_score)
        chosen = free[candidates.score[free] >= min_score]
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
    """Return ``(T, 8)`` means and ``(T, 8, 8)`` covariances."""
    means = np.array([track.mean for track in tracks]).reshape(-1, 8)
    return means, np.array([track.covariance for track in tracks]).reshape(-1, 8, 8)


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
