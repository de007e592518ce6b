"""The written world: its layout, its resumption, its independence of processes."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from tdtrack.data import load_dataset
from tdtrack.data.mot import find_sequences
from tdtrack.data.walkers import WalkersConfig, World, export, write_world
from tdtrack.data.walkers.render import make_shot, render_frame
from tdtrack.errors import DataError, OutputError

TINY = WalkersConfig(
    seed=7,
    width=160,
    height=96,
    max_people=6,
    min_people=4,
    reid_identities=8,
    reid_test_identities=5,
    crops_per_identity=4,
    reid_cameras=3,
    cameras_per_identity=2,
    detection_videos=2,
    detection_frames=3,
    validation_videos=1,
    validation_frames=2,
    sequences=2,
    sequence_frames=5,
)


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(TINY, tmp_path_factory.mktemp("world"), progress=False, workers=1)


def test_same_seed_same_bytes_with_any_number_of_processes(world: World, tmp_path: Path) -> None:
    write_world(TINY, tmp_path / "again", progress=False, workers=2)
    assert _digest(tmp_path / "again") == _digest(world.root)


def test_another_seed_gives_another_world(world: World, tmp_path: Path) -> None:
    other = write_world(replace(TINY, seed=8), tmp_path, progress=False, workers=1)
    mine, theirs = _digest(world.root), _digest(other.root)
    same = [name for name in mine if name.endswith(".jpg") and theirs.get(name) == mine[name]]
    assert not same


def test_crops_are_laid_out_like_market_1501(world: World) -> None:
    pattern = re.compile(r"(\d{4})_c(\d)s\d_\d{6}_\d{2}\.jpg")
    identities: dict[str, set[int]] = {}
    cameras: dict[int, set[int]] = {}
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        files = sorted((world.reid / part).glob("*"))
        matches = [pattern.fullmatch(path.name) for path in files]
        assert matches
        assert all(matches)
        identities[part] = {int(match[1]) for match in matches if match}
        for match in matches:
            if match:
                cameras.setdefault(int(match[1]), set()).add(int(match[2]))
        for path in files:
            with PilImage.open(path) as image:
                assert image.mode == "RGB"
                assert min(image.size) >= 8
    assert identities["bounding_box_train"] == set(range(1, 9))
    assert identities["query"] == set(range(9, 14))
    assert identities["bounding_box_test"] <= identities["query"]
    assert all(len(seen) == 2 for seen in cameras.values())
    queries = Counter(path.name[:7] for path in (world.reid / "query").iterdir())
    assert set(queries.values()) == {1}, "one query per identity and camera"


def test_the_detection_set_withholds_identities(world: World) -> None:
    train, val = load_dataset(world.train, world.images), load_dataset(world.val, world.images)
    assert (len(train), len(val)) == (6, 2)
    assert train.classes == val.classes == ("person",)
    assert train.num_boxes > 6
    for path in (world.train, world.val):
        text = path.read_text()
        assert "track_id" not in text
        assert set(json.loads(text)["annotations"][0]) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}


def test_boxes_of_the_detection_set_are_the_rendered_ones(world: World) -> None:
    dataset = load_dataset(world.train, world.images)
    step = round(TINY.detection_gap * TINY.frame_rate)
    frame = render_frame(make_shot(TINY, "train", 1, 3 * step), 2 * step)
    image = dataset.images[5]
    assert image.path.name == f"train-02-{2 * step + 1:06d}.jpg"
    seen = frame.visibility >= export.MIN_ANNOTATED
    assert sorted(image.xyxy.tolist()) == sorted(frame.xyxy[seen].tolist())
    assert image.ignore.sum() == (frame.visibility[seen] < TINY.min_visibility).sum()


def test_sequences_have_motchallenge_files(world: World) -> None:
    sequences = find_sequences(world.root / "sequences")
    assert [sequence.folder for sequence in sequences] == list(world.sequences)
    for index, sequence in enumerate(sequences):
        assert (sequence.info.width, sequence.info.height, sequence.info.length) == (160, 96, 5)
        assert sequence.info.frame_rate == TINY.frame_rate
        assert len(sequence.frames) == 5
        shot = make_shot(TINY, "sequence", index, 5)
        truth = sequence.ground_truth()
        for number in range(5):
            frame = render_frame(shot, number)
            rows = truth.frame_index == number
            assert truth.track_id[rows].tolist() == frame.identity.tolist()
            left_top = truth.tlwh[rows][:, :2]
            assert np.array_equal(np.hstack([left_top, left_top + truth.tlwh[rows][:, 2:]]), frame.xyxy)
            assert truth.visibility[rows] == pytest.approx(frame.visibility, abs=1e-5)
            counted = frame.visibility >= TINY.min_visibility
            assert (truth.score[rows] == counted).all()
            assert (truth.class_id[rows] == np.where(counted, export.PEDESTRIAN, export.DISTRACTOR)).all()


def test_parts_share_no_identity() -> None:
    shots = [make_shot(TINY, "train", 0, 1), make_shot(TINY, "train", 1, 1), make_shot(TINY, "val", 0, 1)]
    shots += [make_shot(TINY, "sequence", 0, 1), make_shot(TINY, "sequence", 1, 1)]
    numbers = [int(number) for shot in shots for number in shot.identity]
    reid = TINY.reid_identities + TINY.reid_test_identities
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) == reid + 1
    looks = [look for shot in shots for look in shot.cast]
    assert len(set(looks)) == len(looks)
    assert len({shot.scene.canvas.tobytes() for shot in shots}) == len(shots)


def test_an_interrupted_world_is_finished_to_the_same_bytes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done = export._do, []

    def stop_midway(config: WalkersConfig, out: Path, job: export._Job) -> None:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(job.name)
        real(config, out, job)

    monkeypatch.setattr(export, "_do", stop_midway)
    with pytest.raises(KeyboardInterrupt):
        write_world(TINY, tmp_path, progress=False, workers=1)
    again: list[str] = []
    monkeypatch.setattr(export, "_do", lambda config, out, job: (again.append(job.name), real(config, out, job))[1])
    write_world(TINY, tmp_path, progress=False, workers=1)
    assert _digest(tmp_path) == _digest(world.root)
    assert not set(done) & set(again)
    assert len(done) + len(again) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_the_processes_of_a_killed_world_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from tdtrack.data.walkers import WalkersConfig, write_world\n"
        "if __name__ == '__main__':\n"
        f"    write_world(WalkersConfig(), {str(tmp_path / 'world')!r}, progress=False, workers=2)\n"
    )
    started = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    while started.poll() is None and not list((tmp_path / "world").rglob("*.jpg")):
        time.sleep(0.02)
    started.kill()
    said, _ = started.communicate(timeout=60)  # ends when no process is left that could write there
    assert (said, started.returncode) == (b"", -signal.SIGKILL)


def test_a_finished_world_is_not_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_do", lambda *_: pytest.fail("made again"))
    assert write_world(TINY, world.root, progress=False) == world


def test_a_folder_of_another_world_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"world\.json: holds a world with seed 7, not 8"):
        write_world(replace(TINY, seed=8), world.root, progress=False)
    (tmp_path / "world.json").write_text("[1]")
    with pytest.raises(DataError, match="is not the description of a walkers world"):
        write_world(TINY, tmp_path, progress=False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_world(TINY, tmp_path / "file" / "world", progress=False)
