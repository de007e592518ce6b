"""YOLO, JDE and VisDrone: a text file of labels beside each image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import PIL.ExifTags
import PIL.Image
import pytest

from layouts import (
    HEIGHT,
    LAYOUTS,
    WIDTH,
    picture,
    put,
    write_jde,
    write_visdrone,
    write_visdrone_video,
    write_yolo,
)
from reported import PEOPLE, left, only, problems
from tdtrack.data import load_dataset, reading
from tdtrack.data.reading import IMAGE_SUFFIXES, list_deep
from tdtrack.errors import DataError
from tdtrack.types import ANY_CLASS


@pytest.mark.parametrize(
    ("row", "pattern"),
    [
        ("0 0.5 0.5 0.2", r"000001\.txt:2: 4 columns '0 0\.5 0\.5 0\.2', expected 5: class, centre x"),
        ("0 0.5 0.5 0.2 0.2 0.9", "6 columns"),
        ("0 0.5 half 0.2 0.2", r"centre y 'half' is not a number"),
        ("0.5 0.5 0.5 0.2 0.2", r"class 0\.5 is not a whole number"),
        ("nan 0.5 0.5 0.2 0.2", "class nan is not a whole number"),
        ("2 0.5 0.5 0.2 0.2", r"unknown-class: .*000001\.txt:2: class 2, but there are 2 names, from 0"),
        ("-1 0.5 0.5 0.2 0.2", "class -1, but there are 2 names"),
        ("0 50 40 20 30", r"box-not-fraction: .*:2: centre and size \(50, 40, 20, 30\) are not fractions"),
        ("0 0.5 0.5 inf 0.2", "box-not-finite"),
        ("0 1.5 0.5 0.2 0.2", "box-outside-image"),
    ],
)
def test_a_bad_row_of_yolo(row: str, pattern: str, tmp_path: Path) -> None:
    path = write_yolo(tmp_path, [[], PEOPLE[1]], 1)
    put(tmp_path / "labels" / "train" / "000001.txt", f"1 0.5 0.5 0.2 0.2\n{row}\n")
    only(path, pattern, 2)


def test_a_yolo_image_without_labels_is_empty(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, PEOPLE, 1)
    (tmp_path / "labels" / "train" / "000001.txt").unlink()
    only(path, "labels-missing: .*1 of 2 images have no label file and count as images without objects", 1)
    assert len(load_dataset(path)) == 2


@pytest.mark.parametrize("name", ["crowdhuman", "eth", "yolo", "jde", "visdrone"])
def test_an_image_of_which_no_record_can_be_read_is_not_taken_for_an_empty_one(name: str, tmp_path: Path) -> None:
    people = [PEOPLE[0][:1], [], PEOPLE[1]]
    path = LAYOUTS[name].write(tmp_path / "data", people, 1)
    names = [image.path.name for image in load_dataset(path).images]
    assert len(names) == 3
    bad = {"crowdhuman": '"fbox": "x", "old": ', "eth": '"left/image_00000001.png": (1, 2, 3);'}
    files = sorted(file for file in (tmp_path / "data").rglob("*.*") if file.suffix in (".odgt", ".idl", ".txt"))
    first, *rest = files[0].read_text().split("\n", 1)
    first = first.replace('"fbox": ', bad[name]) if name == "crowdhuman" else bad.get(name, "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4")
    put(files[0], "\n".join([first, *rest]))
    assert len(problems(path)) == 1
    assert left(path) == names[1:]


def test_an_image_of_boxes_that_are_elsewhere_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, [PEOPLE[0], [], PEOPLE[1]], 1)
    for rows, names in (
        ("0 50 40 20 30\n", ["000002.jpg", "000003.jpg"]),
        ("0 1.5 0.5 0.2 0.2\n", ["000002.jpg", "000003.jpg"]),
        ("0 0.5 0.5 nan 0.2\n", ["000002.jpg", "000003.jpg"]),
        ("0 0.5 0.5 0 0.2\n", ["000001.jpg", "000002.jpg", "000003.jpg"]),  # this says that nothing is there
        ("0 50 40 20 30\n0 0.5 0.5 0.2 0.2\n", ["000001.jpg", "000002.jpg", "000003.jpg"]),
    ):
        put(tmp_path / "labels" / "train" / "000001.txt", rows)
        assert left(path) == names


@pytest.mark.parametrize("write", [write_yolo, write_jde])
def test_fractions_of_an_image_that_its_tag_turns_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path, PEOPLE, 1)
    image = next(tmp_path.rglob("000001.[jp][pn]g"))
    tags = PIL.Image.Exif()
    for tag, count in ((1, 3), (6, 1)):
        tags[PIL.ExifTags.Base.Orientation] = tag
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(image, exif=tags)
        assert load_dataset(path, skip_bad=True).num_boxes == count
    only(path, r"image-turned: .*000001\.\w+ is turned by its orientation tag \(6\), and whether", 1)


def test_an_image_of_too_many_records_is_not_taken_for_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_RECORDS", 1)
    path = write_yolo(tmp_path, PEOPLE, 1)
    only(path, r"too-many-boxes: .*000001\.txt: 2 boxes; one image may have 1", 1)
    assert left(path) == ["000002.jpg"]


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "data", PEOPLE, 1)
    whole = load_dataset(path)
    for folder in ("images", "labels"):
        shutil.move(tmp_path / "data" / folder / "train", tmp_path / "store" / folder)
        (tmp_path / "data" / folder / "train").mkdir()
        (tmp_path / "data" / folder / "train" / "far").symlink_to(tmp_path / "store" / folder)
        (tmp_path / "store" / folder / "loop").symlink_to(tmp_path / "store" / folder)
        (tmp_path / "data" / folder / "train" / "up").symlink_to(tmp_path / "data")
    assert load_dataset(path).fingerprint() == whole.fingerprint()
    assert problems(path) == []


def test_a_folder_is_known_by_its_own_path_rather_than_by_a_link(tmp_path: Path) -> None:
    for name in ("b/1.txt", "b/c/2.txt", "b/c/3.md"):
        put(tmp_path / "root" / name, "")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "root" / "b")
    assert list_deep(tmp_path / "root", (".txt",)) == [
        tmp_path / "root" / "b" / "1.txt",
        tmp_path / "root" / "b" / "c" / "2.txt",
    ]
    assert list_deep(tmp_path / "nowhere", (".txt",)) == []


@pytest.mark.parametrize("linked", ["images", "labels_with_ids"])
def test_linked_folders_of_jde_are_entered(linked: str, tmp_path: Path) -> None:
    path = write_jde(tmp_path / "data", PEOPLE, 1)
    whole = load_dataset(path)
    shutil.move(path / "set" / linked / "train", tmp_path / "store")
    (path / "set" / linked / "train").symlink_to(tmp_path / "store")
    assert load_dataset(path).fingerprint() == whole.fingerprint()


def test_every_kind_of_image_that_is_tracked_is_learned_from(tmp_path: Path) -> None:
    assert {".jpg", ".png", ".tif", ".tiff", ".pgm", ".ppm", ".bmp", ".webp"} <= set(IMAGE_SUFFIXES)
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        put(tmp_path / "labels" / f"{number}.txt", "0 0.5 0.5 0.2 0.2\n")
        (tmp_path / "images").mkdir(exist_ok=True)
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / f"{number}{suffix}")
    put(tmp_path / "data.yaml", "train: .\nnames: [person]\n")  # and the folder itself is one
    assert load_dataset(tmp_path).num_boxes == len(IMAGE_SUFFIXES)


def test_labels_without_an_image_and_labels_of_two_are_remarked(tmp_path: Path) -> None:
    yolo = write_yolo(tmp_path / "yolo", PEOPLE, 1)
    put(tmp_path / "yolo" / "labels" / "train" / "far" / "9.txt", "0 0.5 0.5 0.2 0.2\n")
    put(tmp_path / "yolo" / "labels" / "val" / "8.txt", "0 0.5 0.5 0.2 0.2\n")  # of another part
    only(yolo, r"labels-without-image: .*labels/train: 1 label files have no image in .*images/train, first far/9\.txt", 3)
    shutil.rmtree(tmp_path / "yolo" / "labels" / "train" / "far")
    put(tmp_path / "yolo" / "images" / "train" / "000002.png", picture(".png"))
    only(yolo, r"labels-shared: .*000002\.png: shares its labels with 000002\.jpg; both are used", 4)
    jde = write_jde(tmp_path / "jde", PEOPLE, 1)
    put(jde / "set" / "images" / "train" / "000002.jpg", picture())
    only(jde, r"labels-shared: .*000002\.jpg: shares its labels with 000002\.png, which is used", 3)


def test_a_broken_description_is_reported_and_a_stranger_passed_over(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, PEOPLE, 1)
    put(tmp_path / "config.yaml", "[")
    assert load_dataset(tmp_path).num_boxes == 3
    put(path, "[")
    with pytest.raises(DataError, match=r"data\.yaml: broken YAML"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "description",
    [
        "train: images/train\nnames: [person, dog]",
        "path: .\ntrain: [images/train]\nnames:\n  0: person\n  1: dog",
        "train: ../images/train\nnames: [person, dog]",  # as Roboflow writes it
        "path: /elsewhere/data\ntrain: train.txt\nnames: [person, dog]",  # the data set was moved
    ],
)
def test_the_ways_to_name_yolo_images(description: str, tmp_path: Path) -> None:
    path = write_yolo(tmp_path, PEOPLE, 1)
    put(tmp_path / "train.txt", "./images/train/000001.jpg\n" + str(tmp_path / "images" / "train" / "000002.jpg") + "\n")
    put(path, description)
    for place in (path, tmp_path):
        dataset = load_dataset(place)
        assert (dataset.num_boxes, dataset.classes) == (3, ("person", "dog"))


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("train: [\n", "broken YAML"),
        ("train: 2024-99-99\nnames: [a]", "broken YAML"),
        ("train: images/train", "names is None, not a list of class names"),
        ("train: images/train\nnames: {1: person}", r"names has the keys \[1\]; class numbers must run from 0"),
        ("val: images/train\nnames: [person]", "train is None, not a folder or text file of images; there is val"),
        ("train: nowhere\nnames: [person]", r"'nowhere' does not exist in"),
        (
            "train: ../../nowhere\nnames: [person]",
            r"'\.\./\.\./nowhere' leads out of .*; pass the folder it is in with --images",
        ),
        ("train: /etc\nnames: [person]", r"'/etc' leads out of"),
    ],
)
def test_a_bad_yolo_description(description: str, message: str, tmp_path: Path) -> None:
    path = write_yolo(tmp_path, PEOPLE, 1)
    put(path, description)
    with pytest.raises(DataError, match=message):
        load_dataset(path)


def test_yolo_without_a_description_needs_names(tmp_path: Path) -> None:
    write_yolo(tmp_path, PEOPLE, 1).unlink()
    with pytest.raises(DataError, match=r"no data\.yaml with names and no classes\.txt"):
        load_dataset(tmp_path)
    put(tmp_path / "classes.txt", "person\ndog\n")
    assert load_dataset(tmp_path).classes == ("person", "dog")
    assert load_dataset(tmp_path).num_boxes == 3


def test_a_part_that_is_not_there_is_not_taken_for_all_images(tmp_path: Path) -> None:
    write_yolo(tmp_path, PEOPLE, 1).unlink()
    put(tmp_path / "classes.txt", "person\n")
    put(tmp_path / "images" / "validation" / "9.jpg", picture())
    assert len(load_dataset(tmp_path)) == 2
    with pytest.raises(DataError, match=r"images: there is no folder val \(there is train, validation\); rename one"):
        load_dataset(tmp_path, split="val")
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").rename(tmp_path / kind / "training")
    with pytest.raises(DataError, match=r"there is no folder train \(there is training, validation\)"):
        load_dataset(tmp_path)
    (tmp_path / "images" / "validation").rename(tmp_path / "images" / "more")
    assert len(load_dataset(tmp_path)) == 3


@pytest.mark.parametrize("description", ["path: images\ntrain: train\n", "train: ABSOLUTE\n"])
def test_labels_are_found_beside_an_image_folder_that_paths_begin_in(description: str, tmp_path: Path) -> None:
    path = write_yolo(tmp_path, PEOPLE, 1)
    put(path, description.replace("ABSOLUTE", str(tmp_path / "images" / "train")) + "names: [person]")
    images = tmp_path / "images" if "ABSOLUTE" in description else None
    assert load_dataset(path, images).num_boxes == 3
    assert problems(path, images=images) == []


@pytest.mark.parametrize(
    ("row", "pattern"),
    [
        ("0 0.5 0.5 0.2 0.2", r"000001\.txt:1: 5 columns .* expected 6: class, identity, centre x"),
        ("3 1 0.5 0.5 0.2 0.2", r"000001\.txt:1: class 3; this layout has one class, 0"),
        ("0 -1 500 300 50 90", "box-not-fraction"),
    ],
)
def test_a_bad_row_of_jde(row: str, pattern: str, tmp_path: Path) -> None:
    path = write_jde(tmp_path, PEOPLE, 1)
    put(path / "set" / "labels_with_ids" / "train" / "000001.txt", row)
    only(path, pattern, 1)


def test_a_jde_list_names_its_images(tmp_path: Path) -> None:
    write_jde(tmp_path / "data", PEOPLE, 1)
    listed = put(tmp_path / "lists" / "mine.train", "data/set/images/train/000002.png\ndata/set/images/train/000001.png\n")
    dataset = load_dataset(listed, tmp_path, format="jde")
    assert [image.path.name for image in dataset.images] == ["000001.png", "000002.png"]
    assert dataset.num_boxes == 3
    beside = put(tmp_path / "mine.train", listed.read_text())
    assert load_dataset(beside).fingerprint() == dataset.fingerprint()  # told by its signs


def test_visdrone_categories(tmp_path: Path) -> None:
    write_visdrone(tmp_path, [[], PEOPLE[1]], 1)
    rows = [f"5,6,20,40,{int(category not in (0, 11))},{category},0,0" for category in range(13)] + ["5,6,20,40,0,4,0,0"]
    put(tmp_path / "annotations" / "0000001.txt", "\n".join(rows))
    only(tmp_path, r"0000001\.txt:13: category 12 is not one of VisDrone's 0 to 11", 14)
    image = load_dataset(tmp_path, skip_bad=True).images[0]
    assert image.class_id.tolist() == [ANY_CLASS, *range(10), ANY_CLASS, 3]
    assert image.ignore.tolist() == [True, *[False] * 10, True, True]


def test_visdrone_video_frames(tmp_path: Path) -> None:
    write_visdrone_video(tmp_path, PEOPLE, 1)
    (tmp_path / "sequences" / "uav01" / "0000001.jpg").unlink()
    missing = f"frame 1 has no image in {tmp_path / 'sequences' / 'uav01'}"
    place = tmp_path / "annotations" / "uav01.txt"
    assert problems(tmp_path) == [f"annotation-without-image: {place}:{line}: {missing}" for line in (1, 2)]
    assert load_dataset(tmp_path, skip_bad=True).annotation_id.tolist() == [1_000_002_000_003]
    put(tmp_path / "annotations" / "uav02.txt", "1,1,5,6,20,40,1,1,0,0\n")
    assert any("image-missing" in line and "no frames in" in line for line in problems(tmp_path))
