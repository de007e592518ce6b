"""Teachers of every kind behind one interface."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file

from tdtrack.errors import ConfigError, ShapeError, WeightsError
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.teacher.crops import normalise_crops, resize_crops, unit_rows
from tdtrack.teacher.weights import build_network


def some_crops(count: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 90, (count, 2))
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]


def mean_colour(crops: list[np.ndarray]) -> np.ndarray:
    return np.stack([crop.reshape(-1, 3).mean(axis=0) for crop in crops]) + 1


def write_onnx(
    path: Path, batch: int | str = "batch", height: int | str = 8, width: int | str = 4, element: int = TensorProto.FLOAT
) -> Path:
    """A graph that averages each colour: its right answers are known."""
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["features"])],
        "colours",
        [helper.make_tensor_value_info("images", element, [batch, 3, height, width])],
        [helper.make_tensor_value_info("features", element, [batch, 3, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "small.safetensors"
    metadata = {"architecture": "osnet_x0_25", "crop_height": 64, "crop_width": 32, "dim": 512}
    save_file(build_network("osnet_x0_25").state_dict(), path, {"tdtrack": json.dumps(metadata)})
    return path


def test_a_teacher_file_describes_itself(teacher_file: Path) -> None:
    teacher = load_teacher(teacher_file)
    assert isinstance(teacher, Teacher)
    assert (teacher.name, teacher.dim, teacher.input_height, teacher.input_width) == ("osnet_x0_25", 512, 64, 32)
    assert load_teacher("osnet_x0_25", teacher_file).fingerprint == teacher.fingerprint
    assert load_teacher(teacher) is teacher


def test_fingerprint_follows_weights_and_crop_size_not_the_file_format(teacher_file: Path, tmp_path: Path) -> None:
    teacher = load_teacher(teacher_file)
    state = teacher.network.state_dict()  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "same.pth")
    resized = load_teacher("osnet_x0_25", tmp_path / "same.pth")
    assert (resized.input_height, resized.input_width) == (256, 128)
    assert resized.fingerprint != teacher.fingerprint
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "plain.safetensors")
    assert load_teacher("osnet_x0_25", tmp_path / "plain.safetensors").fingerprint == resized.fingerprint
    state["conv1.conv.weight"] = state["conv1.conv.weight"] + 1e-3
    torch.save(state, tmp_path / "other.pth")
    assert load_teacher("osnet_x0_25", tmp_path / "other.pth").fingerprint != resized.fingerprint


def test_features_are_those_of_the_network_on_resized_crops(teacher_file: Path) -> None:
    teacher = load_teacher(teacher_file, device="cpu")
    crops = some_crops(5)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for crop, features in zip(crops, teacher.features(crops)):  # type: ignore[attr-defined]
        picture = np.asarray(Image.fromarray(crop).resize((32, 64), Image.Resampling.BILINEAR))
        image = torch.from_numpy(((picture / 255 - mean) / std).transpose(2, 0, 1)).float()[None]
        with torch.no_grad():
            expected = teacher.network(image)[0].numpy()  # type: ignore[attr-defined]
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["network", "onnx", "callable"])
def test_embed_gives_unit_rows_for_any_number_of_crops(kind: str, teacher_file: Path, tmp_path: Path) -> None:
    teacher = {
        "network": lambda: load_teacher(teacher_file),
        "onnx": lambda: load_teacher(write_onnx(tmp_path / "colours.onnx")),
        "callable": lambda: load_teacher(mean_colour),
    }[kind]()
    empty = teacher.embed([])
    assert empty.shape == (0, teacher.dim)
    assert empty.dtype == np.float32
    embedded = teacher.embed(some_crops(7))
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), np.ones(7), rtol=1e-5)
    assert len(teacher.fingerprint) == 64


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"crop 1 is uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"crop 1 is float32"),
        (np.zeros((0, 4, 3), np.uint8), "crop 1 is empty"),
        ("crop.png", "crop 1 is a str"),
    ],
)
@pytest.mark.parametrize("kind", ["network", "onnx", "callable"])
def test_bad_crops_are_refused(kind: str, crop: object, message: str, teacher_file: Path, tmp_path: Path) -> None:
    source = {"network": teacher_file, "onnx": write_onnx(tmp_path / "colours.onnx"), "callable": mean_colour}[kind]
    with pytest.raises(ShapeError, match=message):
        load_teacher(source).embed([np.zeros((4, 4, 3), np.uint8), crop])  # type: ignore[list-item]


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_onnx_graphs_of_any_batch_size_and_precision(batch: int | str, element: int, tmp_path: Path) -> None:
    teacher = load_teacher(write_onnx(tmp_path / "colours.onnx", batch, element=element))
    assert (teacher.name, teacher.dim, teacher.input_height, teacher.input_width) == ("colours", 3, 8, 4)
    crops = some_crops(70)
    expected = normalise_crops(resize_crops(crops, 8, 4)).mean(axis=(2, 3))
    tolerance = 1e-5 if element == TensorProto.FLOAT else 2e-2
    np.testing.assert_allclose(teacher.features(crops), expected, atol=tolerance)  # type: ignore[attr-defined]


def test_onnx_graph_with_free_sides_takes_the_papers_crop_size(tmp_path: Path) -> None:
    teacher = load_teacher(write_onnx(tmp_path / "free.onnx", height="height", width="width"))
    assert (teacher.input_height, teacher.input_width) == (256, 128)


def test_a_detector_is_no_teacher(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["boxes"])],
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 160, 160])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 3, 160, 160])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(tmp_path / "d.onnx"))
    with pytest.raises(WeightsError, match="gives 76800 numbers for a crop"):
        load_teacher(tmp_path / "d.onnx")


def test_weights_beside_an_onnx_file_are_part_of_its_fingerprint(tmp_path: Path) -> None:
    prints = []
    for name, number in (("one", 1.0), ("two", 2.0), ("again", 1.0)):
        graph = helper.make_graph(
            [helper.make_node("Conv", ["images", "kernel"], ["features"])],
            "colours",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 4])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 64, 1, 1])],
            [numpy_helper.from_array(np.full((64, 3, 8, 4), number, np.float32), "kernel")],
        )
        (tmp_path / name).mkdir()
        path = tmp_path / name / "teacher.onnx"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save_model(model, str(path), save_as_external_data=True, location="teacher.onnx.data")
        assert (tmp_path / name / "teacher.onnx.data").stat().st_size > 10_000 > path.stat().st_size
        prints.append(load_teacher(path).fingerprint)
    assert prints[0] != prints[1] and prints[0] == prints[2]


def test_onnx_files_that_are_no_teachers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(WeightsError, match=r"noise\.onnx: not a readable ONNX file"):
        load_teacher(tmp_path / "noise.onnx")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["tokens"], ["same"])],
        "text",
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, 7])],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, [1, 7])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(tmp_path / "text.onnx"))
    with pytest.raises(WeightsError, match=r"takes tokens \[1, 7\]"):
        load_teacher(tmp_path / "text.onnx")
    with pytest.raises(WeightsError, match="no such teacher file"):
        load_teacher(tmp_path / "absent.onnx")


def test_callables_are_told_apart_and_checked() -> None:
    first, again = load_teacher(mean_colour), load_teacher(mean_colour)
    assert first.fingerprint == again.fingerprint
    assert load_teacher(lambda crops: mean_colour(crops)).fingerprint != first.fingerprint
    assert (first.input_height, first.input_width, first.dim) == (0, 0, 3)
    assert first.name.endswith("mean_colour")
    with pytest.raises(ShapeError, match=r"gave shape \(2,\) for 2 crops"):
        load_teacher(lambda crops: np.zeros(len(crops)))
    with pytest.raises(ShapeError, match="not finite"):
        load_teacher(lambda crops: np.full((len(crops), 2), np.nan))
    wider = load_teacher(lambda crops: np.ones((len(crops), len(crops))))
    with pytest.raises(ShapeError, match="gave 3 numbers a crop, 2 before"):
        wider.embed(some_crops(3))


def test_names_without_weights_and_unknown_names_are_refused(teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="osnet_x0_25 was asked for without weights"):
        load_teacher("osnet_x0_25")
    with pytest.raises(ConfigError, match=r"unknown teacher 'osnet_x0\.25'; did you mean osnet_x0_25"):
        load_teacher("osnet_x0.25", teacher_file)
    with pytest.raises(WeightsError, match="no such weights file"):
        load_teacher("osnet_x0_25", tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="an ONNX file holds its own network"):
        load_teacher("osnet_x0_25", tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match="is a file with its own weights"):
        load_teacher(teacher_file, "more.pth")
    with pytest.raises(ConfigError, match="not int"):
        load_teacher(3)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="does not fit osnet_x0_5: conv1"):
        load_teacher("osnet_x0_5", teacher_file)


@pytest.mark.parametrize("device", ["cuda:99", "quantum"])
def test_devices_that_are_not_there_are_refused(device: str, teacher_file: Path) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used"):
        load_teacher(teacher_file, device=device)


def test_an_onnx_teacher_runs_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path / "colours.onnx")
    for device in ("cudda", "toaster", "cuda:x", "cuda:"):
        with pytest.raises(
            ConfigError, match=f"device '{device}' is unknown; choose 'cpu', 'cuda' or one GPU such as 'cuda:1'"
        ):
            load_teacher(path, device=device)
    asked, session = [], onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda file, options, providers: asked.append(providers) or session(file, options, ["CPUExecutionProvider"]),
    )
    for device in ("cuda:1", None, "cpu"):
        load_teacher(path, device=device)
    gpu = "CUDAExecutionProvider"
    assert asked == [[(gpu, {"device_id": "1"})], [(gpu, {"device_id": "0"})], [("CPUExecutionProvider", {})]]


def test_onnx_and_callable_teachers_do_without_torch(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "colours.onnx")
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
        "import numpy as np; from tdtrack.teacher import load_teacher\n"
        f"crop = np.full((5, 4, 3), 9, np.uint8); print(load_teacher({str(path)!r}).embed([crop]).shape)\n"
        "print(load_teacher(lambda crops: np.ones((len(crops), 2))).embed([crop]).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["(1, 3)", "(1, 2)"], done.stderr


def test_a_row_of_zeros_stays_zero() -> None:
    np.testing.assert_array_equal(unit_rows(np.array([[0, 0], [3, 4]], np.float32)), np.array([[0, 0], [0.6, 0.8]], np.float32))
