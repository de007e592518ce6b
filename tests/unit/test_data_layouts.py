"""Every published layout: the same people in, the same boxes out, and every fault by its place."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from layouts import HEIGHT, LAYOUTS, WIDTH, Box, matlab_cell, matlab_structs, picture, put
from tdtrack.data import load_dataset
from tdtrack.data.doctor import inspect
from tdtrack.data.formats import FORMATS
from tdtrack.data.load import inspect_dataset
from tdtrack.errors import ConfigError, DataError

PEOPLE = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)], [], [Box(1, 2, 30, 20), Box(60, 5, 12.5, 50), Box(40, 8, 9, 9)]]
NAMES = list(LAYOUTS)


def write(name: str, root: Path, boxes: list[list[Box]], first_id: int = 1) -> Path:
    return LAYOUTS[name].write(root, boxes, first_id)


def test_every_format_has_a_layout_to_test_it() -> None:
    assert len(FORMATS) == 11
    assert set(FORMATS) == {name.removesuffix("-video") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_boxes_come_back_and_the_layout_is_told(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path / "data", PEOPLE)
    dataset = load_dataset(path)
    assert len(dataset) == len(PEOPLE)
    for image, people in zip(dataset.images, PEOPLE):
        assert (image.width, image.height) == (WIDTH, HEIGHT)
        assert image.path.is_file()
        wanted = [[box.left, box.top, box.left + box.width, box.top + box.height] for box in people]
        np.testing.assert_allclose(image.xyxy, np.array(wanted, np.float32).reshape(-1, 4), rtol=1e-6)
        assert not image.ignore.any()
        assert (image.class_id == 0).all()
    ids = dataset.annotation_id
    assert len(set(ids.tolist())) == len(ids) == 5
    assert dataset.classes[0] == ("pedestrian" if name.startswith("visdrone") else "person")
    layout = FORMATS[next(key for key in FORMATS if key == name.removesuffix("-video"))]
    report = inspect(path)
    assert (report.form, report.facts["boxes"], report.facts["images"]) == (layout.title, 5, 3)
    assert report.usable


@pytest.mark.parametrize("name", [name for name in NAMES if LAYOUTS[name].ignores])
def test_regions_that_are_no_single_person_are_ignored(name: str, tmp_path: Path) -> None:
    people = [[Box(5, 6, 20, 40), Box(30, 10, 40, 30, ignore=True)], [Box(1, 2, 30, 20, ignore=True), Box(50, 2, 30, 20)]]
    dataset = load_dataset(write(name, tmp_path / "data", people))
    assert [image.ignore.tolist() for image in dataset.images] == [[False, True], [True, False]]
    assert inspect(write(name, tmp_path / "again", people)).facts["ignore regions"] == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_same_files_give_the_same_ids_wherever_they_are(name: str, tmp_path: Path) -> None:
    first = load_dataset(write(name, tmp_path / "data", PEOPLE))
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "data", tmp_path / "elsewhere" / "data")
    again = load_dataset(write(name, tmp_path / "data", PEOPLE))
    assert first.fingerprint() == again.fingerprint()
    np.testing.assert_array_equal(first.annotation_id, again.annotation_id)


@pytest.mark.parametrize("name", [name for name in NAMES if LAYOUTS[name].identities])
def test_identities_never_reach_the_data_set(name: str, tmp_path: Path) -> None:
    one = write(name, tmp_path / "one" / "data", PEOPLE, 1)
    other = write(name, tmp_path / "other" / "data", PEOPLE, 41)
    files = [sorted(path for path in root.rglob("*") if path.is_file()) for root in (tmp_path / "one", tmp_path / "other")]
    assert any(first.read_bytes() != second.read_bytes() for first, second in zip(*files))  # the ids are in the files
    assert load_dataset(one).fingerprint() == load_dataset(other).fingerprint()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("box", "kind", "message"),
    [
        (Box(5, 6, 0, 40), "box-without-area", "has no width"),
        (Box(5, 6, 20, 0), "box-without-area", "has no height"),
        (Box(120, 6, 20, 40), "box-outside-image", f"lies outside its {WIDTH}x{HEIGHT} image"),
        (Box(float("nan"), 6, 20, 40), "box-not-finite", "has a side that is not a finite number"),
    ],
)
def test_a_bad_box_is_named_and_can_be_skipped(name: str, box: Box, kind: str, message: str, tmp_path: Path) -> None:
    if np.isnan(box.left) and name == "eth":
        box, kind, message = Box(120, 6, 20, 40), "box-outside-image", "lies outside"  # its numbers are digits: no NaN passes
    path = write(name, tmp_path / "data", [[box, Box(1, 2, 30, 20)], [Box(1, 2, 30, 20)]])
    if np.isnan(box.left) and name == "mot":
        with pytest.raises(DataError, match=r"gt\.txt:1: .* not a finite number"):
            load_dataset(path)
        return
    with pytest.raises(DataError, match=f"{re.escape(LAYOUTS[name].record)}: .*{message}.*; fix it or pass --skip-bad-boxes"):
        load_dataset(path)
    assert load_dataset(path, skip_bad=True).num_boxes == 2
    _, dataset, problems = inspect_dataset(path)
    assert [(problem.kind, problem.dropped) for problem in problems] == [(kind, True)]
    assert dataset is not None and dataset.num_boxes == 2


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mot", "yolo", "caltech", "visdrone-video")])
def test_a_missing_image_is_named_and_can_be_skipped(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path / "data", PEOPLE)
    first = load_dataset(path).images[0].path
    first.unlink()
    missing = rf"image file .*{first.stem.removesuffix('_0')}.* does not exist \(it has 2 boxes\); fix it or"
    with pytest.raises(DataError, match=missing):
        load_dataset(path)
    assert load_dataset(path, skip_bad=True).num_boxes == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_image_is_named_and_can_be_skipped(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path / "data", PEOPLE)
    load_dataset(path).images[0].path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"not an image of a known format.*; fix it or"):
        load_dataset(path)
    assert load_dataset(path, skip_bad=True).num_boxes == 3


def escape_coco(root: Path) -> Path:
    path = write("coco", root, PEOPLE)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "../secret.jpg"
    return put(path, json.dumps(content))


def escape_crowdhuman(root: Path) -> Path:
    path = write("crowdhuman", root, PEOPLE)
    return put(path, path.read_text().replace("271,c9db", "../../secret"))


def escape_citypersons(root: Path) -> Path:
    path = write("citypersons", root, PEOPLE)
    record = {"cityname": "../../..", "im_name": "secret.jpg", "bbs": np.ones((1, 10))}
    fine = {
        "cityname": "aachen",
        "im_name": "aachen_000001_000019_leftImg8bit.png",
        "bbs": np.array([[1, 5, 6, 9, 9, 1, 5, 6, 9, 9]]),
    }
    scipy.io.savemat(path, {"anno_train_aligned": matlab_cell([record, fine], (1, 2))})
    return path


def escape_eth(root: Path) -> Path:
    path = write("eth", root, PEOPLE)
    return put(path, path.read_text().replace("left/image_00000001", "/etc/secret"))


def escape_cuhk_sysu(root: Path) -> Path:
    path = write("cuhk-sysu", root, PEOPLE)
    found = matlab_structs([{"idlocate": np.array([[1, 2, 9, 9]]), "ishard": 0}])
    records = [{"imname": name, "nAppear": 1, "box": found} for name in ("../../../secret.jpg", "s1.jpg")]
    scipy.io.savemat(root / "annotation" / "Images.mat", {"Img": matlab_structs(records)})
    return path


def escape_yolo(root: Path) -> Path:
    path = write("yolo", root, PEOPLE)
    put(root / "train.txt", "/etc/secret.jpg\nimages/train/000001.jpg\n")
    return put(path, "train: train.txt\nnames: [person]\n")


def escape_jde(root: Path) -> Path:
    write("jde", root, PEOPLE)
    return put(root / "mine.train", "set/images/../../../secret.png\nset/images/train/000001.png\n")


@pytest.mark.parametrize(
    "make", [escape_coco, escape_crowdhuman, escape_citypersons, escape_eth, escape_cuhk_sysu, escape_yolo, escape_jde]
)
def test_no_file_name_leads_out_of_the_image_folder(make: object, tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg", picture())
    path = make(tmp_path / "a" / "b")  # type: ignore[operator]
    format = "jde" if make is escape_jde else "auto"
    with pytest.raises(DataError, match=r"secret.* leads out of the image folder"):
        load_dataset(path, format=format)
    dataset = load_dataset(path, format=format, skip_bad=True)
    assert dataset.num_boxes > 0
    assert all("secret" not in image.path.name for image in dataset.images)


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_read_as_another_is_an_error_in_own_words(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path / "data", PEOPLE)
    read = 0
    for format in FORMATS:
        try:
            read += load_dataset(path, format=format).num_boxes
        except DataError as error:
            assert str(tmp_path) in str(error)
    assert read == 5, "only its own format reads it"


def test_an_image_of_absurd_size_is_refused_by_its_header(tmp_path: Path) -> None:
    path = write("citypersons", tmp_path / "data", PEOPLE)
    image = load_dataset(path).images[0].path
    content = bytearray(image.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    image.write_bytes(content)
    with pytest.raises(DataError, match=r"image 1 .*cannot be read: .*3600000000 pixels.*; fix it or"):
        load_dataset(path)


def test_links_inside_the_image_folder_are_followed(tmp_path: Path) -> None:
    path = write("crowdhuman", tmp_path / "data", PEOPLE)
    shutil.move(tmp_path / "data" / "Images", tmp_path / "store")
    (tmp_path / "data" / "Images").symlink_to(tmp_path / "store")
    assert load_dataset(path).num_boxes == 5


def test_no_sign_and_two_signs_are_both_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no known layout: looked for a \.json file \(coco\); seqinfo\.ini .* pass --format"):
        load_dataset(tmp_path / "empty")
    path = write("jde", tmp_path / "both", PEOPLE)
    put(path / "data.yaml", "train: set/images\nnames: [person]\n")
    with pytest.raises(DataError, match=r"has the signs of several layouts: .*\(yolo\); and .*\(jde\); pass --format"):
        load_dataset(path)
    assert load_dataset(path, format="jde").num_boxes == 5
    with pytest.raises(ConfigError, match="format is 'yollo'; it must be one of auto, coco"):
        load_dataset(path, format="yollo")  # type: ignore[arg-type]


def test_a_split_or_box_that_a_layout_does_not_have_is_refused(tmp_path: Path) -> None:
    path = write("jde", tmp_path / "data", PEOPLE)
    with pytest.raises(ConfigError, match="JDE labels has no split 'val'; each part is a file or folder of its own"):
        load_dataset(path, split="val")
    with pytest.raises(ConfigError, match="JDE labels has no head boxes; it has full"):
        load_dataset(path, box="head")
    with pytest.raises(ConfigError, match="PRW has no split 'dev'; its splits are train, test, all"):
        load_dataset(write("prw", tmp_path / "prw", PEOPLE), split="dev")


@pytest.mark.parametrize(
    ("name", "part"), [("crowdhuman", "visible"), ("citypersons", "visible"), ("caltech", "visible"), ("crowdhuman", "head")]
)
def test_another_box_of_the_same_person_is_a_setting(name: str, part: str, tmp_path: Path) -> None:
    path = write(name, tmp_path / "data", PEOPLE)
    full, other = load_dataset(path), load_dataset(path, box=part)  # type: ignore[arg-type]
    share = 2 if part == "visible" else 4
    for first, second in zip(full.images, other.images):
        np.testing.assert_allclose(second.xyxy[:, 3] - second.xyxy[:, 1], (first.xyxy[:, 3] - first.xyxy[:, 1]) / share)
    np.testing.assert_array_equal(full.annotation_id, other.annotation_id)
    assert full.fingerprint() != other.fingerprint()


def test_a_head_in_doubt_is_ignored_only_where_heads_are_learned(tmp_path: Path) -> None:
    path = write("crowdhuman", tmp_path / "data", [[Box(5, 6, 20, 40), Box(40, 6, 20, 40)]])
    record = json.loads(path.read_text())
    record["gtboxes"][0]["head_attr"]["ignore"] = 1
    record["gtboxes"][1]["extra"]["ignore"] = 1
    put(path, json.dumps(record))
    assert load_dataset(path).images[0].ignore.tolist() == [False, True]
    assert load_dataset(path, box="head").images[0].ignore.tolist() == [True, True]


@pytest.mark.parametrize("name", ["cuhk-sysu", "prw"])
def test_splits_share_ids_and_divide_the_whole(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path / "data", PEOPLE)
    train, test, whole = (load_dataset(path, split=split) for split in ("train", "test", "all"))
    assert load_dataset(path).fingerprint() == train.fingerprint()
    assert (len(train), len(test), len(whole)) == (3, 1, 4)
    assert sorted([*train.annotation_id, *test.annotation_id]) == whole.annotation_id.tolist()
    assert not set(train.annotation_id.tolist()) & set(test.annotation_id.tolist())
