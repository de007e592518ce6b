"""The doctor's report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tdtrack.data.doctor import inspect
from tdtrack.data.store_writer import StoreWriter
from tdtrack.errors import DataError, StoreError


def coco(folder: Path, boxes: list[list[float]]) -> Path:
    PIL.Image.new("RGB", (100, 80)).save(folder / "a.png")
    PIL.Image.new("RGB", (100, 80)).save(folder / "b.png")
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(("a.png", "b.png"))],
        "annotations": [{"id": number, "image_id": 0, "category_id": 1, "bbox": box} for number, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "x.json").write_text(json.dumps(content))
    return folder / "x.json"


def test_a_sound_data_set_is_counted(tmp_path: Path) -> None:
    report = inspect(coco(tmp_path, [[0, 0, 10, 20], [5, 5, 10, 40]]))
    assert report.usable
    assert report.facts["images"] == 2
    assert report.facts["images without boxes"] == 1
    assert report.facts["boxes"] == 2
    assert report.facts["boxes by class"] == {"person": 2}
    assert report.facts["image sizes"] == {"100x80": 2}
    assert report.facts["box height in pixels"]["50%"] == 30
    assert report.facts["boxes per image"]["max"] == 2
    assert report.lines()[-1] == "no problems found"


def test_problems_are_grouped_with_examples(tmp_path: Path) -> None:
    path = coco(tmp_path, [[0, 0, 10, 20], *[[0, 0, 0, width] for width in range(1, 6)], [-9, 0, 20, 20]])
    report = inspect(path)
    assert not report.usable
    groups = {group["kind"]: group for group in report.to_dict()["problems"]}
    assert {kind: (group["count"], group["dropped"]) for kind, group in groups.items()} == {
        "box-without-area": (5, 5),
        "box-clipped": (1, 0),
    }
    assert len(groups["box-without-area"]["examples"]) == 3
    text = report.lines()
    assert "box-without-area: 5, would be left out" in text
    assert "  annotation 1: box (0, 0, 0, 1) has no width" in text
    assert "  and 2 more" in text
    assert "box-clipped: 1, used all the same" in text
    assert "--skip-bad-boxes" in text[-1]
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_data_set_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    report = inspect(tmp_path / "x.json")
    assert not report.usable
    assert report.lines()[1] == "unusable-data-set: 1, nothing can be read as it is"
    assert "broken JSON at line 1, column 2" in report.lines()[2]
    (tmp_path / "folder").mkdir()
    assert "no known layout: looked for" in inspect(tmp_path / "folder").lines()[-1]


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        inspect(tmp_path / "nope")


def test_decoding_is_asked_for(tmp_path: Path) -> None:
    path = coco(tmp_path, [[0, 0, 10, 20]])
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:5000])
    assert inspect(path).usable
    assert [problem.kind for problem in inspect(path, decode=True).problems] == ["image-unreadable"]


def test_a_sequence_is_described(tmp_path: Path) -> None:
    folder = tmp_path / "seq"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    (folder / "det").mkdir()
    (folder / "seqinfo.ini").write_text("[Sequence]\nframeRate=10\nseqLength=3\nimWidth=100\nimHeight=80\n")
    (folder / "gt" / "gt.txt").write_text(
        "1,1,1,2,30,40,1,1,1\n1,1,5,2,30,40,1,1,1\n1,2,1,2,30,40,1,3,1\n2,1,1,2,30,40,1,1,1\n2,5,1,2,30,40,0,7,1\n"
    )
    (folder / "det" / "det.txt").write_text("1,-1,x,2,3,4,5\n")
    PIL.Image.new("RGB", (100, 80)).save(folder / "img1" / "000001.jpg")
    report = inspect(folder)
    assert report.facts["sequences"] == [
        {
            "name": "seq",
            "frames": 1,
            "of": 3,
            "fps": 10.0,
            "size": "100x80",
            "boxes in gt": 5,
            "identities": 3,
            "on vehicles and occluders, left out": 1,
            "in frames without an image": 2,
            "public detections": 0,
        }
    ]
    assert (report.facts["boxes"], report.facts["ignore regions"]) == (2, 0)
    assert [problem.kind for problem in report.problems] == ["identity-twice", "detections-unreadable"]
    assert "gt.txt:2: identity 1 has a second box in frame 1" in str(report.problems[0])
    assert report.usable


def test_a_store_is_described(tmp_path: Path) -> None:
    writer = StoreWriter(
        tmp_path / "s.parquet", dim=4, num_boxes=2, teacher_name="osnet", teacher_fingerprint="feed", data_fingerprint="data"
    )
    writer.write_part(0, np.array([1, 2]), np.eye(4, dtype=np.float32)[:2])
    report = inspect(writer.finish())
    assert report.form == "embedding store"
    assert (report.facts["embeddings"], report.facts["dimensions"], report.facts["teacher"]) == (2, 4, "osnet")
    assert any("osnet" in line for line in report.lines())
    (tmp_path / "s.parquet").write_bytes(b"")
    with pytest.raises(StoreError):
        inspect(tmp_path / "s.parquet")


def test_real_data_is_sound(shared_data: Path) -> None:
    report = inspect(shared_data / "penn-fudan-train" / "annotations.json", decode=True)
    assert report.problems == ()
    assert (report.facts["images"], report.facts["boxes"]) == (136, 354)
    report = inspect(shared_data / "mot17-mini")
    assert report.usable
    assert report.facts["boxes"] == 814
    assert {problem.kind for problem in report.problems} == {"box-clipped"}
