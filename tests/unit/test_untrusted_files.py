"""Files that claim too much, or are not what they say, are refused before the memory goes. Most are finds of fuzzing."""

from __future__ import annotations

import json
import random
import resource
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch

import fuzzing
from layouts import LAYOUTS, Box, picture
from media_files import moving_squares, write_video
from tdtrack import files
from tdtrack.association.gallery import Gallery
from tdtrack.cli import VERBS
from tdtrack.cli.parsing import parse
from tdtrack.data import dataset, load_dataset
from tdtrack.data.images import load_image, probe_images
from tdtrack.data.replay import read_detections_npz
from tdtrack.data.saved import read_detections
from tdtrack.data.store import EmbeddingStore
from tdtrack.errors import ConfigError, DataError, MediaError, StoreError, WeightsError
from tdtrack.model import load_model
from tdtrack.model.checkpoint import read_pickled
from tdtrack.runtime import streams
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.sources import open_source

GIGABYTE = 1 << 30


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A gigabyte beyond what the process has: what would take more fails as it would on a small machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_an_image_of_two_billion_pixels(tmp_path: Path) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 40_000, 8, 2, 0, 0, 0))
    path = tmp_path / "1.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"1\.png: cannot read the image: .*2000000000 pixels"):
        load_image(path)
    (fault,) = probe_images([path], [None])
    assert "2000000000 pixels" in fault.message  # type: ignore[union-attr]
    with pytest.raises(MediaError, match=r"1\.png: cannot read the image"):
        open_source(tmp_path)


def test_a_video_of_two_billion_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_squares(3))
    assert len(list(open_source(path))) == 3
    content = bytearray(path.read_bytes())
    at = content.index(b"avc1") + 28  # width and height of the sample entry
    content[at : at + 4] = struct.pack(">HH", 50_000, 40_000)
    (tmp_path / "claims.mp4").write_bytes(content)
    monkeypatch.setattr(streams, "MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="pictures of 160x96, more than 1000 pixels"):
        open_source(path)
    monkeypatch.undo()
    try:  # whichever size FFmpeg believes, the header's or the stream's own
        assert {frame.image.shape for frame in open_source(tmp_path / "claims.mp4")} == {(96, 160, 3)}
    except MediaError as error:
        assert "more than" in str(error)


def test_more_boxes_than_an_image_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_BOXES", 50)
    (tmp_path / "1.jpg").write_bytes(picture())
    boxes = [{"id": index, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]} for index in range(51)]
    content: dict[str, Any] = {"images": [{"id": 1, "file_name": "1.jpg"}], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "a.json").write_text(json.dumps(content | {"annotations": boxes[:-1]}))
    assert len(load_dataset(tmp_path / "a.json").annotation_id) == 50
    (tmp_path / "a.json").write_text(json.dumps(content | {"annotations": boxes}))
    with pytest.raises(DataError, match="image 1 has more than 50 boxes"):
        load_dataset(tmp_path / "a.json")


