from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image as PillowImage

from tdtrack.association.gallery import Gallery
from tdtrack.errors import ConfigError, DataError
from tdtrack.runtime.enrolment import LOOKS_FILE, read_gallery
from tdtrack.types import Detections, Image

GREY = 114


class ColourEngine:
    """Finds what is not grey, if it does not fill the picture, and embeds its mean colour."""

    classes = ("thing",)
    embedding_dim: int | None = 3

    def __init__(self, **metadata: Any) -> None:
        self.metadata: dict[str, Any] = metadata

    def __call__(self, frame: Image) -> Detections:
        rows, columns = np.nonzero((np.abs(frame.astype(int) - GREY) > 20).any(axis=2))
        if len(rows) == 0 or len(rows) == frame.shape[0] * frame.shape[1]:
            return Detections.empty(3)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        look = frame[rows, columns].mean(axis=0)
        small = [0, 0, 2, 2]
        return Detections([small, box], [0.9, 0.8], [0, 0], np.stack([[0, 0, 1], look / np.linalg.norm(look)]))


class Blind(ColourEngine):
    embedding_dim: ClassVar[int | None] = None  # type: ignore[misc]


def paint(path: Path, colour: tuple[int, int, int], *, tight: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((40, 30, 3), GREY, np.uint8)
    pixels[slice(None) if tight else slice(10, 30), slice(None) if tight else slice(8, 22)] = colour
    PillowImage.fromarray(pixels).save(path)


def test_folders_and_files_name_whom_they_show(tmp_path: Path) -> None:
    paint(tmp_path / "anna" / "1.png", (255, 0, 0))
    paint(tmp_path / "anna" / "2.png", (0, 255, 0))
    paint(tmp_path / "ben.png", (255, 255, 0), tight=True)
    (tmp_path / "notes.txt").write_text("not a photo")
    gallery = read_gallery(tmp_path, ColourEngine())
    assert set(gallery.names) == {"anna", "ben"}
    np.testing.assert_allclose(gallery.looks("anna"), [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(gallery.looks("ben"), [[0.5**0.5, 0.5**0.5, 0]], atol=1e-6)


def test_a_photo_that_is_removed_is_forgotten_and_none_counts_twice(tmp_path: Path) -> None:
    paint(tmp_path / "anna" / "1.png", (255, 0, 0))
    paint(tmp_path / "anna" / "2.png", (0, 255, 0))
    for _ in range(2):
        gallery = read_gallery(tmp_path, ColourEngine())
        assert len(gallery.looks("anna")) == 2
        gallery.save(tmp_path / LOOKS_FILE)  # as enrolling does
    (tmp_path / "anna" / "2.png").unlink()
    np.testing.assert_allclose(read_gallery(tmp_path, ColourEngine()).looks("anna"), [[1, 0, 0]], atol=1e-6)


def test_a_photo_is_seen_as_its_camera_was_held(tmp_path: Path) -> None:
    class HeightEngine(ColourEngine):
        """Its looks say whether a thing is higher than wide."""

        def __call__(self, frame: Image) -> Detections:
            found = super().__call__(frame)
            side = found.xyxy[:, 2:] - found.xyxy[:, :2]
            return Detections(found.xyxy, found.score, found.class_id, np.pad(side, ((0, 0), (0, 1))))

    paint(tmp_path / "photos" / "anna.png", (255, 0, 0))
    paint(tmp_path / "photos" / "ben.png", (255, 0, 0))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    with PillowImage.open(tmp_path / "photos" / "ben.png") as lying:
        lying.load()
        lying.save(tmp_path / "photos" / "ben.png", exif=exif)
    gallery = read_gallery(tmp_path / "photos", HeightEngine())
    np.testing.assert_allclose(gallery.looks("ben")[0, :2], gallery.looks("anna")[0, 1::-1], atol=1e-6)
    assert gallery.looks("anna")[0, 1] > gallery.looks("anna")[0, 0]


def test_what_earlier_videos_taught_is_read_too_but_only_of_one_model(tmp_path: Path) -> None:
    gallery = read_gallery(tmp_path / "new", ColourEngine(seed=1))
    assert len(gallery) == 0
    gallery.add("object-1", [0.0, 0.0, 1.0])
    gallery.save(tmp_path / "new" / LOOKS_FILE)
    assert read_gallery(tmp_path / "new", ColourEngine(seed=1, appearance={"x": 1})).names == ("object-1",)
    with pytest.raises(DataError, match="another model"):
        read_gallery(tmp_path / "new", ColourEngine(seed=2))


def test_an_exported_model_knows_the_run_folders_looks(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra tdtrack[train]")
    torch.set_num_threads(1)
    from random_models import save_random_model
    from tdtrack.runtime.engine import load_engine
    from tdtrack.runtime.export import export_model

    run = save_random_model(tmp_path / "run")
    export_model(run, tmp_path / "model.onnx")
    gallery = read_gallery(tmp_path / "people", load_engine(run, device="cpu"))
    gallery.add("anna", np.ones(load_engine(run, device="cpu").embedding_dim or 0))
    gallery.save(tmp_path / "people" / LOOKS_FILE)
    exported = load_engine(tmp_path / "model.onnx", engine="onnxruntime", device="cpu")
    assert read_gallery(tmp_path / "people", exported).names == ("anna",)
    other = save_random_model(tmp_path / "other", embedding_dim=64)
    with pytest.raises(DataError, match="another model or teacher"):
        read_gallery(tmp_path / "people", load_engine(other, device="cpu"))


def test_what_cannot_be_a_gallery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gives none"):
        read_gallery(tmp_path, Blind())
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not a folder"):
        read_gallery(tmp_path / "file", ColourEngine())
    PillowImage.fromarray(np.full((9, 9, 3), GREY, np.uint8)).save(tmp_path / "fog.png")
    with pytest.raises(DataError, match=r"fog\.png: the model finds nothing"):
        read_gallery(tmp_path, ColourEngine())
    (tmp_path / "fog.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"fog\.png"):
        read_gallery(tmp_path, ColourEngine())


def test_an_empty_gallery_can_be_saved(tmp_path: Path) -> None:
    Gallery(space="s").save(tmp_path / LOOKS_FILE)
    assert len(Gallery.load(tmp_path / LOOKS_FILE)) == 0
