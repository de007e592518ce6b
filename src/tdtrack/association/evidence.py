"""The default association: appearance and motion as evidence in one currency.

Every pair of a track and a detection gets a log-likelihood ratio: how much likelier is what we see if the two are the same
object than if they are not? Motion and appearance each give theirs, and the two are added. A pair pays off above zero, and
all pairs of a frame are chosen together.

- **Motion**: how far the box lies from where the track should be, in units of the track's uncertainty, which grows while the
  track is lost; so a lost track may be found farther away, but its place says less. The tails are a Student t's: cameras
  shake, people turn. Who was away may come back anywhere, so against a lost track motion never says much, and comes back
  turned, so the look says less too.
- **Appearance**: the cosine of the looks, on a scale that the video itself calibrates (``tdtrack.association.appearance``),
  worth less the more the box overlaps another, whose pixels it holds.
- **Scores**: sure detections choose first, unsure ones continue the tracks that remain but start none. What a score is worth
  the video tells (``tdtrack.association.scores``): unsure detections need better evidence the less theirs is worth and hide
  others less, and a track that lives on worthless ones is followed but not reported.
- **Hidden objects**: a track that was just lost is reported where it should be, for a moment.

Source:
    Ours. Measured part by part in ``benchmarks/association.py``. Constants were chosen on four sequences of eight; those of
    scores and of returns later, with all eight in sight, on weak detectors and walkers (``docs/association.md``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tdtrack.association import kalman
from tdtrack.association.appearance import LookScale
from tdtrack.association.candidates import Candidates
from tdtrack.association.kalman import Floats
from tdtrack.association.matching import assign, unmatched
from tdtrack.association.scores import ScoreScale
from tdtrack.association.table import TrackTable, empty_table
from tdtrack.boxes import iou, xyah_to_xyxy
from tdtrack.config import AssociationConfig
from tdtrack.types import BoolArray, IntArray, Tracks

__all__ = ["Evidence"]

NOISE_FRAME_RATE = 30.0
"""The Kalman filter's noise is per frame of FairMOT's 30 fps videos; time between frames is counted in those."""

MEASUREMENT_NOISE = 0.1
"""Standard deviation of a detected side around the true one, in box heights. Twice FairMOT's."""

TAIL = 6.0
"""Degrees of freedom of the Student t of motion: the fewer, the less a jump counts."""

MIN_RETURN_EVIDENCE = -0.5
"""Motion speaks against a lost track by at most this much: who was away may come back anywhere."""

AWAY_LOOK_SHARE = 0.6
"""Looks against a lost track count for this much: the scale is that of objects in view, and who was away comes back turned."""

ISOLATED_IOU = 0.3
"""A box that overlaps no other by more shows one object: its look may be learned."""

SURE_IOU = 0.5
"""An isolated box that overlaps a track's prediction by more is certainly the same object."""

SURE_HITS = 3
"""Detections after which a track's prediction and its look can be trusted."""

HIDDEN_HITS = 5
"""Detections after which a track is worth reporting while hidden."""

DUPLICATE_IOU = 0.7
"""A detection that overlaps a matched one by more is the same object again and starts no track."""

TRUST_KEPT = 0.95
"""Share of a track's trust that remains when the next detection adds its own."""

MAX_TRUST = 4.0
"""A track that was certain for long may be gone as soon as any other."""

MIN_TRUST = -3.0
"""A track with less is followed but not reported. Below zero, for it was started by sure detections."""

UNSURE_IOU = 0.5
"""An unsure detection has to overlap a track's prediction by so much: false ones lie around people too."""

TELLING_IOU = 0.6
"""One that overlaps it by more shows the track's object; one that overlaps it by less may be there by chance."""

NEAR_IOU = 0.1
"""An unsure detection that overlaps a matched one by more could have been taken for its object; farther off it harms nobody."""

BENEFIT_OF_DOUBT = 2.0
"""Log-odds lent to a box that may cover another: only one that hardly ever shows an object is overlooked."""

NEW_LOOK_SHARE = 0.1
"""Least share of a new look in the running one, once the first looks have been averaged."""


