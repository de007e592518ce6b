"""Laws of augmentation and order that hold for every image, box and seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.boxes import box_area
from tdtrack.config import AugmentConfig
from tdtrack.training.augment import choose_placement, cut_boxes, cut_window, pad_window, place_boxes
from tdtrack.training.order import PositionBatches, sample_at

SIDE = st.integers(1, 300)
SEED = st.integers(0, 2**32)
SCALE = st.floats(0.1, 4)
BOXES = st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5)


@settings(deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, SCALE, SCALE, SEED, BOXES)
def test_whatever_is_drawn_fits(
    width: int,
    height: int,
    input_height: int,
    input_width: int,
    one: float,
    two: float,
    seed: int,
    corners: list[tuple[float, ...]],
) -> None:
    config = AugmentConfig(min_scale=min(one, two), max_scale=max(one, two))
    placement = choose_placement(width, height, input_height, input_width, config, np.random.default_rng(seed))
    assert 1 <= placement.width <= input_width and 1 <= placement.height <= input_height
    assert 0 <= placement.left <= placement.scaled_width - placement.width
    assert 0 <= placement.top <= placement.scaled_height - placement.height
    window = cut_window(np.zeros((height, width, 3), np.uint8), placement)
    assert pad_window(window, input_height, input_width).shape == (input_height, input_width, 3)

    pairs = np.array(corners).reshape(-1, 2, 2) * (width, height)
    boxes = np.concatenate([pairs.min(axis=1), pairs.max(axis=1)], axis=1)
    placed = place_boxes(boxes, width, height, placement)
    scale = placement.scaled_width / width * placement.scaled_height / height
    np.testing.assert_allclose(box_area(placed), box_area(boxes) * scale, rtol=1e-6, atol=1e-6)
    cut, rows, stump = cut_boxes(placed, placement, config)
    assert len(cut) == len(rows) == len(stump)
    assert (cut >= 0).all() and (cut <= np.array([placement.width, placement.height] * 2)).all()
    rounding = np.spacing(np.float32(max(input_height, input_width))) * 2 * (input_height + input_width)  # corners are float32
    assert (box_area(cut) <= box_area(placed[rows]) * (1 + 1e-5) + rounding).all()
    assert (np.diff(rows) > 0).all()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 20), SEED)
def test_any_stop_and_any_share_read_the_same_sequence(num_samples: int, share: int, stop: int, seed: int) -> None:
    devices, steps = 3, 20
    whole = [position for batch in PositionBatches(share * devices, 0, steps) for position in batch]
    before = [position for batch in PositionBatches(share * devices, 0, stop) for position in batch]
    ranks = [PositionBatches(share * devices, stop, steps, rank=rank, world_size=devices) for rank in range(devices)]
    after = [position for parts in zip(*ranks) for part in parts for position in part]
    assert before + after == whole
    epochs = len(whole) // num_samples
    for epoch in range(min(epochs, 3)):
        seen = {sample_at(position, num_samples, seed) for position in whole[epoch * num_samples : (epoch + 1) * num_samples]}
        assert seen == set(range(num_samples))
