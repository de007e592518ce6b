"""Whatever moment a job is killed at, whatever its disks do, the same command again ends in the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs the extra tdtrack[train]")

TESTS = Path(__file__).resolve().parents[1]
JOBS = ("annotate", "train", "track")
LOSING = ("annotate", "train", "track-many")
KILLS, FAULTS, LOSSES = 20, 5, 3


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not sys.platform.startswith("linux"):
        pytest.skip("forks processes")
    work = [f"{name}={KILLS}" for name in JOBS] + [f"full-{name}={FAULTS}" for name in JOBS]
    work += [f"lost-{name}={LOSSES}" for name in LOSING]
    command = [sys.executable, str(TESTS / "killing.py"), str(tmp_path_factory.mktemp("killed")), *work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_job_ends_in_the_bytes_of_an_undisturbed_one(report: dict[str, Any], name: str) -> None:
    assert report[name]["kills"] >= KILLS
    assert report[name]["files"] > 0
    assert report[name]["differences"] == []


@pytest.mark.parametrize("name", JOBS)
def test_a_full_disk_is_told_and_the_job_goes_on_when_there_is_room(report: dict[str, Any], name: str) -> None:
    assert report[f"full-{name}"]["ended"].get("OutputError", 0) > 0
    assert report[f"full-{name}"]["differences"] == []


@pytest.mark.parametrize("name", LOSING)
def test_a_folder_that_goes_away_is_told_and_the_job_goes_on_when_it_is_back(report: dict[str, Any], name: str) -> None:
    assert sum(report[f"lost-{name}"]["ended"].values()) == LOSSES
    assert report[f"lost-{name}"]["differences"] == []