def motion_evidence(mean: Floats, covariance: Floats, xyah: Floats) -> Floats:
    """Weigh places and sizes.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 3, 4)`` their covariances.
        xyah: ``(N, 4)`` measured boxes.

    Returns:
        ``(T, N)`` log-likelihood ratios: a Student t around the prediction against one object per square of the track's
        height, at any size.
    """
    distance = kalman.squared_mahalanobis(mean, covariance, xyah, MEASUREMENT_NOISE)
    height = mean[:, kalman.HEIGHT]
    spread = kalman.spread(mean, covariance, MEASUREMENT_NOISE)[:, [0, 1, kalman.HEIGHT]] / np.square(height)[:, None]
    width = np.log(spread).sum(axis=1) / 2
    ratio: Floats = -(TAIL + 4) / 2 * np.log1p(distance / TAIL) - width[:, None]
    return ratio


def look_evidence(scale: LookScale, cosine: Floats, known: BoolArray, overlap: Floats) -> Floats:
    """Weigh looks.

    Args:
        scale: what a cosine says.
        cosine: ``(T, N)`` of the tracks' looks and the detections'.
        known: ``(T, N)`` both have a look.
        overlap: ``(N,)`` largest IoU of each detection with another one.

    Returns:
        ``(T, N)`` log-likelihood ratios; zero where a look is missing or belongs to two objects.
    """
    return np.where(known, scale.evidence(cosine) * (1 - overlap), 0.0)


def there(worth: Floats) -> Floats:
    """Return for ``(N,)`` log-odds how much each box counts, from 0 to 1, as something that covers others."""
    share: Floats = 1 / (1 + np.exp(-BENEFIT_OF_DOUBT - worth))
    return share


