"""Rows measured in processes of their own, by a workshop whose trainings take no time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="reproduce needs the extra tdtrack[train]")

from rich.console import Console

from tdtrack.errors import DataError, TdtrackError
from tdtrack.reproduce.side_by_side import measure_side_by_side
from tdtrack.reproduce.tables import Row

PATIENCE = 120.0  # seconds; a process takes a few to start


@dataclass
class Workshop:
    """Writes down what it is asked for; what a row does is its label's first word."""

    out: Path

    def plan(self, row: Row, seed: int) -> Any:
        return SimpleNamespace(out=str(self.out / "runs" / f"{row.label.partition(',')[0]}-{seed}"))

    def prepare(self, row: Row) -> None:
        (self.out / f"prepared {row.label}").touch()

    def measured(self, row: Row, seed: int) -> bool:
        return (self.out / f"{row.label} {seed}").exists()

    def measure(self, row: Row, seed: int) -> None:
        print(f"measuring {row.label}")
        (self.out / f"started {row.label} {seed} in {os.getpid()}").touch()
        if row.label.startswith("wrong"):
            raise DataError("a box is missing")
        if row.label.startswith("killed"):
            os._exit(7)
        if row.label.startswith("long"):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
            try:
                (self.out / "ready").touch()
                time.sleep(PATIENCE)
            finally:
                (self.out / "kept").touch()
        if row.label.startswith("pair"):
            until(lambda: len(list(self.out.glob("started pair*"))) >= 2)
        (self.out / f"{row.label} {seed}").touch()


def until(holds: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def run(workshop: Any, *labels: str, seeds: int = 1, processes: int = 2) -> str:
    console = Console(record=True, width=200)
    measure_side_by_side(workshop, [Row(label) for label in labels], seeds, processes, console)
    return console.export_text()


def test_two_at_a_time_and_what_shares_a_model_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "done 0").touch()
    # The first two end only when both have started.
    printed = run(Workshop(tmp_path), "pair one", "pair two", "plain", "plain, another look", "done")
    assert "pair one, seed 0: done" in printed and "plain and plain, another look, seed 0: done" in printed
    started = {path.name.rpartition(" in ")[0]: path.name.rpartition(" ")[2] for path in tmp_path.glob("started *")}
    assert sorted(started) == ["started pair one 0", "started pair two 0", "started plain 0", "started plain, another look 0"]
    assert started["started plain 0"] == started["started plain, another look 0"]
    assert len(set(started.values())) == 3 and str(os.getpid()) not in started.values()
    assert not (tmp_path / "prepared done").exists() and (tmp_path / "prepared plain").exists()
    assert (tmp_path / "runs" / "plain-0.log").read_text() == "measuring plain\nmeasuring plain, another look\n"


def test_never_more_than_asked_for(tmp_path: Path) -> None:
    printed = run(Workshop(tmp_path), "plain", seeds=3, processes=1).splitlines()
    assert [line.split(": ")[1].split(",")[0].split(" ")[0] for line in printed] == ["started", "done"] * 3


def test_an_error_of_one_stops_the_others_and_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a box is missing"):
        run(Workshop(tmp_path), "long", "wrong")
    assert not (tmp_path / "long 0").exists()
    if (tmp_path / "ready").exists():
        assert (tmp_path / "kept").exists()


def test_a_process_that_dies_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(TdtrackError, match=r"killed, seed 0: its process ended with exit code 7; .*killed-0\.log says more"):
        run(Workshop(tmp_path), "killed")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_request_to_stop_reaches_every_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    here = Path(__file__)
    script.write_text(
        f"import signal, sys\nfrom pathlib import Path\nsys.path.insert(0, {str(here.parent)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # who starts the tests in the background has it ignored
        f"from {here.stem} import Workshop, run\n"
        f"if __name__ == '__main__':\n    run(Workshop(Path({str(tmp_path)!r})), 'long')\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=PATIENCE)[1]
    assert (tmp_path / "kept").exists() and not (tmp_path / "long 0").exists()
