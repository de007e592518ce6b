"""MOTChallenge folders and the MOT text form."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tdtrack.benchmarks import BENCHMARKS, known_sequence, named_sequences
from tdtrack.data import load_dataset
from tdtrack.data.doctor import inspect
from tdtrack.data.load import inspect_dataset
from tdtrack.data.mot import SequenceInfo, find_sequences, read_mot_rows, read_sequence, read_sequence_info
from tdtrack.errors import ConfigError, DataError

SEQINFO = "[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength={length}\nimWidth=100\nimHeight=80\nimExt=.jpg\n"
GT17 = """\
1,1,10,20,30,40,1,1,0.5
1,2,50,20,30,40,0,1,0.5
1,3,50,20,30,40,0,8,1
1,4,50,20,30,40,0,3,1
2,1,-5,20,30,40,1,1,1

9,1,10,20,30,40,1,1,1
"""


def make_sequence(
    root: Path, name: str = "MOT17-02-DPM", frames: tuple[int, ...] = (1, 2), gt: str = GT17, length: int = 20
) -> Path:
    folder = root / name
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    (folder / "seqinfo.ini").write_text(SEQINFO.format(name=name, length=length))
    (folder / "gt" / "gt.txt").write_text(gt)
    for frame in frames:
        PIL.Image.new("RGB", (100, 80)).save(folder / "img1" / f"{frame:06d}.jpg")
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_nine_columns_are_flag_class_visibility(tmp_path: Path) -> None:
    rows = read_mot_rows(write(tmp_path / "gt.txt", GT17))
    assert len(rows) == 6
    assert rows.frame_index.tolist() == [0, 0, 0, 0, 1, 8]
    assert rows.track_id.tolist() == [1, 2, 3, 4, 1, 1]
    assert rows.class_id.tolist() == [1, 1, 8, 3, 1, 1]
    assert rows.visibility.tolist() == [0.5, 0.5, 1, 1, 1, 1]
    assert rows.score.tolist() == [1, 0, 0, 0, 1, 1]
    assert rows.line.tolist() == [1, 2, 3, 4, 5, 7]  # an empty line counts
    np.testing.assert_array_equal(rows.tlwh[4], [-5, 20, 30, 40])


def test_ten_columns_end_in_world_coordinates(tmp_path: Path) -> None:
    rows = read_mot_rows(write(tmp_path / "gt.txt", "1,1,2,3,4,5,1,-3.1784,16.34,0.45\n1,2,2,3,4,5,0,nan,1,1\n"))
    assert rows.class_id.tolist() == [-1, -1]
    assert rows.visibility.tolist() == [1, 1]
    assert rows.score.tolist() == [1, 0]


@pytest.mark.parametrize(
    "text", ["69,-1,912.8,482.9,97.6,112.6,0.9\n", "69 -1 912.8 482.9 97.6 112.6 0.9", "69,-1,912.8,482.9,97.6,112.6,0.9,\n\n"]
)
def test_detections_have_seven_columns(tmp_path: Path, text: str) -> None:
    rows = read_mot_rows(write(tmp_path / "det.txt", text))
    assert (rows.frame_index[0], rows.track_id[0], rows.score[0]) == (68, -1, 0.9)
    np.testing.assert_array_equal(rows.tlwh, [[912.8, 482.9, 97.6, 112.6]])


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert len(read_mot_rows(write(tmp_path / "gt.txt", "\n"))) == 0


GOOD = "1,1,2,3,4,5,1,1,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,2,3,4\n", r"gt\.txt:1: 5 columns '1,1,2,3,4'; a MOT file has 7: frame, id"),
        (GOOD + "1,1,2,3,4,5,1\n", r"gt\.txt:2: 7 columns .* the lines before have 9"),
        (GOOD + "\n1,1,2,abc,4,5,1,1,1\n", r"gt\.txt:3: top 'abc' is not a number"),
        (GOOD + "1,1,2,,4,5,1,1,1\n", r"gt\.txt:2: top '' is not a number"),
        (GOOD + "1,1,2,nan,4,5,1,1,1\n", r"gt\.txt:2: .*not a finite number"),
        (GOOD + "0,1,2,3,4,5,1,1,1\n", r"gt\.txt:2: frame 0; MOT files count frames from 1"),
        (GOOD + "1.5,1,2,3,4,5,1,1,1\n", r"gt\.txt:2: frame 1\.5 is not a whole number"),
        (GOOD + "1,0.5,2,3,4,5,1,1,1\n", r"gt\.txt:2: id 0\.5 is not a whole number"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_mot_rows(write(tmp_path / "gt.txt", text))


def test_a_file_that_is_missing_or_binary_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gt\.txt: cannot read the MOT file: No such file"):
        read_mot_rows(tmp_path / "gt.txt")
    (tmp_path / "gt.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="is not text"):
        read_mot_rows(tmp_path / "gt.txt")


def test_seqinfo_has_defaults(tmp_path: Path) -> None:
    info = read_sequence_info(
        write(tmp_path / "seqinfo.ini", "[Sequence]\nframeRate=29.97\nseqLength=5\nimWidth=6\nimHeight=7\n")
    )
    assert (info.name, info.frame_rate, info.length, info.width, info.height) == (tmp_path.name, 29.97, 5, 6, 7)
    assert (info.image_dir, info.image_ext) == ("img1", ".jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"section \[Sequence\] is missing"),
        ("name=x\n", "not an INI file"),
        (SEQINFO.replace("frameRate=25\n", "").format(name="a", length=3), "key frameRate is missing"),
        (SEQINFO.replace("25", "fast").format(name="a", length=3), "frameRate is 'fast'; it must be a positive number"),
        (SEQINFO.format(name="a", length="2.5"), "seqLength is '2.5'; it must be a positive whole number"),
        (SEQINFO.format(name="a", length="0"), "seqLength is '0'"),
    ],
)
def test_a_bad_seqinfo_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sequence_info(write(tmp_path / "seqinfo.ini", text))


def test_frames_that_exist_are_listed_with_their_index(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path, frames=(7, 3, 12))
    (folder / "img1" / "thumbs.db").write_text("")
    (folder / "img1" / "._000003.jpg").write_text("")
    sequence = read_sequence(folder)
    assert [path.name for path in sequence.frames] == ["000003.jpg", "000007.jpg", "000012.jpg"]
    assert sequence.frame_index.tolist() == [2, 6, 11]


def test_frames_must_be_numbered_once(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    (folder / "img1" / "1.jpg").write_text("")
    with pytest.raises(DataError, match="this is frame 1, and so is"):
        read_sequence(folder)
    (folder / "img1" / "1.jpg").rename(folder / "img1" / "first.jpg")
    with pytest.raises(DataError, match=r"first\.jpg: the name of a frame must be its number"):
        read_sequence(folder)


def test_sequences_are_found_in_a_folder_or_as_it(tmp_path: Path) -> None:
    make_sequence(tmp_path, "b")
    folder = make_sequence(tmp_path, "a")
    assert [sequence.info.name for sequence in find_sequences(tmp_path)] == ["a", "b"]
    assert [sequence.info.name for sequence in find_sequences(folder)] == ["a"]
    with pytest.raises(DataError, match="no MOT sequence here"):
        find_sequences(folder / "gt")
    with pytest.raises(DataError, match="there is no such folder"):
        find_sequences(tmp_path / "nope")


def test_a_detection_data_set_forgets_identities(tmp_path: Path) -> None:
    make_sequence(tmp_path, "a", frames=(2, 1))
    dataset = load_dataset(tmp_path)
    first, second = dataset.images
    assert [image.image_id for image in dataset.images] == [1_000_001, 1_000_002]
    assert first.annotation_id.tolist() == [1_000_000_001, 1_000_000_002, 1_000_000_003]
    assert first.ignore.tolist() == [False, True, True]  # pedestrian, unflagged pedestrian, distractor; the car is background
    np.testing.assert_array_equal(second.xyxy, [[0, 20, 25, 60]])  # cut at the border
    assert dataset.classes == ("person",)
    assert [problem.kind for problem in inspect_dataset(tmp_path)[2]] == ["box-clipped"]


def test_mot15_flags_without_classes(tmp_path: Path) -> None:
    make_sequence(tmp_path, "a", gt="1,1,10,20,30,40,1,-1,-1,-1\n1,2,10,20,30,40,0,1.5,2,3\n")
    assert load_dataset(tmp_path).images[0].ignore.tolist() == [False, True]
    make_sequence(tmp_path / "more", "a", gt="1,1,10,20,30,40,-1,-1,-1,-1\n1,2,10,20,30,40,0.9,-1,-1,-1\n")
    assert load_dataset(tmp_path / "more").images[0].ignore.tolist() == [False, False]  # any but 0 counts, as in evaluation


def test_the_copies_of_a_mot17_scene_are_read_once(tmp_path: Path) -> None:
    for detector in ("DPM", "FRCNN", "SDP"):
        make_sequence(tmp_path, f"MOT17-02-{detector}")
    _, dataset, problems = inspect_dataset(tmp_path)
    assert dataset is not None
    assert len(dataset) == 2
    assert [problem.kind for problem in problems if problem.kind != "box-clipped"] == ["scene-twice", "scene-twice"]
    assert len(load_dataset(tmp_path)) == 2


@pytest.mark.parametrize("kept", ["DPM", "FRCNN", "SDP"])
def test_the_copy_of_a_mot17_scene_that_has_frames_is_read(kept: str, tmp_path: Path) -> None:
    for detector in ("DPM", "FRCNN", "SDP"):
        make_sequence(tmp_path, f"MOT17-02-{detector}", frames=(1, 2) if detector == kept else ())
        make_sequence(tmp_path, f"MOT17-04-{detector}")
    _, dataset, problems = inspect_dataset(tmp_path)
    assert dataset is not None
    used = [f"MOT17-02-{kept}", "MOT17-04-DPM"]
    assert [image.path.parent.parent.name for image in dataset.images] == [name for name in sorted(used) for _ in range(2)]
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert {image.image_id // 1_000_000 for image in dataset.images} == {1 + folders.index(name) for name in used}
    said = {Path(problem.where).name: problem.message for problem in problems if problem.kind == "scene-twice"}
    assert set(said) == set(folders) - set(used)
    assert all(f"as {used[name.startswith('MOT17-04')]}, which is used" in message for name, message in said.items())


def test_of_two_copies_with_frames_the_one_with_ground_truth_is_read(tmp_path: Path) -> None:
    (make_sequence(tmp_path, "MOT17-02-DPM") / "gt" / "gt.txt").unlink()
    make_sequence(tmp_path, "MOT17-02-FRCNN")
    assert {image.path.parent.parent.name for image in load_dataset(tmp_path).images} == {"MOT17-02-FRCNN"}


def test_a_sequence_with_boxes_but_without_frames_is_refused(tmp_path: Path) -> None:
    make_sequence(tmp_path, "a", frames=())
    PIL.Image.new("RGB", (100, 80)).save(tmp_path / "a" / "img1" / "000001.png")
    make_sequence(tmp_path, "b")
    with pytest.raises(
        DataError, match=r"/a: gt\.txt has 6 boxes but img1 no \.jpg image: add the frames, or mend imExt; fix it"
    ):
        load_dataset(tmp_path)
    assert {image.path.parent.parent.name for image in load_dataset(tmp_path, skip_bad=True).images} == {"b"}
    ini = tmp_path / "a" / "seqinfo.ini"
    ini.write_text(ini.read_text().replace("imExt=.jpg", "imExt=png"))  # without its dot
    assert len(load_dataset(tmp_path)) == 3


def test_classes_that_mot_does_not_have_are_refused(tmp_path: Path) -> None:
    rows = [f"1,{number},10,20,30,40,1,{number},1\n" for number in (-1, *range(15))]
    make_sequence(tmp_path, "a", gt="".join(rows) + "2,1,10,20,30,40,1,99,1\n")
    found = [problem for problem in inspect_dataset(tmp_path)[2] if problem.dropped]
    assert [problem.kind for problem in found] == ["unknown-class"] * 3
    with pytest.raises(DataError, match=r"a/gt/gt\.txt:2: class 0 is not one of MOTChallenge's 1 to 13; fix it or pass"):
        load_dataset(tmp_path)
    (image,) = load_dataset(tmp_path, skip_bad=True).images  # frame 2 is not known to be empty
    # People are -1 and 1, on lines 1 and 3; distractors, ignored, 2, 7, 8, 12 and 13.
    assert (image.annotation_id - 1_000_000_000).tolist() == [1, 3, 4, 9, 10, 14, 15]
    assert image.ignore.tolist() == [False] * 2 + [True] * 5
    assert inspect(tmp_path).facts["sequences"][0]["on vehicles and occluders, left out"] == 7


MOT15_ROW = "1,1,10,20,30,40,1,-1,-1,-1\n"


def test_mot15_is_read_as_published_without_seqinfo(tmp_path: Path) -> None:
    for name in ("KITTI-17", "AVG-TownCentre"):
        (make_sequence(tmp_path, name, gt=MOT15_ROW) / "seqinfo.ini").unlink()
    town, kitti = find_sequences(tmp_path)
    assert kitti.info == SequenceInfo("KITTI-17", 10.0, 145, 100, 80)
    assert (town.info.name, town.info.frame_rate, town.info.length) == ("AVG-TownCentre", 2.5, 450)
    assert load_dataset(tmp_path).num_boxes == 2
    assert load_dataset(tmp_path / "KITTI-17").num_boxes == 1
    shutil.rmtree(tmp_path / "KITTI-17" / "img1")
    (tmp_path / "KITTI-17" / "img1").mkdir()
    with pytest.raises(
        DataError, match=r"no seqinfo\.ini, and no \.jpg image in img1 to tell the size by; write .*KITTI-17/seqinfo"
    ):
        load_dataset(tmp_path)


def test_what_an_unknown_sequence_without_seqinfo_needs_is_said_and_is_enough(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path, "mine", gt=MOT15_ROW)
    (folder / "seqinfo.ini").unlink()
    with pytest.raises(
        DataError, match=r"mine is no sequence of MOTChallenge; write .*mine/seqinfo\.ini with the lines "
    ) as caught:
        load_dataset(tmp_path)
    lines = re.findall(r"\[Sequence\]|\w+=(?=\()", str(caught.value))
    (folder / "seqinfo.ini").write_text("".join(f"{line}100\n" if line.endswith("=") else f"{line}\n" for line in lines))
    assert read_sequence_info(folder / "seqinfo.ini").length == 100


def test_known_lengths_and_rates_are_those_of_real_sequences(shared_data: Path) -> None:
    checked = set()
    for path in shared_data.glob("*/*/seqinfo.ini"):
        info = read_sequence_info(path)
        if path.parent.parent.name != "mot15-half" and (known := known_sequence(info.name)):
            assert known == (info.length, info.frame_rate)
            checked.add(info.name)
    assert len(checked) >= 15


def test_every_sequence_of_every_benchmark_has_a_rate() -> None:
    names = [name for benchmark in BENCHMARKS.values() for name in benchmark.sequences("all")]
    assert len(names) == 22 + 14 + 42 + 8
    assert all(known_sequence(name) is not None for name in names)
    assert known_sequence("mine") is None


def test_a_named_set_takes_its_sequences_and_keeps_the_ids(tmp_path: Path) -> None:
    names = named_sequences("MOT15-val")
    gt = "1,1,10,20,30,40,1,-1,-1,-1\n"
    for name in (*names, "Venice-2"):
        make_sequence(tmp_path, name, gt=gt)
    whole, part = load_dataset(tmp_path), load_dataset(tmp_path, split="MOT15-val")
    assert (len(whole), len(part), part.name) == (14, 12, "MOT15-val")
    assert set(part.annotation_id) < set(whole.annotation_id)
    assert all(image.path.parent.parent.name in names for image in part.images)
    shutil.rmtree(tmp_path / "KITTI-13")
    with pytest.raises(DataError, match="KITTI-13 of MOT15-val are not here; name the folder that holds all of MOT15-val"):
        load_dataset(tmp_path, split="MOT15-val")
    with pytest.raises(ConfigError, match="MOT has no split 'val'; its splits are MOT15-train, "):
        load_dataset(tmp_path, split="val")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seqLength=1000000", "seqLength is 1000000; a sequence may have 999999 frames, split it"),
        ("imDir=../other", r"imDir '\.\./other' leads out of the sequence's folder"),
        ("imDir=/etc", "imDir '/etc' leads out"),
        ("name=../out", r"name is '\.\./out'; results are called by it, so it must be a plain file name"),
        ("name=a/b", "name is 'a/b'"),
    ],
)
def test_a_seqinfo_that_asks_for_too_much_is_refused(line: str, message: str, tmp_path: Path) -> None:
    folder = make_sequence(tmp_path)
    key = line.partition("=")[0]
    lines = [line if old.startswith(f"{key}=") else old for old in (folder / "seqinfo.ini").read_text().splitlines()]
    (folder / "seqinfo.ini").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        read_sequence(folder)


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ("1,9,10,20,0,40,1,1,1", "box-without-area", "has no width"),
        ("1,9,100,20,30,40,1,1,1", "box-outside-image", "lies outside its 100x80 image"),
        ("21,9,10,20,30,40,1,1,1", "frame-beyond-end", "frame 21 lies beyond the 20 frames"),
    ],
)
def test_a_bad_row_stops_reading_or_is_skipped(tmp_path: Path, row: str, kind: str, message: str) -> None:
    make_sequence(tmp_path, "a", gt=f"1,1,10,20,30,40,1,1,1\n{row}\n")
    assert [problem.kind for problem in inspect_dataset(tmp_path)[2]] == [kind]
    with pytest.raises(DataError, match=rf"a/gt/gt\.txt:2: .*{message}.*; fix it or pass --skip-bad-boxes"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, skip_bad=True).annotation_id.tolist() == [1_000_000_001]


def test_an_unreadable_frame_stops_reading_or_is_skipped(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path, "a")
    (folder / "img1" / "000002.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"a: frame 2: image file .* not an image of a known format"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path, skip_bad=True)) == 1


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path, "a")
    PIL.Image.new("RGB", (80, 100)).save(folder / "img1" / "000001.jpg")
    with pytest.raises(DataError, match="is 80x100, the annotations say 100x80; its orientation tag turns it"):
        load_dataset(tmp_path)


def test_empty_sequences_are_refused(tmp_path: Path) -> None:
    folder = make_sequence(tmp_path, "a", frames=())
    with pytest.raises(DataError, match="no images; a sequence keeps its frames in img1"):
        load_dataset(tmp_path)
    PIL.Image.new("RGB", (100, 80)).save(folder / "img1" / "000005.jpg")
    with pytest.raises(DataError, match="1 images but no boxes"):
        load_dataset(tmp_path)
    (folder / "gt" / "gt.txt").unlink()
    with pytest.raises(DataError, match=r"gt\.txt: cannot read the MOT file"):
        load_dataset(tmp_path)


def test_a_folder_brings_its_own_images(tmp_path: Path) -> None:
    make_sequence(tmp_path, "a")
    with pytest.raises(ConfigError, match="leave --images x out"):
        load_dataset(tmp_path, "x")


def test_real_mot15_half(shared_data: Path) -> None:
    sequence = read_sequence(shared_data / "mot15-half" / "ADL-Rundle-6")
    rows = sequence.ground_truth()
    assert (len(rows), len(np.unique(rows.track_id)), len(sequence.frames)) == (2264, 16, 262)
    assert len(sequence.detections()) > 2000
    dataset = load_dataset(shared_data / "mot15-half")
    assert (len(dataset), dataset.num_boxes) == (262, 2264)
    assert not any(image.ignore.any() for image in dataset.images)


def test_real_mot17_mini(shared_data: Path) -> None:
    assert len(find_sequences(shared_data / "mot17-mini")) == 7
    dataset = load_dataset(shared_data / "mot17-mini")
    assert sum(int((~image.ignore).sum()) for image in dataset.images) == 814
    assert len(dataset) == 39


def test_real_replay_ground_truth_is_read(shared_data: Path) -> None:
    sequences = find_sequences(shared_data / "replay")
    assert len(sequences) == 8
    for sequence in sequences:
        assert sequence.frames == ()
        rows = sequence.ground_truth()
        assert rows.frame_index.max() < sequence.info.length
        assert set(np.unique(rows.class_id)) <= ({-1} if not sequence.info.name.startswith("MOT17") else set(range(1, 14)))
