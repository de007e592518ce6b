"""Kill jobs at random moments, start them again until they end, and compare with undisturbed runs, byte by byte.

    python benchmarks/kill_anywhere.py [--kills 100] [--demo-kills 10] [--faults 30]

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
from pathlib import Path

import record

SCRIPT = Path(__file__).resolve().parents[1] / "tests" / "killing.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--demo-kills", type=int, default=10, help="of the demo, and of a table of reproduce")
    parser.add_argument("--faults", type=int, default=30)
    arguments = parser.parse_args()
    small = ("annotate", "train", "track", "track-many")
    jobs = [f"{name}={arguments.kills}" for name in small]
    jobs += [f"{name}={arguments.demo_kills}" for name in ("demo", "reproduce") if arguments.demo_kills]
    jobs += [f"{how}-{name}={arguments.faults}" for how in ("full", "lost") for name in small if arguments.faults]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPT), folder, *jobs]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    results = json.loads(done.stdout.splitlines()[-1])
    for name, result in results.items():
        ended = f", ended {result['ended']}" if "ended" in result else ""
        kind = next(kind for kind in ("kills", "faults", "losses") if kind in result)
        print(f"{name}: {result[kind]} {kind}{ended}, differences: {result['differences'] or 'none'}")
    numbers = f"--kills {arguments.kills} --demo-kills {arguments.demo_kills} --faults {arguments.faults}"
    command_line = f"python benchmarks/kill_anywhere.py {numbers}"
    print(record.save("kill_anywhere", command_line, results))


if __name__ == "__main__":
    main()
