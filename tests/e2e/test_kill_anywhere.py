"""Whatever moment a job is killed at, the same command again ends in the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra tdtrack[train]")

TESTS = Path(__file__).resolve().parents[1]
KILLS = 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks processes")
def test_killed_jobs_end_in_the_bytes_of_undisturbed_ones(tmp_path: Path) -> None:
    jobs = [f"{name}={KILLS}" for name in ("annotate", "train", "track")]
    command = [sys.executable, str(TESTS / "killing.py"), str(tmp_path), *jobs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    for name in ("annotate", "train", "track"):
        assert report[name]["kills"] >= KILLS
        assert report[name]["files"] > 0
        assert report[name]["differences"] == []
