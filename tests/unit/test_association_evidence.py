"""The default association: what its evidence is, and the life of a track."""

from __future__ import annotations

import numpy as np
import pytest

from tdtrack.association import Tracker, kalman
from tdtrack.association.appearance import BALANCE, CosineStatistics, LookScale
from tdtrack.association.evidence import MEASUREMENT_NOISE, TAIL, look_evidence, motion_evidence
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.types import Detections, Tracks

DIM = 16
LOOKS = np.eye(DIM)
A, B, C = LOOKS[:3]


def see(*people: tuple[float, np.ndarray], score: float = 0.9, kind: int = 0) -> Detections:
    """People as (left side, look), standing on one line, 40 pixels wide and 80 high."""
    xyxy = np.array([[left, 100, left + 40, 180] for left, _ in people]).reshape(-1, 4)
    looks = np.array([look for _, look in people]).reshape(-1, DIM)
    return Detections(xyxy, np.full(len(people), score), np.full(len(people), kind), looks)


NOBODY = Detections.empty(DIM)


def ids(tracks: Tracks) -> list[int]:
    return tracks.track_id.tolist()


def feed(tracker: Tracker, frames: int, *people: tuple[float, np.ndarray]) -> Tracks:
    for _ in range(frames):
        tracks = tracker.update(see(*people))
    return tracks


def test_motion_evidence_is_the_log_of_a_student_t() -> None:
    random = np.random.default_rng(0)
    mean, covariance = kalman.initiate(np.array([[50.0, 60, 0.4, 90], [500, 300, 0.5, 30]]))
    mean, covariance = kalman.predict(mean, covariance, 3)
    boxes = np.column_stack([random.uniform(0, 500, (5, 2)), random.uniform(0.3, 0.6, 5), random.uniform(30, 90, 5)])
    got = motion_evidence(mean, covariance, boxes)
    for row in range(2):
        height = mean[row, 3]
        variance = covariance[row, 0] + np.square([MEASUREMENT_NOISE * height] * 2 + [0.1, MEASUREMENT_NOISE * height])
        for column in range(5):
            distance = sum((boxes[column] - mean[row, :4]) ** 2 / variance)
            spread = np.sqrt(np.prod(variance[[0, 1, 3]])) / height**3
            assert got[row, column] == pytest.approx(np.log((1 + distance / TAIL) ** (-(TAIL + 4) / 2) / spread))


def test_running_statistics_equal_those_of_all_pairs() -> None:
    random = np.random.default_rng(1)
    first, *rest = (random.normal(0.5, 0.2, count) for count in (40, 3, 17, 90))
    running = CosineStatistics(first.mean(), first.var(), len(first))
    for more in rest:
        running.add(float(more.mean()), float(more.var()), len(more))
    everything = np.concatenate([first, *rest])
    assert running.pairs == len(everything)
    assert running.mean == pytest.approx(everything.mean())
    assert running.variance == pytest.approx(everything.var())


def test_a_frame_teaches_the_cosines_of_its_pairs() -> None:
    looks = np.random.default_rng(2).normal(size=(9, 5))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    scale = LookScale((0.9, 0.1, 0.0, 1.0))
    scale.different.pairs = 0.0
    scale.observe_frame(looks)
    pairs = [looks[i] @ looks[j] for i in range(9) for j in range(i)]
    assert scale.different.mean == pytest.approx(np.mean(pairs))
    assert scale.different.variance == pytest.approx(np.var(pairs))
    before = scale.different.mean
    scale.observe_frame(looks[:1])  # one box has no pair
    assert scale.different.mean == before


def test_look_evidence_is_a_ratio_of_two_normal_distributions_from_its_balance_on() -> None:
    scale = LookScale((0.9, 0.1, 0.5, 0.1))
    cosine = np.array([[0.6, 0.75, 0.8, 0.85]])

    def log_normal(x: np.ndarray, mean: float) -> np.ndarray:
        return -((x - mean) ** 2) / (2 * 0.1**2)

    middle = (log_normal(cosine, 0.9) - log_normal(cosine, 0.5))[0]
    got = look_evidence(scale, cosine, np.full((1, 4), True), np.zeros(4))[0]
    np.testing.assert_allclose(got - got[0], middle - middle[0])
    balance = 0.5 + BALANCE * 0.4
    np.testing.assert_allclose(got, (cosine[0] - balance) * 40)


