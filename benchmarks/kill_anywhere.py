"""Kill jobs at random moments, start them again until they end, and compare with undisturbed runs, byte by byte.

    python benchmarks/kill_anywhere.py [--kills 100] [--demo-kills 10] [--faults 30] [--only demo,track]

Annotation, training and tracking are small (``tests/long_jobs.py``), so that many moments are met; the demo and a table of
``reproduce`` run on a world of a few frames. A result file that exists must be whole at every moment, and nothing may lie about
in the end; of JSON files all but the times is compared, and pages that print times are not. Then the disk fails: ENOSPC and EIO
from ``fsync`` and ``replace``, EROFS for every new file, EIO for every file of the data, a bound on the size of files; and the
folder of the results, or of the data, goes away in mid-run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import record

SMALL, LARGE = ("train", "track", "track-many", "annotate"), ("demo", "reproduce")
SCRIPT = Path(__file__).resolve().parents[1] / "tests" / "killing.py"


def disturb(name: str, kills: int, faults: int) -> dict[str, Any]:
    """Kill one job and take its disks away, in a process of its own; returns what came of it."""
    work = [f"{name}={kills}", *(f"{how}-{name}={faults}" for how in ("full", "lost") if faults)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPT), folder, *work]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(work)} failed:\n{done.stderr[-3000:]}")
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for job, result in results.items():
        ended = f", ended {result['ended']}" if "ended" in result else ""
        kind = next(kind for kind in ("kills", "faults", "losses") if kind in result)
        print(f"{job}: {result[kind]} {kind}{ended}, differences: {result['differences'] or 'none'}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--demo-kills", type=int, default=10, help="of the demo, and of a table of reproduce")
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--only", default="", help="jobs, with commas between")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name] or [*SMALL, *LARGE]
    jobs = [(name, arguments.kills, arguments.faults) if name in SMALL else (name, arguments.demo_kills, 0) for name in names]
    numbers = f"--kills {arguments.kills} --demo-kills {arguments.demo_kills} --faults {arguments.faults}"
    with ThreadPoolExecutor(arguments.workers) as pool:
        for future in as_completed([pool.submit(disturb, *job) for job in jobs]):
            for name, result in future.result().items():
                record.keep("kill_anywhere", f"python benchmarks/kill_anywhere.py {numbers}", name, result)


if __name__ == "__main__":
    main()
