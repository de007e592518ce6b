"""Record one run of ``tdtrack demo`` from nothing.

python benchmarks/demo.py --out runs/demo [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import record

from tdtrack.cli import main as tdtrack

KEPT = ("MOTA", "IDF1", "HOTA", "IDSW", "CLR_TP", "CLR_FP", "CLR_FN", "fps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} exists; a run from nothing needs a new folder")
    started = time.perf_counter()
    status = tdtrack(["demo", "--out", str(arguments.out), "--seed", str(arguments.seed)])
    if status:
        sys.exit(status)
    results = json.loads((arguments.out / "results.json").read_text())
    results["modes"] = {key: {name: mode[name] for name in KEPT} for key, mode in results["modes"].items()}
    results["total_seconds"] = round(time.perf_counter() - started, 1)
    suite = "demo" if arguments.seed == 0 else f"demo-seed{arguments.seed}"
    print(record.save(suite, f"python benchmarks/demo.py --out runs/demo --seed {arguments.seed}", results))


if __name__ == "__main__":
    main()
