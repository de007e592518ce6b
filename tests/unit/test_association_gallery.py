from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.association.gallery import MAX_LOOKS, MIN_LOOKS, Gallery, TrackLooks, min_cosine_of
from tdtrack.errors import DataError, ShapeError
from tdtrack.types import Detections, Tracks

A, B, C = np.eye(3, dtype=np.float32)


def watch(looks: TrackLooks, frames: range, *people: tuple[int, float, np.ndarray], hidden: tuple[int, ...] = ()) -> None:
    """Show tracks (id, left side, embedding) in frames; boxes are 10 wide. Of hidden ones there is no detection."""
    boxes = np.array([[left, 0, left + 10, 20] for _, left, _ in people], np.float32)
    scores, classes = np.ones(len(people), np.float32), np.zeros(len(people), np.int64)
    found = Detections(boxes, scores, classes, np.stack([look for _, _, look in people]))
    away = np.array([key in hidden for key, _, _ in people])
    for frame in frames:
        tracks = Tracks(frame, np.array([key for key, _, _ in people]), boxes, scores, classes, away)
        looks.observe(found.select(~away), tracks)


def test_the_nearest_look_of_each_name_counts() -> None:
    gallery = Gallery({"anna": [A, 2 * B], "ben": C})
    tilted = np.array([0.6, 0.8, 0.0], np.float32)
    np.testing.assert_allclose(gallery.cosine(np.stack([tilted, C])), [[0.8, 0.0], [0.0, 1.0]], atol=1e-6)
    assert (gallery.names, gallery.dim, len(gallery)) == (("anna", "ben"), 3, 2)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    gallery = Gallery({"Žofie 雪": [A, B], "ben": C}, space="net-1")
    gallery.save(tmp_path / "looks.npz")
    again = Gallery.load(tmp_path / "looks.npz")
    assert (again.names, again.space) == (gallery.names, "net-1")
    for name in gallery.names:
        np.testing.assert_array_equal(again.looks(name), gallery.looks(name))


def test_looks_of_one_origin_can_be_forgotten(tmp_path: Path) -> None:
    gallery = Gallery({"anna": A})
    gallery.add("ben", B, "a.mp4")
    gallery.add("anna", np.stack([B, C]), "a.mp4")
    gallery.add("anna", B, "b.mp4")
    gallery.save(tmp_path / "looks.npz")
    again = Gallery.load(tmp_path / "looks.npz")
    again.forget("a.mp4")
    assert again.names == ("anna",)
    np.testing.assert_array_equal(again.looks("anna"), [A, B])
    np.savez(tmp_path / "old.npz", name=np.array(["anna"]), embedding=A[None], space=np.array("s"))  # as files of before
    assert Gallery.load(tmp_path / "old.npz").names == ("anna",)
    np.savez(tmp_path / "bad.npz", name=np.array(["anna"]), embedding=A[None], space=np.array("s"), origin=np.array([1]))
    with pytest.raises(DataError, match="origin has shape"):
        Gallery.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "looks.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"looks\.npz is not a gallery"):
        Gallery.load(tmp_path / "looks.npz")


def test_a_file_with_objects_runs_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "looks.npz", name=np.array([object()]), embedding=np.zeros((1, 2)), space=np.array(""))
    with pytest.raises(DataError, match="is not a gallery"):
        Gallery.load(tmp_path / "looks.npz")


def test_looks_that_cannot_be_compared_are_refused() -> None:
    gallery = Gallery({"anna": A})
    with pytest.raises(ShapeError, match="3 dimensions"):
        gallery.add("ben", np.ones(4))
    with pytest.raises(ShapeError, match="all-zero"):
        gallery.add("ben", np.zeros(3))
    with pytest.raises(ShapeError, match="NaN"):
        gallery.add("ben", np.full(3, np.nan))
    with pytest.raises(DataError, match="name"):
        gallery.add(" ", A)
    with pytest.raises(DataError, match="it has anna"):
        gallery.looks("ben")
    with pytest.raises(ShapeError, match="another model"):
        gallery.cosine(np.ones((1, 4), np.float32))
    assert gallery.names == ("anna",)


def test_looks_are_capped_and_the_most_redundant_goes() -> None:
    gallery = Gallery({"anna": [A, B]})
    gallery.add("anna", np.stack([C + 0.001 * k * A for k in range(2 * MAX_LOOKS)]))
    kept = gallery.looks("anna")
    assert len(kept) == MAX_LOOKS
    np.testing.assert_array_equal(kept[:2], [A, B])


