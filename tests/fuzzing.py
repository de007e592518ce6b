"""Every reader with a small good file, and how it is spoiled: for the fuzzing run and the tests beside it."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zipfile
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layouts import LAYOUTS, Box
from spoiling import spoil_bytes, spoil_json, spoil_onnx, spoil_parquet, spoil_safetensors, spoil_zip
from tdtrack.errors import TdtrackError

PEOPLE = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)], [], [Box(1, 2, 30, 20)]]
IMAGE_SUFFIXES = (".jpg", ".png")


@dataclass(frozen=True)
class Target:
    """A reader: ``read(path)`` of what ``write(folder)`` made, whose files of those endings are spoiled."""

    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    spoil: Callable[[bytes, random.Random], bytes] = spoil_bytes
    suffixes: tuple[str, ...] = ()

    def files(self, folder: Path) -> list[Path]:
        """Return the files that may be spoiled."""
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        wanted = [path for path in found if path.name.endswith(self.suffixes)] if self.suffixes else []
        return wanted or [path for path in found if path.suffix not in IMAGE_SUFFIXES]


def attempt(target: Target, path: Path, files: Sequence[Path], rng: random.Random) -> str:
    """Spoil one file, read, and put the file back.

    Returns:
        "read" or "refused", the latter in tdtrack's own words; anything else is raised.
    """
    file = files[rng.randrange(len(files))]
    original = file.read_bytes()
    file.write_bytes(target.spoil(original, rng))
    try:
        target.read(path)
    except (TdtrackError, ArgumentError) as error:  # the command line prints both in one line
        assert str(error).strip(), "an error without words"
        return "refused"
    finally:
        file.write_bytes(original)
    return "read"


def _layout(name: str) -> Target:
    def read(path: Path) -> None:
        from tdtrack.data import load_dataset
        from tdtrack.data.load import inspect_dataset

        layout: Any = name.removesuffix("-video")
        with contextlib.suppress(TdtrackError):
            inspect_dataset(path, format=layout)
        load_dataset(path, skip_bad=True)

    spoil = spoil_json if name in ("coco", "crowdhuman") else spoil_bytes
    return Target(lambda folder: LAYOUTS[name].write(folder / "data", PEOPLE, 1), read, spoil)


def _write_npz(folder: Path) -> Path:
    from tdtrack.data.replay import write_detections_npz
    from tdtrack.types import Detections

    rng = np.random.default_rng(0)
    records = [Detections([[1, 2, 30, 40]] * n, [0.5] * n, [0] * n, rng.normal(size=(n, 4))) for n in (2, 0, 1)]
    write_detections_npz(folder / "detections.npz", records)
    return folder / "detections.npz"


def _write_text(name: str, content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def _read_saved(path: Path) -> None:
    from tdtrack.data.saved import read_detections

    read_detections(path)


def _write_seqinfo(folder: Path) -> Path:
    return LAYOUTS["mot"].write(folder / "data", PEOPLE, 1) / "seq"


def _read_seqinfo(path: Path) -> None:
    from tdtrack.data.mot import read_sequence

    read_sequence(path)


def _write_gallery(folder: Path) -> Path:
    from tdtrack.association.gallery import Gallery

    Gallery({"Ann": [[1, 0, 0], [0, 1, 0]], "Bob": [0, 0, 1]}, space="here").save(folder / "looks.npz")
    return folder / "looks.npz"


def _read_gallery(path: Path) -> None:
    from tdtrack.association.gallery import Gallery

    Gallery.load(path)


def _write_store(folder: Path) -> Path:
    from tdtrack.data.store_writer import StoreWriter

    names = {"teacher_name": "t", "teacher_fingerprint": "0" * 64, "data_fingerprint": "1" * 64}
    writer = StoreWriter(folder / "store.parquet", dim=4, num_boxes=5, rows_per_part=3, **names)
    for part in range(writer.num_parts):
        rows = writer.part_rows(part)
        writer.write_part(part, np.array(rows) + 1, np.eye(4, dtype=np.float32)[np.array(rows) % 4])
    return writer.finish()


def _read_store(path: Path) -> None:
    from tdtrack.data.store import EmbeddingStore

    EmbeddingStore.open(path).lookup(np.array([1, 3, 5]))


def _write_model(folder: Path) -> Path:
    from random_models import random_model
    from tdtrack.model import save_model

    save_model(folder / "model.safetensors", random_model(embedding_dim=4), {"classes": ["person"], "appearance": {}})
    return folder / "model.safetensors"


def _read_model(path: Path) -> None:
    from tdtrack.model import load_model

    load_model(path)


def _write_onnx(folder: Path) -> Path:
    """A graph that fits the contract and finds nothing: constants, sized by the batch of the input."""
    import onnx
    from onnx import TensorProto, helper

    from tdtrack.runtime import contract
    from tdtrack.runtime.contract import ModelDescription

    rows, dim = 3, 4
    shapes = {contract.BOXES: [1, rows, 4], contract.SCORES: [1, rows], contract.CLASSES: [1, rows]}
    shapes |= {contract.EMBEDDINGS: [1, rows, dim], contract.COUNT: [1]}
    whole = (contract.CLASSES, contract.COUNT)
    kinds = {name: TensorProto.INT64 if name in whole else TensorProto.FLOAT for name in shapes}
    nodes, outputs = [], []
    for name, shape in shapes.items():
        kind = np.int64 if kinds[name] == TensorProto.INT64 else np.float32
        value = onnx.numpy_helper.from_array(np.zeros(shape, kind), f"{name}_value")
        nodes.append(helper.make_node("Constant", [], [name], value=value))
        outputs.append(helper.make_tensor_value_info(name, kinds[name], shape))
    images = helper.make_tensor_value_info(contract.IMAGES, TensorProto.UINT8, [1, 32, 48, 3])
    graph = helper.make_graph(nodes, "nothing", [images], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    description = ModelDescription(("person",), 32, 48, dim, 0.1, 0.5, rows, metadata={"appearance": {"max_cost": 0.3}})
    helper.set_model_props(model, {contract.METADATA_KEY: description.to_json()})
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


def _read_onnx(path: Path) -> None:
    from tdtrack.runtime.engine import load_engine

    load_engine(path, engine="onnxruntime", device="cpu")


def _write_teacher(folder: Path) -> Path:
    import torch

    torch.save({"state_dict": {"module.a": torch.zeros(2, 3), "classifier.weight": torch.ones(4, 2)}}, folder / "teacher.pth")
    return folder / "teacher.pth"


def _read_teacher(path: Path) -> None:
    from tdtrack.teacher.weights import read_checkpoint

    read_checkpoint(path)


def _write_checkpoint(folder: Path) -> Path:
    import torch

    content = {"format": 1, "settings": {"a": 1}, "data": ["x"], "precision": {}, "run": {"step": 3, "w": torch.zeros(3)}}
    torch.save(content, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def _read_checkpoint(path: Path) -> None:
    from tdtrack.training.state import load_checkpoint

    load_checkpoint(path, {"a": 1}, ["x"])


RECIPE = """\
train: [{annotations: data/train.json, images: data/images, store: data/store.parquet}]
validation: [{annotations: data/val.json, images: data/images}]
out: runs/x
input_height: 320
model: {backbone: mobilenetv4_conv_small, classes: [person, dog], anchor_aspect_ratios: [0.5, 1.0, 2.0], embedding_dim: 64}
optimizer: {learning_rate: 0.1, steps: 300, warmup_steps: 20, batch_size: 8}
augment: {brightness: 0.2}
"""


def _read_recipe(path: Path) -> None:
    from tdtrack.cli import VERBS
    from tdtrack.cli.parsing import parse
    from tdtrack.config import TrainConfig

    TrainConfig(**parse("train", VERBS["train"], ["--config", str(path)]))


def _write_zip(folder: Path) -> Path:
    from tdtrack.benchmarks import BENCHMARKS

    path = folder / "MOT20-test.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in BENCHMARKS["MOT20"].test:
            archive.writestr(f"{name}.txt", "1,1,10,10,20,40,0.9,-1,-1,-1\n2,1,11,10,20,40,0.9,-1,-1,-1\n")
    return path


def _read_zip(path: Path) -> None:
    from tdtrack.evaluation.submission import check_submission

    check_submission(path, "MOT20")


def _write_image(folder: Path) -> Path:
    import PIL.Image

    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))
    for suffix in ("jpg", "png", "bmp", "webp", "tif", "ppm"):
        image.save(folder / f"image.{suffix}")
    return folder


def _read_image(folder: Path) -> None:
    from tdtrack.data.images import load_image

    for path in sorted(folder.iterdir()):
        load_image(path)


def _write_video(folder: Path) -> Path:
    from media_files import moving_squares, write_video

    return write_video(folder / "video.mp4", moving_squares(6, 32, 48))


def _read_video(path: Path) -> None:
    from tdtrack.runtime.sources import open_source

    source = open_source(path)
    for _ in source:
        pass
    source.close()


def _write_seq(folder: Path) -> Path:
    from layouts import picture

    frames = b"".join(struct.pack("<I", len(picture()) + 4) + picture() + bytes(8) for _ in range(2))
    size = (100, 80, 24, 8, 0, 102, 2, 0, 0)
    head = struct.pack("<I24s2i512s9id432x", 0xFEED, b"Norpix seq", 3, 1024, b"", *size, 30.0)
    (folder / "V000.seq").write_bytes(head + frames)
    return folder / "V000.seq"


def _read_seq(path: Path) -> None:
    from tdtrack.data.seq import read_seq

    for _ in read_seq(path):
        pass


def _read_identities(path: Path) -> None:
    from tdtrack.data.identities import read_identities

    read_identities(path)


def _read_mot_results(path: Path) -> None:
    from tdtrack.evaluation.rows import parse_rows

    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    parse_rows(str(path), text)


MOT_ROWS = "1,1,10.5,10,20,40,0.9,-1,-1,-1\n1,2,50,10,20,40,0.8,-1,-1,-1\n3,1,12,10,20,40,0.9,-1,-1,-1\n"
RESULTS = json.dumps([{"image_id": frame, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9} for frame in (1, 1, 3)])
IDENTITIES = json.dumps({"annotation_id": [1, 2, 3], "identity": [0, 1, 0]})

TARGETS = {
    **{name: _layout(name) for name in LAYOUTS},
    "seqinfo": Target(_write_seqinfo, _read_seqinfo, suffixes=("seqinfo.ini",)),
    "mot-detections": Target(_write_text("det.txt", MOT_ROWS), _read_saved),
    "mot-results": Target(_write_text("result.txt", MOT_ROWS), _read_mot_results),
    "coco-results": Target(_write_text("results.json", RESULTS), _read_saved, spoil_json),
    "npz-detections": Target(_write_npz, _read_saved, spoil_zip),
    "npz-gallery": Target(_write_gallery, _read_gallery, spoil_zip),
    "identities": Target(_write_text("identities.json", IDENTITIES), _read_identities, spoil_json),
    "store": Target(_write_store, _read_store, spoil_parquet),
    "model-safetensors": Target(_write_model, _read_model, spoil_safetensors),
    "model-onnx": Target(_write_onnx, _read_onnx, spoil_onnx),
    "teacher-pth": Target(_write_teacher, _read_teacher, spoil_zip),
    "checkpoint-pt": Target(_write_checkpoint, _read_checkpoint, spoil_zip),
    "recipe": Target(_write_text("recipe.yaml", RECIPE), _read_recipe),
    "submission-zip": Target(_write_zip, _read_zip, spoil_zip),
    "image": Target(_write_image, _read_image, suffixes=(".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm")),
    "video": Target(_write_video, _read_video),
    "caltech-seq": Target(_write_seq, _read_seq),
}
"""Every reader by name."""
