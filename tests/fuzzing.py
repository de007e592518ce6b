"""Every reader with a small good file, and ways to spoil it: for the fuzzing run and the tests beside it."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import struct
import zipfile
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layouts import LAYOUTS, Box
from tdtrack.errors import TdtrackError

PEOPLE = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)], [], [Box(1, 2, 30, 20)]]
IMAGE_SUFFIXES = (".jpg", ".png")

JUNK = (
    b"\0", b"\xff", b"9" * 30, b"nan", b"-1", b"1e999", b"-1e308", b",", b"\n", b"[[", b"{}", b"null", b"../", b"\r", b"\x1a",
    b"\xed\xa0\x80", b"'", b'"', b":", b"&a *a", b"!!python/object:os.system", b"\xff\xfe", b" ", b"\t", b"0x10", b"1_0",
    "\u0663\u2028".encode(), b"\x7fELF", b"PK\x03\x04", b"[" * 3000,
)  # fmt: skip
NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"0.5", b"1e-320", b"1e308", b"1e999", b"-1e999", b"nan", b"2147483648", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775809", b"1" + b"0" * 400, b"10000000", b"2000000000", b"true",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.5, 1e308, float("nan"), float("inf"), 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400,
    "", "a", "..", "../../x", "/etc/passwd", "\0", "\ud800", "nan", "9" * 30, [], [[]], {}, {"": {}}, [None], [1, 2, 3, 4],
    [1e308] * 4, ["a"] * 5, {"a": [1]}, 10_000_000, 2_000_000_000,
)  # fmt: skip


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, insert, drop, repeat or cut bytes, or replace a number; one to four times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 40))
        how = rng.randrange(9)
        if how == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        elif how == 1:
            junk = rng.choice(JUNK)
            content = content[:at] + junk + content[at + len(junk) :]
        elif how == 2:
            content = content[:at] + rng.choice(JUNK) + content[at:]
        elif how == 3:
            content = content[:at] + content[at + length :]
        elif how == 4:
            content = content[:at] + content[at : at + length] * rng.choice((2, 3, 50)) + content[at + length :]
        elif how == 5:
            content = content[:at]
        elif how == 6:
            whole = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
            raw = struct.pack(rng.choice("<>") + "I", whole)
            content = content[:at] + raw + content[at + 4 :]
        else:
            found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:20_000]))
            if found:
                number = rng.choice(found)
                content = content[: number.start()] + rng.choice(NUMBERS) + content[number.end() :]
    return content


def spoil_tree(value: Any, rng: random.Random) -> Any:
    """Replace, drop or repeat something inside plain JSON."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        kept = dict(value)
        how = rng.random()
        if how < 0.1:
            del kept[key]
        elif how < 0.15:
            kept[rng.choice(("", "a", "\0", "license", "__class__"))] = kept.pop(key)
        else:
            kept[key] = spoil_tree(value[key], rng)
        return kept
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        how = rng.random()
        if how < 0.1:
            return value[:at] + value[at + 1 :]
        if how < 0.2:
            return [*value, value[at]]
        return [*value[:at], spoil_tree(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def spoil_json(content: bytes, rng: random.Random) -> bytes:
    """Spoil the tree of a JSON document, or of one line of a file that has one document a line; now and then its bytes."""
    if rng.random() < 0.4:
        return spoil_bytes(content, rng)
    lines = content.split(b"\n") if content.count(b"\n") > 1 and content.startswith(b"{") else [content]
    at = rng.randrange(len(lines))
    try:
        tree = json.loads(lines[at])
    except ValueError:
        return spoil_bytes(content, rng)
    for _ in range(rng.choice((1, 1, 2))):
        tree = spoil_tree(tree, rng)
    lines[at] = json.dumps(tree).encode()
    return b"\n".join(lines)


def spoil_zip(content: bytes, rng: random.Random) -> bytes:
    """Spoil a member and pack it again with a right checksum, give it another name, or spoil the archive itself."""
    if rng.random() < 0.3:
        return spoil_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(members))
    name, inner = members[at]
    how = rng.random()
    if how < 0.1:
        members[at] = (rng.choice(("../out.npy", "/x", "a" * 300, "frame.npy", "b/c.txt", "\u202e")), inner)
    elif how < 0.2:
        members.append(members[at])
    elif how < 0.6 and b"'shape'" in inner:
        shape = rng.choice(
            ("(-1,)", "(2000000000,)", "(1000000, 1000000, 4)", "()", "(0,)", "(3, 4)", "(3,)", "(2,)", "(1e9,)")
        )
        kind = rng.choice(("|O", "<f8", "<f4", "<i8", "<U9", "|V4", "<c16", "<f2", "|S3", "<M8[s]", "<u8", "|b1"))
        head = f"{{'descr': '{kind}', 'fortran_order': {rng.choice(('False', 'True'))}, 'shape': {shape}, }}".encode()
        body = inner[10 + int.from_bytes(inner[8:10], "little") :]
        members[at] = (name, inner[:8] + struct.pack("<H", len(head) + 1) + head + b"\n" + body)
    else:
        members[at] = (name, spoil_bytes(inner, rng))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, inner in members:
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(name, inner)
    return packed.getvalue()


def spoil_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Spoil the JSON in front of the weights, or tdtrack's own JSON inside that, or bytes."""
    length = int.from_bytes(content[:8], "little")
    head, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    how = rng.random()
    if how < 0.2:
        return spoil_bytes(content, rng)
    if how < 0.4:
        head = spoil_tree(head, rng)
    else:
        own = json.loads(head["__metadata__"]["tdtrack"])
        for _ in range(rng.choice((1, 1, 2))):
            own = spoil_tree(own, rng)
        head["__metadata__"]["tdtrack"] = json.dumps(own)
    packed = json.dumps(head).encode()
    return struct.pack("<Q", len(packed)) + packed + body


def spoil_parquet(content: bytes, rng: random.Random) -> bytes:
    """Spoil what the store says of itself, its columns, or bytes."""
    import pyarrow
    import pyarrow.parquet

    if rng.random() < 0.5:
        return spoil_bytes(content, rng)
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    metadata = dict(table.schema.metadata)
    how = rng.random()
    if how < 0.6:
        key = b"tdtrack.embedding_store"
        metadata[key] = json.dumps(spoil_tree(json.loads(metadata[key]), rng)).encode()
    elif how < 0.8:
        name = rng.choice(table.column_names)
        others = (pyarrow.int64(), pyarrow.float32(), pyarrow.string(), pyarrow.list_(pyarrow.float32()), pyarrow.null())
        column = pyarrow.array([None] * len(table), rng.choice(others))
        table = table.drop_columns([name]).append_column(rng.choice((name, "other")), column)
    else:
        rows = [rng.randrange(len(table)) for _ in range(rng.choice((0, 1, 3, 10)))]
        table = table.take(pyarrow.array(rows, pyarrow.int64()))
    packed = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), packed)
    return packed.getvalue()


def spoil_onnx(content: bytes, rng: random.Random) -> bytes:
    """Spoil the description in the metadata, or bytes of the graph."""
    import onnx

    if rng.random() < 0.4:
        return spoil_bytes(content, rng)
    model = onnx.load_from_string(content)
    own = spoil_tree(json.loads(model.metadata_props[0].value), rng)
    model.metadata_props[0].value = json.dumps(own)
    packed: bytes = model.SerializeToString()
    return packed


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
