"""A detector in a file is taught from boxes, and from its own: one model that detects, embeds and tracks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import PIL.Image
import pytest

pytest.importorskip("torch", reason="teaching a detector needs the extra tdtrack[train]")

from frozen_detectors import HEIGHT, WIDTH, tiny_graph
from media_files import moving_squares, write_video
from random_models import noise
from tdtrack.calibrate import calibrate_exported
from tdtrack.cli import main
from tdtrack.config import DetectConfig, HeadConfig
from tdtrack.data import load_dataset
from tdtrack.errors import ConfigError, DataError, WeightsError
from tdtrack.frozen.description import describe_detector
from tdtrack.frozen.merge import merge, prepare_input
from tdtrack.runtime.contract import DETECTOR_PREFIX
from tdtrack.runtime.engine import load_engine
from tdtrack.teach import DetectorRequest, TeachData, teach_detector
from tdtrack.teacher import load_teacher
from tdtrack.types import Detections, Image
from training_world import COLOUR_TEACHERS, write_images

HEAD = HeadConfig(embedding_dim=8, views=3, epochs=3, batch_size=16)
DETECT = DetectConfig(min_score=0.2)


def written(folder: Path, family: str = "yolox") -> Path:
    path = folder / "detector.onnx"
    path.write_bytes(tiny_graph(family).model.SerializeToString())
    return path


def test_a_taught_detector_is_one_more_exported_model(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 20)
    detector = written(tmp_path)
    data = [TeachData(str(tmp_path / "boxes" / "annotations.json"), str(tmp_path / "boxes" / "images"))]
    request = DetectorRequest(str(detector), str(tmp_path / "model.onnx"), "Apache-2.0")
    teacher = load_teacher(COLOUR_TEACHERS["colour"])
    taught = teach_detector(data, request, teacher, HEAD, DETECT)
    assert taught.changed == 0 and taught.compared == 18 and taught.boxes > 18
    engine = load_engine(taught.model, engine="onnxruntime", device="cpu", min_score=0.2)
    assert engine.classes == ("person",) and engine.embedding_dim == 8
    about = engine.metadata
    assert about["detector"]["licence"] == "Apache-2.0" and about["teacher"]["dim"] == 16
    assert len(about["appearance"]["cosine_statistics"]) == 4
    # The file still holds the detector as it was, bit for bit.
    graph = tiny_graph("yolox")
    image = noise(5, HEIGHT, WIDTH)
    own, same = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (detector, taught.model)
    )
    before = own.run(["output"], {"images": prepare_input(image[None], graph, describe_detector(graph))})[0]
    np.testing.assert_array_equal(same.run([f"{DETECTOR_PREFIX}output"], {"images": image[None]})[0], before)
    # A second call finds all of it done, and tracking takes the file like any other.
    content = taught.model.read_bytes()
    assert teach_detector(data, request, teacher, HEAD, DETECT).model.read_bytes() == content
    words = ["track", str(tmp_path / "boxes" / "images"), "--model", str(taught.model), "--out", str(tmp_path / "tracks")]
    assert main([*words, "--video", "false", "--max-frames", "6"]) == 0
    assert (tmp_path / "tracks").is_dir()


def test_an_exported_file_is_calibrated_on_what_it_detects(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 16)
    boxes, pictures = str(tmp_path / "boxes" / "annotations.json"), str(tmp_path / "boxes" / "images")
    request = DetectorRequest(str(written(tmp_path, "yolov8")), str(tmp_path / "model.onnx"), "MIT")
    taught = teach_detector(
        [TeachData(boxes, pictures)], request, load_teacher(COLOUR_TEACHERS["colour"]), HEAD, DetectConfig(min_score=0.05)
    )
    before = load_engine(taught.model, engine="onnxruntime", device="cpu", min_score=0.05)
    assert main(["calibrate", "--model", str(taught.model), "--data", boxes, "--images", pictures]) == 0
    after = load_engine(taught.model, engine="onnxruntime", device="cpu", min_score=0.05)
    fitted = after.metadata["appearance"]
    assert fitted != before.metadata["appearance"] and fitted["cosine_statistics"][0] > fitted["cosine_statistics"][2]
    assert {**after.metadata, "appearance": 0} == {**before.metadata, "appearance": 0}
    image = noise(3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(after(image).embedding, before(image).embedding)
    detector = tmp_path / "alone.onnx"
    built, _ = merge(tiny_graph("yolox"), describe_detector(tiny_graph("yolox")))
    detector.write_bytes(built.SerializeToString())
    with pytest.raises(WeightsError, match="gives no embeddings"):
        calibrate_exported(detector, load_dataset(boxes, pictures))


def test_without_labels_the_detectors_own_boxes_teach(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 12)
    request = DetectorRequest(
        str(written(tmp_path)),
        str(tmp_path / "model.onnx"),
        "unknown",
        classes=("cow",),
        pseudo_boxes=(str(tmp_path / "boxes" / "images"),),
    )
    head = HeadConfig(embedding_dim=8, views=2, epochs=1, batch_size=16, min_score=0.2)
    taught = teach_detector([], request, load_teacher(COLOUR_TEACHERS["colour"]), head, DETECT)
    assert taught.boxes > 5
    engine = load_engine(taught.model, engine="onnxruntime", device="cpu", min_score=0.2)
    assert engine.classes == ("cow",)
    found = json.loads((tmp_path / "model-work" / "pseudo" / "boxes.json").read_text())
    assert [entry["name"] for entry in found["categories"]] == ["cow"]
    # What was learned from is what the detector finds with that score.
    entry = found["images"][0]
    picture = Path("/") / entry["file_name"]
    from tdtrack.data.images import load_image

    wanted = engine(load_image(picture)).xyxy
    boxes = np.array([row["bbox"] for row in found["annotations"] if row["image_id"] == entry["id"]])
    np.testing.assert_allclose(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), wanted, atol=1e-3)


def test_what_cannot_be_taught_is_said(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 12)
    detector, teacher = str(written(tmp_path)), load_teacher(COLOUR_TEACHERS["colour"])
    data = [TeachData(str(tmp_path / "boxes" / "annotations.json"), str(tmp_path / "boxes" / "images"))]
    with pytest.raises(ConfigError, match="--detector-licence"):
        DetectorRequest(detector, "model.onnx", " ")
    with pytest.raises(ConfigError, match=r"name one that ends in \.onnx"):
        DetectorRequest(detector, "run", "MIT")
    request = DetectorRequest(detector, str(tmp_path / "model.onnx"), "MIT")
    with pytest.raises(DataError, match="nothing to learn from"):
        teach_detector([], request, teacher, HEAD, DETECT)
    with pytest.raises(ConfigError, match="has no feature map 'x'"):
        teach_detector(data, request, teacher, HeadConfig(features=("x",)), DETECT)
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(WeightsError, match="no whole ONNX model"):
        teach_detector(data, DetectorRequest(str(tmp_path / "bad.onnx"), "m.onnx", "MIT"), teacher, HEAD, DETECT)
    boxes = json.loads((tmp_path / "boxes" / "annotations.json").read_text())
    boxes["categories"][0]["name"] = "parcel"
    (tmp_path / "boxes" / "annotations.json").write_text(json.dumps(boxes))
    with pytest.raises(ConfigError, match=r"the classes parcel.*--classes"):
        teach_detector(data, request, teacher, HEAD, DETECT)


def test_doctor_lists_a_detectors_feature_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(written(tmp_path))]) == 0
    said = capsys.readouterr().out
    assert "64x96" in said and "multiply-adds" in said and "yolox" in said
    assert sum(line.startswith("*") for line in said.splitlines()) >= 3


def test_doctor_takes_the_size_that_a_detector_leaves_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(written(tmp_path))
    for side, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "hw"):
        side.dim_param = name
    onnx.save(model, tmp_path / "open.ONNX")
    assert main(["doctor", str(tmp_path / "open.ONNX")]) == 2
    assert "say it with --input-size HEIGHT,WIDTH" in " ".join(capsys.readouterr().err.split())
    assert main(["doctor", str(tmp_path / "open.ONNX"), "--input-size", "64,96"]) == 0
    assert "64x96" in capsys.readouterr().out


def test_a_folder_of_photos_and_videos_gives_the_boxes_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tdtrack.frozen.pseudo import write_pseudo_boxes

    class Everywhere:
        classes = ("thing",)

        def __call__(self, frame: Image) -> Detections:
            return Detections([[2, 2, 20, 30]], [0.9], [0])

    (tmp_path / "phone").mkdir()
    write_video(tmp_path / "phone" / "clip.mp4", moving_squares(6))
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (64, 48)).save(tmp_path / "phone" / name)
    (tmp_path / "phone" / "c.png").write_bytes(b"damaged")
    made = write_pseudo_boxes([str(tmp_path / "phone")], Everywhere(), tmp_path / "out", every=5, made_by="x")
    assert [image.path.name for image in made.images] == ["00000000.jpg", "00000005.jpg", "a.png", "b.png"]
    assert "c.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.json", "b.json"], "2 data sets were given"),
        (["a.json", "--pseudo-boxes"], "and --pseudo-boxes"),
        (["a.json", "--classes", "person"], "--classes is for teaching a detector; name that with --detector"),
        (["a.json", "--head.embedding_dim", "64"], "--head is for teaching a detector"),
        (["a.json", "--detector", "d.onnx"], "--detector-licence"),
        (["a.json", "--detector", "d.onnx", "--head.seed", "-1"], "head.seed is -1"),
        (["a.json", "--detector", "d.onnx", "--detector-licence", "MIT", "--input-size", "416"], "is not HEIGHT,WIDTH"),
        (["a.json", "--detector", "d.onnx", "--detector-licence", "MIT"], "ends in .onnx"),
    ],
)
def test_words_that_do_not_go_together_are_said(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["teach", *words, "--teacher", "osnet_x0_25", "--out", str(tmp_path / "out")]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())
