"""The exported file gives what the torch model gives, in every engine, and says what it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from random_models import HEIGHT, METADATA, WIDTH, assert_same, noise, random_model, save_random_model
from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.model import JointModel, save_model
from tdtrack.runtime import contract
from tdtrack.runtime.contract import ModelDescription, check_signature, read_description
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.export import build_model, export_model

DETECT = DetectConfig(min_score=0.3, max_detections=60)
ENGINES = ("onnxruntime", "openvino")
FRAMES = [noise(1, 96, 160), noise(2, 131, 200), noise(3, 60, 110)]  # no padding so wide that scores in it repeat


def needs(engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="needs the extra tdtrack[openvino]")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_random_model(tmp_path_factory.mktemp("run"), classes=("person", "dög"), embedding_dim=8)
    export_model(folder, folder / "model.onnx", detect=DETECT)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "settings",
    [
        {"embedding_dim": 1},
        {"embedding_dim": 512, "classes": ("a", "b", "c")},
        {"embedding_dim": 64, "min_level": 4, "max_level": 4, "anchor_scales": 1},
        {"backbone": "mobilenetv4_conv_small", "embedding_dim": 128},
        {"backbone": "resnet18", "embedding_dim": 16, "min_level": 2, "max_level": 6},
        {"backbone": "mobilenetv1_100", "pyramid": "lateral", "embedding_dim": 16},
        {"backbone": "spinenet49s", "embedding_dim": 16},
    ],
    ids=["D1", "D512-3-classes", "one-level", "mobilenet-D128", "resnet18-levels-2-6", "mobilenet-without-fpn", "spinenet"],
)
def test_every_engine_gives_what_torch_gives(engine: str, settings: dict[str, Any], tmp_path: Path) -> None:
    needs(engine)
    save_random_model(tmp_path, **settings)
    export_model(tmp_path, tmp_path / "model.onnx", detect=DETECT)
    torch_engine = load_engine(tmp_path, device="cpu", min_score=DETECT.min_score, max_detections=DETECT.max_detections)
    exported = load_engine(tmp_path / "model.onnx", engine=engine, device="cpu")
    assert exported.embedding_dim == torch_engine.embedding_dim == settings["embedding_dim"]
    total = 0
    for frame in FRAMES:
        wanted = torch_engine(frame)
        assert_same(exported(frame), wanted)
        total += len(wanted)
    assert total > 20


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_cuts_patches_takes_any_size_in_every_engine(engine: str, tmp_path: Path) -> None:
    needs(engine)
    sizes = {"input_height": 90, "input_width": 150}  # no stride divides them
    save_model(tmp_path / "model.safetensors", random_model(backbone="test_convnext", embedding_dim=8), {**METADATA, **sizes})
    export_model(tmp_path, tmp_path / "model.onnx", detect=DETECT)
    torch_engine = load_engine(tmp_path, device="cpu", min_score=DETECT.min_score, max_detections=DETECT.max_detections)
    exported = load_engine(tmp_path / "model.onnx", engine=engine, device="cpu")
    assert len(torch_engine(FRAMES[0]))
    assert_same(exported(FRAMES[0]), torch_engine(FRAMES[0]))


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_and_single_frames_agree(engine: str, run_folder: Path, tmp_path: Path) -> None:
    needs(engine)
    export_model(run_folder, tmp_path / "pairs.onnx", detect=DETECT, batch=2)
    free, pairs = (
        load_engine(path, engine=engine, device="cpu") for path in (run_folder / "model.onnx", tmp_path / "pairs.onnx")
    )
    single = [free(frame) for frame in FRAMES]
    for many in (free, pairs):  # three frames: the second pair is half empty
        for found, wanted in zip(many.detect_fitted([many.fit(frame) for frame in FRAMES]), single, strict=True):
            assert_same(found, wanted, max_pixels=1e-2)
    assert free.detect_fitted([]) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_without_detections_gives_none(engine: str, run_folder: Path, tmp_path: Path) -> None:
    needs(engine)
    export_model(run_folder, tmp_path / "never.onnx", detect=DetectConfig(min_score=1.0, max_detections=5))
    found = load_engine(tmp_path / "never.onnx", engine=engine, device="cpu")(FRAMES[0])
    assert len(found) == 0
    assert found.embedding.shape == (0, 8)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_after_the_count_are_zero(engine: str, run_folder: Path, tmp_path: Path) -> None:
    needs(engine)
    from tdtrack.runtime.exported import open_session

    export_model(run_folder, tmp_path / "roomy.onnx", detect=DetectConfig(min_score=0.6, max_detections=300))
    session = open_session(tmp_path / "roomy.onnx", engine, device="cpu", precision=None)
    outputs = session.run(np.stack([noise(seed, HEIGHT, WIDTH) for seed in (8, 9)]))
    assert {name: (value.dtype.name, value.shape) for name, value in outputs.items()} == {
        contract.BOXES: ("float32", (2, 300, 4)),
        contract.SCORES: ("float32", (2, 300)),
        contract.CLASSES: ("int64", (2, 300)),
        contract.EMBEDDINGS: ("float32", (2, 300, 8)),
        contract.COUNT: ("int64", (2,)),
    }
    for row, count in enumerate(outputs[contract.COUNT]):
        assert 0 < count < 300
        assert (outputs[contract.SCORES][row, :count] >= 0.6).all()
        for name in (contract.BOXES, contract.SCORES, contract.CLASSES, contract.EMBEDDINGS):
            assert not outputs[name][row, count:].any()


def test_dense_and_lazy_graphs_agree(tmp_path: Path) -> None:
    """The benchmark's dense graph is the paper's; both must give the same, or their speeds say nothing."""
    model = random_model(4, embedding_dim=32)
    images = np.stack([noise(seed, HEIGHT, WIDTH) for seed in (1, 2)])
    outputs = {}
    for embedding in ("lazy", "dense", "none"):
        built, _ = build_model(model, HEIGHT, WIDTH, metadata={}, detect=DETECT, embedding=embedding)
        session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
        outputs[embedding] = dict(zip([value.name for value in session.get_outputs()], session.run(None, {"images": images})))
    assert contract.EMBEDDINGS not in outputs["none"]
    for name in (contract.BOXES, contract.SCORES, contract.CLASSES, contract.COUNT):
        np.testing.assert_array_equal(outputs["lazy"][name], outputs["none"][name])
        np.testing.assert_array_equal(outputs["lazy"][name], outputs["dense"][name])
    assert outputs["lazy"][contract.COUNT].sum() > 20
    np.testing.assert_allclose(outputs["lazy"][contract.EMBEDDINGS], outputs["dense"][contract.EMBEDDINGS], atol=1e-4)


def test_no_kernel_is_gathered(run_folder: Path) -> None:
    """Picking a slot's kernel per row would copy a gigabyte at D = 512 and 300 people: kernels may only be multiplied."""
    model = onnx.load(run_folder / "model.onnx")
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    gathered = [
        node.name for node in model.graph.node if node.op_type.startswith("Gather") and sizes.get(node.input[0], 0) > 4 * 4000
    ]
    assert gathered == []  # the anchor table (4 numbers each) is the largest thing rows are taken from
    assert {node.domain for node in model.graph.node} == {""}  # standard operators only


