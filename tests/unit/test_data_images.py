"""Reading images and fitting them into the network's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tdtrack.data.images import PAD_COLOUR, fit_image, image_size, is_upright, load_image
from tdtrack.errors import DataError


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def test_png_comes_back_to_the_bit_and_writable(tmp_path: Path) -> None:
    image = noise(7, 5)
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    np.testing.assert_array_equal(loaded, image)
    assert loaded.flags.writeable
    assert loaded.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    PIL.Image.new("RGB", (5, 7), (255, 255, 255)).convert(mode).save(path)
    loaded = load_image(path)
    assert loaded.shape == (7, 5, 3)
    assert (loaded == 255).all()


def test_an_orientation_tag_is_applied_where_that_is_asked_for(tmp_path: Path) -> None:
    exif, stored = PIL.Image.Exif(), noise(8, 16)
    exif[0x0112] = 6  # to be turned a quarter clockwise
    PIL.Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", upright=True), np.rot90(stored, -1))
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), stored)


def test_an_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(noise(8, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").shape == (8, 16, 3)


def test_tags_that_cannot_be_read_turn_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(noise(8, 16)).save(path, exif=b"Exif\x00\x00not a table of tags")
    assert load_image(path, upright=True).shape == (8, 16, 3)
    assert image_size(path, upright=True) == (16, 8)
    assert is_upright(path)


def test_sixteen_bits_are_refused_not_cut(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((4, 4), 60_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: pixels are of Pillow mode I;16; convert the image to 8 bits"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp"])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    PIL.Image.fromarray(noise(64, 64)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"a\.{ending}: cannot read the image: "):
        load_image(path)


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="it is empty"):
        load_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match="not an image of a known format"):
        load_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="Is a directory"):
        load_image(tmp_path)


def test_a_fitting_image_is_not_resampled() -> None:
    image = noise(32, 48)
    fitted, scale = fit_image(image, 32, 48)
    assert scale == 1.0
    np.testing.assert_array_equal(fitted, image)


def test_the_rest_is_filled_with_the_mean_colour() -> None:
    image = noise(20, 10)
    fitted, scale = fit_image(image, 20, 40)
    assert scale == 1.0
    np.testing.assert_array_equal(fitted[:, :10], image)
    assert (fitted[:, 10:] == PAD_COLOUR).all()


def test_resizing_is_pillows_bilinear() -> None:
    image = noise(100, 60)
    fitted, scale = fit_image(image, 50, 64)
    assert scale == 0.5
    expected = np.asarray(PIL.Image.fromarray(image).resize((30, 50), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted[:50, :30], expected)


def test_an_extreme_shape_keeps_a_pixel() -> None:
    fitted, scale = fit_image(noise(1, 1000), 32, 32)
    assert scale == pytest.approx(0.032)
    assert (fitted[1:] == PAD_COLOUR).all()