def test_tracks_get_names_and_strangers_none() -> None:
    looks = TrackLooks()
    watch(looks, range(MIN_LOOKS), (7, 0, A), (8, 50, B), (9, 100, C))
    named = looks.names(Gallery({"ben": B, "anna": A}), 0.7)
    assert {key: name for key, (name, _) in named.items()} == {7: "anna", 8: "ben"}
    assert looks.names(Gallery(), 0.7) == {}
    both = Gallery({"ben": B, "anna": A})
    assert set(looks.names(both, 0.7, among=[8, 9, 1000])) == {8}, "9 resembles nobody and 1000 was never seen"


def test_a_name_returns_but_is_never_in_two_places() -> None:
    looks = TrackLooks()
    nearly = np.array([0.9, np.sqrt(0.19), 0.0], np.float32)
    watch(looks, range(10), (1, 0, A), (2, 50, nearly))
    watch(looks, range(20, 30), (3, 0, nearly))
    named = looks.names(Gallery({"anna": A}), 0.7)
    assert {key: name for key, (name, _) in named.items()} == {1: "anna", 3: "anna"}
    assert named[3][1] == pytest.approx(0.9, abs=1e-5)


def test_a_glimpse_and_an_overlap_teach_nothing() -> None:
    looks = TrackLooks()
    watch(looks, range(MIN_LOOKS - 1), (1, 0, A))
    watch(looks, range(100), (2, 50, B), (3, 52, C))
    assert looks.names(Gallery({"anna": A, "ben": B, "cleo": C}), 0.5) == {}


def test_who_is_hidden_does_not_look_like_whoever_is_in_front() -> None:
    looks = TrackLooks()
    watch(looks, range(8), (1, 0, A), (2, 40, B))
    watch(looks, range(8, 20), (1, 40, A), (2, 40, B), hidden=(1,))
    np.testing.assert_allclose(looks.look(1), A, atol=1e-6)
    np.testing.assert_allclose(looks.look(2), B, atol=1e-6)


def test_an_enrolled_track_is_known_in_the_next_video() -> None:
    gallery = Gallery({"anna": A})
    first, second = TrackLooks(), TrackLooks()
    watch(first, range(9), (1, 0, A), (2, 50, B))
    assert first.enroll(gallery, first.names(gallery, 0.7)) == {2: "object-1"}
    watch(second, range(9), (5, 0, B), (6, 50, C))
    named = second.names(gallery, 0.7)
    assert {key: name for key, (name, _) in named.items()} == {5: "object-1"}
    assert second.enroll(gallery, named) == {6: "object-2"}
    assert gallery.names == ("anna", "object-1", "object-2")


def test_memory_is_bounded_by_tracks_that_show_themselves() -> None:
    looks = TrackLooks()
    for key in range(5_000):
        watch(looks, range(key, key + 1), (key, 0, A))
    assert len(looks.tracks) <= 2_001


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_names_maximise_greedily_like_a_loop(starts: list[int], seed: int) -> None:
    """Against a loop over all pairs in order of cosine."""
    rng = np.random.default_rng(seed)
    looks = TrackLooks()
    own = [vector / np.linalg.norm(vector) for vector in rng.normal(size=(len(starts), 3)).astype(np.float32)]
    for key, (start, look) in enumerate(zip(starts, own)):
        watch(looks, range(10 * start, 10 * start + 9), (key, 0, look))
    gallery = Gallery(dict(zip("xy", rng.normal(size=(2, 3)))))
    pairs = sorted(
        ((float(gallery.looks(name)[0] @ own[key]), key, name) for key, name in itertools.product(range(len(starts)), "xy")),
        reverse=True,
    )
    expected: dict[int, str] = {}
    for cosine, key, name in pairs:
        rivals = [other for other, given_name in expected.items() if given_name == name and starts[other] == starts[key]]
        if cosine >= 0.2 and key not in expected and not rivals:
            expected[key] = name
    assert {key: name for key, (name, _) in looks.names(gallery, 0.2).items()} == expected


def test_the_floor_lies_between_what_calibration_found() -> None:
    assert min_cosine_of([0.8, 0.1, 0.2, 0.3]) == pytest.approx(0.5)
    assert min_cosine_of(None) == pytest.approx(0.7)
