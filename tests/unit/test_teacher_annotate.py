"""Annotation: one embedding per box, whatever the batches, the threads and the interruptions."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tdtrack.teacher.annotate as module
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import crop_boxes, load_image
from tdtrack.data.store import EmbeddingStore
from tdtrack.errors import ConfigError, DataError, StoreError
from tdtrack.teacher import load_teacher
from tdtrack.teacher.annotate import annotate

WIDTH, HEIGHT = 40, 30


def write_dataset(folder: Path, images: int = 12, seed: int = 0) -> DetectionDataset:
    generator = np.random.default_rng(seed)
    annotated, next_id = [], 1
    for number in range(images):
        path = folder / f"{number:03d}.png"
        if not path.exists():
            Image.fromarray(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
        shape = np.random.default_rng([seed, number])
        count = int(shape.integers(0, 5))
        corner = shape.uniform(0, (WIDTH - 8, HEIGHT - 8), (count, 2))
        xyxy = np.concatenate([corner, corner + shape.uniform(1, 8, (count, 2))], axis=1).astype(np.float32)
        ids = np.arange(next_id, next_id + count)
        next_id += count
        ignore = shape.random(count) < 0.3
        annotated.append(AnnotatedImage(number, path, WIDTH, HEIGHT, ids, xyxy, np.zeros(count, np.int64), ignore))
    return DetectionDataset("made", ("person",), tuple(annotated), licence="CC0", source="made by the test")


def colours(crops: list[np.ndarray]) -> np.ndarray:
    rows = [np.concatenate([crop.reshape(-1, 3).mean(axis=0), crop.reshape(-1, 3).std(axis=0)]) for crop in crops]
    return np.stack(rows) + 1


def test_every_box_gets_the_embedding_of_its_crop(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    assert any(image.ignore.any() for image in dataset.images)
    assert any(len(image.annotation_id) == 0 for image in dataset.images)
    teacher = load_teacher(colours)
    store = annotate(dataset, teacher, tmp_path / "store.parquet", batch_size=4, progress=False)
    assert len(store) == dataset.num_boxes > 10
    assert (store.dim, store.teacher_name, store.teacher_fingerprint) == (6, teacher.name, teacher.fingerprint)
    assert (store.data_fingerprint, store.licence) == (dataset.fingerprint(), "CC0")
    assert store.provenance["source"] == "made by the test"
    for image in dataset.images:
        expected = teacher.embed(crop_boxes(load_image(image.path), image.xyxy))
        np.testing.assert_allclose(store.lookup(image.annotation_id), expected, atol=1e-3)


@pytest.mark.parametrize("rows_per_part", [1, 5, 2048])
def test_threads_and_parts_do_not_change_the_embeddings(
    rows_per_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS_PER_PART", rows_per_part)
    dataset, teacher = write_dataset(tmp_path), load_teacher(colours)
    stores = [tmp_path / f"{workers}.parquet" for workers in (1, 3)]
    for workers, out in zip((1, 3), stores):
        annotate(dataset, teacher, out, batch_size=3, workers=workers, progress=False)
    assert stores[0].read_bytes() == stores[1].read_bytes()


def test_a_store_that_fits_is_returned_and_others_are_refused(tmp_path: Path) -> None:
    dataset, out = write_dataset(tmp_path), tmp_path / "store.parquet"
    annotate(dataset, load_teacher(colours), out, progress=False)
    before = out.stat().st_mtime_ns

    def never(crops: list[np.ndarray]) -> np.ndarray:
        raise AssertionError("the store was there already")

    same = load_teacher(colours)
    same._function = never  # type: ignore[attr-defined]
    assert len(annotate(dataset, same, out, progress=False)) == dataset.num_boxes
    assert out.stat().st_mtime_ns == before
    with pytest.raises(StoreError, match="another teacher"):
        annotate(dataset, load_teacher(lambda crops: colours(crops)), out, progress=False)
    with pytest.raises(StoreError, match=r"store\.parquet"):
        annotate(write_dataset(tmp_path, seed=1), same, out, progress=False)


def test_no_boxes_make_an_empty_store(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, images=0)
    assert len(annotate(dataset, load_teacher(colours), tmp_path / "store.parquet", progress=False)) == 0


@pytest.mark.parametrize("setting", ["batch_size", "workers"])
def test_settings_below_one_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is 0; it must be at least 1"):
        annotate(write_dataset(tmp_path), load_teacher(colours), tmp_path / "s.parquet", **{setting: 0})  # type: ignore[arg-type]


def test_bad_images_are_named(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    victim = next(image for image in dataset.images[6:] if len(image.annotation_id))
    Image.new("RGB", (WIDTH * 2, HEIGHT)).save(victim.path)
    with pytest.raises(
        DataError, match=rf"{victim.path.name}: is 80x30 pixels but image {victim.image_id} is said to be 40x30"
    ):
        annotate(dataset, load_teacher(colours), tmp_path / "s.parquet", progress=False)
    victim.path.write_bytes(b"noise")
    with pytest.raises(DataError, match=victim.path.name):
        annotate(dataset, load_teacher(colours), tmp_path / "s.parquet", progress=False)
    assert not (tmp_path / "s.parquet").exists()


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import tdtrack.teacher.annotate as module
from test_teacher_annotate import colours, write_dataset
from tdtrack.teacher import load_teacher
module._ROWS_PER_PART = 6
print("go", flush=True)
teacher = load_teacher(colours)
embed = teacher.embed
teacher.embed = lambda crops: (time.sleep(0.02), embed(crops))[1]
module.annotate(write_dataset(Path({folder!r}), 60), teacher, Path({out!r}), batch_size=3, progress=False)
"""


def test_killed_and_resumed_runs_end_in_the_same_bytes(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, 60)
    assert dataset.num_boxes > 100

    def start(out: Path) -> subprocess.Popen[str]:
        code = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path), out=str(out))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    undisturbed, disturbed = tmp_path / "undisturbed.parquet", tmp_path / "disturbed.parquet"
    assert start(undisturbed).wait() == 0
    chance, kills = random.Random(0), 0
    parts = disturbed.with_name(f"{disturbed.name}.parts")
    for _ in range(3):
        run = start(disturbed)
        assert run.stdout is not None
        run.stdout.readline()
        found = len(list(parts.glob("part-*"))) if parts.is_dir() else 0
        while run.poll() is None and (len(list(parts.glob("part-*"))) if parts.is_dir() else 0) < found + 2:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            run.wait()
            kills += 1
        assert not disturbed.exists() or kills == 0
    assert kills >= 2
    assert start(disturbed).wait() == 0
    assert disturbed.read_bytes() == undisturbed.read_bytes()
    assert not parts.exists()
    EmbeddingStore.open(disturbed).check(dataset)
