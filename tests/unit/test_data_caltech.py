"""Caltech: its annotations of videos, and frames inside .seq files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from layouts import (
    HEIGHT,
    WIDTH,
    matlab_cell,
    matlab_structs,
    picture,
    put,
    write_caltech,
)
from reported import PEOPLE, only
from tdtrack.data import load_dataset
from tdtrack.data.seq import read_seq, unpack_caltech
from tdtrack.errors import DataError


def vbb(path: Path, objects: list[dict[str, object]], labels: list[str]) -> None:
    content = {"nFrame": 1, "objLists": matlab_cell([matlab_structs(objects)], (1, 1))}
    content |= {"objLbl": matlab_cell(labels, (1, len(labels)))}
    scipy.io.savemat(path, {"A": content, "vers": 1.4}, appendmat=False)


def person(identity: object, occluded: int = 0, **other: object) -> dict[str, object]:
    whole = {"id": identity, "pos": np.array([[5, 6, 20, 40]]), "occl": occluded, "lock": 0, "posv": np.array([[5, 6, 20, 10]])}
    return whole | other


def test_caltech_labels_and_visible_boxes(tmp_path: Path) -> None:
    write_caltech(tmp_path, PEOPLE[:1], 1)
    labels = ["person", "people", "person?", "person-fa"]
    objects = [person(1), person(2), person(3), person(4), person(1, 1), person(1, 1, posv=np.zeros((1, 4)))]
    vbb(tmp_path / "annotations" / "set00" / "V000.vbb", objects, labels)
    image = load_dataset(tmp_path, box="visible").images[0]
    assert image.ignore.tolist() == [False, True, True, True, False, False]
    assert (image.xyxy[:, 3] - image.xyxy[:, 1]).tolist() == [40, 40, 40, 40, 10, 40]  # only a hidden part is cut away


@pytest.mark.parametrize(
    ("record", "pattern"),
    [
        (person(9), "frame 0: box 2: its id has no label"),
        (person(np.array([[1, 1]])), "its id has no label"),
        (person("a"), "its id has no label"),
        (person(1, pos=np.array([[1, 2, 3]])), "frame 0: box 2: pos is not four numbers"),
    ],
)
def test_a_bad_object_of_caltech(record: dict[str, object], pattern: str, tmp_path: Path) -> None:
    write_caltech(tmp_path, PEOPLE[:1], 1)
    vbb(tmp_path / "annotations" / "set00" / "V000.vbb", [person(1), record], ["person"])
    only(tmp_path, pattern, 1)


def test_caltech_frames_by_both_conventions_and_by_set(tmp_path: Path) -> None:
    write_caltech(tmp_path, PEOPLE, 1)
    folder = tmp_path / "images" / "set00" / "V000"
    (folder / "I00001.jpg").rename(tmp_path / "images" / "set00_V000_1.jpg")
    put(folder / "I00007.jpg", picture())
    only(tmp_path, r"frame-beyond-end: .*I00007\.jpg: frame 7 lies beyond the 2 frames of .*V000\.vbb", 3)
    (folder / "I00007.jpg").unlink()
    (folder / "I00000.jpg").rename(tmp_path / "images" / "set00_V000_I00000.jpg")
    assert load_dataset(tmp_path).num_boxes == 3
    with pytest.raises(DataError, match=r"no frames of test in .*images; .* with tdtrack unpack-caltech"):
        load_dataset(tmp_path, split="test")


def test_a_damaged_video_annotation_costs_its_video_only(tmp_path: Path) -> None:
    write_caltech(tmp_path, PEOPLE, 1)
    put(tmp_path / "annotations" / "set00" / "V001.vbb", b"MATLAB?")
    put(tmp_path / "images" / "set00" / "V001" / "I00000.jpg", picture())
    only(tmp_path, r"labels-unreadable: .*V001\.vbb: damaged, or not a MATLAB file", 3)


def seq_file(frames: list[bytes], image_format: int = 102, gap: int = 8, count: int | None = None) -> bytes:
    name = "Norpix seq".encode("utf-16-le").ljust(24, b"\0")
    sizes = (WIDTH, HEIGHT, 24, 8, WIDTH * HEIGHT * 3, image_format, len(frames) if count is None else count, 0, 0)
    head = struct.pack("<I24s2i512s9id432x", 0xFEED, name, 3, 1024, b"", *sizes, 30.0)
    return head + b"".join(struct.pack("<I", len(frame) + 4) + frame + bytes(range(1, gap + 1)) for frame in frames)


@pytest.mark.parametrize("gap", [8, 16])
def test_frames_come_out_of_a_seq_video_as_they_are(gap: int, tmp_path: Path) -> None:
    frames = [picture(), picture() + b"\0", picture()]
    put(tmp_path / "set00" / "V000.seq", seq_file(frames, gap=gap))
    assert list(read_seq(tmp_path / "set00" / "V000.seq")) == [(".jpg", frame) for frame in frames]
    write_caltech(tmp_path, PEOPLE, 1)
    written = {path: path.read_bytes() for path in (tmp_path / "images").rglob("*.jpg")}
    assert unpack_caltech(tmp_path) == (1, 1)  # two of the three frames are there
    assert all(path.read_bytes() == content for path, content in written.items())
    assert (tmp_path / "images" / "set00" / "V000" / "I00002.jpg").read_bytes() == frames[2]
    assert unpack_caltech(tmp_path) == (1, 0)
    assert unpack_caltech(tmp_path, tmp_path / "other", every=2) == (1, 1)
    assert [path.name for path in (tmp_path / "other").rglob("*.jpg")] == ["I00001.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with the format's own header"),
        (b"\xed\xfe\0\0", "does not begin"),
        (bytes(2000), "does not begin"),
        (seq_file([picture()], image_format=100), "frames of format 100 are not JPEG or PNG"),
        (seq_file([picture()], count=2**31 - 1), r"claims 2147483647 frames in \d+ bytes"),
        (seq_file([picture()], count=0), "claims 0 frames"),
        (seq_file([picture()], count=2), "frame 1 of 2 is missing or damaged"),
        (seq_file([picture(), picture()])[:-100], "frame 1 of 2 is missing or damaged"),
        (seq_file([b"no picture"]), "frame 0 of 1 is missing or damaged"),
    ],
)
def test_a_damaged_seq_video_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = put(tmp_path / "set00" / "V000.seq", content)
    with pytest.raises(DataError, match=rf"V000\.seq: .*{message}"):
        list(read_seq(path))
    with pytest.raises(DataError, match=r"no set00/V000\.seq here"):
        unpack_caltech(tmp_path / "set00")
