"""After the fact: link tracks that belong together, fill the gaps, smooth the paths.

An online tracker must decide with every frame; who processes files can look at whole tracks. A track that ends and one that
starts later are linked by the looks of both, averaged over all their frames, and by where the first was going; all links are
chosen together. What is between is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tdtrack.association.appearance import LookScale
from tdtrack.association.costs import unit_length
from tdtrack.association.kalman import Floats
from tdtrack.association.matching import assign_pairs
from tdtrack.boxes import iou
from tdtrack.errors import ShapeError
from tdtrack.types import Detections, FloatArray, IntArray, Tracks

__all__ = ["refine"]

OWN_IOU = 0.5
"""A detection that overlaps a track's box by more gave the track its box."""

ISOLATED_IOU = 0.3
"""A box that overlaps another by more shows two objects, and its look counts for neither."""

HALF_LOOKS = 5
"""Looks in each half of a track from which its halves tell how alike one object looks to itself."""

PACE = 1.0
"""How far people go in a second, in heights: standard deviation of what is not foreseen."""

PLACE = 0.5
"""The same for no time at all, in heights."""

RESIZE = 0.3
"""Standard deviation of the logarithm of the height, at the start and for every second."""

MOMENTUM_SECONDS = 0.5
"""How long a lost object keeps its speed; the speed is its mean over as long."""

MAX_GAP_SECONDS = 10.0
"""Tracks farther apart than this are not linked."""

PAIRS_AT_ONCE = 10_000
"""Pairs of looks that are compared at a time, so that memory stays bounded."""

MAX_FILL_SECONDS = 2.0
"""Longer gaps are linked but not filled."""

SMOOTHING_SECONDS = 0.1
"""Standard deviation of the Gaussian that smooths boxes over time."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A stretch of one object: frames ``(F,)`` ascending, boxes ``(F, 4)``, scores ``(F,)``, looks ``(F, D)``."""

    track_id: int
    class_id: int
    frame: IntArray
    xyxy: Floats
    score: FloatArray
    look: Floats


def refine(tracks: Sequence[Tracks], detections: Sequence[Detections], frame_rate: float) -> list[Tracks]:
    """Improve finished tracks.

    Args:
        tracks: of every frame from 0 on, from one tracker.
        detections: what the tracker was given, a record per frame; embeddings are used where there are any.
        frame_rate: frames per second.

    Returns:
        A record per frame: linked tracks under the id of their first part, gaps of up to two seconds filled (``hidden``),
        boxes smoothed. Boxes the tracker only foresaw are replaced by interpolated ones, or dropped at a track's end.

    Raises:
        ShapeError: the two do not have a record per frame each.
    """
    if len(tracks) != len(detections):
        raise ShapeError(f"{len(tracks)} frames of tracks but {len(detections)} of detections; pass one of each per frame")
    pieces = _cut(tracks, detections)
    scale = _scale(pieces)
    while len(linked := _link(pieces, scale, frame_rate)) < len(pieces):
        pieces = linked
    return _lay_out(pieces, len(tracks), frame_rate)


def _cut(tracks: Sequence[Tracks], detections: Sequence[Detections]) -> list[_Piece]:
    """Collect each track's seen boxes, with the looks of the detections they came from."""
    dim = max((d.embedding.shape[1] for d in detections if d.embedding is not None), default=0)
    rows: dict[int, list[tuple[int, int, FloatArray, float, Floats]]] = {}
    for seen, found in zip(tracks, detections):
        look = np.zeros((len(seen), dim))
        if len(seen) and len(found) and found.embedding is not None:
            crossing = iou(found.xyxy, found.xyxy)
            np.fill_diagonal(crossing, 0.0)
            overlap = iou(seen.xyxy, found.xyxy)
            own = overlap.argmax(axis=1)
            clear = (overlap.max(axis=1) > OWN_IOU) & (crossing.max(axis=1)[own] < ISOLATED_IOU)
            look[clear] = unit_length(found.embedding[own[clear]])
        for row in np.flatnonzero(~np.asarray(seen.hidden)):
            entry = (seen.frame_index, int(seen.class_id[row]), seen.xyxy[row], float(seen.score[row]), look[row])
            rows.setdefault(int(seen.track_id[row]), []).append(entry)
    pieces = []
    for track_id, entries in rows.items():
        frame, kind, xyxy, score, look_rows = zip(*entries)
        pieces.append(
            _Piece(
                track_id,
                kind[0],
                np.array(frame, np.int64),
                np.array(xyxy, np.float64),
                np.array(score, np.float32),
                np.array(look_rows).reshape(len(entries), dim),
            )
        )
    return pieces