def test_a_file_says_what_it_is(run_folder: Path) -> None:
    text = onnxruntime.InferenceSession(run_folder / "model.onnx").get_modelmeta().custom_metadata_map
    description = read_description("file", text)
    assert (description.classes, description.input_height, description.input_width) == (("person", "dög"), HEIGHT, WIDTH)
    assert (description.embedding_dim, description.max_detections, description.precision) == (8, 60, "fp32")
    assert (description.min_score, description.nms_iou) == (0.3, 0.5)
    for key in ("appearance", "teacher", "data", "licence", "version"):
        assert description.metadata[key] == METADATA[key]
    assert json.loads(text["tdtrack"])["fit"]["pad_colour"] == [124, 116, 104]
    for engine in ENGINES:
        needs(engine)
        loaded = load_engine(run_folder / "model.onnx", engine=engine, device="cpu")
        assert loaded.metadata["appearance"] == METADATA["appearance"]
        assert loaded.classes == ("person", "dög")


def test_floor_and_cap_can_only_be_narrowed(run_folder: Path) -> None:
    whole = load_engine(run_folder / "model.onnx", engine="onnxruntime")(FRAMES[0])
    middle = float(np.median(whole.score))
    above = load_engine(run_folder / "model.onnx", engine="onnxruntime", min_score=middle)(FRAMES[0])
    best = load_engine(run_folder / "model.onnx", engine="onnxruntime", max_detections=7)(FRAMES[0])
    np.testing.assert_array_equal(above.xyxy, whole.xyxy[whole.score >= np.float32(middle)])
    np.testing.assert_array_equal(best.embedding, whole.embedding[:7])
    assert 7 < len(above) < len(whole) <= 60


