"""Jobs of many items: what is written down, and what one bad item costs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tdtrack.cli.parsing import take_ray
from tdtrack.errors import BusyError, ConfigError, DataError, MediaError, MissingExtraError, OutputError, ShapeError
from tdtrack.jobs.manifest import Manifest
from tdtrack.jobs.pool import Failure, RayCluster, run_here


def test_a_manifest_is_the_same_bytes_in_whatever_order_items_finish(tmp_path: Path) -> None:
    contents = set()
    for order in ("abc", "cab", "bcaa"):
        manifest = Manifest(tmp_path / f"{order}.jsonl", {"model": "m", "limit": None})
        for name in order:
            manifest.record({"name": name, "status": "done"})
        manifest.close()
        contents.add((tmp_path / f"{order}.jsonl").read_bytes())
    assert len(contents) == 1
    lines = [json.loads(line) for line in contents.pop().splitlines()]
    assert lines[0]["settings"] == {"model": "m", "limit": None}
    assert [line["name"] for line in lines[1:]] == ["a", "b", "c"]


def test_what_is_recorded_outlives_a_kill_and_half_a_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first = Manifest(path, {"model": "m"})
    for name in "ba":
        first.record({"name": name, "status": "done"})
    with pytest.raises(BusyError, match="another job is at work in this folder; wait for it, or choose another --out"):
        Manifest(path, {"model": "m"})
    first._lock.close()  # killed
    with path.open("a") as file:  # killed while it wrote
        file.write('{"name": "c", "sta')
    for left in (".m.jsonl.0123abcd.tmp", "camera/.v.txt.0123abcd.tmp"):  # killed while it sorted, and while it tracked
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).touch()
    again = Manifest(path, {"model": "m"})
    assert list(again.entries) == ["b", "a"]
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [".m.jsonl.lock", "m.jsonl"]
    again.record({"name": "c", "status": "failed"})
    again.close()
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["m.jsonl"]
    assert [json.loads(line).get("name") for line in path.read_text().splitlines()] == [None, "a", "b", "c"]


def test_names_may_hold_whatever_file_names_may(tmp_path: Path) -> None:
    names = ["a", "line\u2028end", "next\x85line", "caf\udce9", "雪"]  # one is no UTF-8, as names on old disks
    manifest = Manifest(tmp_path / "m.jsonl", {"model": "m"})
    for name in names:
        manifest.record({"name": name})
    manifest.close()
    assert sorted(Manifest(tmp_path / "m.jsonl", {"model": "m"}).entries) == sorted(names)


def test_a_manifest_that_has_gone_stops_the_job_and_is_not_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = Manifest(out / "m.jsonl", {"model": "m"})
    manifest.record({"name": "a", "status": "done"})
    out.rename(tmp_path / "away")
    with pytest.raises(OutputError, match=r"cannot find .*m\.jsonl again.*run the same command again"):
        manifest.record({"name": "b", "status": "done"})
    manifest.close()
    assert not out.exists()
    (tmp_path / "away").rename(out)
    assert list(Manifest(out / "m.jsonl", {"model": "m"}).entries) == ["a"]


def test_a_manifest_of_another_job_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    Manifest(path, {"model": "m", "offline": False}).close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"m\.jsonl belongs to a job with offline False, this one has True"):
        Manifest(path, {"model": "m", "offline": True})
    assert path.read_bytes() == before
    path.write_text('{"format": 99}\n')
    with pytest.raises(ConfigError, match="not a manifest of this version"):
        Manifest(path, {})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(OutputError, match="it is not text; delete it"):
        Manifest(path, {})


def test_a_bad_item_costs_that_item_and_a_bad_setting_the_job() -> None:
    prepared: list[int] = []

    def prepare() -> Callable[[str], str]:
        prepared.append(1)
        return work

    def work(item: str) -> str:
        if item == "cut":
            raise MediaError("cut: not one frame")
        if item == "nan":
            raise ShapeError("frame 7: embedding row 0 has NaN")
        if item == "busy":
            raise BusyError("another job is writing these results")
        if item == "odd":
            raise ValueError("a decoder's surprise")
        if item == "full":
            raise OutputError("no space left")
        return item.upper()

    assert list(run_here(["a", "nan", "busy", "cut", "odd", "b"], prepare)) == [
        ("a", "A"),
        ("nan", Failure("frame 7: embedding row 0 has NaN")),
        ("busy", Failure("another job is writing these results")),
        ("cut", Failure("cut: not one frame")),
        ("odd", Failure("unexpected ValueError: a decoder's surprise")),
        ("b", "B"),
    ]
    assert prepared == [1]
    with pytest.raises(OutputError, match="no space left"):
        list(run_here(["a", "full", "b"], prepare))
    assert list(run_here([], lambda: pytest.fail("nothing to prepare for"))) == []


@pytest.mark.parametrize("error", [MissingExtraError("ray", "scale", "--engine ray"), DataError("a.jpg: bad"), MediaError("x")])
def test_errors_travel_between_processes(error: Exception) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


@pytest.mark.parametrize(
    ("engine", "device", "found"),
    [
        ("torch", None, ("torch", None)),
        ("ray", "cpu", ("auto", RayCluster(None, 3, False))),
        ("ray:openvino", None, ("openvino", RayCluster(None, 3, True))),
    ],
)
def test_the_engine_says_where_and_by_what(engine: str, device: str | None, found: tuple[str, RayCluster | None]) -> None:
    workers = 3 if engine.startswith("ray") else None
    assert take_ray({"engine": engine, "device": device, "address": None, "ray_workers": workers}, "auto") == found


def test_words_for_ray_without_ray_are_refused() -> None:
    with pytest.raises(ConfigError, match="are for --engine ray"):
        take_ray({"engine": "auto", "address": "auto", "ray_workers": None}, "auto")
