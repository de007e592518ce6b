from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from layouts import LAYOUTS, Box
from tdtrack import cli
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError
from tdtrack.track import association_for


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def one_box_per_frame(path: Path, frames: int) -> Path:
    """A box that walks right: a tracker must give it one id."""
    left = np.arange(frames) * 2.0
    xyxy = np.stack([left, np.full(frames, 10.0), left + 20, np.full(frames, 70.0)], axis=1)
    embedding = np.tile([[0.6, 0.8]], (frames, 1)).astype(np.float16)
    np.savez(path, frame=np.arange(1, frames + 1), xyxy=xyxy, score=np.full(frames, 0.9), embedding=embedding)
    return path


def test_the_overview_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert len(cli.VERBS) == 16
    for name, verb in cli.VERBS.items():
        assert f"  {name} " in out and verb.summary in out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"usage: tdtrack {verb}" in capsys.readouterr().out


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "anotate")
    assert status == 2 and "did you mean 'annotate'?" in err


def test_an_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "train", "--out", "run", "--optimizer.batchsize", "4")
    assert status == 2 and "optimizer.batchsize" in err and "did you mean 'optimizer.batch_size'?" in err


def test_an_unknown_setting_in_a_recipe_names_the_nearest_and_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("out: run\ntrain: [{annotations: a.json}]\nmodel: {embeding_dim: 64}\n")
    status, _, err = run(capsys, "train", "--config", recipe)
    assert status == 2
    assert "model.embeding_dim" in err and "did you mean 'model.embedding_dim'?" in err and "recipe.yaml" in err


def test_a_value_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("out: run\ntrain: [{annotations: a.json}]\noptimizer: {ema_decay: 1.5}\n")
    status, _, err = run(capsys, "train", "--config", recipe)
    assert status == 2 and "ema_decay is 1.5" in err


def test_saved_detections_are_tracked_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, tracks = one_box_per_frame(tmp_path / "d.npz", 12), tmp_path / "tracks.txt"
    for method in ("evidence", "fairmot", "motion"):
        status, _, err = run(capsys, "track", "--detections", saved, "--association", method, "--out", tracks)
        assert status == 0, err
        rows = np.loadtxt(tracks, delimiter=",")
        assert rows[:, 0].tolist() == list(range(1, 13))
        assert set(rows[:, 1]) == {1}