def test_looks_that_are_missing_or_shared_say_nothing() -> None:
    scale = LookScale((0.9, 0.1, 0.5, 0.1))
    cosine = np.array([[1.0, 1.0, 1.0]])
    got = look_evidence(scale, cosine, np.array([[True, False, True]]), np.array([0.0, 0.0, 1.0]))
    assert got[0, 0] > 0
    assert got[0, 1:].tolist() == [0, 0]


def test_the_first_frame_reports_at_once_and_later_ones_at_the_second_sight() -> None:
    tracker = Tracker()
    assert ids(tracker.update(see((0, A)))) == [1]
    assert ids(tracker.update(see((0, A), (200, B)))) == [1]
    assert ids(tracker.update(see((0, A), (200, B)))) == [1, 2]


def test_a_tentative_track_that_is_missed_once_is_gone_with_its_id() -> None:
    tracker = Tracker()
    tracker.update(NOBODY)
    assert ids(tracker.update(see((200, B)))) == []
    assert ids(tracker.update(NOBODY)) == []
    assert ids(tracker.update(see((200, B)))) == []
    assert ids(tracker.update(see((200, B)))) == [2]


def test_unsure_detections_continue_tracks_and_start_none() -> None:
    tracker = Tracker(AssociationConfig(min_score=0.4, min_low_score=0.2, min_new_score=0.6, max_hidden_seconds=0))
    assert ids(tracker.update(see((0, A), score=0.5))) == []
    assert ids(tracker.update(see((0, A), score=0.6))) == []  # starts, in a frame that is not the first
    assert ids(tracker.update(see((0, A), score=0.2))) == [1]
    assert ids(tracker.update(see((0, A), score=0.19))) == []


def test_unsure_detections_continue_tracks_only_where_they_are_expected() -> None:
    for left, continued in ((10, True), (20, False)):  # 40 pixels wide: an overlap of 0.6, of 0.33
        tracker = Tracker(AssociationConfig(max_hidden_seconds=0))
        feed(tracker, 9, (0, A))
        assert ids(tracker.update(see((left, A), score=0.3))) == [1] * continued
        assert ids(tracker.update(see((left, A), score=0.9))) == [1], "a sure one may be farther off"


def test_a_track_that_was_certain_for_long_is_doubted_as_soon_as_any() -> None:
    tracker = Tracker(AssociationConfig(max_hidden_seconds=0))
    feed(tracker, 200, (0, A))
    tracker._method.scores.observe(np.full(5000, 0.25), np.zeros(5000, bool))  # the detector has shown what 0.25 is worth
    said = [ids(tracker.update(see((0, A), score=0.25))) for _ in range(9)]
    assert said[0] == [1] and said[-1] == []
    assert ids(feed(tracker, 5, (0, A))) == [1]


def test_sure_detections_choose_first() -> None:
    tracker = Tracker()
    feed(tracker, 5, (0, A))
    both = Detections([[0, 100, 40, 180], [8, 100, 48, 180]], [0.3, 0.9], [0, 0], np.array([A, A]))
    tracks = tracker.update(both)
    assert ids(tracks) == [1]
    assert tracks.score.tolist() == pytest.approx([0.9])


def test_appearance_tells_apart_who_crossed() -> None:
    with_looks, without = Tracker(), Tracker()
    for tracker, strip in ((with_looks, False), (without, True)):
        for frame in [see((100, A), (160, B))] * 5 + [NOBODY] * 3 + [see((100, B), (160, A))]:
            tracks = tracker.update(frame.with_embedding(None) if strip else frame)
        first = tracks.xyxy[tracks.track_id == 1][0, 0]
        assert (first > 130) != strip


