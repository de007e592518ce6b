"""FairMOT's life of a track, frame by frame, and what every method refuses."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.types import Detections, Tracks

A, B, C = np.eye(3)
FAIRMOT = AssociationConfig(method="fairmot")
MOTION = AssociationConfig(method="motion")


def see(*people: tuple[float, np.ndarray], score: float = 0.9, kind: int = 0, height: float = 80.0) -> Detections:
    """People as (left side, look), standing on one line; 40 pixels wide."""
    xyxy = np.array([[left, 100, left + 40, 100 + height] for left, _ in people]).reshape(-1, 4)
    looks = np.array([look for _, look in people]).reshape(-1, 3)
    return Detections(xyxy, np.full(len(people), score), np.full(len(people), kind), looks)


NOBODY = Detections.empty(3)


def ids(tracks: Tracks) -> list[int]:
    return tracks.track_id.tolist()


def test_the_first_frame_confirms_at_once_and_later_ones_at_the_second_sight() -> None:
    tracker = Tracker(FAIRMOT)
    assert ids(tracker.update(see((0, A)))) == [1]
    assert ids(tracker.update(see((0, A), (200, B)))) == [1]
    assert ids(tracker.update(see((0, A), (200, B)))) == [1, 2]


def test_a_tentative_track_that_is_missed_once_is_gone_with_its_id() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(NOBODY)
    assert ids(tracker.update(see((200, B)))) == []
    assert ids(tracker.update(NOBODY)) == []
    assert ids(tracker.update(see((200, B)))) == []
    assert ids(tracker.update(see((200, B)))) == [2]


def test_box_score_and_class_are_those_of_the_match() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A), kind=3))
    tracks = tracker.update(see((2, A), score=0.5, kind=3))
    assert tracks.score.tolist() == [0.5]
    assert tracks.class_id.tolist() == [3]
    assert 0 < tracks.xyxy[0, 0] < 2  # filtered: between the prediction and the detection
    assert tracks.frame_index == 1


@pytest.mark.parametrize(
    ("frame_rate", "seconds", "frames"), [(30, 1.0, 30), (10, 1.0, 10), (10, 0.7, 7), (29.97, 1.0, 29), (25, 1.2, 30)]
)
def test_a_lost_track_waits_for_seconds_not_frames(frame_rate: float, seconds: float, frames: int) -> None:
    tracker = Tracker(AssociationConfig(method="fairmot", max_lost_seconds=seconds), frame_rate=frame_rate)
    assert tracker._method.max_lost_frames == frames


@pytest.mark.parametrize(("missed", "found"), [(1, True), (10, True), (11, True), (12, False)])
def test_a_lost_track_is_found_again_within_its_time(missed: int, found: bool) -> None:
    # FairMOT marks a track when more than 10 frames lie since it was seen, and lets the mark take effect one frame later:
    # the last chance is the 12th frame after, when 11 were missed.
    tracker = Tracker(FAIRMOT, frame_rate=10.0)
    tracker.update(see((0, A)))
    for _ in range(missed):
        assert ids(tracker.update(NOBODY)) == []
    assert ids(tracker.update(see((0, A)))) == ([1] if found else [])


def test_a_track_found_in_its_last_frame_goes_when_it_is_lost_again() -> None:
    tracker = Tracker(FAIRMOT, frame_rate=10.0)
    tracker.update(see((0, A)))
    for _ in range(11):
        tracker.update(NOBODY)
    assert ids(tracker.update(see((0, A)))) == [1]
    tracker.update(NOBODY)
    assert ids(tracker.update(see((0, A)))) == []
    assert ids(tracker.update(see((0, A)))) == [2]


def test_appearance_tells_apart_who_crossed() -> None:
    # Two people swap sides while hidden; both reappear within the gate of both.
    fairmot, motion = Tracker(FAIRMOT), Tracker(MOTION)
    before, after = see((100, A), (140, B)), see((100, B), (140, A))
    for tracker in (fairmot, motion):
        tracker.update(before)
        tracker.update(NOBODY)
        tracker.update(NOBODY)
    seen = fairmot.update(after)
    assert seen.xyxy[0, 0] > seen.xyxy[1, 0]  # 1 is the right one now
    seen = motion.update(after)
    assert seen.xyxy[0, 0] < seen.xyxy[1, 0]


def test_who_looks_alike_but_is_too_far_is_someone_else() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A)))
    tracker.update(see((500, A)))
    assert ids(tracker.update(see((500, A)))) == [2]


def test_a_tracked_person_who_looks_different_is_kept_by_overlap_and_a_lost_one_is_not() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A)))
    assert ids(tracker.update(see((2, B)))) == [1]
    tracker.update(NOBODY)
    assert ids(tracker.update(see((4, C)))) == []  # lost tracks are found by appearance only


def test_the_running_look_moves_by_a_tenth() -> None:
    tracker = Tracker(AssociationConfig(method="fairmot", smoothing=0.9))
    tracker.update(see((0, A)))
    tracker.update(see((0, B)))  # kept by overlap
    look = tracker._method._tracked[0].embedding
    expected = np.array([0.9, 0.1, 0]) / np.hypot(0.9, 0.1)
    np.testing.assert_allclose(look, expected, atol=1e-7)


def test_scores_decide_who_takes_part_and_who_starts() -> None:
    tracker = Tracker(AssociationConfig(method="fairmot", min_score=0.3, min_new_score=0.6))
    assert ids(tracker.update(see((0, A), score=0.5))) == []  # not enough to start
    tracker.reset()
    assert ids(tracker.update(see((0, A), score=0.7))) == [1]
    assert ids(tracker.update(see((0, A), score=0.3))) == [1]  # enough to go on, exactly at the floor
    assert ids(tracker.update(see((0, A), score=0.29))) == []


@pytest.mark.parametrize("method", ["fairmot", "motion", "evidence"])
@pytest.mark.parametrize("score", [0.3, 0.4, 0.45, 0.55, 0.65, 0.7, 0.9])  # in float32 some lie below what they are in float64
def test_a_score_of_just_the_floor_is_at_the_floor(method: str, score: float) -> None:
    tracker = Tracker(AssociationConfig(method=method, min_score=score))
    assert ids(tracker.update(see((0, A), score=score))) == [1]


@pytest.mark.parametrize("method", ["fairmot", "motion", "evidence"])
def test_who_is_forgotten_comes_back_as_someone_else(method: str) -> None:
    tracker = Tracker(AssociationConfig(method=method))
    for _ in range(3):
        tracker.update(see((0, A)))
    tracker.forget()
    assert [ids(tracker.update(see((0, A)))) for _ in range(3)][-1] == [2]


def test_a_floor_for_new_tracks_below_the_floor_for_all_changes_nothing() -> None:
    tracker = Tracker(AssociationConfig(method="fairmot", min_score=0.4, min_new_score=0.1))
    assert ids(tracker.update(see((0, A), score=0.2))) == []


def test_duplicates_the_longer_history_stays() -> None:
    tracker = Tracker(FAIRMOT)
    for _ in range(5):
        tracker.update(see((0, A)))
    # 1 is lost under a look that never matched, and a tentative track lies on it: younger, so it goes at once.
    tracker.update(see((300, B)))
    assert len(tracker._method._lost) == 1
    tracker.update(see((0, C)))
    assert [track.track_id for track in tracker._method._tracked] == []
    assert [track.track_id for track in tracker._method._lost] == [1]


def test_duplicates_of_equal_age_the_tracked_one_goes() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A)))
    tracker.update(NOBODY)
    tracker.update(see((0, C)))  # both have lived for one detection
    assert [track.track_id for track in tracker._method._tracked] == []
    assert [track.track_id for track in tracker._method._lost] == [1]


def test_classes_never_match_and_are_no_duplicates() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A), kind=0))
    tracker.update(see((0, A), kind=1))
    tracks = tracker.update(see((0, A), kind=1))
    assert ids(tracks) == [2]
    assert tracks.class_id.tolist() == [1]


def test_a_lost_track_does_not_grow() -> None:
    tracker = Tracker(FAIRMOT)
    for step in range(10):
        tracker.update(see((0, A), height=80.0 + 4 * step))
    height = tracker._method._tracked[0].mean[3]
    tracker.update(NOBODY)  # it does not know yet that the track is lost
    once = tracker._method._lost[0].mean[3]
    for _ in range(5):
        tracker.update(NOBODY)
    assert once > height + 1
    assert tracker._method._lost[0].mean[3] == pytest.approx(once)


def test_motion_alone_needs_no_embeddings() -> None:
    tracker = Tracker(MOTION)
    for step in range(5):
        seen = tracker.update(see((3 * step, A)).with_embedding(None))
    assert ids(seen) == [1]
    assert ids(tracker.update(Detections.empty())) == []
    assert ids(tracker.update(see((18, A)).with_embedding(None))) == [1]  # found again by overlap with the prediction


def test_missing_embeddings_are_refused_and_change_nothing() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A)))
    with pytest.raises(ShapeError, match="'motion'"):
        tracker.update(see((0, A)).with_embedding(None))
    tracks = tracker.update(see((0, A)))
    assert ids(tracks) == [1]
    assert tracks.frame_index == 1
    assert ids(tracker.update(Detections.empty())) == []  # nobody has no look, which is fine


def test_another_width_is_refused_until_reset() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(see((0, A)))
    wide = see((0, A)).with_embedding(np.eye(1, 5, dtype=np.float32))
    with pytest.raises(ShapeError, match="5 dimensions, those of earlier frames 3"):
        tracker.update(wide)
    tracker.reset()
    assert ids(tracker.update(wide)) == [1]


def test_broken_embeddings_are_refused() -> None:
    with pytest.raises(ShapeError, match="frame 0: embedding row 1"):
        Tracker(FAIRMOT).update(see((0, A), (100, np.array([np.nan, 0, 0]))))


def test_boxes_without_area_take_no_part() -> None:
    flat = Detections([[0, 0, 10, 0], [0, 0, 0, 10], [0, 0, 10, 10]], [0.9] * 3, [0] * 3, np.eye(3))
    assert len(Tracker(FAIRMOT).update(flat)) == 1


def test_reset_starts_again() -> None:
    tracker = Tracker(FAIRMOT)
    tracker.update(NOBODY)
    tracker.update(see((0, A)))
    tracker.reset()
    tracks = tracker.update(see((0, A)))
    assert (tracks.frame_index, ids(tracks)) == (0, [1])


def test_trackers_do_not_share_ids() -> None:
    first, second = Tracker(FAIRMOT), Tracker(FAIRMOT)
    assert ids(first.update(see((0, A)))) == ids(second.update(see((0, A)))) == [1]


def test_memory_is_bounded_under_churn() -> None:
    """Two strangers every other frame: a thousand tracks are confirmed and lost, few are kept."""
    tracker = Tracker(FAIRMOT, frame_rate=10.0)
    random = np.random.default_rng(0)
    kept, most = [], 0
    for step in range(1000):
        if step % 2 == 0:
            people = [(float(left), random.normal(size=3)) for left in random.uniform(0, 1e6, 2)]
        most = max(most, *ids(tracker.update(see(*people))), 0)
        if step % 200 == 199:
            kept.append(sum(type(thing).__name__ == "_Track" for thing in gc.get_objects()))
    assert most > 900
    assert max(kept) <= 2 * (10 + 2)  # two at most for every frame that a lost track may wait


@pytest.mark.parametrize("frame_rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_frame_rate_must_be_one(frame_rate: float) -> None:
    with pytest.raises(ConfigError, match="frame_rate"):
        Tracker(frame_rate=frame_rate)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of evidence, fairmot, motion"):
        Tracker(AssociationConfig(method="sort"))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["fairmot", "motion"])
def test_time_in_which_nobody_looked_moves_tracks_and_loses_none(method: str) -> None:
    def walker(frame: int) -> Detections:
        left = 4.0 * frame
        return Detections([[left, 0, left + 20, 60]], [0.9], [0], [[1.0, 0.0]])

    tracker = Tracker(AssociationConfig(method=method))
    for frame in range(12):
        before = tracker.update(walker(frame))
    tracker.skip(5)
    after = tracker.update(walker(17))  # where it stood last, it overlaps with nothing
    assert after.frame_index == 17
    assert after.track_id.tolist() == before.track_id.tolist() == [1]
