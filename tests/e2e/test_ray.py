"""Jobs on Ray: the same bytes as in one process, whatever happens to the workers."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from media_files import cut, moving_squares, write_video
from random_models import save_random_model
from tdtrack.batch import find_videos, track_many
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import AnnotatedImage
from tdtrack.errors import ConfigError, DataError, OutputError, WeightsError
from tdtrack.jobs.pool import ATTEMPTS, Failure, RayCluster, run_on_ray
from tdtrack.teacher.annotate import annotate, annotate_on_ray
from tdtrack.track import TrackRequest

pytest.importorskip("ray", reason="needs the extra tdtrack[scale]")
if not sys.platform.startswith("linux"):
    pytest.skip("finds worker processes in /proc", allow_module_level=True)

TWO = RayCluster(workers=2)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's numbers depend on the number of its threads, so give it as many here as Ray's workers get."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def workers_of_this_process() -> list[int]:
    """Processes below this one in which Ray runs an item."""
    parents, busy = {}, []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                busy += [int(entry.name)] if (entry / "cmdline").read_text().startswith("ray::_Worker.run") else []
        except OSError:  # it has just ended
            continue

    def ours(number: int) -> bool:
        return number == os.getpid() or (number in parents and ours(parents[number]))

    return [number for number in busy if ours(number)]


def test_two_workers_of_which_one_is_killed_leave_what_one_process_does(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(8):
        write_video(folder / f"v{index}.mp4", moving_squares(20 + 2 * index), noise=3)
    whole = write_video(tmp_path / "long.mp4", moving_squares(40), noise=6)
    cut(whole, 0.5).rename(folder / "cut.mp4")
    (folder / "text.mp4").write_text("no video")
    model = save_random_model(tmp_path / "run")
    videos = find_videos([str(folder)], "out")
    assert len(videos) == 10

    def request(out: str) -> TrackRequest:
        # Without the annotated video: its encoding differs by some pixels from run to run, in one process as well.
        return TrackRequest(out=str(tmp_path / out), model=str(model), device="cpu", video=False)

    alone = list(track_many(request("alone"), videos, {}))
    killed: list[int] = []
    entries = []
    for entry in track_many(request("ray"), videos, {}, TWO):
        entries.append(entry)
        deadline = time.monotonic() + 20
        while not killed and time.monotonic() < deadline:
            for number in workers_of_this_process()[:1]:
                os.kill(number, signal.SIGKILL)
                killed.append(number)
    assert killed
    assert sorted(entries, key=lambda entry: entry["name"]) == sorted(alone, key=lambda entry: entry["name"])
    assert [entry["name"] for entry in alone if entry["status"] == "failed"] == ["text"]
    assert [entry["name"] for entry in alone if entry.get("truncated")] == ["cut"]
    results = {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert len(results) == 9 * 2 + 1
    found = {path.name: path.read_bytes() for path in (tmp_path / "ray").iterdir() if not path.name.startswith(".")}
    assert found == results


def test_a_result_folder_that_goes_away_stops_the_job_which_goes_on_when_it_is_back(tmp_path: Path) -> None:
    folder, out, away = tmp_path / "in", tmp_path / "out", tmp_path / "away"
    folder.mkdir()
    for index in range(4):
        write_video(folder / f"v{index}.mp4", moving_squares(10 + index))
    model = save_random_model(tmp_path / "run")
    videos = find_videos([str(folder)], str(out))
    request = TrackRequest(out=str(out), model=str(model), device="cpu", video=False)
    entries = track_many(request, videos, {}, TWO)
    first = next(entries)
    out.rename(away)
    with pytest.raises(OutputError, match=r"cannot (find|write) .*(out|v\d)"):
        list(entries)
    shutil.rmtree(out, ignore_errors=True)  # what a worker wrote below the mount
    away.rename(out)
    after = list(track_many(request, videos, {}))
    assert after[0] == first and len(after) == 4 and {entry["status"] for entry in after} == {"done"}
    alone = TrackRequest(out=str(tmp_path / "alone"), model=str(model), device="cpu", video=False)
    list(track_many(alone, videos, {}))
    found = {path.name: path.read_bytes() for path in out.iterdir()}
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}


def test_items_are_tried_again_and_given_up_one_by_one(tmp_path: Path) -> None:
    def prepare() -> Callable[[str], str]:
        def work(item: str) -> str:
            with (tmp_path / item).open("a") as file:
                file.write("x")
            tries = len((tmp_path / item).read_text())
            if item == "fatal" or (item == "killed" and tries == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            if item == "corrupt" or (item == "flaky" and tries < ATTEMPTS):
                raise DataError(f"{item} cannot be read")
            return item.upper()

        return work

    items = ["a", "fatal", "killed", "corrupt", "flaky", "b", "c"]
    outcomes = dict(run_on_ray(items, prepare, TWO))
    failures = {item: outcome.reason for item, outcome in outcomes.items() if isinstance(outcome, Failure)}
    assert failures.keys() == {"fatal", "corrupt"}
    assert failures["corrupt"] == "corrupt cannot be read"
    assert failures["fatal"].startswith("its worker process died")
    assert {item: outcomes[item] for item in items if item not in failures} == {
        item: item.upper() for item in ("a", "killed", "flaky", "b", "c")
    }
    tried = {item: len((tmp_path / item).read_text()) for item in items}
    assert tried == {"a": 1, "b": 1, "c": 1, "killed": 2, "flaky": ATTEMPTS, "corrupt": ATTEMPTS, "fatal": ATTEMPTS}


def test_what_would_fail_everywhere_stops_the_job(tmp_path: Path) -> None:
    request = TrackRequest(out=str(tmp_path / "out"), model=str(tmp_path / "nowhere"), device="cpu")
    with pytest.raises(WeightsError, match="nowhere does not exist"):
        list(track_many(request, {"a": "a.mp4", "b": "b.mp4"}, {}, TWO))
    with pytest.raises(ConfigError, match="--enroll lets every video add to one gallery"):
        list(track_many(TrackRequest(out="x", enroll=True, gallery="g"), {"a": "a.mp4"}, {}, TWO))


def write_boxes(folder: Path) -> None:
    """Fifty images of a hundred boxes each: three parts of a store."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images = []
    for index in range(50):
        path = folder / "images" / f"{index:03d}.png"
        PillowImage.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
        corner = rng.integers(0, 20, (100, 2))
        boxes = np.concatenate([corner, corner + rng.integers(4, 20, (100, 2))], axis=1).astype(np.float32)
        ids, zeros = np.arange(100) + 100 * index, np.zeros(100, np.int64)
        images.append(AnnotatedImage(index, path, 60, 40, ids, boxes, zeros, zeros.astype(bool)))
    write_coco(folder / "boxes.json", images, ("person",), images_dir=folder / "images", description="made up", licence="CC0")