def test_a_lost_track_may_be_farther_away_the_longer_it_was_lost() -> None:
    mean, covariance = kalman.initiate(np.array([[0.0, 0, 0.5, 80]]))
    far, near = np.array([[300.0, 0, 0.5, 80]]), np.array([[0.0, 0, 0.5, 80]])
    soon = kalman.predict(mean, covariance, 3)
    late = kalman.predict(mean, covariance, 60)
    assert motion_evidence(*late, far) > motion_evidence(*soon, far) + 5
    assert motion_evidence(*late, near) < motion_evidence(*soon, near) - 2  # and a near one says less


def test_who_was_away_is_known_by_size_where_no_look_tells() -> None:
    for height, known in ((80, True), (200, False)):
        tracker = Tracker(AssociationConfig(max_hidden_seconds=0))
        for _ in range(20):
            tracker.update(see((0, A)).with_embedding(None))
        for _ in range(45):
            tracker.update(Detections.empty())
        back = Detections(np.array([[20 - height / 4, 140 - height / 2, 20 + height / 4, 140 + height / 2]]), [0.9], [0])
        assert (1 in ids(tracker.update(back)) + ids(tracker.update(back))) is known


@pytest.mark.parametrize(("missed", "kept"), [(10, True), (11, False)])
def test_a_lost_track_waits_for_seconds(missed: int, kept: bool) -> None:
    tracker = Tracker(AssociationConfig(max_lost_seconds=1.0), frame_rate=10.0)
    feed(tracker, 3, (0, A))
    for _ in range(missed):
        tracker.update(NOBODY)
    assert (1 in ids(tracker.update(see((0, A))))) == kept


def test_who_was_away_may_come_back_anywhere_if_the_look_tells() -> None:
    for look, known in ((A, True), (C, False)):
        tracker = Tracker(AssociationConfig(max_hidden_seconds=0))
        feed(tracker, 20, (0, A), (300, B))
        feed(tracker, 5, (300, B))
        assert (1 in ids(feed(tracker, 2, (300, B), (5000, look)))) is known


def test_who_was_there_a_frame_ago_is_not_suddenly_elsewhere() -> None:
    tracker = Tracker(AssociationConfig(max_hidden_seconds=0))
    feed(tracker, 20, (0, A), (300, B))
    assert ids(feed(tracker, 1, (300, B), (5000, A))) == [2]


def test_uneven_frames_take_their_own_time() -> None:
    tracker = Tracker(AssociationConfig(max_lost_seconds=1.0), frame_rate=10.0)
    feed(tracker, 3, (0, A))
    tracker.update(NOBODY, elapsed=0.9)
    assert 1 in ids(tracker.update(see((0, A)), elapsed=0.05))
    tracker.update(NOBODY, elapsed=1.1)
    assert 1 not in ids(tracker.update(see((0, A)), elapsed=0.05))


def test_a_walk_is_followed_at_twice_the_frame_time_as_at_twice_the_steps() -> None:
    fast, slow = Tracker(frame_rate=30.0), Tracker(frame_rate=15.0)
    for step in range(20):
        a = fast.update(see((4 * step, A)))
        if step % 2 == 0:
            b = slow.update(see((4 * step, A)))
    tracks = [fast.update(NOBODY), fast.update(NOBODY), slow.update(NOBODY)]
    assert tracks[1].xyxy[0, 0] - a.xyxy[0, 0] == pytest.approx(8, abs=0.5)
    assert tracks[2].xyxy[0, 0] - b.xyxy[0, 0] == pytest.approx(8, abs=1.5)


def test_who_is_hidden_is_reported_for_a_moment_where_they_should_be() -> None:
    tracker = Tracker(AssociationConfig(max_hidden_seconds=0.2), frame_rate=10.0)
    for step in range(10):
        tracks = tracker.update(see((5 * step, A), (900, B)))
    assert not tracks.hidden.any()
    before = tracks.xyxy[0, 0]
    for gap in (1, 2):
        tracks = tracker.update(see((900, B)))
        assert ids(tracks) == [1, 2]
        assert tracks.hidden.tolist() == [True, False]
        assert tracks.xyxy[0, 0] == pytest.approx(before + 5 * gap, abs=1)
    assert ids(tracker.update(see((900, B)))) == [2]