GOOD = ModelDescription(("a",), 96, 160, 8, 0.05, 0.5, 100, metadata={"appearance": {"max_appearance_cost": 0.2}})


def test_a_description_survives_the_file() -> None:
    assert read_description("file", {"tdtrack": GOOD.to_json()}) == GOOD
    without = ModelDescription(("a", "b"), 1, 1, None, 0.0, 1.0, 1, precision="int8")
    assert read_description("file", {"tdtrack": without.to_json()}) == without


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format 2"),
        ({"classes": []}, "classes"),
        ({"classes": ["a", 3]}, "classes"),
        ({"input_height": 0}, "input_height as 0"),
        ({"input_width": 10**9}, "input_width as 1000000000"),
        ({"input_width": True}, "input_width as True"),
        ({"embedding_dim": -1}, "embedding_dim"),
        ({"max_detections": 1e3}, "max_detections"),
        ({"min_score": float("nan")}, "min_score"),
        ({"nms_iou": "0.5"}, "nms_iou"),
        ({"precision": "fp4"}, "precision"),
        ({"fit": {"place": "centre"}}, "fit"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"appearance": {"max_appearance_cost": "high"}}}, "max_appearance_cost"),
        ({"metadata": {"appearance": {"cosine_statistics": [0.9, 0.1, 0.2]}}}, "cosine_statistics"),
        ({"metadata": {"appearance": {"cosine_statistics": [0.9, 0.1, 0.2, 0.0]}}}, "cosine_statistics"),
    ],
)
def test_a_description_that_cannot_be_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WeightsError, match=complaint):
        read_description("file.onnx", {"tdtrack": json.dumps({**json.loads(GOOD.to_json()), **change})})


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "x" * 5_000_000])
def test_damaged_descriptions_are_refused(text: str) -> None:
    with pytest.raises(WeightsError, match=r"file\.onnx"):
        read_description("file.onnx", {"tdtrack": text})


def test_a_graph_that_does_not_fit_its_description_is_refused() -> None:
    inputs = {"images": (None, 96, 160, 3)}
    outputs = {
        "boxes": (None, 100, 4),
        "scores": (None, 100),
        "classes": (None, 100),
        "count": (None,),
        "embeddings": (None, 100, 8),
    }
    assert check_signature("f", GOOD, inputs, outputs) is None
    assert check_signature("f", GOOD, {"images": (2, 96, 160, 3)}, outputs) == 2
    for changed in (
        {"boxes": (None, 100, 5)},
        {"embeddings": (None, 100, 16)},
        {"scores": (None, 100, 1)},
        {"more": (None,)},
    ):
        with pytest.raises(WeightsError, match=next(iter(changed))):
            check_signature("f", GOOD, inputs, {**outputs, **changed})
    with pytest.raises(WeightsError, match="images"):
        check_signature("f", GOOD, {"images": (None, 3, 96, 160)}, outputs)


