"""CrowdHuman, CityPersons and ETH: records, file names and parts of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from layouts import (
    matlab_cell,
    put,
    write_citypersons,
    write_crowdhuman,
    write_eth,
)
from reported import PEOPLE, left, only
from tdtrack.data import load_dataset
from tdtrack.errors import DataError

AACHEN = "aachen_000001_000019_leftImg8bit.png"


# ----------------------------------------------------------------------------------------------------------- CrowdHuman


@pytest.mark.parametrize(
    ("line", "pattern", "boxes"),
    [
        ("{", r"image-malformed: .*annotation_train\.odgt:1: broken JSON", 1),
        ("[]", r"odgt:1: record '\[\]' needs an ID and a list of gtboxes", 1),
        ('{"ID": 3, "gtboxes": []}', r"needs an ID", 1),
        ('{"ID": "271,c9db", "gtboxes": ' + "9" * 5000 + "}", "broken JSON", 1),
        ('{"ID": "271,c9db", "gtboxes": [{"tag": "dog"}]}', r"unknown-class: .*:1: box 1: tag 'dog' is neither", 1),
        ('{"ID": "271,c9db", "gtboxes": [7]}', r"box 1: tag None is neither", 1),
        ('{"ID": "271,c9db", "gtboxes": [{"tag": "person", "fbox": [1, 2, 3]}]}', r"fbox \[1, 2, 3\] is not four numbers", 1),
        ('{"ID": "271,c9db", "gtboxes": [{"tag": "person"}]}', r"fbox None is not four numbers", 1),
        ('{"ID": "271,c9db", "gtboxes": [{"tag": "person", "fbox": [1, 2, NaN, 4]}]}', r"box-not-finite: .*:1: box 1", 1),
        ('{"ID": "271,c9db", "gtboxes": [{"tag": "person", "fbox": [1, 2, 1' + "0" * 400 + ", 4]}]}", "box-not-finite", 1),
        ('{"ID": "271,c9db", "gtboxes": [{"tag": "person", "fbox": [1, 2, true, 4]}]}', "is not four numbers", 1),
    ],
)
def test_a_bad_line_of_crowdhuman(line: str, pattern: str, boxes: int, tmp_path: Path) -> None:
    path = write_crowdhuman(tmp_path, PEOPLE, 1)
    put(path, f"{line}\n{path.read_text().splitlines()[1]}\n")
    only(path, pattern, boxes)


def test_crowdhuman_boxes_keep_their_ids_when_one_is_skipped(tmp_path: Path) -> None:
    path = write_crowdhuman(tmp_path, PEOPLE, 1)
    whole = load_dataset(path).annotation_id
    record = json.loads(path.read_text().splitlines()[0])
    record["gtboxes"][0]["fbox"][2] = 0
    put(path, json.dumps(record) + "\n" + path.read_text().splitlines()[1])
    assert load_dataset(path, skip_bad=True).annotation_id.tolist() == whole[1:].tolist()


# ---------------------------------------------------------------------------------------------------------- CityPersons


def test_citypersons_classes(tmp_path: Path) -> None:
    path = write_citypersons(tmp_path, PEOPLE, 1)
    table = np.array([[label, 5, 6, 20, 40, 24000, 5, 6, 10, 20] for label in (0, 1, 2, 3, 4, 5, 6)])
    record = {"cityname": "aachen", "im_name": AACHEN, "bbs": table}
    scipy.io.savemat(path, {"anno_train_aligned": matlab_cell([record], (1, 1))})
    only(path, r"image 1 \(aachen_000001_.*\): box 7: class 6 is not one of CityPersons' 0 to 5", 6)
    assert load_dataset(path, skip_bad=True).images[0].ignore.tolist() == [True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("record", "pattern"),
    [
        ({"cityname": "aachen"}, "image 1: the cell is not one struct"),
        ({"cityname": 3, "im_name": "x.png", "bbs": np.ones((1, 10))}, "are not two texts"),
        (
            {"cityname": "aachen", "im_name": AACHEN, "bbs": np.ones((1, 9))},
            r"shape \(1, 9\), expected 10",
        ),
        ({"cityname": "aachen", "im_name": AACHEN, "bbs": "none"}, "no numbers, expected 10"),
    ],
)
def test_a_bad_cell_of_citypersons(record: dict[str, object], pattern: str, tmp_path: Path) -> None:
    path = write_citypersons(tmp_path, PEOPLE, 1)
    table = np.array([[1, 5, 6, 20, 40, 24000, 5, 6, 10, 20]])
    fine = {"cityname": "aachen", "im_name": "aachen_000002_000019_leftImg8bit.png", "bbs": table}
    scipy.io.savemat(path, {"anno_train_aligned": matlab_cell([record, fine], (1, 2))})
    only(path, pattern, 1)
    assert left(path) == ["aachen_000002_000019_leftImg8bit.png"]


def test_citypersons_images_are_found_from_any_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_citypersons(tmp_path / "data", PEOPLE, 1)
    for working in (path.parent, path.parent.parent, tmp_path):
        monkeypatch.chdir(working)
        assert load_dataset(path.relative_to(working)).num_boxes == 3
    for images in ("", "data", "data/leftImg8bit", "data/leftImg8bit/train"):
        assert load_dataset(path, tmp_path / images if images else "").num_boxes == 3


def test_a_matlab_file_of_something_else(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "anno_val.mat", {"other": 1})
    with pytest.raises(DataError, match=r"anno_val\.mat: holds other, but anno_train_aligned or .* was looked for"):
        load_dataset(tmp_path / "anno_val.mat")
    put(tmp_path / "anno_val.mat", "text")
    with pytest.raises(DataError, match=r"anno_val\.mat: damaged, or not a MATLAB file"):
        load_dataset(tmp_path / "anno_val.mat")
    with pytest.raises(DataError, match=r"nowhere\.mat: there is no such file"):
        load_dataset(tmp_path / "nowhere.mat")


# ------------------------------------------------------------------------------------------------------------------ ETH


@pytest.mark.parametrize(
    ("line", "pattern", "boxes"),
    [
        ("left/image.png: (1, 2, 3, 4):-1;", r"annotations\.idl:1: 'left/image\.png.*' is not an image name in quotes", 1),
        ('"left/image_00000001.png": (5, 6, 25, 46):-1, (1, 2, 3):-1;', r"idl:1: '\(1, 2, 3\):-1' is not a box", 2),
        ('"left/image_00000001.png": (5, 6, 25, 46), nonsense;', r"idl:1: 'nonsense' is not a box", 2),
        (
            '"left/image_00000009.png": (5, 6, 25, 46):-1;',
            r"image file .*image_00000009\.png does not exist \(it has 1 boxes\)",
            1,
        ),
    ],
)
def test_a_bad_line_of_eth(line: str, pattern: str, boxes: int, tmp_path: Path) -> None:
    path = write_eth(tmp_path, PEOPLE, 1)
    put(path, f"{line}\n{path.read_text().splitlines()[1]}\n")
    only(path, pattern, boxes)


def test_eth_reads_a_folder_of_sequences_and_refuses_two_files_of_one(tmp_path: Path) -> None:
    for name in ("seq02", "seq03"):
        write_eth(tmp_path / name, PEOPLE, 1)
    dataset = load_dataset(tmp_path)
    assert [image.image_id for image in dataset.images] == [1_000_001, 1_000_002, 2_000_001, 2_000_002]
    put(tmp_path / "seq02" / "refined.idl", '"left/image_00000001.png";')
    with pytest.raises(DataError, match=r"seq02: holds annotations\.idl and refined\.idl; name the file to read"):
        load_dataset(tmp_path)
    put(tmp_path / "flat.idl", '"left/image_00000001_0.png": (5, 6, 25, 46):-1.')
    assert (
        load_dataset(tmp_path / "flat.idl", tmp_path / "seq03" / "left").num_boxes == 1
    )  # the folder of the name is not there