def test_millions_of_boxes_in_one_image_are_refused_before_the_memory_goes(tmp_path: Path) -> None:
    most = dataset.MAX_BOXES
    record = b'{"id":1,"image_id":1,"category_id":1,"bbox":[1,1,9,9]}'
    coco = b'{"images":[],"categories":[],"annotations":[' + b",".join([record] * 5_000_000) + b"]}"  # 2.5 GB of dictionaries
    (tmp_path / "a.json").write_bytes(coco)
    with pytest.raises(DataError, match=f"image 1 has more than {most} boxes"):
        load_dataset(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(coco[coco.index(b"[{") :][:-1])
    with pytest.raises(DataError, match=f"image 1 has more than {most} boxes"):
        read_detections(tmp_path / "b.json")
    (tmp_path / "a.odgt").write_bytes(b'{"ID":"1","gtboxes":[' + b'{"tag":"person","fbox":[1,1,9,9]},' * 1_600_000 + b"{}]}")
    with pytest.raises(DataError, match="characters about one image, which may have"):
        load_dataset(tmp_path / "a.odgt")
    (tmp_path / "det.txt").write_bytes(b"1,-1,1,1,9,9,0.5\n" * 2_000_000)
    with pytest.raises(DataError, match=f"frame 1 has 2000000 boxes; one image may have {most}"):
        read_detections(tmp_path / "det.txt")
    yolo = LAYOUTS["yolo"].write(tmp_path / "yolo", [[Box(5, 6, 20, 40)]], 1)
    label = next(path for path in (tmp_path / "yolo").rglob("*.txt") if path.read_bytes()[:2] == b"0 ")
    label.write_bytes(b"0 0.5 0.5 0.1 0.1\n" * 5_000_000)
    with pytest.raises(DataError, match="characters about one image, which may have"):
        load_dataset(yolo)


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def array(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + body


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (array("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"), "bytes, but holds 0"),
        (array("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", bytes(16)), "not a NumPy archive"),
        (array("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", bytes(16)), "not a NumPy archive"),
        (array("{'descr': '<f8', 'fortran_order': False, 'shape': (2", bytes(16)), "not a NumPy archive"),
        (array("{'descr': '<f8\"', ]", bytes(16)), "not a NumPy archive"),
        (array("{'descr': ',', 'fortran_order': False, 'shape': (2,), }", bytes(16)), "not a NumPy archive"),
        (b"\x93NUMPY\x09\x00", "not a NumPy archive"),
        (b"words", "not a NumPy archive"),
    ],
)
def test_arrays_that_claim_more_than_there_is(tmp_path: Path, member: bytes, words: str) -> None:
    path = archive(tmp_path / "a.npz", frame=member)
    with pytest.raises(DataError, match=words):
        read_detections_npz(path)
    with pytest.raises(DataError, match="is not a gallery"):
        Gallery.load(path)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    monkeypatch.setattr(files, "_SMALL", 1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("frame.npy", "w", force_zip64=True) as member:
        member.write(array("{'descr': '|u1', 'fortran_order': False, 'shape': (4194304,), }"))
        member.write(bytes(1 << 22))
    with pytest.raises(DataError, match=r"unpacks from \d+ to \d+ bytes"):
        read_detections_npz(path)


@pytest.mark.parametrize("frame", [2_000_000_000, 10**400, 1e308])
def test_detections_of_a_video_that_never_ends(tmp_path: Path, frame: float) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"image_id": frame, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    with pytest.raises(DataError, match=r"a\.json: result 0"):
        read_detections(tmp_path / "a.json")
    (tmp_path / "a.txt").write_text(f"{min(frame, 2e9):.0f},-1,1,2,3,4,0.5\n")
    with pytest.raises(DataError, match="a video may have 10000000"):
        read_detections(tmp_path / "a.txt")


@pytest.mark.parametrize("change", [{"dim": 10**30}, {"dim": None}, {"dim": 7}, {"licence": 5}, {"provenance": "x"}])
def test_a_store_whose_words_do_not_fit_its_columns(tmp_path: Path, change: dict[str, Any]) -> None:
    import pyarrow.parquet

    path = fuzzing.TARGETS["store"].write(tmp_path)
    table = pyarrow.parquet.read_table(path)
    key = b"tdtrack.embedding_store"
    said = json.loads(table.schema.metadata[key]) | change
    pyarrow.parquet.write_table(table.replace_schema_metadata({key: json.dumps(said)}), path)
    with pytest.raises(StoreError, match="annotate again"):
        EmbeddingStore.open(path)


def test_a_store_without_its_columns(tmp_path: Path) -> None:
    import pyarrow.parquet

    path = fuzzing.TARGETS["store"].write(tmp_path)
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).drop_columns(["embedding"]), path)
    with pytest.raises(StoreError, match="columns are annotation_id int64, not the embeddings"):
        EmbeddingStore.open(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fpn_width": 10**9}, r"it must lie in 1\.\.16384"),
        ({"subnet_depth": 10**9}, r"it must lie in 0\.\.64"),
        ({"embedding_dim": 10**9}, r"it must lie in 1\.\.65536"),
        ({"embedding_dim": 60_000}, "the model expects"),
        ({"subnet_width": "wide"}, "cannot build"),
        ({"classes": [1, 2]}, "not of type str"),
        ({"backbone": None}, "not of type str"),
    ],
)
def test_a_model_whose_header_claims_another(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = fuzzing.TARGETS["model-safetensors"].write(tmp_path)
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["tdtrack"])
    header["model"] |= change
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {"tdtrack": json.dumps(header)})
    with pytest.raises(WeightsError, match=words):
        load_model(path)


@pytest.mark.parametrize("header", [{"format": 1}, {"format": 1, "model": [], "metadata": {}}, {"format": 1, "model": {}}])
def test_a_model_without_its_header(tmp_path: Path, header: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"tdtrack": json.dumps(header)})
    with pytest.raises(WeightsError, match="damaged 'tdtrack' header"):
        load_model(path)


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"format": 1, "x": Payload()}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="damaged, or more than tensors and plain values") as caught:
        read_pickled(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(caught.value)  # the advice to switch the guard off is not passed on


def test_numbers_of_a_description_that_no_machine_has(tmp_path: Path) -> None:
    path = fuzzing.TARGETS["model-onnx"].write(tmp_path)
    model = onnx.load(str(path))
    said = json.loads(model.metadata_props[0].value)
    for change in ({"min_score": 10**400}, {"metadata": {"appearance": {"a": 10**400}}}, {"max_detections": 10**9}):
        model.metadata_props[0].value = json.dumps(said | change)
        onnx.save(model, str(path))
        with pytest.raises(WeightsError, match="its description gives"):
            load_engine(path, engine="onnxruntime")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("place", ["../secret", "{folder}/secret"])
def test_weights_outside_the_models_folder(tmp_path: Path, engine: str, place: str) -> None:
    pytest.importorskip(engine)
    (tmp_path / "secret").write_bytes(bytes(24))
    (tmp_path / "in").mkdir()
    model = onnx.load(str(fuzzing.TARGETS["model-onnx"].write(tmp_path / "in")))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2, 3], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", place.format(folder=tmp_path)), ("offset", "0"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    model.graph.node.append(onnx.helper.make_node("Identity", ["w"], ["seen"]))
    (tmp_path / "in" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_engine(tmp_path / "in" / "model.onnx", engine=engine)


@pytest.mark.parametrize(
    "content",
    [b"out: \xff\xfe", b"optimizer: {learning_rate: 1" + b"0" * 400 + b"}", fuzzing.RECIPE.replace("320", "").encode()],
)
def test_a_recipe_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"recipe|setting 'input_height' is empty"):
        parse("train", VERBS["train"], ["--config", str(tmp_path / "recipe.yaml")])


@pytest.mark.parametrize(
    "name", ["npz-detections", "npz-gallery", "store", "coco-results", "model-onnx", "checkpoint-pt", "recipe"]
)
def test_a_few_of_the_fuzzing_runs_inputs(tmp_path: Path, name: str) -> None:
    """The whole run is ``benchmarks/fuzz_readers.py``."""
    target = fuzzing.TARGETS[name]
    path = target.write(tmp_path)
    outcomes = {fuzzing.attempt(target, path, target.files(tmp_path), random.Random(f"{name}-{index}")) for index in range(25)}
    assert "refused" in outcomes
