"""COCO JSON: what is read, what is refused and in which words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tdtrack.data import load_dataset
from tdtrack.data.coco import write_coco
from tdtrack.data.load import inspect_dataset
from tdtrack.errors import DataError, OutputError, ShapeError
from tdtrack.types import ANY_CLASS


def record(
    annotation_id: Any = 1, image_id: Any = 1, bbox: Any = (10, 20, 30, 40), category_id: Any = 7, **more: Any
) -> dict[str, Any]:
    bbox = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"id": annotation_id, "image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


class Folder:
    """A small data set on disk that a test damages in one place."""

    def __init__(self, root: Path) -> None:
        self.file = root / "train.json"
        self.images = root / "images"
        self.images.mkdir()
        for name in ("a.png", "b.png"):
            PIL.Image.new("RGB", (100, 80), (90, 120, 60)).save(self.images / name)
        self.content: dict[str, Any] = {
            "images": [
                {"id": 2, "file_name": "b.png", "width": 100, "height": 80},
                {"id": 1, "file_name": "a.png", "width": 100, "height": 80},
            ],
            "annotations": [record(), record(2, 2, (0, 0, 100, 80), 3)],
            "categories": [{"id": 7, "name": "person"}, {"id": 3, "name": "dog"}],
        }

    def add(self, **fields: Any) -> None:
        self.content["annotations"].append(record(**{"annotation_id": 1412, **fields}))
        self.write()

    def write(self) -> None:
        self.file.write_text(json.dumps(self.content))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write()
    return made


def kinds(folder: Folder, **settings: Any) -> list[str]:
    return [problem.kind for problem in inspect_dataset(folder.file, folder.images, **settings)[2]]


def kinds_beside(folder: Folder) -> list[str]:
    return [problem.kind for problem in inspect_dataset(folder.file)[2]]


def test_what_is_right_is_read(folder: Folder) -> None:
    folder.content["info"] = {"description": "mine", "url": "http://example.org"}
    folder.content["licenses"] = [{"id": 1, "name": "CC0"}, {"id": 2, "name": "CC0"}]
    folder.write()
    dataset = load_dataset(folder.file, folder.images)
    assert dataset.name == "train"
    assert dataset.classes == ("dog", "person")  # in order of category id
    assert [image.image_id for image in dataset.images] == [1, 2]
    assert [image.path.name for image in dataset.images] == ["a.png", "b.png"]
    np.testing.assert_array_equal(dataset.images[0].xyxy, [[10, 20, 40, 60]])
    assert dataset.images[0].class_id.tolist() == [1]
    assert dataset.images[1].class_id.tolist() == [0]
    assert dataset.annotation_id.tolist() == [1, 2]
    assert (dataset.licence, dataset.source) == ("CC0", "mine, http://example.org, train.json")
    assert inspect_dataset(folder.file, folder.images)[2] == []


def test_images_are_found_beside_the_file(folder: Folder) -> None:
    assert load_dataset(folder.file).num_boxes == 2


def test_images_named_with_their_folder_are_found_beside_the_file(folder: Folder) -> None:
    for image in folder.content["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    folder.write()
    (folder.images / "b.png").unlink()  # the first of the list
    assert kinds_beside(folder) == ["image-missing"]
    assert load_dataset(folder.file, skip_bad=True).annotation_id.tolist() == [1]


def test_where_no_image_is_found_the_option_is_named(folder: Folder) -> None:
    for image in folder.content["images"]:
        image["file_name"] = f"val2017/{image['file_name']}"
    folder.write()
    with pytest.raises(
        DataError, match=r"images/val2017/b\.png does not exist, nor does any other; pass the folder .* --images \(it"
    ):
        load_dataset(folder.file)


def test_an_image_of_which_no_record_can_be_read_is_not_taken_for_an_empty_one(folder: Folder) -> None:
    folder.content["annotations"][0]["bbox"] = "10, 20, 30, 40"
    folder.write()
    assert [image.image_id for image in load_dataset(folder.file, skip_bad=True).images] == [2]
    folder.content["annotations"][0]["bbox"] = [10, 20, 0, 40]  # this says that nothing is there
    folder.write()
    assert [image.image_id for image in load_dataset(folder.file, skip_bad=True).images] == [1, 2]
    for fault in ({"bbox": [float("nan"), 20, 30, 40]}, {"bbox": [200, 20, 30, 40]}, {"id": None}):
        folder.content["annotations"][0] = {**record(), **fault}
        folder.write()
        assert [image.image_id for image in load_dataset(folder.file, skip_bad=True).images] == [2]
        folder.add()  # another one that can be used
        assert [len(image) for image in load_dataset(folder.file, skip_bad=True).images] == [1, 1]
        folder.content["annotations"].pop()


def test_boxes_of_an_id_that_two_images_have_belong_to_neither(folder: Folder) -> None:
    folder.content["images"] += [
        {"id": 2, "file_name": "b.png"},  # the same once more: no harm
        {"id": 1, "file_name": "b.png"},
    ]
    folder.write()
    with pytest.raises(DataError, match=r"image 2: the id is used twice; the second is 'b\.png'; fix it"):
        load_dataset(folder.file)
    assert "the second is 'b.png': whose the boxes are cannot be told, so both are left out" in str(
        inspect_dataset(folder.file)[2][1]
    )
    assert load_dataset(folder.file, skip_bad=True).annotation_id.tolist() == [2]


def test_file_names_of_windows_are_found(folder: Folder) -> None:
    for image in folder.content["images"]:
        image["file_name"] = f"images\\{image['file_name']}"
    folder.write()
    assert [image.path for image in load_dataset(folder.file).images] == [folder.images / "a.png", folder.images / "b.png"]


def test_a_size_that_is_not_stated_is_the_files(folder: Folder) -> None:
    for image in folder.content["images"]:
        del image["width"], image["height"]
    folder.write()
    image = load_dataset(folder.file, folder.images).images[0]
    assert (image.width, image.height) == (100, 80)


@pytest.mark.parametrize("mark", ["iscrowd", "ignore"])
def test_crowds_and_ignore_marks_become_ignore_regions(folder: Folder, mark: str) -> None:
    marks = [1, True, 1.0, 0, False, None]
    for number, value in enumerate(marks):
        folder.add(annotation_id=10 + number, **{mark: value})
    assert load_dataset(folder.file, folder.images).images[0].ignore.tolist() == [False, *[bool(value) for value in marks]]


def test_broken_json_names_line_and_column(folder: Folder) -> None:
    folder.file.write_text('{"images": [],\n "annotations": [1 2]}')
    with pytest.raises(DataError, match=r"train\.json: broken JSON at line 2, column 20: Expecting ',' delimiter"):
        load_dataset(folder.file, folder.images)
    assert kinds(folder) == ["unusable-data-set"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "holds a list, not an object"),
        (b'{"images": [], "annotations": []}', "key 'categories' is missing"),
        (b'{"images": {}, "annotations": [], "categories": []}', "'images' holds a dict, not a list"),
        (b"\xff\xfe\xfd\x00\xd8", "not UTF-8|broken JSON"),
        (b'{"a":' * 200_000, "nested too deeply|broken JSON"),
        (b"", "broken JSON at line 1, column 1"),
        (b'{"images": [], "annotations": [], "categories": [{"id": "x"}]}', r"categories\[0\] is \{'id': 'x'\}"),
    ],
)
def test_what_is_no_coco_file_is_refused(folder: Folder, content: bytes, message: str) -> None:
    folder.file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(folder.file, folder.images)


def test_a_missing_file_and_a_missing_folder_are_named(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"nope\.json: there is no such file or folder"):
        load_dataset("nope.json", folder.images)
    with pytest.raises(DataError, match=r"image folder .*nowhere does not exist; pass .*--images"):
        load_dataset(folder.file, folder.images / "nowhere")


def test_an_empty_data_set_is_refused(folder: Folder) -> None:
    folder.content["annotations"] = []
    folder.write()
    with pytest.raises(DataError, match=r"train\.json: the data set has 2 images but no boxes$"):
        load_dataset(folder.file, folder.images)
    folder.content["images"] = []
    folder.write()
    with pytest.raises(DataError, match="the data set has no images"):
        load_dataset(folder.file, folder.images, skip_bad=True)


def test_a_data_set_of_which_nothing_is_left_says_why(folder: Folder) -> None:
    for name in ("a.png", "b.png"):
        (folder.images / name).unlink()
    with pytest.raises(
        DataError, match=r"no images; what it had cannot be used, first: image 2: image file .*b\.png does not exist"
    ):
        load_dataset(folder.file, folder.images, skip_bad=True)


NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"bbox": (431, 88, 0, 32)}, "box-without-area", r"box \(431, 88, 0, 32\) has no width"),
        ({"bbox": (1, 2, 3, 0)}, "box-without-area", r"box \(1, 2, 3, 0\) has no height"),
        ({"bbox": (1, 2, 0, 0)}, "box-without-area", "has no width and no height"),
        ({"bbox": (50, 2, -3, 5)}, "box-without-area", "has a negative side"),
        ({"bbox": (50, 2, 1e-9, 5)}, "box-without-area", "has no area"),
        ({"bbox": (NAN, 2, 3, 5)}, "box-not-finite", "not a finite number"),
        ({"bbox": (1, 2, 10**400, 5)}, "box-not-finite", "not a finite number"),
        ({"bbox": (100, 2, 3, 5)}, "box-outside-image", r"box \(100, 2, 3, 5\) lies outside its 100x80 image"),
        ({"bbox": (-5, -9, 5, 5)}, "box-outside-image", "lies outside"),
        ({"bbox": (1, 2, 3)}, "box-malformed", r"bbox \[1, 2, 3\] is not four numbers"),
        ({"bbox": ("1", "2", "3", "4")}, "box-malformed", "is not four numbers"),
        ({"bbox": None}, "box-malformed", "bbox None is not four numbers"),
        ({"image_id": 99}, "annotation-without-image", "image 99 is not in the list of images"),
        ({"image_id": None}, "annotation-malformed", "image_id None is not a whole number"),
        ({"category_id": 5}, "unknown-category", "category 5 is not in the list of categories"),
        ({"category_id": [7]}, "unknown-category", r"category \[7\] is not in"),
        ({"category_id": None}, "unknown-category", "category None is not in"),
        ({"category_id": "all", "iscrowd": 1}, "unknown-category", "category 'all' is not in"),
        ({"iscrowd": "0"}, "annotation-malformed", "iscrowd '0' is neither 0 nor 1"),
        ({"ignore": 2}, "annotation-malformed", "ignore 2 is neither 0 nor 1"),
        ({"iscrowd": []}, "annotation-malformed", r"iscrowd \[\] is neither 0 nor 1"),
        ({"annotation_id": 1}, "duplicate-annotation-id", "the id is used twice"),
        ({"annotation_id": "x"}, "annotation-malformed", "has no whole-number id"),
    ],
)
def test_a_bad_annotation_stops_reading_or_is_skipped(folder: Folder, fields: dict[str, Any], kind: str, message: str) -> None:
    folder.add(**fields)
    assert kinds(folder) == [kind]
    with pytest.raises(DataError, match=rf"train\.json: annotation.*: .*{message}.*; fix it or pass --skip-bad-boxes$"):
        load_dataset(folder.file, folder.images)
    dataset = load_dataset(folder.file, folder.images, skip_bad=True)
    assert dataset.annotation_id.tolist() == [1, 2]
    np.testing.assert_array_equal(dataset.images[0].xyxy, [[10, 20, 40, 60]])


def test_the_message_is_one_sentence_with_place_value_and_remedy(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.add(bbox=(431, 88, 0, 32))
    monkeypatch.chdir(folder.file.parent)
    with pytest.raises(DataError) as caught:
        load_dataset("train.json", "images")
    assert (
        str(caught.value) == "train.json: annotation 1412: box (431, 88, 0, 32) has no width; fix it or pass --skip-bad-boxes"
    )


def test_further_problems_are_counted(folder: Folder) -> None:
    folder.add(bbox=(1, 1, 0, 1))
    folder.add(annotation_id=5, bbox=(1, 1, 0, 1))
    with pytest.raises(DataError, match=r"--skip-bad-boxes \(1 more; tdtrack doctor lists them\)$"):
        load_dataset(folder.file, folder.images)


@pytest.mark.parametrize("reach", [0.5, 1.0, 1.5, 30.0])
def test_a_box_over_the_border_is_cut_and_said_beyond_a_pixel(folder: Folder, reach: float) -> None:
    folder.add(bbox=(-reach, 70, 50 + reach, 10 + reach))
    dataset = load_dataset(folder.file, folder.images)
    np.testing.assert_array_equal(dataset.images[0].xyxy[1], [0, 70, 50, 80])
    assert kinds(folder) == (["box-clipped"] if reach > 1 else [])


def _missing(path: Path) -> None:
    path.unlink()


def _text(path: Path) -> None:
    path.write_text("not an image")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _other_size(path: Path) -> None:
    PIL.Image.new("RGB", (50, 40)).save(path)


def _deep(path: Path) -> None:
    PIL.Image.fromarray(np.zeros((80, 100), np.uint16)).save(path)


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (_missing, "image-missing", "does not exist"),
        (_text, "image-unreadable", "not an image of a known format"),
        (_empty, "image-unreadable", "it is empty"),
        (_other_size, "image-size-differs", "is 50x40, the annotations say 100x80"),
        (_deep, "image-unreadable", "more than 8 bits"),
    ],
)
def test_a_bad_image_goes_with_its_boxes(folder: Folder, damage: Any, kind: str, message: str) -> None:
    damage(folder.images / "a.png")
    assert kinds(folder) == [kind]
    with pytest.raises(
        DataError, match=rf"train\.json: image 1: image file .*a\.png.* {message}.*\(it has 1 boxes\); fix it or pass"
    ):
        load_dataset(folder.file, folder.images)
    dataset = load_dataset(folder.file, folder.images, skip_bad=True)
    assert dataset.annotation_id.tolist() == [2]
    assert [image.image_id for image in dataset.images] == [2]


def test_decoding_finds_an_image_that_is_cut_short(folder: Folder) -> None:
    rng = np.random.default_rng(0)
    PIL.Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)).save(folder.images / "a.png")
    content = (folder.images / "a.png").read_bytes()
    (folder.images / "a.png").write_bytes(content[: len(content) // 2])
    assert kinds(folder) == []
    assert kinds(folder, decode=True) == ["image-unreadable"]


def test_bad_image_and_category_records_are_named(folder: Folder) -> None:
    folder.content["images"] += [
        {"id": 1, "file_name": "b.png", "width": 100, "height": 80},
        {"id": 3, "file_name": "b.png", "width": 100, "height": 80},
        {"id": 4, "file_name": "b.png", "width": 0, "height": 80},
        {"id": 5},
        "x",
    ]
    folder.content["categories"].append({"id": 3, "name": "cat"})
    folder.write()
    assert kinds(folder) == [
        "duplicate-category-id",
        "duplicate-image-id",
        "duplicate-image-file",
        "image-malformed",
        "image-malformed",
        "image-malformed",
    ]
    assert [image.image_id for image in load_dataset(folder.file, folder.images, skip_bad=True).images] == [2, 3]


def test_writing_and_reading_again_gives_the_same_data_set(folder: Folder, tmp_path: Path) -> None:
    folder.add(bbox=(0.1, 0.7, 33.3, 77.77), iscrowd=1)
    folder.add(annotation_id=77, iscrowd=1, category_id=None)
    dataset = load_dataset(folder.file, folder.images)
    assert dataset.images[0].class_id.tolist()[-1] == ANY_CLASS
    write_coco(
        tmp_path / "again.json", dataset.images, dataset.classes, images_dir=folder.images, licence="CC0", description="d"
    )
    again = load_dataset(tmp_path / "again.json", folder.images)
    assert again.fingerprint() == dataset.fingerprint()
    assert again.licence == "CC0"


def test_only_an_ignore_region_may_be_without_a_class(folder: Folder) -> None:
    image = load_dataset(folder.file, folder.images).images[0]
    with pytest.raises(ShapeError, match="a box has class -1; only ignore regions may be without a class"):
        replace(image, class_id=np.full(len(image), ANY_CLASS))


def test_an_image_outside_the_folder_cannot_be_written(folder: Folder, tmp_path: Path) -> None:
    images = load_dataset(folder.file, folder.images).images
    with pytest.raises(OutputError, match=r"a\.png does not lie in"):
        write_coco(tmp_path / "x.json", images, ("dog", "person"), images_dir=tmp_path / "elsewhere")


def test_writing_where_no_one_can_write_is_an_output_error(folder: Folder) -> None:
    images = load_dataset(folder.file, folder.images).images
    with pytest.raises(OutputError, match="cannot write"):
        write_coco(folder.file / "x.json", images, ("dog", "person"), images_dir=folder.images)


@pytest.mark.parametrize(
    ("name", "images", "boxes"),
    [("penn-fudan-train", 136, 354), ("penn-fudan-test", 34, 69), ("coco-person-train", 61, 254), ("coco-person-val", 73, 350)],
)
def test_real_data_sets_are_read_whole(shared_data: Path, name: str, images: int, boxes: int) -> None:
    dataset = load_dataset(shared_data / name / "annotations.json")
    assert (len(dataset), dataset.num_boxes, dataset.name, dataset.classes) == (images, boxes, name, ("person",))
    content = json.loads((shared_data / name / "annotations.json").read_text())
    raw = {entry["id"]: entry["bbox"] for entry in content["annotations"]}
    for image in dataset.images:
        for annotation_id, box in zip(image.annotation_id.tolist(), image.xyxy):
            left, top, width, height = raw[annotation_id]
            np.testing.assert_allclose(box, [left, top, left + width, top + height], atol=1.0)
