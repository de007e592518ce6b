from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from random_models import assert_same, save_random_model
from tdtrack.config import DetectConfig, ModelConfig
from tdtrack.data.images import fit_image
from tdtrack.errors import ConfigError, MissingExtraError, ShapeError, WeightsError
from tdtrack.model import JointModel, load_model, save_model
from tdtrack.runtime import engine as engine_module
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.two_stage import TwoStageEngine
from tdtrack.types import Detections, FloatArray, Image

TINY = ModelConfig(
    backbone="mobilenetv3_small_050",
    classes=("person", "dog"),
    embedding_dim=8,
    fpn_width=16,
    subnet_depth=1,
    subnet_width=16,
    embedding_width=8,
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("run")
    metadata = {"input_height": 96, "input_width": 160, "appearance": {"max_appearance_cost": 0.3}}
    save_model(folder / "model.safetensors", JointModel(TINY), metadata)
    return folder


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(96, 160), (131, 77), (40, 400), (300, 500)])
def test_detections_are_the_models_own_in_pixels_of_the_frame(run_folder: Path, size: tuple[int, int]) -> None:
    frame = noise(*size)
    engine = load_engine(run_folder, device="cpu", min_score=0.0, max_detections=40)
    found = engine(frame)
    model, _ = load_model(run_folder)
    fitted, scale = fit_image(frame, 96, 160)
    (own,) = model.detect(
        torch.from_numpy(fitted.copy()).permute(2, 0, 1)[None], DetectConfig(min_score=0.0, max_detections=40)
    )
    expected = []
    for row in range(len(own.score)):
        left, top, right, bottom = (float(side) / scale for side in own.xyxy[row])
        box = [min(left, size[1]), min(top, size[0]), min(right, size[1]), min(bottom, size[0])]
        if box[2] > box[0] and box[3] > box[1]:
            expected.append((box, float(own.score[row]), int(own.class_id[row]), own.embedding[row].numpy()))
    assert 0 < len(found) == len(expected) <= 40
    np.testing.assert_allclose(found.xyxy, [row[0] for row in expected], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.score, [row[1] for row in expected], rtol=1e-5)
    np.testing.assert_array_equal(found.class_id, [row[2] for row in expected])
    np.testing.assert_allclose(found.embedding, [row[3] for row in expected], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, rtol=1e-5)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_finds_the_same(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path, embedding_dim=16)
    plain, compiled = (load_engine(folder, device="cpu", compiled=choice) for choice in (False, True))
    assert compiled.label == f"{plain.label}, compiled"
    found = compiled(noise(96, 160))
    assert_same(found, plain(noise(96, 160)))
    assert len(found) > 20


def test_an_engine_says_what_it_is(run_folder: Path) -> None:
    engine = load_engine(run_folder / "model.safetensors", device="cpu")
    assert (engine.classes, engine.embedding_dim) == (("person", "dog"), 8)
    assert engine.metadata["appearance"] == {"max_appearance_cost": 0.3}
    assert (engine.input_height, engine.input_width) == (96, 160)


def test_nothing_found_keeps_the_width_of_the_embedding(run_folder: Path) -> None:
    found = load_engine(run_folder, device="cpu", min_score=1.0)(noise(96, 160))
    assert len(found) == 0
    assert found.embedding.shape == (0, 8)


def test_a_path_that_is_no_model_is_refused_with_what_is_understood(tmp_path: Path) -> None:
    for name in ("model.tflite", "model"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(WeightsError, match=r"run folder, a \.safetensors or an \.onnx file"):
            load_engine(tmp_path / name)
    with pytest.raises(WeightsError, match="does not exist"):
        load_engine(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_engine(tmp_path)


def test_settings_out_of_range_are_refused(run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"min_score is 1\.5"):
        load_engine(run_folder, min_score=1.5)
    with pytest.raises(ConfigError, match="max_detections is 0"):
        load_engine(run_folder, max_detections=0)
    with pytest.raises(ConfigError, match="device 'toaster'"):
        load_engine(run_folder, device="toaster")


def test_a_model_that_does_not_know_its_input_size_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", JointModel(TINY), {"input_height": 96})
    with pytest.raises(WeightsError, match="input_width"):
        load_engine(tmp_path, device="cpu")


def test_without_torch_the_extra_is_named(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(MissingExtraError, match=r"tdtrack\[train\]"):
        load_engine(run_folder)


class FixedDetector:
    """Finds the same boxes everywhere, with embeddings that must not survive."""

    classes = ("person",)
    embedding_dim = 2
    metadata: ClassVar = {"appearance": {}}

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        self.found = Detections(np.array(boxes).reshape(-1, 4), scores, np.zeros(len(scores)), np.zeros((len(scores), 2)))

    def __call__(self, frame: Image) -> Detections:
        return self.found


class MeanColour:
    """A teacher whose vector is the mean colour of the crop."""

    dim = 3

    def embed(self, crops: Sequence[Image]) -> FloatArray:
        means = np.array([crop.reshape(-1, 3).mean(axis=0) for crop in crops], np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_two_stage_embeds_the_crop_of_each_box() -> None:
    frame = noise(60, 80)
    boxes = [[0, 0, 20, 30], [10.4, 10.6, 30.2, 50.9], [-5, -5, 200, 200], [70, 50, 79, 59]]
    engine = TwoStageEngine(FixedDetector(boxes, [0.9, 0.5, 0.4999, 0.7]), MeanColour(), min_embed_score=0.5)
    found = engine(frame)
    np.testing.assert_array_equal(found.xyxy, np.float32([boxes[0], boxes[1], boxes[3]]))
    np.testing.assert_allclose(found.score, [0.9, 0.5, 0.7])
    for row, (left, top, right, bottom) in enumerate([(0, 0, 20, 30), (10, 11, 30, 51), (70, 50, 79, 59)]):
        mean = frame[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(found.embedding[row], mean / np.linalg.norm(mean), rtol=1e-5)
    assert (engine.embedding_dim, engine.classes, engine.metadata) == (3, ("person",), {"appearance": {}})


def test_two_stage_asks_the_teacher_nothing_about_an_empty_frame() -> None:
    class Never(MeanColour):
        def embed(self, crops: Sequence[Image]) -> FloatArray:
            raise AssertionError

    for boxes, scores in (([], []), ([[0, 0, 5, 5]], [0.1])):
        found = TwoStageEngine(FixedDetector(boxes, scores), Never(), min_embed_score=0.5)(noise(20, 20))
        assert (len(found), found.embedding.shape) == (0, (0, 3))


def test_two_stage_checks_what_the_teacher_returns() -> None:
    class Wide(MeanColour):
        dim = 4

    with pytest.raises(ShapeError, match=r"\(1, 3\) for 1 crops; it must return \(1, 4\)"):
        TwoStageEngine(FixedDetector([[0, 0, 5, 5]], [0.9]), Wide())(noise(20, 20))
    with pytest.raises(ConfigError, match="min_embed_score"):
        TwoStageEngine(FixedDetector([], []), MeanColour(), min_embed_score=-1)
