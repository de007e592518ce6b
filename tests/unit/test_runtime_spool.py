"""What a killed tracking job finds again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from media_files import moving_squares, write_video
from tdtrack.errors import OutputError
from tdtrack.runtime import engine as engines
from tdtrack.runtime.spool import DetectionSpool
from tdtrack.track import TrackRequest, run_track
from tdtrack.types import Detections, Image

KEY = {"files": "abc"}


def found(index: int, dim: int | None = 3) -> Detections:
    rng = np.random.default_rng(index)
    count = int(rng.integers(0, 4))
    corner = rng.uniform(0, 50, (count, 2))
    embedding = None if dim is None else rng.normal(size=(count, dim))
    return Detections(np.hstack([corner, corner + 9]), rng.uniform(size=count), rng.integers(0, 9, count), embedding)


def assert_same(one: Detections, two: Detections) -> None:
    for name in ("xyxy", "score", "class_id", "embedding"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def fill(path: Path, count: int, *, batch_size: int = 1, dim: int | None = 3) -> None:
    spool = DetectionSpool(path, KEY, batch_size=batch_size)
    for index in range(len(spool), count):
        spool.append(2 * index, found(index, dim))
    spool.close()


@pytest.mark.parametrize("dim", [None, 3])
def test_detections_come_back_bit_by_bit(tmp_path: Path, dim: int | None) -> None:
    fill(tmp_path / "a.resume", 10, dim=dim)
    back = list(DetectionSpool(tmp_path / "a.resume", KEY).replay())
    assert [index for index, _ in back] == list(range(0, 20, 2))
    for index, (_, detections) in enumerate(back):
        assert_same(detections, found(index, dim))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_whatever_a_kill_leaves_goes_on_to_the_same_file(tmp_path: Path, batch_size: int) -> None:
    fill(tmp_path / "whole", 10, batch_size=batch_size)
    whole = (tmp_path / "whole").read_bytes()
    lengths = set()
    for size in range(0, len(whole), 7):
        path = tmp_path / "cut"
        path.write_bytes(whole[:size])
        spool = DetectionSpool(path, KEY, batch_size=batch_size)
        lengths.add(len(spool))
        spool.close()
        fill(path, 10, batch_size=batch_size)
        assert path.read_bytes() == whole, size
    assert lengths == set(range(0, 10, batch_size))


def test_a_damaged_record_ends_what_is_believed(tmp_path: Path) -> None:
    fill(tmp_path / "a", 10)
    content = bytearray((tmp_path / "a").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a").write_bytes(content)
    spool = DetectionSpool(tmp_path / "a", KEY)
    assert 0 < len(spool) < 10
    for index, (_, detections) in enumerate(spool.replay()):
        assert_same(detections, found(index))


@pytest.mark.parametrize(("key", "batch_size"), [({"files": "other"}, 1), (KEY, 2)])
def test_of_other_frames_or_another_network_nothing_is_taken(tmp_path: Path, key: dict[str, str], batch_size: int) -> None:
    fill(tmp_path / "a", 5)
    assert len(DetectionSpool(tmp_path / "a", key, batch_size=batch_size)) == 0


def test_two_jobs_do_not_write_one_file(tmp_path: Path) -> None:
    first = DetectionSpool(tmp_path / "a", KEY)
    with pytest.raises(OutputError, match="another job is writing"):
        DetectionSpool(tmp_path / "a", KEY)
    first.discard()
    assert not (tmp_path / "a").exists()


class Failing:
    """An engine that fails once at a frame, and counts."""

    classes, embedding_dim, label = ("person",), None, "failing"

    def __init__(self, fail_at: int) -> None:
        self.calls, self.fail_at, self.metadata = 0, fail_at, {}

    def __call__(self, frame: Image) -> Detections:
        self.calls += 1
        if self.calls == self.fail_at:
            raise MemoryError("the machine is full")
        left = float(frame[..., 0].argmax() % 60)
        return Detections([[left, 5, left + 12, 40]], [0.9], [0])


def test_a_job_that_failed_looks_only_at_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "walk.mp4", moving_squares(30))
    request = TrackRequest(str(tmp_path / "out"), source=str(tmp_path / "walk.mp4"), model="any")
    engine = Failing(-1)
    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: engine)
    run_track(replace(request, out=str(tmp_path / "straight")), {})
    assert engine.calls == 30
    engine = Failing(20)
    with pytest.raises(MemoryError):
        run_track(request, {})
    assert (tmp_path / "out" / "walk.resume").is_file()
    engine = Failing(-1)
    summary = run_track(request, {})
    assert engine.calls == 30 - 19
    assert summary.frames == 30
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["walk.jsonl", "walk.mp4", "walk.txt"]
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
