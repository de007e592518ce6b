"""Identities of the data room that hold for any input."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tdtrack.data import load_dataset
from tdtrack.data.checks import check_boxes
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset, images_from_columns
from tdtrack.data.images import PAD_COLOUR, fit_image

WIDTH, HEIGHT = 64, 48
sides = st.one_of(st.floats(-100, 200), st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e-12, 64.0, 48.0]))


@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(4)), elements=sides))
def test_each_box_is_judged_as_a_loop_would(tlwh: np.ndarray) -> None:
    checked = check_boxes(tlwh, np.tile(np.array([WIDTH, HEIGHT]), (len(tlwh), 1)))
    for row, (left, top, width, height) in enumerate(tlwh.tolist()):
        corners = np.array([left, top, left + width, top + height])
        if not np.isfinite([left, top, width, height]).all():
            kind = "box-not-finite"
        else:
            cut = np.array([min(max(side, 0), limit) for side, limit in zip(corners, (WIDTH, HEIGHT, WIDTH, HEIGHT))])
            thin = bool((cut.astype(np.float32)[2:] <= cut.astype(np.float32)[:2]).any())
            if width <= 0 or height <= 0:
                kind = "box-without-area"
            elif (cut[2:] <= cut[:2]).any():
                kind = "box-outside-image"
            elif thin:
                kind = "box-without-area"
            else:
                kind = "box-clipped" if np.abs(cut - corners).max() > 1 else "fine"
                np.testing.assert_array_equal(checked.xyxy[row], cut.astype(np.float32))
        assert checked.usable[row] == (kind in {"fine", "box-clipped"})
        assert (row in checked.worth_saying) == (kind != "fine")
        if kind != "fine":
            assert checked.describe(row)[0] == kind


@given(st.integers(0, 5), st.lists(st.integers(0, 4), max_size=20))
def test_boxes_are_dealt_to_their_images_in_order(num_images: int, image_row: list[int]) -> None:
    image_row = [row for row in image_row if row < num_images]
    n = len(image_row)
    ids = [7 * (num_images - row) for row in range(num_images)]  # descending: the result is sorted
    images = images_from_columns(
        [(ids[row], Path(f"{row}.png"), WIDTH, HEIGHT) for row in range(num_images)],
        np.array(image_row, np.int64),
        np.arange(n),
        np.zeros((n, 4), np.float32),
        np.zeros(n, np.int64),
        np.zeros(n, np.bool_),
    )
    assert [image.image_id for image in images] == sorted(ids)
    for image in images:
        assert image.annotation_id.tolist() == [box for box, row in enumerate(image_row) if ids[row] == image.image_id]


corner = st.floats(0, 40, width=32)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(corner, corner, st.floats(0.125, 8, width=32), st.floats(0.125, 8, width=32), st.booleans()),
        min_size=1,
        max_size=6,
    )
)
def test_coco_gives_back_every_box_to_the_bit(rows: list[tuple[float, float, float, float, bool]]) -> None:
    xyxy = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(path)
        n = len(rows)
        ignore = np.array([row[4] for row in rows])
        image = AnnotatedImage(3, path, WIDTH, HEIGHT, np.arange(5, 5 + n), xyxy, np.arange(n) % 2, ignore)
        dataset = DetectionDataset("x", ("a", "b"), (image,), "", "")
        write_coco(Path(folder) / "x.json", dataset.images, dataset.classes, images_dir=folder)
        again = load_dataset(Path(folder) / "x.json", folder)
    np.testing.assert_array_equal(again.images[0].xyxy, xyxy)
    assert again.fingerprint() == dataset.fingerprint()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.integers(1, 64))
def test_a_fitted_image_touches_the_border_and_keeps_its_shape(height: int, width: int, to_height: int, to_width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    fitted, scale = fit_image(image, to_height, to_width)
    assert fitted.shape == (to_height, to_width, 3)
    inside = (fitted == 0).all(axis=2)
    rows, columns = int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum())
    assert inside[:rows, :columns].all()
    assert (fitted[~inside] == PAD_COLOUR).all()
    assert rows == to_height or columns == to_width
    assert abs(rows - max(1, height * scale)) <= 0.5
    assert abs(columns - max(1, width * scale)) <= 0.5
