"""Many videos in one call: names, the account kept, and what bad ones cost."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage

from media_files import cut, moving_squares, write_video
from random_models import save_random_model
from tdtrack import cli
from tdtrack.batch import find_videos, holds_videos, track_many
from tdtrack.errors import ConfigError
from tdtrack.track import TrackRequest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_videos_are_found_and_named(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "in" / "tracks"
    videos = [touch(root / name) for name in ("a.mp4", "day1/cam.MKV", "day2/cam.mkv", "day2/cam.avi", "b.c.mp4")]
    for name in ("notes.txt", ".hidden/x.mp4", ".b.mp4", "tracks/a.mp4"):
        touch(root / name)
    sequence = touch(root / "MOT17-02" / "seqinfo.ini").parent
    touch(sequence / "img1" / "000001.jpg")
    bare = touch(root / "MOT15" / "KITTI-13" / "img1" / "000001.jpg").parents[1]
    assert not holds_videos(str(bare), str(out)) and find_videos([str(bare)], str(out)) == {"KITTI-13": str(bare)}
    found = find_videos([str(root)], str(out))
    names = ["MOT15/KITTI-13", "MOT17-02", "a", "b.c", "day1/cam", "day2/cam.avi", "day2/cam.mkv"]
    assert sorted(found) == names
    assert sorted(found.values()) == sorted(map(str, [*videos, sequence, bare]))
    assert find_videos([str(videos[0]), str(sequence)], str(out)) == {"a": str(videos[0]), "MOT17-02": str(sequence)}
    assert find_videos([str(root / "notes.txt")], str(out)) == {"notes": str(root / "notes.txt")}  # who names it, gets it
    assert holds_videos(str(root), str(out))
    assert not any(holds_videos(str(path), str(out)) for path in (videos[0], sequence, sequence / "img1", root / "none"))


def test_what_cannot_be_one_job_is_refused(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "1" / "a.mp4"), touch(tmp_path / "2" / "a.mp4")
    with pytest.raises(ConfigError, match="would both leave results called"):
        find_videos([str(one), str(two)], "out")
    for stream in ("rtsp://camera/1", "0"):
        with pytest.raises(ConfigError, match=f"{stream} is a camera or stream, which has no end; track it alone"):
            find_videos([str(one), stream], "out")


def test_images_beside_videos_and_videos_in_the_result_folder_are_not_passed_over(tmp_path: Path) -> None:
    for name in ("card/a.mp4", "card/b.mp4", "card/a.jpg"):
        touch(tmp_path / name)
    with pytest.raises(ConfigError, match=r"card holds images and 2 videos, first a\.mp4; name the videos to track them"):
        holds_videos(str(tmp_path / "card"), "out")
    assert not holds_videos(str(tmp_path / "card"), str(tmp_path / "card"))  # what an earlier run left beside the frames
    (tmp_path / "card" / "a.jpg").unlink()
    with pytest.raises(ConfigError, match=r"card: its 2 videos lie in the result folder .*; choose another --out"):
        find_videos([str(tmp_path / "card")], str(tmp_path))
    touch(tmp_path / "card" / "day" / "a.jpg")  # a thumbnail, say
    assert set(find_videos([str(tmp_path / "card")], "out")) == {"a", "b"}


def test_a_video_called_as_the_account_of_the_job_keeps_its_suffix(tmp_path: Path) -> None:
    videos = find_videos([str(touch(tmp_path / "Manifest.mp4")), str(touch(tmp_path / "a.mp4"))], "out")
    assert list(videos) == ["Manifest.mp4", "a"]
    with pytest.raises(ConfigError, match=r"would be written over .*manifest\.jsonl, the job's account; rename it"):
        list(track_many(TrackRequest(out=str(tmp_path / "out"), model="m"), {"manifest": "a folder"}, {}))


def test_names_that_no_encoding_has_are_printed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", made)
    name = os.fsdecode(b"caf\xe9.mp4")
    for each in (name, "d.mp4"):
        write_video(tmp_path / "a.mp4", moving_squares(4)).rename(touch(tmp_path / "in" / each))
    words = ["track", str(tmp_path / "in"), "--model", str(save_random_model(tmp_path / "run")), "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--device", "cpu"]) == 0
    made.seek(0)
    said = made.read()
    assert "caf\\udce9: 4 frames" in said and "2 of 2 videos tracked" in said


def test_a_folder_of_frames_that_has_grown_is_tracked_again(tmp_path: Path) -> None:
    frames = tmp_path / "in" / "sequence"
    frames.mkdir(parents=True)
    for index, image in enumerate(moving_squares(5)):
        PillowImage.fromarray(image).save(frames / f"{index}.png")
    request = TrackRequest(
        out=str(tmp_path / "out"), model=str(save_random_model(tmp_path / "run")), device="cpu", engine="torch", video=False
    )

    def tracked() -> list[int]:
        return [entry["frames"] for entry in track_many(request, {"sequence": str(frames)}, {})]

    (frames / "4.png").rename(tmp_path / "4.png")
    assert tracked() == [4]
    before = (tmp_path / "out" / "sequence.txt").stat().st_mtime_ns
    assert tracked() == [4] and (tmp_path / "out" / "sequence.txt").stat().st_mtime_ns == before
    (tmp_path / "4.png").rename(frames / "4.png")
    assert tracked() == [5]


def test_a_job_with_another_teacher_is_another_job(tmp_path: Path) -> None:
    weights = tmp_path / "teacher.py"
    request = TrackRequest(out=str(tmp_path / "out"), model="m", teacher="osnet_x0_25", weights=str(weights), two_stage=True)
    weights.write_text("one")
    assert list(track_many(request, {}, {})) == []
    assert list(track_many(request, {}, {})) == []
    weights.write_text("two")
    with pytest.raises(ConfigError, match="belongs to a job with weights"):
        list(track_many(request, {}, {}))


def test_a_bad_video_costs_that_video_and_the_next_call_does_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(3):
        write_video(folder / f"v{index}.mp4", moving_squares(8 + index), noise=3)
    whole = write_video(tmp_path / "long.mp4", moving_squares(40), noise=6)
    cut(whole, 0.5).rename(folder / "cut.mp4")
    (folder / "text.mp4").write_text("no video")
    words = ["track", str(folder), "--model", str(save_random_model(tmp_path / "run")), "--out", str(out), "--device", "cpu"]

    assert cli.main(words) == 1
    said = capsys.readouterr().out
    assert "4 of 5 videos tracked" in said
    assert f"failed: {folder / 'text.mp4'}: cannot be opened" in said
    assert "incomplete: cut: " in said
    entries = {entry["name"]: entry for entry in map(json.loads, (out / "manifest.jsonl").read_text().splitlines()[1:])}
    assert [(name, entry["status"]) for name, entry in entries.items()] == [
        ("cut", "done"),
        ("text", "failed"),
        *((f"v{index}", "done") for index in range(3)),
    ]
    assert [entries[f"v{index}"]["frames"] for index in range(3)] == [8, 9, 10]
    assert 0 < entries["cut"]["frames"] < 40 and "40 frames are promised" in entries["cut"]["truncated"]
    files = {name for entry in entries.values() for name in entry["files"]}
    assert files | {"manifest.jsonl"} == {path.name for path in out.iterdir()}

    alone = tmp_path / "alone"
    single = ["track", str(folder / "v1.mp4"), *words[2:4], "--out", str(alone), "--device", "cpu"]
    assert cli.main(single) == 0
    for name in ("v1.txt", "v1.jsonl"):
        assert (alone / name).read_bytes() == (out / name).read_bytes()

    kept = {name: (out / name).stat().st_mtime_ns for name in files}
    write_video(folder / "text.mp4", moving_squares(5))  # mended
    write_video(folder / "v0.mp4", moving_squares(6))  # another video of the same name
    os.remove(out / "v1.txt")  # noqa: PTH107
    assert cli.main(words) == 0
    assert "5 of 5 videos tracked" in capsys.readouterr().out
    for name in ("cut.txt", "v2.txt", "v2.mp4"):
        assert (out / name).stat().st_mtime_ns == kept[name]
    assert (out / "v1.txt").read_bytes() == (alone / "v1.txt").read_bytes()
    entries = {entry["name"]: entry for entry in map(json.loads, (out / "manifest.jsonl").read_text().splitlines()[1:])}
    assert (entries["text"]["frames"], entries["v0"]["frames"]) == (5, 6)

    assert cli.main([*words, "--tracker.min_score", "0.3"]) == 2
    assert "belongs to a job with tracker" in capsys.readouterr().err
