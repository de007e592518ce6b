"""CUHK-SYSU and PRW: records and files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from layouts import (
    matlab_cell,
    matlab_structs,
    write_cuhk_sysu,
    write_prw,
)
from reported import PEOPLE, left, only, problems
from tdtrack.data import load_dataset
from tdtrack.errors import DataError


def test_a_bad_record_of_cuhk_sysu(tmp_path: Path) -> None:
    write_cuhk_sysu(tmp_path, PEOPLE, 1)
    found = [{"idlocate": np.array([[5, 6, 20, 40]]), "ishard": 0}, {"idlocate": np.array([[5, 6, 20]]), "ishard": 0}]
    records = [{"imname": "s1.jpg", "nAppear": 2, "box": matlab_structs(found)}]
    scipy.io.savemat(tmp_path / "annotation" / "Images.mat", {"Img": matlab_structs(records)})
    only(tmp_path, r"Images\.mat: image 1 \(s1\.jpg\): box 2: idlocate is not four numbers", 1)
    records += [{"imname": 7, "nAppear": 2, "box": matlab_structs(found[:1])}]
    scipy.io.savemat(tmp_path / "annotation" / "Images.mat", {"Img": matlab_structs(records)})
    assert "image 2: the record is not a struct with an imname" in problems(tmp_path)[1]


@pytest.mark.parametrize("box", [np.array([[5, 6, 20, 40]]), "none"])
def test_a_cuhk_sysu_image_without_a_struct_array_is_not_taken_for_an_empty_one(box: object, tmp_path: Path) -> None:
    write_cuhk_sysu(tmp_path, PEOPLE, 1)
    fine = matlab_structs([{"idlocate": np.array([[5, 6, 20, 40]]), "ishard": 0}])
    records = [{"imname": "s1.jpg", "nAppear": 1, "box": fine}, {"imname": "s2.jpg", "nAppear": 1, "box": box}]
    scipy.io.savemat(tmp_path / "annotation" / "Images.mat", {"Img": matlab_structs(records)})
    only(tmp_path, r"Images\.mat: image 2 \(s2\.jpg\): box is missing or no struct array", 1)
    assert left(tmp_path) == ["s1.jpg"]


@pytest.mark.parametrize("cell", [np.array([[3.0]]), matlab_cell(["s9999.jpg"], (1, 1)), None])
def test_a_cuhk_sysu_gallery_that_names_no_images_is_refused(cell: object, tmp_path: Path) -> None:
    write_cuhk_sysu(tmp_path, PEOPLE, 1)
    pool = matlab_cell(["s9999.jpg", cell], (2, 1)) if cell is not None else np.zeros((0, 0))
    scipy.io.savemat(tmp_path / "annotation" / "pool.mat", {"pool": pool})
    for split in ("train", "test"):
        with pytest.raises(DataError, match=r"pool\.mat: pool is not a cell of image names"):
            load_dataset(tmp_path, split=split)
    assert load_dataset(tmp_path, split="all").num_boxes == 4


def test_a_bad_file_of_prw(tmp_path: Path) -> None:
    write_prw(tmp_path, PEOPLE, 1)
    path = tmp_path / "annotations" / "c1s1_000001.jpg.mat"
    scipy.io.savemat(path, {"box_new": np.ones((2, 4))}, appendmat=False)
    only(tmp_path, r"box-malformed: .*c1s1_000001\.jpg\.mat: shape \(2, 4\); expected 5 columns", 1)
    assert left(tmp_path) == ["c1s1_000002.jpg"]
    path.write_bytes(b"")
    only(tmp_path, r"labels-unreadable: .*c1s1_000001\.jpg\.mat: ", 1)
    assert left(tmp_path) == ["c1s1_000002.jpg"]
    path.unlink()
    only(tmp_path, r"frame_train\.mat: frame 1: 'c1s1_000001' has no file in annotations/", 1)