def foreign(path: Path, metadata: Callable[[onnx.ModelProto], None]) -> Path:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 3])], [value("y", 1, [1, 3])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    metadata(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_other_peoples_files_are_refused(engine: str, tmp_path: Path) -> None:
    needs(engine)
    with pytest.raises(WeightsError, match="no 'tdtrack' entry"):
        load_engine(foreign(tmp_path / "a.onnx", lambda model: None), engine=engine)
    liar = foreign(tmp_path / "b.onnx", lambda model: onnx.helper.set_model_props(model, {"tdtrack": GOOD.to_json()}))
    with pytest.raises(WeightsError, match="inputs"):
        load_engine(liar, engine=engine)
    (tmp_path / "c.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_engine(tmp_path / "c.onnx", engine=engine)


def test_what_cannot_be_exported_is_refused(tmp_path: Path, run_folder: Path) -> None:
    save_model(tmp_path / "model.safetensors", random_model(), {"input_height": 96})
    with pytest.raises(WeightsError, match="input size"):
        export_model(tmp_path, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="batch is 0"):
        export_model(run_folder, tmp_path / "m.onnx", batch=0)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("model.onnx", {"engine": "torch"}, "engine torch cannot run"),
        ("", {"engine": "onnxruntime"}, "tdtrack export"),
        ("model.onnx", {"engine": "tensorflow"}, "engine is 'tensorflow'"),
        ("model.onnx", {"precision": "fp8"}, "precision is 'fp8'"),
        ("model.onnx", {"engine": "onnxruntime", "precision": "int8"}, "tdtrack quantize"),
        ("model.onnx", {"engine": "openvino", "precision": "int8"}, "tdtrack quantize"),
        ("model.onnx", {"engine": "onnxruntime", "device": "toaster"}, "device 'toaster'"),
        ("model.onnx", {"engine": "onnxruntime", "device": "cpu:x"}, "device 'cpu:x'"),
        ("model.onnx", {"engine": "openvino", "device": "toaster"}, "device 'toaster'"),
        ("model.onnx", {"compiled": True}, "compiled is for the torch engine"),
        ("", {"precision": "int8"}, "precision int8"),
    ],
)
def test_engines_refuse_what_they_cannot_do(name: str, settings: dict[str, Any], complaint: str, run_folder: Path) -> None:
    needs(settings.get("engine", ""))
    with pytest.raises(ConfigError, match=complaint):
        load_engine(run_folder / name, **settings)


def test_bf16_is_refused_where_it_would_be_fp32_in_disguise(run_folder: Path) -> None:
    needs("openvino")
    if dict(torch.cpu.get_capabilities()).get("avx512_bf16"):
        assert load_engine(run_folder / "model.onnx", engine="openvino", precision="bf16").label.endswith("bf16")
    else:
        with pytest.raises(ConfigError, match="bf16 cannot be used"):
            load_engine(run_folder / "model.onnx", engine="openvino", precision="bf16")


TWO_ENGINES = """
import gc, signal, sys
import numpy as np
from tdtrack.runtime.engine import load_engine

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
engines = [load_engine(sys.argv[1], engine="openvino", device="cpu") for _ in range(2)]
for _ in range(2):
    engines.pop(0)
    gc.collect()
freed = [np.ones(100_000) for _ in range(200)]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_two_openvino_engines_is_a_keyboard_interrupt(run_folder: Path) -> None:
    needs("openvino")
    command = [sys.executable, "-c", TWO_ENGINES, str(run_folder / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_torch_in_bf16_is_near(run_folder: Path) -> None:
    exact, rough = (load_engine(run_folder, device="cpu", precision=name, min_score=0.3) for name in ("fp32", "bf16"))
    assert exact.label.endswith("cpu, fp32") and rough.label.endswith("cpu, bf16")
    a, b = exact(FRAMES[0]), rough(FRAMES[0])
    assert len(a) > 10 and abs(len(a) - len(b)) <= 0.2 * len(a)
    assert abs(float(a.score[0]) - float(b.score[0])) < 0.05


def test_auto_takes_what_runs_the_file_and_says_so(run_folder: Path) -> None:
    assert load_engine(run_folder).label.startswith("torch")
    label = load_engine(run_folder / "model.onnx").label
    assert label.startswith(("OpenVINO", "ONNX Runtime")) and label.endswith("fp32")


def test_the_model_is_left_as_it_was() -> None:
    model: JointModel = random_model(1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    build_model(model, HEIGHT, WIDTH, metadata={}, detect=DETECT)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
