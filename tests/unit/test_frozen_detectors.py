"""A foreign detector: which maps it has, what its outputs mean, that merging leaves it alone, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch", reason="teaching a detector needs the extra tdtrack[train]")

import torch
from onnx import TensorProto, helper
from torch import nn

from frozen_detectors import CLASSES, HEIGHT, WIDTH, TinyDetector, decoded, greedy, tiny_graph
from random_models import noise, save_random_model
from tdtrack.config import DetectConfig
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.frozen.description import describe_detector, read_description_file
from tdtrack.frozen.detectors import open_detector, trace_detector
from tdtrack.frozen.graph import FeatureMap, read_graph
from tdtrack.frozen.head import AppearanceHead
from tdtrack.frozen.merge import differences, merge, prepare_input
from tdtrack.frozen.pooling import choose_readings
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.export import export_model

FAMILIES = ("yolox", "nanodet", "yolov5", "yolov8", "rows", "detr", "boxes")
TOLD = {"nanodet": {"family": "nanodet"}, "yolox": {}}


def images(count: int = 3) -> np.ndarray:
    return np.stack([noise(seed, HEIGHT, WIDTH) for seed in range(count)])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_decoded_as_loops_decode_it(family: str, tmp_path: Path) -> None:
    graph = tiny_graph(family)
    description = describe_detector(graph, TOLD.get(family))
    assert description.family == family and description.classes == CLASSES
    detect = DetectConfig(min_score=0.2, max_detections=500)
    built, said = merge(graph, description, detect=detect)
    (tmp_path / "model.onnx").write_bytes(built.SerializeToString())
    engine = load_engine(tmp_path / "model.onnx", engine="onnxruntime", device="cpu", min_score=0.2, max_detections=500)
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    total = 0
    for image in images():
        own = session.run(list(description.outputs), {graph.image.name: prepare_input(image[None], graph, description)})
        wanted = greedy(*decoded(family, own), 0.2, said.nms_iou)
        found = engine(image)
        assert len(found) == len(wanted)
        np.testing.assert_allclose(found.score, [row[0] for row in wanted], atol=1e-5)
        assert found.class_id.tolist() == [row[1] for row in wanted]
        np.testing.assert_allclose(found.xyxy, np.reshape([row[2] for row in wanted], (-1, 4)), atol=1e-3)
        total += len(wanted)
    assert total > 10, "the weights must give boxes, or nothing was compared"
    assert differences(graph, description, built, images()) == 0


def test_only_the_wanted_classes_are_kept(tmp_path: Path) -> None:
    graph = tiny_graph("yolov8")
    description = describe_detector(graph)
    found = {}
    for classes in ((), ("cart",)):
        built, said = merge(graph, description, classes=classes, detect=DetectConfig(min_score=0.3))
        (tmp_path / "model.onnx").write_bytes(built.SerializeToString())
        found[classes] = load_engine(tmp_path / "model.onnx", engine="onnxruntime", device="cpu", min_score=0.3)(images(1)[0])
        assert said.classes == (classes or CLASSES)
    carts = found[()].select(found[()].class_id == CLASSES.index("cart"))
    assert len(carts) and (found[("cart",)].class_id == 0).all()
    np.testing.assert_array_equal(found[("cart",)].xyxy, carts.xyxy)
    with pytest.raises(ConfigError, match="does not know the class 'dog'"):
        merge(graph, description, classes=("dog",))


def test_the_backbones_block_ends_are_found_by_structure() -> None:
    module = TinyDetector("yolox")
    found = tiny_graph("yolox").backbone_maps((4, 8, 16))
    pinned = tiny_graph("yolox", features=("stages.0", "stages.1", "stages.2"))
    session, both = (
        onnxruntime.InferenceSession(_with_outputs(graph.model, maps), providers=["CPUExecutionProvider"])
        for graph, maps in ((tiny_graph("yolox"), found), (pinned, pinned.backbone_maps((4, 8, 16))))
    )
    feed = {"images": np.random.default_rng(0).uniform(0, 255, (1, 3, HEIGHT, WIDTH)).astype(np.float32)}
    for ours, theirs in zip(session.run(None, feed)[1:], both.run(None, feed)[1:]):
        np.testing.assert_array_equal(ours, theirs)
    assert [item.stride for item in found] == [4, 8, 16] and [item.channels for item in found] == [8, 16, 16]
    shares = [item.share for item in found]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] < 1
    with pytest.raises(ConfigError, match=r"no submodule 'stage.0'; did you mean stages.0"):
        trace_detector(module, HEIGHT, WIDTH, features=("stage.0",))


def _with_outputs(model: onnx.ModelProto, maps: tuple[FeatureMap, ...]) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=item.name) for item in maps)
    return copy.SerializeToString()


def test_multiply_adds_are_those_of_the_layers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)).flatten(2).transpose(1, 2)

    graph = trace_detector(Two(), 32, 64)
    assert graph.multiply_adds == 16 * 32 * (8 * 3 * 9 + 12 * 8)


def test_what_is_not_understood_is_said_with_the_way_to_describe_it(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, torch.ones(7, 3, 8, 8), stride=8).flatten(2).transpose(1, 2)[:, :40]

    graph = trace_detector(Odd(), HEIGHT, WIDTH)
    with pytest.raises(WeightsError, match=r"(?s)output_0 1x40x7.*--detector-description.*family: yolox"):
        describe_detector(graph)
    file = tmp_path / "odd.yaml"
    file.write_text("family: yolov5\nclasses: [a, b]\ncolours: bgr\nmean: [1, 2, 3]\n")
    told = describe_detector(graph, read_description_file(file))
    assert (told.family, told.classes, told.colours, told.mean) == ("yolov5", ("a", "b"), "bgr", (1, 2, 3))
    for text, message in (
        ("family: yolo", "family is 'yolo'"),
        ("colour: bgr", "unknown field 'colour'"),
        ("std: [1, 0, 1]", "std is"),
        ("[1]", "holds no settings"),
        ("a: [", "is not YAML"),
        ("family: yolov5\nclasses: [a]", "wide enough for 2 classes"),
        ("family: boxes", r"outputs output_0 are not of family boxes: three outputs for one image.*output_0 1x40x7"),
        ("family: detr\nclasses: [a, b]", "are not of family detr: two outputs"),
        ("family: tdtrack", "are not of family tdtrack"),
        ("family: rows", "has 7 columns; rows has 6"),
        ("family: yolox\nclasses: [a, b]\nstrides: [8, 16]", "make 120 cells, the output has 40"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            describe_detector(graph, read_description_file(file))


def test_files_that_are_no_detector_are_refused(tmp_path: Path) -> None:
    def model(nodes: list[onnx.NodeProto], sides: list[object] = [1, 3, 64, 64], inputs: int = 1) -> onnx.ModelProto:  # noqa: B006
        values = [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, sides) for index in range(inputs)]
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)
        graph = helper.make_graph(nodes, "g", values, [out])
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    same = [helper.make_node("Identity", ["x0"], ["y"])]
    file = tmp_path / "model.onnx"
    cases: list[tuple[bytes, str]] = [
        (b"", "no whole ONNX model"),
        (b"\x08\x07 not a model at all", "no whole ONNX model"),
        (model(same).SerializeToString(), "neither convolutions nor matrix products"),
        (model([helper.make_node("Gelu", ["x0"], ["y"], domain="com.microsoft")]).SerializeToString(), "not ONNX's own"),
        (model(same, [1, 3, 64]).SerializeToString(), "has 3 sides"),
        (model(same, [1, 4, 64, 64]).SerializeToString(), "4 channels"),
        (model(same, ["b", 3, "h", "w"]).SerializeToString(), "--input-size"),
        (model(same, [1, 3, 64, 100_000]).SerializeToString(), "side of 100000"),
        (model([helper.make_node("Add", ["x0", "x1"], ["y"])], inputs=2).SerializeToString(), "has the inputs x0, x1"),
    ]
    outside = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    elsewhere = model([helper.make_node("Add", ["x0", "w"], ["y"])])
    outside.data_location = TensorProto.EXTERNAL
    outside.ClearField("float_data")
    outside.external_data.add(key="location", value="../../etc/passwd")
    elsewhere.graph.initializer.append(outside)
    cases.append((elsewhere.SerializeToString(), "in another file|no whole ONNX model"))
    for content, message in cases:
        file.write_bytes(content)
        with pytest.raises((WeightsError, ConfigError), match=message):
            read_graph(file)
    whole = tiny_graph("yolox").model.SerializeToString()
    for cut in (1, len(whole) // 2, len(whole) - 7):
        file.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=r"no whole ONNX model|does not run"):
            read_graph(file)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_graph(tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match="did you mean fcos_resnet50_fpn"):
        open_detector("torchvision:fcos_resnet50")
    with pytest.raises(ConfigError, match="holds its own"):
        open_detector(str(file), weights="w.pth")
    with pytest.raises(WeightsError, match="does not exist"):
        open_detector(str(tmp_path / "run"))


def test_a_damaged_file_is_understood_or_refused(tmp_path: Path) -> None:
    whole = tiny_graph("yolox").model.SerializeToString()
    rng = np.random.default_rng(0)
    file = tmp_path / "model.onnx"
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            place = int(rng.integers(0, 4000)) if rng.random() < 0.5 else len(content) - 1 - int(rng.integers(0, 6000))
            if rng.random() < 0.3:
                del content[place : place + int(rng.integers(1, 9))]
            else:
                content[place] = int(rng.integers(0, 256))
        file.write_bytes(bytes(content))
        try:
            graph = read_graph(file)
            merge(graph, describe_detector(graph))
        except (WeightsError, ConfigError):
            refused += 1
    assert refused > 75
    named = whole.replace(b"/module/stem/Conv_output_0", b"/module/st\xff\xfe/Conv_output_0"[:26])
    assert named != whole and len(named) == len(whole)
    file.write_bytes(named)
    with pytest.raises(WeightsError, match=r"no text|no whole ONNX model"):
        read_graph(file)


def test_an_open_batch_stays_open_and_images_do_not_mix(tmp_path: Path) -> None:
    graph = tiny_graph("yolov8")
    for value in (*graph.model.graph.input, *graph.model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    (tmp_path / "open.onnx").write_bytes(graph.model.SerializeToString())
    opened = read_graph(tmp_path / "open.onnx")
    assert opened.image.batch is None
    built, _ = merge(opened, describe_detector(opened), detect=DetectConfig(min_score=0.3))
    (tmp_path / "model.onnx").write_bytes(built.SerializeToString())
    engine = load_engine(tmp_path / "model.onnx", engine="onnxruntime", device="cpu", min_score=0.3)
    together = engine.detect_fitted([engine.fit(image) for image in images()])  # type: ignore[attr-defined]
    for image, found in zip(images(), together):
        alone = engine(image)
        np.testing.assert_allclose(found.xyxy, alone.xyxy, atol=1e-4)
        np.testing.assert_allclose(found.score, alone.score, atol=1e-6)


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_torchvisions_detectors_keep_their_outputs(name: str, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    state = network.state_dict()
    biases = [key for key in state if key.endswith(("cls_logits.bias", "cls_score.bias"))]
    assert biases
    state[biases[-1]] = torch.where(torch.arange(len(state[biases[-1]])) == 1, 4.0, 0.5)  # so that something is found
    torch.save(state, tmp_path / "weights.pth")
    graph = open_detector(f"torchvision:{name}", weights=str(tmp_path / "weights.pth"), input_size=(96, 128))
    description = describe_detector(graph)
    assert description.family == "boxes" and description.classes[1] == "person"
    assert [item.stride for item in graph.backbone_maps((4, 8, 16))] == [4, 8, 16]
    built, _ = merge(graph, description, detect=DetectConfig(min_score=0.01, max_detections=1000))
    (tmp_path / "model.onnx").write_bytes(built.SerializeToString())
    picture = noise(0, 96, 128)
    assert differences(graph, description, built, picture[None]) == 0
    network.eval().load_state_dict(state)
    network.transform.resize = lambda image, target: (image, target)
    with torch.inference_mode():
        own = network([torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)])[0]
    found = load_engine(tmp_path / "model.onnx", engine="onnxruntime", device="cpu", min_score=0.01, max_detections=1000)(
        picture
    )
    area = (own["boxes"][:, 2:] - own["boxes"][:, :2]).min(dim=1).values > 0
    assert len(found) == int((area & (own["scores"] >= 0.01)).sum()) > 0
    np.testing.assert_allclose(found.score, own["scores"][area].numpy()[: len(found)], atol=1e-4)


def test_yolox_is_understood_and_left_alone(shared_data: Path) -> None:
    graph = read_graph(shared_data / "detectors" / "yolox_nano_416x416.onnx")
    description = describe_detector(graph)
    assert (description.family, description.strides, len(description.classes)) == ("yolox", (8, 16, 32), 80)
    assert [item.name for item in graph.backbone_maps((4, 8, 16))] == ["721", "781", "841"]
    assert abs(graph.multiply_adds / 1e6 - 523) < 1
    assert any("781" in line and "52x52" in line for line in graph.lines())


def test_a_model_of_ours_can_be_the_detector(tmp_path: Path) -> None:
    save_random_model(tmp_path, classes=("person", "cow"), embedding_dim=8)
    graph = open_detector(str(tmp_path))
    description = describe_detector(graph)
    assert description.family == "tdtrack" and description.classes == ("person", "cow")
    readings = choose_readings(graph, (), 0.4)
    head = AppearanceHead(readings, torch.eye(16)[:, :12]).eval()
    detect = DetectConfig(min_score=0.3, max_detections=60)
    built, said = merge(graph, description, readings=readings, head=head.arrays(), detect=detect)
    assert said.embedding_dim == 12
    (tmp_path / "taught.onnx").write_bytes(built.SerializeToString())
    export_model(tmp_path, tmp_path / "exported.onnx", detect=DetectConfig(min_score=0.3))
    taught, exported = (
        load_engine(tmp_path / name, engine="onnxruntime", device="cpu", min_score=0.3, max_detections=60)
        for name in ("taught.onnx", "exported.onnx")
    )
    for seed in range(2):
        image = noise(seed, 96, 160)
        ours, theirs = taught(image), exported(image)
        assert len(ours) == len(theirs) > 5
        np.testing.assert_allclose(ours.score, theirs.score, atol=1e-5)
        assert ours.embedding is not None and ours.embedding.shape == (len(ours), 12)
    assert differences(graph, description, built, np.stack([noise(seed, 96, 160) for seed in range(2)])) == 0