def _mean_look(look: Floats) -> Floats:
    """Return the ``(D,)`` mean look of unit length; zeros where none is known."""
    mean: Floats = unit_length(look.sum(axis=0, keepdims=True))[0]
    return mean


def _scale(pieces: Sequence[_Piece]) -> LookScale:
    """Calibrate mean looks: the halves of a track are alike, tracks that share a frame are different."""
    scale = LookScale(None)
    halves = []
    for piece in pieces:
        known = piece.look[piece.look.any(axis=1)]
        if len(known) >= 2 * HALF_LOOKS:
            middle = len(known) // 2
            halves.append(float(_mean_look(known[:middle]) @ _mean_look(known[middle:])))
    scale.observe_same(np.array(halves))
    shown = [piece for piece in pieces if piece.look.any()]
    if shown:
        looks = np.array([_mean_look(piece.look) for piece in shown])
        start, end = _spans(shown)
        order = np.argsort(start, kind="stable")
        # After a track in order of start come those that start while it is there, each pair once.
        first, second = _runs(np.arange(1, len(shown) + 1), np.searchsorted(start[order], end[order], side="right"))
        cosine = _cosines(looks[order], first, second)
        if cosine.size:
            scale.different.add(float(cosine.mean()), float(cosine.var()), cosine.size)
    return scale


