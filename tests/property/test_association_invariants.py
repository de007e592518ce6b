"""What holds for a tracker on any video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig
from tdtrack.types import Detections, Tracks

METHODS = ("evidence", "fairmot", "motion")
FAITHFUL = METHODS[1:]


def crowd(seed: int, frames: int = 25, people: int = 8, classes: int = 1) -> list[Detections]:
    """Boxes that walk, cross, vanish and come back, with noisy looks."""
    random = np.random.default_rng(seed)
    centre, speed = random.uniform(0, 300, (people, 2)), random.normal(0, 4, (people, 2))
    size = random.uniform(20, 60, (people, 1)) * [1.0, 2.0]
    looks = random.normal(size=(people, 8))
    kind = random.integers(0, classes, people)
    video = []
    for _ in range(frames):
        centre = centre + speed
        seen = random.permutation(np.flatnonzero(random.random(people) < 0.8))
        at = centre[seen] + random.normal(0, 1, (len(seen), 2))
        look = looks[seen] + random.normal(0, 0.3, (len(seen), 8))
        look /= np.linalg.norm(look, axis=1, keepdims=True)
        xyxy = np.concatenate([at - size[seen] / 2, at + size[seen] / 2], axis=1)
        video.append(Detections(xyxy, random.uniform(0.2, 1, len(seen)), kind[seen], look))
    return video


def run(tracker: Tracker, video: list[Detections]) -> list[Tracks]:
    return [tracker.update(detections) for detections in video]


def rows(results: list[Tracks]) -> list[tuple[int, int, bytes, float, int]]:
    return [
        (tracks.frame_index, int(i), xyxy.tobytes(), float(score), int(kind))
        for tracks in results
        for i, xyxy, score, kind in zip(tracks.track_id, tracks.xyxy, tracks.score, tracks.class_id)
    ]


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_tracks_are_in_order_of_unique_ids_and_come_from_detections(method: str, seed: int) -> None:
    video = crowd(seed)
    config = AssociationConfig(method=method)  # type: ignore[arg-type]
    born = 0
    for frame, (detections, tracks) in enumerate(zip(video, run(Tracker(config), video))):
        assert tracks.frame_index == frame
        assert (np.diff(tracks.track_id) > 0).all()
        takes_part = detections.score[detections.score >= config.floor]
        assert (~tracks.hidden).sum() <= len(takes_part)
        assert set(tracks.score[~tracks.hidden].tolist()) <= set(takes_part.tolist())
        assert np.isfinite(tracks.xyxy).all()
        # At most every detection so far started one track, so ids cannot run ahead.
        born += len(detections)
        assert (tracks.track_id <= born).all()
        assert (tracks.track_id >= 1).all()


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_the_same_video_gives_the_same_tracks_also_after_reset(method: str, seed: int) -> None:
    video = crowd(seed)
    config = AssociationConfig(method=method)  # type: ignore[arg-type]
    tracker = Tracker(config)
    first = rows(run(tracker, video))
    tracker.reset()
    assert rows(run(tracker, video)) == first
    assert rows(run(Tracker(config), video)) == first


@pytest.mark.parametrize("method", FAITHFUL)  # "evidence" learns its scale, and who hides whom, from all classes
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_classes_are_tracked_as_if_each_were_alone(method: str, seed: int) -> None:
    video = crowd(seed, classes=3)
    config = AssociationConfig(method=method)  # type: ignore[arg-type]
    together = run(Tracker(config), video)
    for kind in range(3):
        alone = run(Tracker(config), [detections.select(detections.class_id == kind) for detections in video])
        renamed: dict[int, int] = {}
        for ours, theirs in zip(alone, together):
            mine = theirs.class_id == kind
            np.testing.assert_allclose(ours.xyxy, theirs.xyxy[mine], atol=1e-3)
            for a, b in zip(ours.track_id.tolist(), theirs.track_id[mine].tolist()):
                assert renamed.setdefault(a, b) == b
        assert len(set(renamed.values())) == len(renamed)


def same_but_for_names(left: list[Tracks], right: list[Tracks]) -> None:
    renamed: dict[int, int] = {}
    for ours, theirs in zip(left, right):
        a, b = (np.lexsort(tracks.xyxy.round(2).T) for tracks in (ours, theirs))
        np.testing.assert_allclose(ours.xyxy[a], theirs.xyxy[b], atol=1e-3)
        for mine, other in zip(ours.track_id[a].tolist(), theirs.track_id[b].tolist()):
            assert renamed.setdefault(mine, other) == other
    assert len(set(renamed.values())) == len(renamed)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_the_order_of_detections_only_renames(method: str, seed: int) -> None:
    video = crowd(seed)
    random = np.random.default_rng(seed)
    shuffled = [detections.select(random.permutation(len(detections))) for detections in video]
    config = AssociationConfig(method=method)  # type: ignore[arg-type]
    same_but_for_names(run(Tracker(config), video), run(Tracker(config), shuffled))


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_other_class_numbers_change_nothing_else(method: str, seed: int) -> None:
    video = crowd(seed, classes=3)
    names = np.array([7, 0, 4])
    relabelled = [Detections(d.xyxy, d.score, names[d.class_id], d.embedding) for d in video]
    config = AssociationConfig(method=method)  # type: ignore[arg-type]
    for ours, theirs in zip(run(Tracker(config), video), run(Tracker(config), relabelled)):
        assert ours.track_id.tolist() == theirs.track_id.tolist()
        assert names[ours.class_id].tolist() == theirs.class_id.tolist()


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_trackers_side_by_side_know_nothing_of_each_other(method: str, seed: int) -> None:
    first, second = crowd(seed), crowd(seed + 1)
    config = AssociationConfig(method=method)  # type: ignore[arg-type]
    a, b = Tracker(config), Tracker(config)
    woven = [(a.update(left), b.update(right)) for left, right in zip(first, second)]
    assert rows([left for left, _ in woven]) == rows(run(Tracker(config), first))
    assert rows([right for _, right in woven]) == rows(run(Tracker(config), second))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_a_class_keeps_its_tracks_to_itself(seed: int) -> None:
    kinds: dict[int, set[int]] = {}
    for tracks in run(Tracker(), crowd(seed, classes=3)):
        for track_id, kind in zip(tracks.track_id.tolist(), tracks.class_id.tolist()):
            kinds.setdefault(track_id, set()).add(kind)
    assert all(len(found) == 1 for found in kinds.values())