def test_results_that_equal_the_truth_score_full_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trackeval", reason="evaluation needs the extra tdtrack[eval]")
    truth, results, numbers = tmp_path / "gt" / "S" / "gt.txt", tmp_path / "results" / "S.txt", tmp_path / "numbers.json"
    truth.parent.mkdir(parents=True)
    saved = one_box_per_frame(tmp_path / "d.npz", 5)
    assert cli.main(["track", "--detections", str(saved), "--out", str(results)]) == 0
    truth.write_text("".join(f"{line.rsplit(',', 4)[0]},1,-1,-1,-1\n" for line in results.read_text().splitlines()))
    status, out, err = run(capsys, "evaluate", "--gt", tmp_path / "gt", "--results", tmp_path / "results", "--json", numbers)
    assert status == 0, err
    assert "MOTA" in out and "OVERALL" in out
    overall = json.loads(numbers.read_text())["overall"]
    assert overall["MOTA"] == overall["IDF1"] == 1.0 and overall["IDSW"] == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["track", "--out", "o"], "either a SOURCE or --detections"),
        (["track", "video.mp4", "--out", "o"], "needs --model"),
        (["track", "video.mp4", "--out", "o", "--model", "nowhere"], "does not exist"),
        (["track", "--detections", "missing.npz", "--out", "o"], "missing.npz"),
        (["track", "--detections", "d.npz", "--out", "o", "--association", "sort"], "unknown association 'sort'"),
        (["track", "--detections", "d.npz", "--out", "o", "--model", "run"], "leave --model"),
        (["track", "a.mp4", "b.mp4", "--sequences", "MOT15-val", "--out", "o"], "needs one SOURCE"),
        (["track", "a", "--sequences", "MOT15-val", "--detections", "d.npz", "--out", "o"], "holds one video, found already"),
        (["evaluate", "--gt", "gt"], "--results DIR"),
        (["evaluate", "--gt", "gt", "--model", "run", "--results", "r"], "pass one of them"),
        (["evaluate", "--gt", "gt", "--model", "m.onnx"], "m.onnx is an exported model; give the run folder"),
        (["export", "m.onnx", "--out", "n.onnx"], "m.onnx is an exported model; give the run folder"),
        (["export", "run", "--out", "model.bin"], "name a file that ends in .onnx"),
        (["train", "--train", "[{annotations: a.json, image: b}]", "--out", "o"], "did you mean 'images'?"),
        (["doctor", "nothing.json"], "nothing.json"),
        (["doctor", "nothing.json", "--input-size", "64,96"], "--input-size is a detector's"),
    ],
)
def test_requests_that_cannot_be_met(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one_box_per_frame(tmp_path / "d.npz", 2)
    status, _, err = run(capsys, *words)
    assert status in (1, 2)
    assert complaint in " ".join(err.split())
    assert "Traceback" not in err


def test_a_result_that_cannot_be_written_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = one_box_per_frame(tmp_path / "d.npz", 2)
    (tmp_path / "file").write_text("not a folder")
    status, _, err = run(capsys, "track", "--detections", saved, "--out", tmp_path / "file" / "tracks.txt")
    assert status == 1 and "file" in err and "Traceback" not in err


def test_a_disk_that_fails_where_nobody_expects_it_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path / "boxes.txt"))

    monkeypatch.setattr("tdtrack.track.run_track", fail)
    assert cli.main(["track", "--detections", str(tmp_path / "boxes.txt"), "--out", str(tmp_path / "out.txt")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "boxes.txt: Input/output error; bring the file" in line


def test_what_calibration_stored_serves_unless_the_user_sets_it() -> None:
    stored = {"max_appearance_cost": 0.2, "cosine_statistics": [0.9, 0.1, 0.3, 0.2], "teacher_max_appearance_cost": 0.7}
    assert association_for(None, {}, {}) == AssociationConfig()
    assert association_for("fairmot", {"max_appearance_cost": None}, stored).max_appearance_cost == 0.2
    assert association_for("fairmot", {"max_appearance_cost": 0.4}, stored).max_appearance_cost == 0.4
    assert association_for("fairmot", {}, stored, "teacher_").max_appearance_cost == 0.7
    assert association_for(None, {}, stored).cosine_statistics == (0.9, 0.1, 0.3, 0.2)
    assert association_for(None, {"cosine_statistics": (1, 1, 0, 1)}, stored).cosine_statistics == (1, 1, 0, 1)
    assert association_for(None, {}, stored, "teacher_").cosine_statistics is None
    assert association_for("motion", {"min_score": 0.3}, stored).method == "motion"
    with pytest.raises(ConfigError, match="unknown association"):
        association_for("nearest", {}, {})


def test_a_layout_its_part_and_its_boxes_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)]]
    path = LAYOUTS["crowdhuman"].write(tmp_path / "crowdhuman", people, 1)
    status, out, _ = run(capsys, "doctor", path, "--box", "head", "--format", "crowdhuman")
    assert status == 0 and "CrowdHuman" in out and "max 10" in out  # a quarter of 40 pixels
    path = LAYOUTS["prw"].write(tmp_path / "prw", people, 1)
    status, out, _ = run(capsys, "doctor", path, "--split", "test", "--json", tmp_path / "prw.json")
    assert status == 0 and json.loads((tmp_path / "prw.json").read_text())["facts"]["images"] == 1
    status, _, err = run(capsys, "doctor", path, "--split", "dev")
    assert status == 2 and "PRW has no split 'dev'; its splits are train, test, all" in err
    status, _, err = run(capsys, "doctor", path, "--format", "pwr")
    assert status == 2 and "pwr" in err and "cuhk-sysu" in err


def test_every_verb_that_names_data_takes_a_layout(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("annotate", "calibrate", "doctor", "evaluate", "quantize", "teach"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        text = capsys.readouterr().out
        assert all(option in text for option in ("--images", "--format", "--split", "--box")), verb
        assert ("--skip-bad-boxes" in text) == (verb != "doctor")


def test_data_that_cannot_be_used_at_all_make_the_doctor_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "doctor", tmp_path)
    assert status == 1 and "nothing can be read as it is" in out
    path = LAYOUTS["crowdhuman"].write(tmp_path / "some", [[Box(5, 6, 20, 40), Box(5, 6, 0, 40)]], 1)
    status, out, _ = run(capsys, "doctor", path)
    assert status == 0 and "--skip-bad-boxes" in out  # a box of two can


def test_tracks_are_chosen_by_sequence_and_data_by_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "evaluate", "--gt", tmp_path, "--model", "run", "--sequences", "MOT15-val")
    assert status == 2 and "with --model pass --split" in err
    status, _, err = run(capsys, "evaluate", "--gt", tmp_path, "--results", tmp_path, "--split", "MOT15-val")
    assert status == 2 and "with --results pass --sequences" in err
    status, _, err = run(capsys, "track", "--out", tmp_path, "--sequences", "MOT15-val")
    assert status == 2 and "--sequences needs one SOURCE" in err