def _runs(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
    """Return all pairs ``(row, place)`` with ``start[row] <= place < end[row]``, row by row."""
    count = np.maximum(end - start, 0)
    row = np.repeat(np.arange(len(start)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + start[row]


def _cosines(looks: Floats, first: IntArray, second: IntArray) -> Floats:
    """Return ``(K,)`` products of pairs of rows, a few at a time."""
    parts = range(0, len(first), PAIRS_AT_ONCE)
    cut = [(first[at : at + PAIRS_AT_ONCE], second[at : at + PAIRS_AT_ONCE]) for at in parts]
    return np.concatenate([np.zeros(0), *((looks[one] * looks[other]).sum(axis=1) for one, other in cut)])


def _spans(pieces: Sequence[_Piece]) -> tuple[IntArray, IntArray]:
    return np.array([p.frame[0] for p in pieces], np.int64), np.array([p.frame[-1] for p in pieces], np.int64)


def _link(pieces: list[_Piece], scale: LookScale, frame_rate: float) -> list[_Piece]:
    """Join every piece with its most likely successor, all chosen together."""
    if len(pieces) < 2:
        return pieces
    head, tail = _successors(pieces, frame_rate)
    looks = np.array([_mean_look(piece.look) for piece in pieces])
    known = np.asarray(looks.any(axis=1))
    evidence = np.where(known[head] & known[tail], scale.evidence(_cosines(looks, head, tail)), 0.0)
    evidence += _path_evidence(pieces, head, tail, frame_rate)
    chosen = assign_pairs(head, tail, -evidence, 0.0)
    after = dict(zip(head[chosen].tolist(), tail[chosen].tolist()))
    joined = []
    for begin in sorted(set(range(len(pieces))) - set(after.values())):
        chain = [begin]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        parts = [pieces[index] for index in chain]
        joined.append(
            _Piece(
                parts[0].track_id,
                parts[0].class_id,
                *(np.concatenate([getattr(part, name) for part in parts]) for name in ("frame", "xyxy", "score", "look")),
            )
        )
    return joined


def _successors(pieces: Sequence[_Piece], frame_rate: float) -> tuple[IntArray, IntArray]:
    """Return all pairs of pieces of one class of which the second starts soon after the first ends."""
    start, end = _spans(pieces)
    order = np.argsort(start, kind="stable")
    latest = end + int(MAX_GAP_SECONDS * frame_rate) + 1
    head, place = _runs(*(np.searchsorted(start[order], frame, side="right") for frame in (end, latest)))
    tail = order[place]
    kind = np.array([piece.class_id for piece in pieces])
    possible = ((start[tail] - end[head]) / frame_rate <= MAX_GAP_SECONDS) & (kind[head] == kind[tail])
    return head[possible], tail[possible]


def _path_evidence(pieces: Sequence[_Piece], head: IntArray, tail: IntArray, frame_rate: float) -> Floats:
    """Weigh where and how large ``(K,)`` successors start: a normal distribution against one object per square height."""
    start, end = _spans(pieces)
    gap = (start[tail] - end[head]) / frame_rate
    steps = max(1, round(MOMENTUM_SECONDS * frame_rate))
    first = np.array([piece.xyxy[0] for piece in pieces])
    last = np.array([piece.xyxy[-1] for piece in pieces])
    before = [max(-len(piece.frame), -1 - steps) for piece in pieces]
    earlier = np.array([piece.xyxy[at] for piece, at in zip(pieces, before)])
    passed = np.array([piece.frame[-1] - piece.frame[at] for piece, at in zip(pieces, before)])
    speed = (_centre(last) - _centre(earlier)) / np.maximum(passed, steps)[:, None] * frame_rate
    height = np.maximum(last[:, 3] - last[:, 1], 1.0)
    expected = _centre(last)[head] + speed[head] * np.minimum(gap, MOMENTUM_SECONDS)[:, None]
    distance = np.linalg.norm(_centre(first)[tail] - expected, axis=1) / height[head]
    grown = np.log(np.maximum(first[:, 3] - first[:, 1], 1.0))[tail] - np.log(height)[head]
    spread, resize = PLACE + PACE * gap, RESIZE * (1 + gap)
    evidence: Floats = -np.square(distance / spread) / 2 - np.square(grown / resize) / 2 - 2 * np.log(spread)
    return evidence


def _centre(xyxy: Floats) -> Floats:
    middle: Floats = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    return middle


def _lay_out(pieces: Sequence[_Piece], frames: int, frame_rate: float) -> list[Tracks]:
    """Fill and smooth every piece, and sort all boxes into frames."""
    columns: list[tuple[IntArray, IntArray, Floats, FloatArray, IntArray, IntArray]] = []
    for piece in pieces:
        before = np.diff(piece.frame, prepend=piece.frame[0] - 1)
        for part in np.split(np.arange(len(piece.frame)), np.flatnonzero(before > MAX_FILL_SECONDS * frame_rate)):
            at = piece.frame[part]
            frame = np.arange(at[0], at[-1] + 1)
            boxes = np.column_stack([np.interp(frame, at, piece.xyxy[part, side]) for side in range(4)])
            boxes = gaussian_filter1d(boxes, SMOOTHING_SECONDS * frame_rate, axis=0, mode="nearest")
            last = np.searchsorted(at, frame, side="right") - 1
            same = np.ones(len(frame), np.int64)
            hidden = (at[last] != frame).astype(np.int64)
            columns.append((frame, piece.track_id * same, boxes, piece.score[part][last], piece.class_id * same, hidden))
    if not columns:
        return [Tracks(index, *_nothing()) for index in range(frames)]
    frame, track_id, boxes, score, kind, hidden = (np.concatenate(column) for column in zip(*columns))
    order = np.lexsort((track_id, frame))
    cuts = np.searchsorted(frame[order], np.arange(frames + 1))
    return [
        Tracks(index, track_id[rows], boxes[rows], score[rows], kind[rows], hidden[rows] > 0)
        for index, rows in ((index, order[cuts[index] : cuts[index + 1]]) for index in range(frames))
    ]


def _nothing() -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    whole, real = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return whole, real.reshape(0, 4), real, whole
