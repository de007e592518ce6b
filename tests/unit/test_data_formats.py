"""What each layout alone has: its records, its file names, its parts."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io

from layouts import (
    HEIGHT,
    LAYOUTS,
    WIDTH,
    Box,
    matlab_cell,
    matlab_structs,
    picture,
    put,
    write_caltech,
    write_citypersons,
    write_crowdhuman,
    write_cuhk_sysu,
    write_eth,
    write_jde,
    write_prw,
    write_visdrone,
    write_visdrone_video,
    write_yolo,
)
from tdtrack.data import load_dataset, reading
from tdtrack.data.load import inspect_dataset
from tdtrack.data.reading import IMAGE_SUFFIXES, list_deep
from tdtrack.data.seq import read_seq, unpack_caltech
from tdtrack.errors import DataError

AACHEN = "aachen_000001_000019_leftImg8bit.png"
PEOPLE = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)], [Box(1, 2, 30, 20)]]


def problems(path: Path, **how: object) -> list[str]:
    return [f"{problem.kind}: {problem}" for problem in inspect_dataset(path, **how)[2]]  # type: ignore[arg-type]


def left(path: Path, **how: object) -> list[str]:
    """The images that are left when what is bad is skipped."""
    return [image.path.name for image in load_dataset(path, skip_bad=True, **how).images]  # type: ignore[arg-type]


def only(path: Path, pattern: str, boxes: int, **how: object) -> None:
    """One problem, by its words, and the boxes that are left without it."""
    found = problems(path, **how)
    assert len(found) == 1, found
    assert re.search(pattern, found[0]), found[0]
    assert load_dataset(path, skip_bad=True, **how).num_boxes == boxes  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- CrowdHuman


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


# ------------------------------------------------------------------------------------------------------- CityPersons


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


# ----------------------------------------------------------------------------------------------------------- Caltech


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


# --------------------------------------------------------------------------------------------------------------- ETH


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


# --------------------------------------------------------------------------------------------------- CUHK-SYSU and PRW


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


# ------------------------------------------------------------------------------------------- YOLO, JDE and VisDrone


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
    assert image.class_id.tolist() == [0, *range(10), 0, 3]
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
