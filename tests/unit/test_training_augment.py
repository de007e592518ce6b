"""Where pixels go, boxes go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tdtrack.config import AugmentConfig
from tdtrack.data.images import PAD_COLOUR, fit_image
from tdtrack.training.augment import (
    Placement,
    change_light,
    choose_placement,
    cut_boxes,
    cut_window,
    pad_window,
    place_boxes,
)

STILL = AugmentConfig(flip=0.0, min_scale=1.0, max_scale=1.0)


def test_without_randomness_the_input_is_the_one_of_inference() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 211, 3), dtype=np.uint8)
    placement = choose_placement(211, 120, 64, 96, STILL, np.random.default_rng(1))
    fitted, scale = fit_image(image, 64, 96)
    np.testing.assert_array_equal(pad_window(cut_window(image, placement), 64, 96), fitted)
    boxes = np.array([[10.0, 20.0, 50.0, 90.0]])
    np.testing.assert_allclose(place_boxes(boxes, 211, 120, placement), boxes * scale, atol=0.5)


@pytest.mark.parametrize("seed", range(30))
def test_a_painted_box_is_found_where_its_coordinates_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(150, 400)), int(rng.integers(150, 400))
    left, top = rng.integers(0, [width - 90, height - 90])
    box = np.array([[left, top, left + rng.integers(40, 90), top + rng.integers(40, 90)]])
    image = np.zeros((height, width, 3), np.uint8)
    image[box[0, 1] : box[0, 3], box[0, 0] : box[0, 2]] = 255
    placement = choose_placement(width, height, 160, 224, AugmentConfig(), rng)
    canvas = pad_window(cut_window(image, placement), 160, 224)
    cut, rows, _ = cut_boxes(place_boxes(box, width, height, placement), placement, AugmentConfig())
    painted = np.argwhere((canvas[..., 0] > 127) & (canvas[..., 1] > 127))
    if len(rows) == 0:
        assert len(painted) == 0
        return
    found = np.array([painted[:, 1].min(), painted[:, 0].min(), painted[:, 1].max() + 1, painted[:, 0].max() + 1])
    np.testing.assert_allclose(cut[0], found, atol=1.01)


def test_a_window_equals_the_same_part_of_the_whole_scaled_image() -> None:
    image = np.random.default_rng(3).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    whole = Placement(260, 180, 0, 0, 260, 180, flip=False)
    part = replace(whole, left=37, top=21, width=100, height=80)
    expected = cut_window(image, whole)[21:101, 37:137].astype(int)
    assert np.abs(cut_window(image, part).astype(int) - expected).max() <= 1


def test_flipping_twice_changes_nothing() -> None:
    image = np.random.default_rng(4).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    straight = Placement(120, 90, 10, 5, 64, 48, flip=False)
    mirrored = replace(straight, flip=True)
    boxes = np.array([[3.0, 4.0, 30.0, 40.0], [50.0, 0.0, 80.0, 60.0]])
    np.testing.assert_array_equal(cut_window(image, mirrored)[:, ::-1], cut_window(image, straight))
    once = place_boxes(boxes, 80, 60, mirrored)
    assert (once[:, 2] > once[:, 0]).all()
    again = once.copy()
    again[:, [0, 2]] = 64 - once[:, [2, 0]]
    np.testing.assert_allclose(again, place_boxes(boxes, 80, 60, straight))


def test_the_rest_is_padding() -> None:
    canvas = pad_window(np.zeros((10, 12, 3), np.uint8), 20, 30)
    assert (canvas[:10, :12] == 0).all()
    assert (canvas[10:] == PAD_COLOUR).all()
    assert (canvas[:10, 12:] == PAD_COLOUR).all()


def test_a_stump_is_marked_and_the_invisible_dropped() -> None:
    placement = Placement(100, 100, 0, 0, 100, 100, flip=False)
    placed = np.array(
        [
            [10.0, 10, 50, 50],  # whole
            [60.0, 10, 140, 50],  # half visible
            [95.0, 10, 145, 50],  # a tenth visible
            [120.0, 10, 160, 50],  # outside
            [20.0, 20, 21, 60],  # too thin
        ]
    )
    cut, rows, stump = cut_boxes(placed, placement, AugmentConfig(min_visible=0.3, min_box_side=2.0))
    assert rows.tolist() == [0, 1, 2, 4]
    assert stump.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(cut[1], [60, 10, 100, 50])


def test_no_boxes() -> None:
    placement = Placement(100, 100, 0, 0, 64, 64, flip=True)
    cut, rows, stump = cut_boxes(place_boxes(np.zeros((0, 4), np.float32), 50, 50, placement), placement, AugmentConfig())
    assert cut.shape == (0, 4) and len(rows) == len(stump) == 0


def test_light_follows_its_formula() -> None:
    image = np.random.default_rng(5).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    config = AugmentConfig(brightness=0.4, contrast=0.3)
    changed = change_light(image, config, np.random.default_rng(6))
    b, c = 1 + np.random.default_rng(6).uniform(-1, 1, 2) * (0.4, 0.3)
    bright = image.astype(float) * b
    expected = np.clip((bright - bright.mean()) * c + bright.mean(), 0, 255)
    assert np.abs(changed - expected).max() <= 0.5 + 1e-9


def test_light_off_returns_the_image_and_still_draws() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    one, two = np.random.default_rng(7), np.random.default_rng(7)
    assert change_light(image, AugmentConfig(), one) is image
    change_light(image, AugmentConfig(brightness=0.5), two)
    assert one.random() == two.random()
