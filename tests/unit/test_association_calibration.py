"""The appearance ceiling against loops and constructed overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from tdtrack.association import calibration
from tdtrack.association.calibration import appearance_ceiling, cosine_statistics, different_pairs, middle_distance
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
