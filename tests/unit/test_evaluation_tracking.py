"""Tracking metrics on sequences small enough to count by hand, and refusals by file and line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tdtrack.benchmarks import DETECTORS, named_sequences
from tdtrack.data.mot import read_sequence_info
from tdtrack.errors import ConfigError, DataError, MissingExtraError
from tdtrack.evaluation.table import COLUMNS, format_table
from tdtrack.evaluation.tracking import evaluate_tracking

WALK = [(frame, 1, 10 * frame, 50, 40, 100) for frame in range(1, 11)]
"""One person, ten frames."""


def lines(rows: list[tuple[float, ...]], tail: str) -> str:
    return "".join(",".join(map(str, row)) + f",{tail}\n" for row in rows)


def sequence(root: Path, name: str, gt: str, length: int | None = 10) -> Path:
    folder = root / name
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text(gt)
    if length is not None:
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nseqLength={length}\nframeRate=30\n")
    return folder


def result(root: Path, name: str, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root


MOT17 = lines(WALK, "1,1,1.0")
MOT15 = lines(WALK, "1,-1,-1,-1")
TRACK = lines(WALK, "0.9,-1,-1,-1")


def test_a_perfect_track(tmp_path: Path) -> None:
    report = evaluate_tracking(sequence(tmp_path / "gt", "A", MOT17).parent, result(tmp_path / "r", "A.txt", TRACK))
    overall = report.overall
    assert {overall[name] for name in ("MOTA", "MOTP", "IDF1", "HOTA", "DetA", "AssA", "LocA", "CLR_Re", "CLR_Pr", "MTR")} == {
        1.0
    }
    counts = {
        name: overall[name] for name in ("CLR_TP", "CLR_FP", "CLR_FN", "IDSW", "Frag", "MT", "PT", "ML", "GT_Dets", "Frames")
    }
    assert list(counts.values()) == [10, 0, 0, 0, 0, 1, 0, 0, 10, 10]
    assert all(isinstance(value, int) for value in counts.values())
    assert report.curves["A"]["HOTA"].shape == report.curves["OVERALL"]["AssA"].shape == (19,)
    assert report.sequences["A"]["HOTA"] == 1.0


def test_switch_miss_and_false_alarm_by_hand(tmp_path: Path) -> None:
    # Frames 1-4 as id 1, 5 missed, 6-10 as id 2, and one box elsewhere in frame 5.
    rows = [(*row[:1], 1 if row[0] < 5 else 2, *row[2:]) for row in WALK if row[0] != 5] + [(5, 9, 500, 50, 40, 100)]
    report = evaluate_tracking(sequence(tmp_path / "gt", "A", MOT15).parent, result(tmp_path / "r", "A.txt", lines(rows, "1")))
    overall = report.overall
    assert [overall[name] for name in ("CLR_TP", "CLR_FP", "CLR_FN", "IDSW", "Frag")] == [9, 1, 1, 1, 1]
    assert overall["MOTA"] == pytest.approx(1 - 3 / 10)
    assert overall["FP_per_frame"] == pytest.approx(1 / 10)
    # The best one-to-one pairing keeps id 2's five boxes: 2*5 / (10 + 10).
    assert [overall[name] for name in ("IDTP", "IDFP", "IDFN")] == [5, 5, 5]
    assert overall["IDF1"] == pytest.approx(0.5)
    # HOTA at any overlap: DetA 9/11, AssA = (4 * 4/10 + 5 * 5/10) / 9.
    assert overall["HOTA"] == pytest.approx((9 / 11 * (1.6 + 2.5) / 9) ** 0.5)


DISTRACTOR = lines([(frame, 7, 300, 60, 40, 100) for frame in range(1, 11)], "0,CLASS,1.0")


@pytest.mark.parametrize(
    ("name", "class_id", "rules", "false_alarms"),
    [
        ("A", 8, "auto", 0),
        ("A", 3, "auto", 10),
        ("A", 6, "auto", 10),
        ("MOT20-01", 6, "auto", 0),
        ("A", 6, "mot20", 0),
        ("A", 8, "flags", 10),
    ],
)
def test_ignore_rules(tmp_path: Path, name: str, class_id: int, rules: str, false_alarms: int) -> None:
    gt = sequence(tmp_path / "gt", name, MOT17 + DISTRACTOR.replace("CLASS", str(class_id))).parent
    tracks = result(
        tmp_path / "r", f"{name}.txt", TRACK + lines([(frame, 4, 302, 60, 40, 100) for frame in range(1, 11)], "1,-1,-1,-1")
    )
    report = evaluate_tracking(gt, tracks, rules=rules)  # type: ignore[arg-type]
    assert report.overall["CLR_FP"] == false_alarms
    assert (report.overall["GT_Dets"], report.overall["GT_IDs"]) == (10, 1)


def test_mot15_drops_rows_with_flag_0_and_takes_any_class_column(tmp_path: Path) -> None:
    rows = MOT15 + lines([(1, 2, 300, 60, 40, 100)], "0,-3.2,4.1,0")
    report = evaluate_tracking(sequence(tmp_path / "gt", "A", rows).parent, result(tmp_path / "r", "A.txt", TRACK))
    assert report.rules == {"A": "flags"}
    assert (report.overall["GT_Dets"], report.overall["MOTA"]) == (10, 1.0)


@pytest.mark.parametrize("flag", ["0.9", "-1", "2"])
def test_every_flag_but_0_counts(flag: str, tmp_path: Path) -> None:
    gt = sequence(tmp_path / "gt", "A", lines(WALK, f"{flag},-1,-1,-1")).parent
    report = evaluate_tracking(gt, result(tmp_path / "r", "A.txt", TRACK))
    assert (report.overall["GT_Dets"], report.overall["MOTA"]) == (10, 1.0)


def test_overall_is_over_all_boxes_not_over_sequences(tmp_path: Path) -> None:
    gt = tmp_path / "gt"
    sequence(gt, "A", MOT17)
    sequence(gt, "B", lines(WALK[:2], "1,1,1"))
    result(tmp_path / "r", "A.txt", TRACK)
    report = evaluate_tracking(gt, result(tmp_path / "r", "B.txt", ""))
    assert report.sequences["B"]["MOTA"] == 0
    assert report.overall["MOTA"] == pytest.approx(10 / 12)
    assert report.overall["CLR_Frames"] == report.overall["Frames"] == 20
    assert evaluate_tracking(gt, tmp_path / "r", sequences=["A"]).overall["MOTA"] == 1.0


@pytest.mark.parametrize(
    "place", ["A.txt", "data/A.txt", "A/test.txt", "A/tracks.txt", "A/A.txt", "test.txt", "tracks.txt", "FILE"]
)
def test_places_of_results(tmp_path: Path, place: str) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17)
    file = tmp_path / "r" / place
    result(file.parent, file.name, TRACK)
    where = file if place == "FILE" else tmp_path / "r"
    assert evaluate_tracking(gt, where).overall["MOTA"] == 1.0
    assert evaluate_tracking(gt / "gt", where).overall["MOTA"] == 1.0


def test_one_result_of_a_scene_is_measured_for_each_detector(tmp_path: Path) -> None:
    for detector in DETECTORS:
        sequence(tmp_path / "gt", f"MOT17-02-{detector}", MOT17)
    results = result(tmp_path / "r", "MOT17-02.txt", TRACK)
    result(results, "MOT17-02-SDP.txt", TRACK.splitlines()[0])
    report = evaluate_tracking(tmp_path / "gt", results)
    assert list(report.sequences) == ["MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-02-SDP"]
    assert [report.sequences[name]["CLR_TP"] for name in report.sequences] == [10, 10, 1]
    only = evaluate_tracking(tmp_path / "gt", results, sequences=["MOT17-02-SDP"])
    assert only.overall["CLR_TP"] == 1
    with pytest.raises(DataError, match="has no sequence MOT17-04-DPM"):
        evaluate_tracking(tmp_path / "gt", results, sequences=named_sequences("MOT17-train"))
    result(results, "MOT17-04.txt", TRACK)
    with pytest.raises(DataError, match=r"MOT17-04\.txt has no ground truth"):
        evaluate_tracking(tmp_path / "gt", results)


def test_plain_folder_takes_its_length_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "gt.txt").write_text(MOT15)
    late = TRACK + lines([(12, 1, 0, 0, 5, 5)], "1,-1,-1,-1")
    report = evaluate_tracking(tmp_path, result(tmp_path / "r", "A.txt", late))
    assert (report.overall["Frames"], report.overall["CLR_FP"]) == (12, 1)


def test_spaces_blank_lines_and_huge_ids(tmp_path: Path) -> None:
    rows = "\n".join(f"{frame}  {10**12} {x} {y} {w} {h} 1 -1 -1 -1 " for frame, _, x, y, w, h in WALK) + "\n\n"
    report = evaluate_tracking(sequence(tmp_path / "gt", "A", MOT17), result(tmp_path / "r", "A.txt", rows))
    assert report.overall["IDF1"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,5,5,1\n1,2,0,0,5\n", r"A\.txt:2: 5 columns"),
        ("\n1,1,0,0,5,5,1\n1,2,0,0,5,5,1,1\n", r"A\.txt:3: 8 columns where line 2 has 7"),
        ("1,1,0,0,5,5,1\n1,2,0,zero,5,5,1\n", r"A\.txt:2: column 4 is 'zero'"),
        ("1,1,0,0,nan,5,1\n", r"A\.txt:1: a field is not a finite number"),
        ("0,1,0,0,5,5,1\n", r"A\.txt:1: frames count from 1"),
        ("1.5,1,0,0,5,5,1\n", r"A\.txt:1: frame and id must be whole"),
        ("1,-1,0,0,5,5,1\n", r"A\.txt:1: ids must not be negative"),
        ("1,1,0,0,-5,5,1\n", r"A\.txt:1: width and height"),
        ("2,7,0,0,5,5,1\n1,7,0,0,5,5,1\n\n2,7,9,9,5,5,1\n", r"A\.txt:4: id 7 is already in frame 2 \(line 1\)"),
        ("11,1,0,0,5,5,1\n", r"A\.txt:1: frame 11 is beyond the 10 frames"),
        ("1,1,0,0,5,5,1\n1e19,2,0,0,5,5,1\n", r"A\.txt:2: .* between -2\*\*53 and 2\*\*53 .* are 1e\+19, 2, 0"),
        ("1,1e19,0,0,5,5,1\n2,2e19,0,0,5,5,1\n", r"A\.txt:1: .* between -2\*\*53 and 2\*\*53 .* are 1, 1e\+19, 0"),
        ("1,9007199254740992,0,0,5,5,1\n2,9007199254740993,0,0,5,5,1\n", r"A\.txt:1: .* between -2\*\*53 and 2\*\*53"),
        ("1,1,0,0,5,5,1,1e19\n", r"A\.txt:1: .* between -2\*\*53 and 2\*\*53"),
        ("1,1,0,0,5,5,1\n1_0,1,0,0,5,5,1\n", r"A\.txt:2: '1_0,1,.*' holds '_'"),
        ("\u0661,1,0,0,5,5,1\n", r"A\.txt:1: '\u0661,1,.*' holds '\u0661'"),
        ("1,1,0,0,5,5,1\x0c2,1,0,0,5,5,1\n", r"A\.txt:1: .* holds '\\x0c'"),
        ("1,1,0,0,5,5,1\n1,2,0,0,5,5,1\u20282,1,0,0,5,5,1\n", r"A\.txt:2: .* holds '\\u2028'"),
        ("1,1,0,0,5,5,1,3\n", r"A\.txt:1: class 3, but only pedestrians"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17)
    with pytest.raises(DataError, match=message):
        evaluate_tracking(gt, result(tmp_path / "r", "A.txt", text))


def test_a_result_may_mix_commas_blanks_and_line_ends(tmp_path: Path) -> None:
    rows = TRACK.splitlines()
    text = "\r\n".join([*rows[:4], *(f"{row}," for row in rows[4:7]), *(row.replace(",", " ") for row in rows[7:])])
    (tmp_path / "A.txt").write_bytes(text.encode())
    report = evaluate_tracking(sequence(tmp_path / "gt", "A", MOT17), tmp_path / "A.txt")
    assert (report.overall["CLR_TP"], report.overall["HOTA"]) == (10, 1.0)


def test_a_frame_beyond_any_sequence_is_named(tmp_path: Path) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17, length=None)
    results = result(tmp_path / "r", "A.txt", TRACK + "2000000000,1,0,0,5,5,1,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"A\.txt:11: frame 2000000000 is beyond the 999999 frames that a sequence may have"):
        evaluate_tracking(gt, results)


def test_a_class_that_mot_does_not_know_is_named(tmp_path: Path) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17 + "3,5,0,0,5,5,1,44,1\n")
    with pytest.raises(DataError, match=r"gt\.txt:11: class 44 is not one of"):
        evaluate_tracking(gt, result(tmp_path / "r", "A.txt", TRACK))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17)
    (tmp_path / "A.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text file"):
        evaluate_tracking(gt, tmp_path / "A.txt")


@pytest.mark.parametrize("text", ["", "[Sequence]\n", "[Sequence]\nseqLength=many\n"])
def test_a_broken_seqinfo_is_refused(tmp_path: Path, text: str) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17)
    (gt / "seqinfo.ini").write_text(text)
    with pytest.raises(DataError, match=r"seqinfo\.ini: no whole number under seqLength"):
        evaluate_tracking(gt, result(tmp_path / "r", "A.txt", TRACK))


@pytest.mark.parametrize("length", ["-3", "0", "1.5", "nan", "1e19", "1000000"])
def test_a_length_that_no_sequence_has_is_refused(tmp_path: Path, length: str) -> None:
    gt = sequence(tmp_path / "gt", "A", "")
    (gt / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={length}\n")
    with pytest.raises(DataError, match=rf"seqinfo\.ini: seqLength is '{length}'; it must be a whole number from 1 to 999999"):
        evaluate_tracking(gt, result(tmp_path / "r", "A.txt", ""))


def test_seqinfo_is_read_as_data_reads_it(tmp_path: Path) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17)
    text = "[Sequence]\nname=A\nimDir=img1\nframeRate=30\nseqLength=12.0\nimWidth=640\nimHeight=480\nimExt=.jpg\n"
    (gt / "seqinfo.ini").write_bytes(b"\xef\xbb\xbf" + text.encode())
    report = evaluate_tracking(gt, result(tmp_path / "r", "A.txt", TRACK))
    assert report.overall["Frames"] == read_sequence_info(gt / "seqinfo.ini").length == 12


def test_results_and_sequences_must_pair_up(tmp_path: Path) -> None:
    gt = tmp_path / "gt"
    sequence(gt, "A", MOT17)
    results = result(tmp_path / "r", "B.txt", TRACK)
    with pytest.raises(DataError, match=r"B\.txt has no ground truth"):
        evaluate_tracking(gt, results)
    with pytest.raises(DataError, match=r"no results for sequence A; expected A\.txt, "):
        evaluate_tracking(gt, results, sequences=["A"])
    with pytest.raises(DataError, match="has no sequence C; it has A"):
        evaluate_tracking(gt, results, sequences=["C"])
    with pytest.raises(DataError, match="is one file"):
        evaluate_tracking(gt, results / "B.txt")
    with pytest.raises(DataError, match="does not exist"):
        evaluate_tracking(gt, tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a folder"):
        evaluate_tracking(tmp_path / "nowhere", results)
    with pytest.raises(DataError, match="holds no ground truth"):
        evaluate_tracking(results, results)


def test_notes_beside_results_are_not_results(tmp_path: Path) -> None:
    gt = sequence(tmp_path / "gt", "A", MOT17).parent
    result(tmp_path / "r", "pedestrian_summary.txt", "HOTA DetA AssA DetRe DetPr LocA\n1 1 1 1 1 1\n")
    assert evaluate_tracking(gt, result(tmp_path / "r", "A.txt", TRACK)).overall["MOTA"] == 1.0


def test_unknown_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rules is 'mot99'; it must be one of auto, mot17"):
        evaluate_tracking(tmp_path, tmp_path, rules="mot99")  # type: ignore[arg-type]


def test_table_and_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = evaluate_tracking(sequence(tmp_path / "gt", "A", MOT17).parent, result(tmp_path / "r", "A.txt", TRACK))
    assert capfd.readouterr() == ("", "")  # TrackEval is quiet
    numbers = report.to_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    table = format_table(report).splitlines()
    assert table[0].split() == [column.header for column in COLUMNS]
    assert table[2].split()[:3] == ["A", "100.00", "100.00"]
    assert table[-1].split()[0] == "OVERALL"
    assert len({len(line) for line in table}) == 1
    narrow = format_table(report, width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    headers = [name for block in narrow.split("\n\n") for name in block.splitlines()[0].split()]
    assert headers == table[0].split()


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackeval", None)
    gt = sequence(tmp_path / "gt", "A", MOT17)
    with pytest.raises(MissingExtraError, match=r"tdtrack\[eval\]"):
        evaluate_tracking(gt, result(tmp_path / "r", "A.txt", TRACK))
