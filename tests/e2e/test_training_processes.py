"""A run in several processes, started as torchrun and SLURM do, is the run in one."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tdtrack.config import OptimizerConfig, TrainConfig
from tdtrack.model import load_model, read_metadata
from tdtrack.model.checkpoint import read_pickled
from tdtrack.training import train
from tdtrack.training.session import Session
from tdtrack.training.state import plain_settings
from training_world import tiny_config, write_images, write_store

STEPS = 6
CALM = OptimizerConfig(learning_rate=1e-4, warmup_learning_rate=5e-5, warmup_steps=2, steps=STEPS, batch_size=4, ema_decay=0.9)
"""So slow that a difference in the last digit stays one: a tiny network at a high rate is chaotic."""
MAX_DIFFERENCE = {"gradient_norm": 1e-3}
"""Relative, 1e-4 where not named; the gradient's norm varies most, and norms that are not synchronised change it by 6%."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """One process, with a copy of its checkpoint after 3 iterations, in the middle of the second epoch of 6 images."""
    folder = tmp_path_factory.mktemp("processes")
    write_images(folder / "world", 6)
    source = write_store(folder / "world")
    changes = {"optimizer": CALM, "log_every": 1, "checkpoint_every": 3, "validate_every": 3}
    config = tiny_config(folder / "run", source, source, **changes)
    before, save = torch.get_num_threads(), Session.save_checkpoint

    def keep(session: Session, *, due: bool = False) -> Path:
        path = save(session, due=due)
        shutil.copy(path, folder / f"checkpoint-{session.run.step}.pt")
        return path

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "save_checkpoint", keep)
        train(config, progress=False)
    torch.set_num_threads(before)
    return config


def rows(out: str) -> list[dict[str, float]]:
    with (Path(out) / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def assert_same_to_rounding(config: TrainConfig, wanted: TrainConfig) -> None:
    found, expected = rows(config.out), rows(wanted.out)
    assert len(found) == len(expected) == STEPS
    for here, there in zip(found, expected):
        assert here.keys() == there.keys()
        for name, value in there.items():
            assert here[name] == pytest.approx(value, rel=MAX_DIFFERENCE.get(name, 1e-4)), name
    ours, theirs = load_model(config.out)[0].state_dict(), load_model(wanted.out)[0].state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4, msg=name)
    assert read_metadata(config.out)["steps"] == STEPS
    assert sorted(path.name for path in Path(config.out).iterdir()) == sorted(path.name for path in Path(wanted.out).iterdir())


def recipe(config: TrainConfig) -> str:
    path = Path(config.out).parent / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain_settings(config)))
    return str(path)


def test_two_processes_of_torchrun_learn_what_one_does(one: TrainConfig, tmp_path: Path) -> None:
    config = replace(one, out=str(tmp_path / "run"), workers=1)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tdtrack", "train", "--config", recipe(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("batch of 4: 2 x 1 x 2") == 1  # one process talks
    assert_same_to_rounding(config, one)


def test_two_processes_stop_at_one_iteration_and_go_on(one: TrainConfig, tmp_path: Path) -> None:
    longer = replace(CALM, steps=20, learning_rate=1e-5, warmup_learning_rate=1e-5)
    straight = replace(one, out=str(tmp_path / "straight"), optimizer=longer, validation=(), checkpoint_every=0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train(straight, progress=False)
    torch.set_num_threads(before)
    config = replace(straight, out=str(tmp_path / "run"), workers=1, log_every=2)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tdtrack", "train", "--config", recipe(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = tmp_path / "run" / "metrics.csv"
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while started.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) > 2):
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGTERM)  # to torchrun, both processes and their loaders, as SLURM does
    said = started.communicate(timeout=120)[1]
    (stopped,) = re.findall(r"stopped after iteration (\d+); the same command resumes", said)
    assert 0 < int(stopped) < 20 and int(stopped) % 2 == 0
    assert "Error" not in said.replace("ChildFailedError", ""), said
    assert read_pickled(tmp_path / "run" / "checkpoint.pt")["run"]["step"] == int(stopped) == int(rows(config.out)[-1]["step"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    losses = [row["loss"] for row in rows(straight.out)]
    found = rows(config.out)
    assert [row["step"] for row in found] == list(range(2, 21, 2))
    pairs = zip(losses[0::2], losses[1::2], strict=True)
    assert [row["loss"] for row in found] == pytest.approx([sum(pair) / 2 for pair in pairs], rel=1e-3)


def test_a_run_goes_on_in_two_processes_of_slurm_where_one_stopped(one: TrainConfig, tmp_path: Path) -> None:
    config = replace(one, out=str(tmp_path / "run"))
    shutil.copytree(one.out, config.out)
    (tmp_path / "run" / "model.safetensors").unlink()
    shutil.copy(Path(one.out).parent / "checkpoint-3.pt", tmp_path / "run" / "checkpoint.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}
    common |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "SLURM_NTASKS_PER_NODE": "2"}
    command = [sys.executable, "-m", "tdtrack", "train", "--config", recipe(config)]
    ranks = [common | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    started = [subprocess.Popen(command, env=os.environ | rank, stderr=subprocess.PIPE, text=True) for rank in ranks]
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert_same_to_rounding(config, one)
