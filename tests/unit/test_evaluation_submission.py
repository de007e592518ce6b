"""Benchmarks by name, and submissions checked to the last row."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tdtrack import cli
from tdtrack.benchmarks import BENCHMARKS, named_sequences, scene_of, sequence_sets
from tdtrack.errors import ConfigError, DataError, OutputError
from tdtrack.evaluation.submission import check_submission, write_submission

ROW = "1,1,10,20,30,40,0.9,-1,-1,-1\n"


def results(folder: Path, benchmark: str = "MOT20", split: str = "test", text: str = ROW) -> Path:
    folder.mkdir(exist_ok=True)
    for name in BENCHMARKS[benchmark].sequences(split):
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_the_benchmarks_have_their_sequences() -> None:
    counts = {name: (len(benchmark.train), len(benchmark.test)) for name, benchmark in BENCHMARKS.items()}
    assert counts == {"MOT15": (11, 11), "MOT16": (7, 7), "MOT17": (21, 21), "MOT20": (4, 4)}
    frames = {name: (sum(benchmark.train.values()), sum(benchmark.test.values())) for name, benchmark in BENCHMARKS.items()}
    # Frames as the benchmarks' papers count them.
    assert frames["MOT15"] == (5500, 5783)
    assert frames["MOT16"] == (5316, 5919)
    assert frames["MOT17"] == (3 * 5316, 3 * 5919)
    assert frames["MOT20"] == (8931, 4479)


def test_the_lengths_are_those_of_real_sequences(shared_data: Path) -> None:
    from tdtrack.data.mot import find_sequences

    found = [sequence.info for folder in ("mot17-mini", "mot15-half") for sequence in find_sequences(shared_data / folder)]
    known = {name: length for benchmark in BENCHMARKS.values() for name, length in benchmark.sequences("all").items()}
    assert len(found) == 8
    for info in found:
        assert info.length in (known[info.name], 262)  # the half sequence says so


def test_sets_are_known_by_name() -> None:
    assert len(sequence_sets()) == 15
    assert named_sequences("mot15-val") == (
        "ETH-Sunnyday",
        "KITTI-13",
        "KITTI-17",
        "PETS09-S2L1",
        "TUD-Campus",
        "TUD-Stadtmitte",
    )
    assert set(named_sequences("MOT15-val")) < set(BENCHMARKS["MOT15"].train)
    assert len(named_sequences("MOT17-train")) == 21
    assert named_sequences("MOT17-test-SDP")[:2] == ("MOT17-01-SDP", "MOT17-03-SDP")
    assert len({scene_of(name) for name in named_sequences("MOT17-train")}) == 7
    assert named_sequences("a, b") == ("a", "b")
    with pytest.raises(ConfigError, match="pass names with commas between them, or one of MOT15-train"):
        named_sequences("a,,b")


def test_the_validation_set_shares_no_recording_with_mot17() -> None:
    twins = {name for name, length in BENCHMARKS["MOT15"].train.items() if length in BENCHMARKS["MOT16"].train.values()}
    assert twins == {"Venice-2", "ETH-Pedcross2", "ADL-Rundle-6", "ADL-Rundle-8"}
    assert not twins & set(named_sequences("MOT15-val"))


def test_a_submission_is_flat_complete_and_the_same_each_time(tmp_path: Path) -> None:
    folder = results(tmp_path / "results")
    (folder / "notes.txt").write_text("not asked for")
    first = write_submission(folder, "mot20", tmp_path / "a.zip")
    write_submission(folder, "MOT20", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["MOT20-04.txt", "MOT20-06.txt", "MOT20-07.txt", "MOT20-08.txt"]
        assert archive.read("MOT20-04.txt").decode() == ROW
    assert dict(first.rows) == {"MOT20-04": 1, "MOT20-06": 1, "MOT20-07": 1, "MOT20-08": 1}
    assert check_submission(tmp_path / "a.zip", "MOT20").rows == first.rows


def test_one_result_of_a_scene_stands_for_all_detectors(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    (folder / "data").mkdir(parents=True)
    for scene in {scene_of(name) for name in BENCHMARKS["MOT17"].test}:
        (folder / "data" / f"{scene}.txt").write_text(ROW)
    (folder / "MOT17-01-SDP.txt").write_text(ROW + ROW.replace("1,1,", "2,1,", 1))
    rows = write_submission(folder, "MOT17", tmp_path / "a.zip").rows
    assert len(rows) == 21
    assert (rows["MOT17-01-DPM"], rows["MOT17-01-FRCNN"], rows["MOT17-01-SDP"]) == (1, 1, 2)


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_each_split_wants_its_own_sequences(split: str, tmp_path: Path) -> None:
    folder = results(tmp_path / "results", "MOT16", split)
    assert len(write_submission(folder, "MOT16", tmp_path / "a.zip", split=split).rows) == {"all": 14}.get(split, 7)
    other = {"train": "test", "test": "train", "all": "test"}[split]
    with pytest.raises(DataError, match=r"MOT16-\d+"):
        check_submission(tmp_path / "a.zip", "MOT16", split=other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"MOT20-06\.txt: no rows"),
        ("1,1,10,20,30,40,0.9,-1,-1\n", r"MOT20-06\.txt:1: 9 columns; a submission has 10"),
        (ROW + "1009,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: frame 1009 is beyond the 1008 frames of MOT20-06"),
        (ROW + "0,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: frames count from 1"),
        (ROW + "1.5,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: frame and id must be whole numbers"),
        (ROW + "2,0,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: id 0; ids of a submission count from 1"),
        (ROW + "2,-1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: ids must not be negative"),
        (ROW + ROW, r"MOT20-06\.txt:2: id 1 is already in frame 1 \(line 1\)"),
        (ROW + "2,1,10,20,0,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: a box of 0 x 40 pixels"),
        (ROW + "2,1,10,20,nan,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: a field is not a finite number"),
        (ROW + "2,1,1e9,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: box \[1000000000\.0, .* is not in pixels of a frame"),
        (ROW + "2,1,10,20,30,forty,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: column 6 is 'forty', not a number"),
        (ROW + "2,1,10,20\n", r"MOT20-06\.txt:2: 4 columns"),
        (
            ROW + "10000000000000000000,1,10,20,30,40,0.9,-1,-1,-1\n",
            r"MOT20-06\.txt:2: .* between -2\*\*53 .* are 1e\+19, 1, 10",
        ),
        (ROW + "1e300,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: .* between -2\*\*53 .* are 1e\+300, 1, 10"),
        (ROW + "2,9007199254740993,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: .* between -2\*\*53 .* are 2, 9.0072e\+15"),
        (ROW + "2 1 10 20 30 40 0.9 -1 -1 -1\n", r"MOT20-06\.txt:2: '2 1 10 .* has blanks between its columns"),
        ("2 1 10 20 30 40 0.9 -1 -1 -1\n" + ROW, r"MOT20-06\.txt:2: '1,1,10,.* has commas between its columns"),
        (ROW.replace("\n", ",\n"), r"MOT20-06\.txt:1: a comma ends the row"),
        (ROW + "1_0,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: '1_0,1,10,.*' holds '_'"),
        (ROW + "\u0662,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:2: '\u0662,1,10,.*' holds '\u0662'"),
        (ROW + "\n".join([ROW[:-1]] * 2).replace("\n1,", "\x0c2,"), r"MOT20-06\.txt:2: '1,1,10,.*' holds '\\x0c'"),
        (ROW[:-1] + "\u20282,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:1: '1,1,10,.*' holds '\\u2028'"),
        (ROW[:-1] + "\r2,1,10,20,30,40,0.9,-1,-1,-1\n", r"MOT20-06\.txt:1: '1,1,10,.*' holds '\\r'"),
    ],
)
def test_a_bad_row_is_named_in_the_folder_and_in_the_zip(text: str, message: str, tmp_path: Path) -> None:
    folder = results(tmp_path / "results")
    (folder / "MOT20-06.txt").write_bytes(text.encode())
    with pytest.raises(DataError, match=message):
        write_submission(folder, "MOT20", tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    with pytest.raises(DataError, match=message):
        check_submission(tmp_path / "mine.zip", "MOT20")


def test_line_ends_of_windows_and_blanks_between_columns_are_taken(tmp_path: Path) -> None:
    rows = ROW + ROW.replace("1,1,", "2,1,", 1)
    for text in (rows.replace("\n", "\r\n"), rows.replace(",", " "), rows.replace(",", ", ")[:-1]):
        folder = results(tmp_path / "results", text=text)
        assert set(write_submission(folder, "MOT20", tmp_path / "a.zip").rows.values()) == {2}


@pytest.mark.parametrize("text", ["\n" + ROW, ROW + "\n", ROW + " \n" + ROW.replace("1,1,", "2,1,", 1), "\ufeff" + ROW])
def test_what_stops_the_server_is_mended_in_writing_and_refused_in_a_zip(text: str, tmp_path: Path) -> None:
    from trackeval.datasets import MotChallenge2DBox
    from trackeval.utils import TrackEvalException

    folder = results(tmp_path / "results", text=text)
    write_submission(folder, "MOT20", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    with pytest.raises(DataError, match=r"MOT20-04\.txt:\d: (a blank line|.* holds '\\ufeff')"):
        check_submission(tmp_path / "mine.zip", "MOT20")

    def read(name: str) -> float:
        rows, _ = MotChallenge2DBox._load_simple_text_file("MOT20-04.txt", is_zipped=True, zip_file=str(tmp_path / name))
        return float(rows["1"][0][2])

    assert read("a.zip") == 10
    with pytest.raises((TrackEvalException, KeyError)):
        read("mine.zip")


def test_missing_sequences_are_listed(tmp_path: Path) -> None:
    folder = results(tmp_path / "results")
    (folder / "MOT20-04.txt").unlink()
    (folder / "MOT20-07.txt").unlink()
    with pytest.raises(DataError, match="no results for 2 of 4 sequences of MOT20 test: MOT20-04, MOT20-07; expected"):
        write_submission(folder, "MOT20", tmp_path / "a.zip")
    with pytest.raises(DataError, match="there is no such folder of results"):
        write_submission(tmp_path / "nowhere", "MOT20", tmp_path / "a.zip")
    with pytest.raises(ConfigError, match="unknown benchmark 'MOT18'; choose one of MOT15, MOT16, MOT17, MOT20"):
        write_submission(folder, "MOT18", tmp_path / "a.zip")
    with pytest.raises(ConfigError, match="MOT20 has no split 'dev'"):
        write_submission(folder, "MOT20", tmp_path / "a.zip", split="dev")
    with pytest.raises(OutputError, match="cannot write"):
        write_submission(results(tmp_path / "results"), "MOT20", tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["data/MOT20-04.txt"], r"data/MOT20-04\.txt lies in a folder"),
        (["MOT20-01.txt"], r"MOT20-01\.txt is no file of MOT20 test"),
        (["MOT20-04.txt", "MOT20-04.txt"], r"MOT20-04\.txt is in the zip twice"),
        (["MOT20-04.txt", "MOT20-06.txt"], r"2 of 4 files of MOT20 test are missing: MOT20-07\.txt, MOT20-08\.txt"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_of_another_layout_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in names:
            archive.writestr(name, ROW)
    with pytest.raises(DataError, match=message):
        check_submission(tmp_path / "mine.zip", "MOT20")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"text", b"PK\3\4"):
        (tmp_path / "mine.zip").write_bytes(content)
        with pytest.raises(DataError, match=r"mine\.zip: damaged, or not a zip"):
            check_submission(tmp_path / "mine.zip", "MOT20")
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.zip: No such file"):
        check_submission(tmp_path / "nowhere.zip", "MOT20")
    write_submission(results(tmp_path / "results"), "MOT20", tmp_path / "a.zip")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"MOT20-04.txt") + 14] ^= 0xFF  # inside the first file
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip"):
        check_submission(tmp_path / "a.zip", "MOT20")


def test_a_zip_with_any_byte_changed_is_refused_or_holds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    rows = write_submission(results(tmp_path / "results", text=ROW + ROW.replace("1,1,", "2,7,", 1)), "MOT20", path).rows
    content = path.read_bytes()
    refused = 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        try:
            assert check_submission(path, "MOT20").rows == rows
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > len(content) / 2  # dates and attributes do not matter


def test_only_what_every_unzip_unpacks_is_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w", zipfile.ZIP_BZIP2) as archive:
        for path in results(tmp_path / "results").iterdir():
            archive.write(path, path.name)
    with pytest.raises(DataError, match=r"mine\.zip: MOT20-04\.txt is packed by method 12; pack it by deflate"):
        check_submission(tmp_path / "mine.zip", "MOT20")


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path / "results")
    out = tmp_path / "mine.zip"
    assert cli.main(["submit", str(folder), "--benchmark", "MOT20", "--out", str(out)]) == 0
    assert "4 sequences, 4 rows, ready for MOTChallenge" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["submit", str(out), "--benchmark", "MOT20"]) == 0
    assert cli.main(["submit", str(out), "--benchmark", "MOT20", "--split", "train"]) == 1
    assert cli.main(["submit", str(out), "--benchmark", "MOT20", "--out", "x.zip"]) == 2
