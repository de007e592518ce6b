"""Detections that other programs saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tdtrack.data.saved import read_detections
from tdtrack.errors import DataError

ROWS = [(3, [1.0, 2, 10, 20], 0.5, 7), (1, [5.0, 6, 7, 8], 0.25, 7), (3, [0.0, 0, 4, 4], 1.0, 2)]


def test_three_forms_of_the_same_boxes(tmp_path: Path) -> None:
    mot, coco, archive = tmp_path / "det.txt", tmp_path / "results.json", tmp_path / "saved.npz"
    mot.write_text("".join(f"{frame},-1,{','.join(map(str, box))},{score},-1,-1,-1\n" for frame, box, score, _ in ROWS))
    coco.write_text(
        json.dumps([{"image_id": f, "bbox": box, "score": score, "category_id": kind} for f, box, score, kind in ROWS])
    )
    boxes = np.array([[x, y, x + w, y + h] for _, (x, y, w, h), _, _ in ROWS])
    np.savez(archive, frame=[row[0] for row in ROWS], xyxy=boxes, score=[row[2] for row in ROWS])
    for path in (mot, coco, archive):
        frames = read_detections(path)
        assert [len(found) for found in frames] == [1, 0, 2]
        np.testing.assert_allclose(frames[2].xyxy, [[1, 2, 11, 22], [0, 0, 4, 4]])
        np.testing.assert_allclose(frames[2].score, [0.5, 1.0])
        assert frames[2].class_id.tolist() == ([7, 2] if path == coco else [0, 0])


def test_real_public_detections_are_read(shared_data: Path) -> None:
    folders = sorted((shared_data / "mot17-mini").glob("MOT17-*"))
    assert len(folders) == 7
    for folder in folders:
        lines = (folder / "det" / "det.txt").read_text().split()
        assert sum(map(len, read_detections(folder / "det" / "det.txt"))) == len(lines)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "end in .npz, .txt"),
        ("a.txt", "1,-1,0,0,5,5,30.5,-1,-1,-1\n", "a.txt:1: score 30.5"),
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "this is a dict"),
        ("a.json", '[{"image_id": 1, "bbox": [0, 0, 5], "score": 1, "category_id": 1}]', "result 0"),
        ("a.json", '[{"image_id": 0, "bbox": [0, 0, 5, 5], "score": 1, "category_id": 1}]', "frame number from 1"),
        ("a.json", '[{"image_id": 1, "bbox": [0, 0, 5, 5], "score": 1}]', "category_id"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_detections(tmp_path / name)


def test_an_empty_file_has_no_frames(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "a.json").write_text("[]")
    assert read_detections(tmp_path / "a.txt") == read_detections(tmp_path / "a.json") == []
