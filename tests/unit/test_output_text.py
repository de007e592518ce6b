"""MOT text and JSON lines: contents, and what happens when writing fails."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tdtrack.errors import OutputError
from tdtrack.output.jsonl import JsonLinesWriter
from tdtrack.output.mot import MotWriter
from tdtrack.types import Tracks

WRITERS = (MotWriter, JsonLinesWriter)


def tracks(frame_index: int, *ids: int) -> Tracks:
    xyxy = [[10.5 + i, 20.25, 40.75 + i, 100.125] for i in ids]
    return Tracks(frame_index, np.array(ids), np.array(xyxy).reshape(-1, 4), np.full(len(ids), 0.9), np.arange(len(ids)))


def test_mot_rows_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tracks.txt"
    with MotWriter(path) as writer:
        writer.write(tracks(0, 1, 2))
        writer.write(tracks(1))
        writer.write(tracks(2, 2))
    assert path.read_text() == (
        "1,1,11.5000,20.2500,30.2500,79.8750,0.9000,-1,-1,-1\n"
        "1,2,12.5000,20.2500,30.2500,79.8750,0.9000,-1,-1,-1\n"
        "3,2,12.5000,20.2500,30.2500,79.8750,0.9000,-1,-1,-1\n"
    )


def test_names_may_hold_whatever_file_names_may(tmp_path: Path) -> None:
    names = {1: "J\udcfcrgen", 2: "Jürgen"}  # one is no UTF-8, as names on old disks
    with JsonLinesWriter(tmp_path / "tracks.jsonl") as writer:
        writer.write(tracks(0, 1, 2), names=names)
    text = (tmp_path / "tracks.jsonl").read_text(encoding="utf-8")
    assert [row["name"] for row in json.loads(text)["tracks"]] == list(names.values())
    assert "Jürgen" in text


def test_no_tracks_at_all_is_an_empty_file(tmp_path: Path) -> None:
    with MotWriter(tmp_path / "tracks.txt") as writer:
        writer.write(tracks(0))
    assert (tmp_path / "tracks.txt").read_bytes() == b""


def test_json_lines_hold_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl"
    with JsonLinesWriter(path, classes=("person",)) as writer:
        writer.write(tracks(0, 4, 5), seconds=0.0)
        writer.write(tracks(1), seconds=1 / 30)
        writer.write(tracks(2, 4))
    frames = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert frames == [
        {
            "frame_index": 0,
            "seconds": 0.0,
            "tracks": [
                {"id": 4, "xyxy": [14.5, 20.25, 44.75, 100.125], "score": 0.9, "class": "person"},
                {"id": 5, "xyxy": [15.5, 20.25, 45.75, 100.125], "score": 0.9, "class": 1},  # no name is known for class 1
            ],
        },
        {"frame_index": 1, "seconds": 0.033333, "tracks": []},
        {
            "frame_index": 2,
            "seconds": None,
            "tracks": [{"id": 4, "xyxy": [14.5, 20.25, 44.75, 100.125], "score": 0.9, "class": "person"}],
        },
    ]


@pytest.mark.parametrize("writer_type", WRITERS)
def test_the_file_appears_when_closed(tmp_path: Path, writer_type: type[MotWriter]) -> None:
    path = tmp_path / "tracks"
    path.write_text("before")
    writer = writer_type(path)
    writer.write(tracks(0, 1))
    assert path.read_text() == "before"
    writer.close()
    writer.close()
    assert path.read_text().count("\n") == 1
    with pytest.raises(OutputError, match="closed"):
        writer.write(tracks(1, 1))


@pytest.mark.parametrize("writer_type", WRITERS)
def test_an_error_leaves_what_was_there(tmp_path: Path, writer_type: type[MotWriter]) -> None:
    path = tmp_path / "tracks"
    path.write_text("before")
    with pytest.raises(KeyError), writer_type(path) as writer:
        writer.write(tracks(0, 1))
        raise KeyError("elsewhere")
    assert [entry.name for entry in tmp_path.iterdir()] == ["tracks"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("writer_type", WRITERS)
def test_a_parent_that_is_a_file_is_refused(tmp_path: Path, writer_type: type[MotWriter]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/tracks"):
        writer_type(tmp_path / "file" / "tracks")


@pytest.mark.parametrize("writer_type", WRITERS)
def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer_type: type[MotWriter]) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    writer = writer_type(tmp_path / "tracks")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=r"tracks: Permission denied"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer_type", WRITERS)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand in for a full disk")
def test_a_full_disk_is_said(tmp_path: Path, writer_type: type[MotWriter]) -> None:
    writer = writer_type(tmp_path / "tracks")
    writer._file.close()
    with open("/dev/full", "w", buffering=1, encoding="utf-8") as full:  # noqa: PTH123
        writer._file = full
        with pytest.raises(OutputError, match=r"tracks: No space left on device"):
            writer.write(tracks(0, 1))
        writer._file = None  # type: ignore[assignment]
        with pytest.raises(OSError, match="space"):
            full.close()
