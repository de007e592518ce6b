"""Runs in processes of their own: killed, interrupted, and spread over devices."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tdtrack.config import DataSource
from tdtrack.model import read_metadata
from training_world import write_images, write_store

TESTS = Path(__file__).resolve().parents[1]
STEPS = 9

RUN = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from dataclasses import replace
from pathlib import Path
from training_world import tiny_config
from tdtrack.config import DataSource
from tdtrack.training import train
from tdtrack.training.session import Session

folder, out, stop_at, number, workers, devices = sys.argv[1:]
source = DataSource(*(f"{{folder}}/{{name}}" for name in ("annotations.json", "images", "colour.parquet")))
update = Session.iterate

def stop(session, *arguments):
    if session.run.step == int(stop_at):
        os.kill(os.getpid(), signal.Signals[number])
    return update(session, *arguments)

if number != "none":
    Session.iterate = stop
changes = dict(workers=int(workers), devices=int(devices), validate_every=4, checkpoint_every=3, log_every=2)
config = tiny_config(Path(out), source, source, steps={steps}, **changes)
model, optimizer = replace(config.model, embedding_target="pca"), replace(config.optimizer, anchor_slots="{slots}")
train(replace(config, model=model, optimizer=optimizer), progress=False)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("world")
    write_images(folder / "train", 6)
    return write_store(folder / "train")


def run(
    source: DataSource,
    out: Path,
    *,
    stop_at: int = -1,
    number: str = "none",
    workers: int = 0,
    devices: int = 1,
    slots: str = "shared",
) -> int:
    script = out.parent / "run.py"
    script.write_text(RUN.format(tests=str(TESTS), steps=STEPS, slots=slots))
    folder = Path(source.annotations).parent
    command = [sys.executable, str(script), str(folder), str(out), str(stop_at), number, str(workers), str(devices)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode > 0 and number == "none":
        raise AssertionError(done.stderr)
    return done.returncode


@pytest.fixture(scope="module")
def straight(source: DataSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    assert run(source, out) == 0
    return out


def assert_same_bytes(one: Path, two: Path) -> None:
    for name in ("model.safetensors", "metrics.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_run_killed_twice_ends_in_the_same_bytes(source: DataSource, straight: Path, tmp_path: Path) -> None:
    first, second = sorted(random.Random().sample(range(1, STEPS), 2))
    for stop_at in (first, second):
        assert run(source, tmp_path / "run", stop_at=stop_at, number="SIGKILL") == -signal.SIGKILL
        assert not (tmp_path / "run" / "model.safetensors").exists()
    assert run(source, tmp_path / "run", workers=2) == 0
    assert_same_bytes(tmp_path / "run", straight)


def test_a_run_that_is_told_to_stop_loses_no_iteration(source: DataSource, straight: Path, tmp_path: Path) -> None:
    assert run(source, tmp_path / "run", stop_at=4, number="SIGTERM", workers=2) != 0
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert rows[-1].startswith("4,")
    assert run(source, tmp_path / "run") == 0
    assert_same_bytes(tmp_path / "run", straight)


def test_a_killed_run_of_tied_slots_ends_in_the_same_bytes(source: DataSource, tmp_path: Path) -> None:
    assert run(source, tmp_path / "straight", slots="tied") == 0
    assert run(source, tmp_path / "run", slots="tied", stop_at=5, number="SIGKILL") == -signal.SIGKILL
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert run(source, tmp_path / "run", slots="tied") == 0
    assert_same_bytes(tmp_path / "run", tmp_path / "straight")


def test_two_devices_share_the_batches(source: DataSource, tmp_path: Path) -> None:
    assert run(source, tmp_path / "run", devices=2) == 0
    assert read_metadata(tmp_path / "run")["steps"] == STEPS
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6", "8", "9"]