def test_parts_annotated_on_ray_are_those_of_one_process(tmp_path: Path) -> None:
    write_boxes(tmp_path)
    folder = str(tmp_path)

    def load() -> tuple[object, object]:
        from tdtrack.data import load_dataset
        from tdtrack.teacher import load_teacher

        def colour(crops: Sequence[np.ndarray]) -> np.ndarray:
            return np.stack([crop.reshape(-1, 3).mean(axis=0) for crop in crops])

        return load_dataset(f"{folder}/boxes.json", f"{folder}/images"), load_teacher(colour)

    dataset, teacher = load()
    alone = annotate(dataset, teacher, tmp_path / "alone.parquet", progress=False)  # type: ignore[arg-type]
    bad = tmp_path / "images" / "030.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:200])
    out = tmp_path / "ray.parquet"
    with pytest.raises(DataError, match=r"1 of 3 parts cannot be annotated, the others are done: part 1: .*030\.png"):
        annotate_on_ray(load, out, TWO, progress=False)  # type: ignore[arg-type]
    assert sorted(path.name for path in (tmp_path / "ray.parquet.parts").glob("part-*")) == [
        "part-000000.parquet",
        "part-000002.parquet",
    ]
    bad.write_bytes(content)
    annotate(dataset, teacher, out, progress=False)  # type: ignore[arg-type]
    assert out.read_bytes() == alone.path.read_bytes()
