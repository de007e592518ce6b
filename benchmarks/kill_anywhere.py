"""Kill jobs at random moments, start them again until they end, and compare with undisturbed runs, byte by byte.

    python benchmarks/kill_anywhere.py [--kills 100] [--demo-kills 10] [--faults 30]

Annotation, training and tracking are small (``tests/killing.py``), so that many moments are met; the demo runs on a world of
a few frames. A result file that exists must be whole at every moment, and nothing may lie about in the end. Then writes
fail: ENOSPC and EIO from ``fsync`` and ``replace``, and a bound on the size of files.
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
    parser.add_argument("--demo-kills", type=int, default=10)
    parser.add_argument("--faults", type=int, default=30)
    arguments = parser.parse_args()
    small = ("annotate", "train", "track")
    jobs = [f"{name}={arguments.kills}" for name in small]
    jobs += [f"demo={arguments.demo_kills}"] if arguments.demo_kills else []
    jobs += [f"full-{name}={arguments.faults}" for name in small if arguments.faults]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPT), folder, *jobs]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    results = json.loads(done.stdout.splitlines()[-1])
    for name, result in results.items():
        done_how = f"{result['kills']} kills" if "kills" in result else f"{result['faults']} faults, ended {result['ended']}"
        print(f"{name}: {done_how}, differences: {result['differences'] or 'none'}")
    numbers = f"--kills {arguments.kills} --demo-kills {arguments.demo_kills} --faults {arguments.faults}"
    command_line = f"python benchmarks/kill_anywhere.py {numbers}"
    print(record.save("kill_anywhere", command_line, results))


if __name__ == "__main__":
    main()
