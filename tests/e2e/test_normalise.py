"""``tdtrack calibrate --normalise`` on a tiny model: embeddings are mapped once, what was fitted to the old ones goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra tdtrack[train]")

from tdtrack.calibrate import AS_TRACKED, SECOND_VIEW, _embed, calibrate_model, normalise_model
from tdtrack.cli import main
from tdtrack.config import DataSource
from tdtrack.data import load_dataset
from tdtrack.data.dataset import DetectionDataset
from tdtrack.data.images import load_image
from tdtrack.errors import DataError
from tdtrack.model import load_model, read_metadata
from tdtrack.teacher import load_teacher
from tdtrack.track import TrackRequest, load_models
from tdtrack.training import train
from training_world import embed_colour, tiny_config, write_images, write_store


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DetectionDataset, Path]:
    folder = tmp_path_factory.mktemp("world")
    write_images(folder / "boxes", 12)
    source = write_store(folder / "boxes")
    return train(tiny_config(folder / "run", source), progress=False), load_dataset(source.annotations, source.images), folder


def scatter_of_views(path: Path, dataset: DetectionDataset) -> np.ndarray:
    """Covariance of what two views of a box differ in, the views of ``normalise_model``."""
    model, metadata = load_model(path)
    rng, differences = np.random.default_rng(0), []
    for record in dataset.images:
        pixels, size = load_image(record.path), (metadata["input_height"], metadata["input_width"])
        first, rows = _embed(model, pixels, record.xyxy, *size, AS_TRACKED, rng)
        second, kept = _embed(model, pixels, record.xyxy[rows], *size, SECOND_VIEW, rng)
        differences.append(first[kept] - second)
    rows = np.concatenate(differences).astype(np.float64)
    return rows.T @ rows / len(rows)


def test_normalising_evens_out_what_views_differ_in_and_happens_once(
    trained: tuple[Path, DetectionDataset, Path], tmp_path: Path
) -> None:
    model, dataset, _ = trained
    fitted = calibrate_model(model, dataset)
    before = scatter_of_views(model, dataset)
    mapped = normalise_model(model, [dataset], tmp_path / "mapped.safetensors")
    after = scatter_of_views(mapped, dataset)
    assert np.linalg.cond(after) < 0.3 * np.linalg.cond(before) and np.linalg.cond(before) > 10
    assert read_metadata(model)["appearance"] == fitted, "the model itself is as it was"
    metadata = read_metadata(mapped)
    assert metadata["normalised"] and metadata["appearance"] == {}
    content = mapped.read_bytes()
    assert normalise_model(mapped, [dataset]) == mapped and mapped.read_bytes() == content


def test_calibrating_again_keeps_what_is_known_of_a_teacher(
    trained: tuple[Path, DetectionDataset, Path], tmp_path: Path
) -> None:
    model, dataset, _ = trained
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    teacher = load_teacher(lambda crops: np.stack([embed_colour(crop) for crop in crops]))
    both = calibrate_model(copy, dataset, teacher, again=True)
    content = copy.read_bytes()
    assert calibrate_model(copy, dataset, again=True) == both == read_metadata(copy)["appearance"]
    assert {key for key in both if key.startswith("teacher_")} and copy.read_bytes() == content
    fewer = replace(dataset, images=dataset.images[:5])
    other = calibrate_model(copy, fewer, again=True)
    assert other["max_appearance_cost"] != both["max_appearance_cost"]
    assert other["teacher_max_appearance_cost"] == both["teacher_max_appearance_cost"]


def test_what_was_fitted_to_one_teacher_does_not_serve_another(
    trained: tuple[Path, DetectionDataset, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset, _ = trained
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    one = load_teacher(lambda crops: np.stack([embed_colour(crop) for crop in crops]))
    other = load_teacher(lambda crops: np.stack([embed_colour(crop)[::-1] + 1 for crop in crops]))
    fitted = calibrate_model(copy, dataset, one)
    request = TrackRequest(source="a", out="out", model=str(copy), two_stage=True, teacher="any", device="cpu")
    for teacher, known in ((one, True), (other, False)):
        monkeypatch.setattr("tdtrack.teacher.load_teacher", lambda *_, teacher=teacher: teacher)
        appearance = load_models(request, {})[1]
        assert {key for key in appearance if key.startswith("teacher_")} == {
            key for key in fitted if key.startswith("teacher_") and known
        }
        assert appearance["max_appearance_cost"] == fitted["max_appearance_cost"]
    refitted = calibrate_model(copy, dataset, other)
    assert refitted["teacher_max_appearance_cost"] != fitted["teacher_max_appearance_cost"]
    assert load_models(request, {})[1] == refitted


def test_a_normalised_model_of_the_papers_target_can_be_trained_on(
    trained: tuple[Path, DetectionDataset, Path], tmp_path: Path
) -> None:
    model, dataset, folder = trained
    mapped = normalise_model(model, [dataset], tmp_path / "mapped.safetensors")
    target = load_model(mapped)[0].teacher_target
    boxes = folder / "boxes"
    source = DataSource(str(boxes / "annotations.json"), str(boxes / "images"), str(boxes / "colour.parquet"))
    config = tiny_config(tmp_path / "more", source, init_from=str(mapped), steps=1)
    assert config.model.embedding_target == "first" and target is not None
    again = load_model(train(config, progress=False))[0]
    assert again.teacher_target is not None
    np.testing.assert_array_equal(again.teacher_target.directions, target.directions)


def test_all_data_sets_are_looked_at(trained: tuple[Path, DetectionDataset, Path], tmp_path: Path) -> None:
    model, dataset, _ = trained
    halves = [replace(dataset, images=dataset.images[:6]), replace(dataset, images=dataset.images[6:])]
    whole, parts, half = (
        normalise_model(model, sets, tmp_path / f"{name}.safetensors").read_bytes()
        for name, sets in (("whole", [dataset]), ("parts", halves), ("half", halves[:1]))
    )
    assert parts == whole != half


def test_the_command_normalises_then_calibrates(
    trained: tuple[Path, DetectionDataset, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _, folder = trained
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    data = ["--data", str(folder / "boxes" / "annotations.json"), "--images", str(folder / "boxes" / "images")]
    assert main(["calibrate", "--model", str(copy), *data, "--normalise"]) == 0
    assert "max_appearance_cost" in capsys.readouterr().out
    metadata = read_metadata(copy)
    assert metadata["normalised"] and metadata["appearance"]["max_appearance_cost"] > 0


def test_an_exported_file_asks_for_its_model(
    trained: tuple[Path, DetectionDataset, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained[2]
    data = ["--data", str(folder / "boxes" / "annotations.json"), "--images", str(folder / "boxes" / "images")]
    assert main(["calibrate", "--model", str(tmp_path / "model.onnx"), *data, "--normalise"]) != 0
    assert "export that again" in capsys.readouterr().err


def test_images_without_two_boxes_say_what_is_missing(trained: tuple[Path, DetectionDataset, Path], tmp_path: Path) -> None:
    model, dataset, _ = trained
    with pytest.raises(DataError, match="no image has two boxes"):
        normalise_model(model, [replace(dataset, images=())], tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