class Evidence:
    """Links detections by evidence; memory is bounded by the tracks of the last ``max_lost_seconds``."""

    def __init__(self, config: AssociationConfig, frame_rate: float) -> None:
        """Start without tracks.

        Args:
            config: score floors and times.
            frame_rate: frames per second, where frames bring no time of their own.
        """
        self.config = config
        self.scale = LookScale(config.cosine_statistics)
        self.scores = ScoreScale(config.min_score)
        self._frame_seconds = 1 / frame_rate
        self._clock = 0.0
        self._unwatched = 0.0
        self._next_id = 1
        self._tracks = empty_table()
        self._lowest, self._highest = np.full(2, np.inf), np.full(2, -np.inf)

    def move_camera(self, affine: Floats) -> None:
        """Move all tracks with the picture: ``(2, 3)`` affine map of the last frame's pixels to this one's."""
        self._tracks.mean, self._tracks.covariance = kalman.move(self._tracks.mean, self._tracks.covariance, affine)

    def skip(self, frames: int) -> None:
        """Let frame times pass in which nobody looked; the next step catches up with them."""
        self._unwatched += frames * self._frame_seconds

    def forget(self) -> None:
        """Drop all tracks; what was learned of scores and looks stays."""
        self._tracks = self._tracks.select(np.zeros(len(self._tracks), bool))

    def step(self, candidates: Candidates, frame: int, elapsed: float | None = None) -> Tracks:
        """Take in the next frame.

        Args:
            candidates: the detections that take part, all at or above ``min_low_score``.
            frame: its index.
            elapsed: seconds since the last frame; ``None`` takes the frame rate's.

        Returns:
            The confirmed tracks that were found in this frame or are hidden for a moment, in order of id.
        """
        seconds = self._frame_seconds + self._unwatched if elapsed is None else elapsed
        self._unwatched = 0.0
        self._clock += seconds
        self._predict(seconds)
        tracks = self._tracks
        crossing = iou(candidates.xyxy, candidates.xyxy)
        np.fill_diagonal(crossing, 0.0)
        worth = self.scores.log_odds(candidates.score)
        overlap = (crossing * there(worth)).max(axis=1, initial=0.0)
        sure = candidates.at_least(self.config.min_score)
        cosine, known = self._compare(candidates, sure & (overlap < ISOLATED_IOU))

        evidence = motion_evidence(tracks.mean, tracks.covariance, candidates.xyah)
        lost = tracks.seen < self._clock - 1.5 * seconds
        elsewhere = lost[:, None] & (evidence < MIN_RETURN_EVIDENCE)
        evidence[elsewhere] = MIN_RETURN_EVIDENCE
        evidence += np.where(lost, AWAY_LOOK_SHARE, 1.0)[:, None] * look_evidence(self.scale, cosine, known, overlap)
        evidence[tracks.class_id[:, None] != candidates.class_id] = -np.inf
        evidence += np.where(sure, 0.0, np.minimum(worth, 0.0))
        expected = iou(xyah_to_xyxy(tracks.mean[:, :4]), candidates.xyxy)
        evidence[(expected < UNSURE_IOU) & ~sure] = -np.inf
        rows, columns = self._choose(evidence, sure)
        overlaps = expected[rows, columns]
        self._learn_scale(rows, columns, cosine, known, overlap, overlaps)
        self._learn_scores(candidates, crossing, sure, rows, columns, overlaps)
        self._absorb(candidates, worth, rows, columns, overlap)
        returned = elsewhere[rows, columns]
        self._restart(rows[returned], candidates.xyah[columns[returned]])

        free = unmatched(len(candidates), columns)
        free = free[candidates.at_least(self.config.new_score)[free]]
        free = free[crossing[np.ix_(free, columns)].max(axis=1, initial=0.0) < DUPLICATE_IOU]
        self._drop()
        self._start(candidates, worth, free, confirmed=frame == 0)
        self._widen_scene(candidates)
        return self._report(frame)

    def _predict(self, seconds: float) -> None:
        tracks = self._tracks
        # A lost object keeps its path but not its change of size, which would blow its box up. Nor does its size get uncertain
        # as fast as its place: else a box of the right size where it was expected would soon say nothing.
        lost = tracks.seen < self._clock - 1.5 * seconds
        tracks.mean[lost, 6:] = 0.0
        tracks.covariance[lost, kalman.BOTH :, kalman.ASPECT :] = 0.0
        tracks.mean, tracks.covariance = kalman.predict(tracks.mean, tracks.covariance, NOISE_FRAME_RATE * seconds)
        tracks.mean[:, kalman.HEIGHT] = np.maximum(tracks.mean[:, kalman.HEIGHT], 1.0)
        tracks.mean[:, kalman.ASPECT] = np.maximum(tracks.mean[:, kalman.ASPECT], 0.05)

    def _compare(self, candidates: Candidates, alone: BoolArray) -> tuple[Floats, BoolArray]:
        """Return ``(T, N)`` cosines of looks and whether both are known; learn from the boxes that stand ``alone``."""
        shape = (len(self._tracks), len(candidates))
        if candidates.embedding is None:
            return np.zeros(shape), np.zeros(shape, bool)
        if self._tracks.look.shape[1] == 0:  # the first embeddings of the video
            self._tracks = replace(self._tracks, look=np.zeros((len(self._tracks), candidates.embedding.shape[1])))
        has_look = np.asarray(candidates.embedding.any(axis=1))
        chosen = np.flatnonzero(alone & has_look)
        strongest = chosen[np.argsort(-candidates.score[chosen], kind="stable")]
        self.scale.observe_frame(candidates.embedding[strongest])
        known = (self._tracks.looks > 0)[:, None] & has_look[None, :]
        return self._tracks.look @ candidates.embedding.T, known

    def _choose(self, evidence: Floats, sure: BoolArray) -> tuple[IntArray, IntArray]:
        """Pair tracks with sure detections, then the tracks that remain with unsure ones."""
        first, second = np.flatnonzero(sure), np.flatnonzero(~sure)
        rows, columns = assign(-evidence[:, first], 0.0)
        if len(second) == 0:
            return rows, first[columns]
        left = unmatched(len(evidence), rows)
        more_rows, more_columns = assign(-evidence[np.ix_(left, second)], 0.0)
        return np.concatenate([rows, left[more_rows]]), np.concatenate([first[columns], second[more_columns]])

    def _learn_scale(
        self, rows: IntArray, columns: IntArray, cosine: Floats, known: BoolArray, overlap: Floats, expected: Floats
    ) -> None:
        """Take pairs that motion alone makes certain, where the prediction overlaps most, as views of one object."""
        certain = (
            known[rows, columns]
            & (self._tracks.hits[rows] >= SURE_HITS)
            & (overlap[columns] < ISOLATED_IOU)
            & (expected > SURE_IOU)
        )
        self.scale.observe_same(cosine[rows[certain], columns[certain]])

    def _learn_scores(
        self, candidates: Candidates, crossing: Floats, sure: BoolArray, rows: IntArray, columns: IntArray, expected: Floats
    ) -> None:
        """Count what became of detections.

        Those that continue a trusted track, or confirm a new one, show an object, and so does the new track's first; unsure
        ones that continue nothing, but lie where they might have, do not, nor do those that lie not quite where they should,
        nor first ones that nothing confirmed.
        """
        tracks = self._tracks
        found = np.zeros(len(tracks), bool)
        found[rows] = True
        new = np.flatnonzero(~tracks.confirmed)
        alone = unmatched(len(candidates), columns)
        alone = alone[~sure[alone]]
        alone = alone[crossing[np.ix_(alone, columns)].max(axis=1, initial=0.0) > NEAR_IOU]
        trusted = ~tracks.confirmed[rows] | (tracks.trust[rows] >= MIN_TRUST)
        trusted &= sure[columns] | (expected > TELLING_IOU)
        score = np.concatenate([candidates.score[columns], candidates.score[alone], tracks.score[new]])
        self.scores.observe(score, np.concatenate([trusted, np.zeros(len(alone), bool), found[new]]))

    def _absorb(self, candidates: Candidates, worth: Floats, rows: IntArray, columns: IntArray, overlap: Floats) -> None:
        """Correct every matched track with its detection."""
        tracks = self._tracks
        tracks.mean[rows], tracks.covariance[rows] = kalman.update(
            tracks.mean[rows], tracks.covariance[rows], candidates.xyah[columns], MEASUREMENT_NOISE
        )
        tracks.hits[rows] += 1
        tracks.seen[rows] = self._clock
        tracks.score[rows] = candidates.score[columns]
        tracks.trust[rows] = np.minimum(TRUST_KEPT * tracks.trust[rows] + worth[columns], MAX_TRUST)
        tracks.confirmed[rows] |= tracks.hits[rows] >= self.config.min_hits
        if candidates.embedding is None:
            return
        seen = (overlap[columns] < ISOLATED_IOU) & candidates.embedding[columns].any(axis=1)
        rows, columns = rows[seen], columns[seen]
        share = np.maximum(NEW_LOOK_SHARE, 1 / (tracks.looks[rows] + 1))[:, None]
        running = (1 - share) * tracks.look[rows] + share * candidates.embedding[columns]
        tracks.look[rows] = running / np.maximum(np.linalg.norm(running, axis=1, keepdims=True), 1e-9)
        tracks.looks[rows] += 1

    def _restart(self, rows: IntArray, xyah: Floats) -> None:
        """Let tracks that came back elsewhere go on from there: their path is of no more use."""
        self._tracks.mean[rows], self._tracks.covariance[rows] = kalman.initiate(xyah)

    def _drop(self) -> None:
        """Forget tentative tracks that were missed once, and tracks lost for too long."""
        tracks = self._tracks
        missing = self._clock - tracks.seen
        kept = np.where(tracks.confirmed, missing <= self.config.lost_seconds, missing <= 0)
        if not kept.all():
            self._tracks = tracks.select(kept)

    def _start(self, candidates: Candidates, worth: Floats, chosen: IntArray, *, confirmed: bool) -> None:
        count = len(chosen)
        if count == 0:
            return
        mean, covariance = kalman.initiate(candidates.xyah[chosen])
        dim = self._tracks.look.shape[1]
        look = np.zeros((count, dim)) if candidates.embedding is None else candidates.embedding[chosen].astype(np.float64)
        started = TrackTable(
            track_id=np.arange(self._next_id, self._next_id + count),
            class_id=candidates.class_id[chosen],
            score=candidates.score[chosen],
            trust=worth[chosen],
            mean=mean,
            covariance=covariance,
            look=look,
            looks=np.asarray(look.any(axis=1), np.int64),
            hits=np.ones(count, np.int64),
            seen=np.full(count, self._clock),
            confirmed=np.full(count, confirmed or self.config.min_hits <= 1),
        )
        self._next_id += count
        self._tracks = self._tracks.extended(started)

    def _widen_scene(self, candidates: Candidates) -> None:
        """Remember where boxes have been seen: outside, a hidden object has left."""
        if len(candidates):
            self._lowest = np.minimum(self._lowest, candidates.xyxy[:, :2].min(axis=0))
            self._highest = np.maximum(self._highest, candidates.xyxy[:, 2:].max(axis=0))

    def _report(self, frame: int) -> Tracks:
        tracks = self._tracks
        missing = self._clock - tracks.seen
        centre = tracks.mean[:, :2]
        hidden = (missing > 0) & (missing <= self.config.max_hidden_seconds + 1e-9) & (tracks.hits >= HIDDEN_HITS)
        hidden &= ((centre > self._lowest) & (centre < self._highest)).all(axis=1)
        shown = np.flatnonzero(tracks.confirmed & (tracks.trust >= MIN_TRUST) & ((missing <= 0) | hidden))
        return Tracks(
            frame,
            tracks.track_id[shown],
            xyah_to_xyxy(tracks.mean[shown, :4]).astype(np.float32),
            tracks.score[shown].astype(np.float32),
            tracks.class_id[shown],
            hidden[shown],
        )
