"""Int8 files: what they hold, that every engine runs them, and that their cost is measured truly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from random_models import HEIGHT, WIDTH, noise, save_random_model
from tdtrack import cli
from tdtrack.config import DetectConfig
from tdtrack.data import load_dataset
from tdtrack.errors import ConfigError, DataError, WeightsError
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.export import export_model
from tdtrack.runtime.quantize import compare_engines, quantize_model
from tdtrack.types import Detections, Image


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantize")
    images, boxes = [], []
    for index in range(4):
        PillowImage.fromarray(noise(index, HEIGHT, WIDTH)).save(folder / f"{index}.png")
        images.append({"id": index + 1, "file_name": f"{index}.png", "width": WIDTH, "height": HEIGHT})
        boxes.append({"id": index + 1, "image_id": index + 1, "category_id": 1, "bbox": [10, 10, 30, 60], "area": 1800})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    export_model(save_random_model(folder / "run", embedding_dim=16), folder / "m.onnx", detect=DetectConfig(min_score=0.2))
    return folder


def test_an_int8_file_runs_everywhere_and_is_near_the_exact_one(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nncf", reason="needs the extra tdtrack[openvino]")
    words = ["quantize", world / "m.onnx", "--data", world / "boxes.json", "--images", world, "--out", world / "int8.onnx"]
    assert cli.main([*map(str, words), "--json", str(world / "cost.json")]) == 0
    out = capsys.readouterr().out
    cost = json.loads((world / "cost.json").read_text())
    assert cost["images"] == 2  # half of four was calibrated on
    assert cost["megabytes_int8"] < 0.6 * cost["megabytes_fp32"]
    assert cost["mean_cosine"] > 0.9 and cost["pairs"] > 20  # of random weights, which feel rounding more than learned ones
    assert f"{cost['mean_cosine']:.4f} over {cost['pairs']} boxes" in out
    exact = load_engine(world / "m.onnx", engine="onnxruntime")
    for engine in ("onnxruntime", "openvino"):
        rounded = load_engine(world / "int8.onnx", engine=engine)
        assert rounded.label.endswith("int8")
        assert rounded.metadata == exact.metadata
        _, _, cosine, pairs = compare_engines(exact, rounded, load_dataset(world / "boxes.json", world).images)
        assert cosine is not None and cosine > 0.9 and pairs > 40
    with pytest.raises(WeightsError, match="int8 already"):
        quantize_model(world / "int8.onnx", world / "boxes.json", world / "again.onnx")


class Fixed:
    """Finds the same boxes in every image."""

    classes, embedding_dim, metadata = ("person",), 2, {}

    def __init__(self, xyxy: list[list[float]], embedding: list[list[float]]) -> None:
        self.found = Detections(xyxy, np.linspace(0.9, 0.8, len(xyxy)), np.zeros(len(xyxy)), embedding)

    def __call__(self, frame: Image) -> Detections:
        return self.found


def test_the_cost_is_counted_over_detections_that_both_find(world: Path) -> None:
    images = load_dataset(world / "boxes.json", world).images
    truth, elsewhere, third = [10.0, 10, 40, 70], [100.0, 10, 130, 70], [60.0, 10, 80, 70]
    exact = Fixed([truth, elsewhere], [[1, 0], [0, 1]])
    other = Fixed([elsewhere, third], [[0.6, 0.8], [1, 0]])
    exact_ap, other_ap, cosine, pairs = compare_engines(exact, other, images)
    assert (exact_ap, other_ap, pairs) == (1.0, 0.0, 4)  # only "elsewhere" is found by both, once in each image
    assert cosine == pytest.approx(0.8)
    assert compare_engines(exact, Fixed([third], [[1, 0]]), images)[2:] == (None, 0)


def test_requests_that_cannot_be_met_are_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name another file"):
        quantize_model(world / "m.onnx", world / "boxes.json", world / "m.onnx")
    with pytest.raises(ConfigError, match="ends in"):
        quantize_model(world / "m.onnx", world / "boxes.json", tmp_path / "m.xml")
    with pytest.raises(ConfigError, match="calibration_images is 0"):
        quantize_model(world / "m.onnx", world / "boxes.json", tmp_path / "m.onnx", calibration_images=0)
    dogs = json.loads((world / "boxes.json").read_text()) | {"categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "dogs.json").write_text(json.dumps(dogs))
    with pytest.raises(DataError, match="dog"):
        quantize_model(world / "m.onnx", tmp_path / "dogs.json", tmp_path / "m.onnx", images=str(world))