def test_who_walks_out_of_the_scene_is_not_reported_as_hidden() -> None:
    tracker = Tracker(frame_rate=10.0)
    for left in range(300, 0, -12):
        tracker.update(see((left, A), (400, B)))
    out = [tracker.update(see((400, B))) for _ in range(2)]
    assert ids(out[0]) == [1, 2]  # still where boxes have been
    assert ids(out[1]) == [2]


def test_a_second_box_on_a_matched_one_starts_no_track() -> None:
    tracker = Tracker()
    feed(tracker, 5, (0, A))
    assert ids(feed(tracker, 5, (0, A), (3, B))) == [1]
    assert ids(feed(tracker, 5, (0, A), (30, B))) == [1, 2]


def test_classes_never_match() -> None:
    tracker = Tracker()
    tracker.update(see((0, A), kind=0))
    tracker.update(see((0, A), kind=1))
    tracks = tracker.update(see((0, A), kind=1))
    assert ids(tracks) == [2]
    assert tracks.class_id.tolist() == [1]


def test_motion_goes_on_where_looks_are_missing() -> None:
    tracker = Tracker()
    feed(tracker, 5, (0, A), (300, B))
    for _ in range(3):
        assert ids(tracker.update(see((0, A), (300, B)).with_embedding(None))) == [1, 2]
    zero = np.zeros(DIM)
    assert ids(tracker.update(see((0, zero), (300, zero)))) == [1, 2]
    assert ids(tracker.update(see((0, A), (300, B)))) == [1, 2]
    fresh = Tracker()
    fresh.update(see((0, A)).with_embedding(None))
    assert ids(fresh.update(see((0, A)))) == [1]  # looks may also come later


def test_the_camera_takes_tracks_along() -> None:
    shift = np.array([[1.0, 0, 300], [0, 1.0, 0]])
    for affine, expected in ((shift, [1]), (None, [])):
        tracker = Tracker(AssociationConfig(max_hidden_seconds=0))
        feed(tracker, 5, (0, A))
        assert ids(tracker.update(see((300, A)), camera=affine)) == expected


def test_refused_input_changes_nothing() -> None:
    tracker = Tracker()
    feed(tracker, 3, (0, A))
    broken = see((0, A))
    broken.embedding[0, 0] = np.nan
    crowd = Detections(np.tile([0, 0, 10, 20], (10_000, 1)), np.full(10_000, 0.9), np.zeros(10_000), np.ones((10_000, DIM)))
    refused = [
        (broken, {}, "embedding row 0 has NaN"),
        (see((0, A)).with_embedding(np.ones((1, 5))), {}, "5 dimensions"),
        (crowd, {}, "10000 detections"),
    ]
    for detections, options, message in refused:
        with pytest.raises(ShapeError, match=message):
            tracker.update(detections, **options)
    for elapsed in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="elapsed"):
            tracker.update(see((0, A)), elapsed=elapsed)
    tracks = tracker.update(see((0, A)))
    assert (tracks.frame_index, ids(tracks)) == (3, [1])


def test_flat_boxes_and_nan_scores_take_no_part() -> None:
    odd = Detections(
        [[0, 0, 10, 0], [0, 0, 0, 10], [0, 0, 10, 10], [50, 0, 60, 10]], [0.9] * 3 + [np.nan], [0] * 4, np.eye(4, DIM)
    )
    assert len(Tracker().update(odd)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_hits": 0}, "min_hits is 0"),
        ({"max_hidden_seconds": -1}, "max_hidden_seconds is -1"),
        ({"min_low_score": 2}, "min_low_score is 2"),
        ({"cosine_statistics": (0.9, 0.0, 0.5, 0.1)}, "cosine_statistics"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AssociationConfig(**settings)  # type: ignore[arg-type]
