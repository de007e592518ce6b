"""What is known after the last frame."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tdtrack.association.offline import MAX_GAP_SECONDS, _link, _Piece, _scale, _successors, refine
from tdtrack.errors import ShapeError
from tdtrack.types import Detections, Tracks

DIM = 8
LOOKS = np.eye(DIM)
FPS = 10.0


def video(frames: int, *people: tuple[int, int, float, float, int, int]) -> tuple[list[Tracks], list[Detections]]:
    """People as (first frame, end, left at frame 0, speed, look, id); 40 wide, 80 high; ids must ascend."""
    tracks, detections = [], []
    for frame in range(frames):
        here = [person for person in people if person[0] <= frame < person[1]]
        boxes = np.array([[x + v * frame, 0, x + v * frame + 40, 80] for _, _, x, v, _, _ in here]).reshape(-1, 4)
        looks = np.array([LOOKS[look] for *_, look, _ in here]).reshape(-1, DIM)
        score, kind = np.full(len(here), 0.9), np.zeros(len(here))
        detections.append(Detections(boxes, score, kind, looks))
        tracks.append(Tracks(frame, [person[-1] for person in here], boxes, score, kind))
    return tracks, detections


BYSTANDERS = ((0, 60, 900.0, 0.0, 5, 8), (0, 60, 1200.0, 0.0, 6, 9))


def frames_of(tracks: list[Tracks], track_id: int) -> list[int]:
    return [seen.frame_index for seen in tracks if track_id in seen.track_id]


def test_two_parts_of_one_walk_are_joined_and_the_gap_filled() -> None:
    tracks, detections = video(60, (0, 20, 0.0, 4.0, 0, 1), (30, 60, 0.0, 4.0, 0, 2), *BYSTANDERS)
    refined = refine(tracks, detections, FPS)
    assert frames_of(refined, 1) == list(range(60))
    assert frames_of(refined, 2) == []
    for seen in refined[5:55]:
        row = seen.track_id.tolist().index(1)
        assert seen.xyxy[row] == pytest.approx([4 * seen.frame_index, 0, 4 * seen.frame_index + 40, 80], abs=0.01)
        assert seen.hidden[row] == (20 <= seen.frame_index < 30)


def test_someone_else_in_the_same_place_is_not_joined() -> None:
    tracks, detections = video(60, (0, 20, 0.0, 4.0, 0, 1), (30, 60, 0.0, 4.0, 1, 2), *BYSTANDERS)
    refined = refine(tracks, detections, FPS)
    assert frames_of(refined, 1) == list(range(20))
    assert frames_of(refined, 2) == list(range(30, 60))


def test_links_are_chosen_together() -> None:
    # Both second parts are nearest to where 1 ended, but only one can follow it.
    tracks, detections = video(
        60,
        (0, 20, 0.0, 0.0, 0, 1),
        (0, 20, 150.0, 0.0, 1, 2),
        (30, 60, 10.0, 0.0, 0, 3),
        (30, 60, 60.0, 0.0, 1, 4),
        *BYSTANDERS,
    )
    refined = refine(tracks, detections, FPS)
    assert frames_of(refined, 1) == frames_of(refined, 2) == list(range(60))


def test_long_gaps_are_linked_but_not_filled() -> None:
    tracks, detections = video(60, (0, 15, 0.0, 0.0, 0, 1), (45, 60, 0.0, 0.0, 0, 2), *BYSTANDERS)
    assert frames_of(refine(tracks, detections, FPS), 1) == [*range(15), *range(45, 60)]


def test_foreseen_boxes_give_way_to_what_was_seen() -> None:
    tracks, detections = video(20, (0, 20, 0.0, 0.0, 0, 1))
    foreseen = [
        Tracks(
            t.frame_index, t.track_id, t.xyxy + 50 * (t.frame_index in (9, 19)), t.score, t.class_id, [t.frame_index in (9, 19)]
        )
        for t in tracks
    ]
    refined = refine(foreseen, detections, FPS)
    assert frames_of(refined, 1) == list(range(19))  # the last one led nowhere
    assert refined[9].xyxy[0, 0] == pytest.approx(0)


def test_nothing_at_all_and_no_embeddings_are_fine() -> None:
    assert [len(seen) for seen in refine(*video(3), FPS)] == [0, 0, 0]
    assert refine([], [], FPS) == []
    tracks, detections = video(60, (0, 20, 0.0, 4.0, 0, 1), (22, 60, 0.0, 4.0, 0, 2))
    blind = [found.with_embedding(None) for found in detections]
    assert frames_of(refine(tracks, blind, FPS), 1) == list(range(60))  # motion alone
    with pytest.raises(ShapeError, match="60 frames of tracks but 1"):
        refine(tracks, detections[:1], FPS)


@pytest.mark.parametrize("seed", range(5))
def test_successors_are_those_that_a_loop_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = []
    for number in range(40):
        frames = (
            np.arange(rng.integers(0, 300), rng.integers(301, 400)) if number % 9 == 0 else rng.integers(0, 400) + np.arange(9)
        )
        box = np.tile([0.0, 0.0, 10.0, 20.0], (len(frames), 1))
        shape = np.ones(len(frames), np.float32), np.zeros((len(frames), 0))
        pieces.append(_Piece(number, int(rng.integers(2)), frames, box, *shape))
    found = set(zip(*(side.tolist() for side in _successors(pieces, FPS))))
    wanted = set()
    for head, one in enumerate(pieces):
        for tail, other in enumerate(pieces):
            gap = (other.frame[0] - one.frame[-1]) / FPS
            if 0 < gap <= MAX_GAP_SECONDS and one.class_id == other.class_id:
                wanted.add((head, tail))
    assert found == wanted and wanted


def test_a_long_video_takes_memory_for_neighbours_in_time_only() -> None:
    count = 3000
    shape = np.tile([0.0, 0.0, 10.0, 20.0], (15, 1)), np.ones(15, np.float32), np.tile(LOOKS[0], (15, 1))
    pieces = [_Piece(number, 0, 10 * number + np.arange(15), *shape) for number in range(count)]
    tracemalloc.start()
    _link(pieces, _scale(pieces), FPS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < count * count, "a byte for every two tracks would take more"
