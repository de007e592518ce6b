"""The appearance ceiling against loops and constructed overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from tdtrack.association import calibration
from tdtrack.association.calibration import (
    appearance_ceiling,
    cosine_statistics,
    different_pairs,
    middle_distance,
    within_object_normalisation,
)
from tdtrack.errors import ShapeError


@pytest.mark.parametrize("at_once", [3, 65_536])
def test_different_pairs_equal_a_loop(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(calibration, "PAIRS_AT_ONCE", at_once)
    random = np.random.default_rng(0)
    embedding = random.normal(size=(14, 6)).astype(np.float32)
    image = np.array([3, 1, 3, 7, 1, 3, 0, 1, 9, 9, 3, 2, 0, 5])
    loop = []
    for i in range(14):
        for j in range(i + 1, 14):
            if image[i] == image[j]:
                a, b = embedding[i].astype(float), embedding[j].astype(float)
                loop.append(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    found = different_pairs(embedding, image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.sort(found), np.sort(loop), atol=1e-6)


def test_images_with_one_box_give_no_pairs() -> None:
    assert different_pairs(np.eye(4, dtype=np.float32), np.arange(4)).shape == (0,)
    assert different_pairs(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)).shape == (0,)


def test_rows_must_pair_up() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 4\)"):
        different_pairs(np.eye(4, dtype=np.float32), np.arange(3))


def test_the_middle_lies_halfway_between_the_typical_pairs_whatever_their_numbers() -> None:
    same, different = np.array([0.05, 0.1, 0.9]), np.array([0.1, 0.6, 0.8, 1.5, 0.5])
    assert middle_distance(same, different) == pytest.approx((0.1 + 0.6) / 2)
    assert middle_distance(np.repeat(same, 10), different) == pytest.approx((0.1 + 0.6) / 2)
    assert middle_distance(same[::-1], different[::-1]) == pytest.approx((0.1 + 0.6) / 2)


def test_ceiling_by_hand() -> None:
    # Halfway 0.3; motion of a right match averages 4.
    assert appearance_ceiling(np.array([0.2]), np.array([0.4])) == pytest.approx(0.98 * 0.3 + 0.02 * 4)
    assert appearance_ceiling(np.array([0.2]), np.array([0.4]), appearance_weight=1.0) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("same", "different", "name"), [([], [0.1], "same"), ([0.1], [], "different"), ([0.1], [np.nan], "different")]
)
def test_missing_or_broken_pairs_are_refused(same: list[float], different: list[float], name: str) -> None:
    with pytest.raises(ShapeError, match=name):
        appearance_ceiling(np.array(same), np.array(different))


def test_statistics_are_means_and_deviations_of_cosines() -> None:
    same, different = np.array([0.1, 0.3]), np.array([0.8, 0.8, 0.8])
    assert cosine_statistics(same, different) == pytest.approx([0.8, 0.1, 0.2, 0.001])
    with pytest.raises(ShapeError, match="different has 0"):
        cosine_statistics(same, np.zeros(0))


def scattered_views(objects: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects in five dimensions, and two views of each that scatter a hundred times as much in one direction as in another."""
    random = np.random.default_rng(3)
    turn = np.linalg.qr(random.normal(size=(5, 5)))[0]
    place = random.normal(size=(objects, 5)) + 7
    noise = random.normal(size=(2, objects, 5)) * np.array([1.0, 0.5, 0.1, 0.05, 0.01]) @ turn
    return place, place + noise[0], place + noise[1]


def test_normalised_views_scatter_alike_in_all_directions() -> None:
    place, first, second = scattered_views()
    offset, matrix = within_object_normalisation(place, first, second, ridge=0.0)
    difference = (first - second) @ matrix
    scatter = difference.T @ difference
    assert np.allclose(scatter / scatter[0, 0], np.eye(5), atol=1e-6)
    mapped = (place - offset) @ matrix
    assert np.allclose(mapped.mean(axis=0), 0, atol=1e-9)
    assert np.square(mapped).sum() == pytest.approx(np.square(place - place.mean(axis=0)).sum())


def test_a_large_ridge_leaves_all_but_the_mean() -> None:
    place, first, second = scattered_views(50)
    offset, matrix = within_object_normalisation(place, first, second, ridge=1e6)
    assert np.allclose(offset, place.mean(axis=0)) and np.allclose(matrix, np.eye(5), atol=1e-4)


def test_normalised_views_tell_objects_apart_better() -> None:
    place, first, second = scattered_views(300)
    offset, matrix = within_object_normalisation(place, first, second)

    def found(one: np.ndarray, other: np.ndarray) -> float:
        one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other))
        return float(np.mean((one @ other.T).argmax(axis=1) == np.arange(len(one))))

    before, after = found(first - offset, second - offset), found((first - offset) @ matrix, (second - offset) @ matrix)
    assert after > before + 0.1


@pytest.mark.parametrize(
    ("place", "first", "second"),
    [
        (np.ones((3, 2)), np.ones((2, 2)), np.ones((3, 2))),
        (np.ones((3, 2)), np.ones((0, 2)), np.ones((0, 2))),
        (np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2))),
        (np.full((3, 2), np.nan), np.ones((3, 2)), np.zeros((3, 2))),
    ],
    ids=["unpaired", "none", "all the same", "not finite"],
)
def test_views_that_teach_nothing_are_refused(place: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        within_object_normalisation(place, first, second)
