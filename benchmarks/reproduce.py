"""Record one table or figure of the paper, run by ``tdtrack reproduce``.

python benchmarks/reproduce.py table1 --out runs/reproduce [--seeds 3] [--processes 2] [--scale recipes/reproduce-walkers.yaml]
python benchmarks/reproduce.py table5 --out runs/reproduce --rows MNet MNet-FPN --length 3
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

import record

from tdtrack.cli import main as tdtrack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rows", nargs="+", default=[])
    parser.add_argument("--length", type=int, default=1)
    parser.add_argument("--scale", default="")
    arguments = parser.parse_args()
    words = ["reproduce", arguments.table, "--out", str(arguments.out), "--seeds", str(arguments.seeds)]
    words += ["--processes", str(arguments.processes)] if arguments.processes > 1 else []
    words += ["--rows", *arguments.rows] if arguments.rows else []
    words += ["--length", str(arguments.length)] if arguments.length > 1 else []
    words += ["--scale", arguments.scale] if arguments.scale else []
    if status := tdtrack(words):
        sys.exit(status)
    results = json.loads((arguments.out / f"{arguments.table}.json").read_text())
    results["scale"] = Path(arguments.scale).read_text() if arguments.scale else "default"
    part = [re.sub(r"\W+", "-", row).strip("-") for row in arguments.rows] + [f"x{arguments.length}"] * (arguments.length > 1)
    part += [Path(arguments.scale).stem.removeprefix("reproduce-")] if arguments.scale else []
    print(record.save("-".join(["reproduce", arguments.table, *part]), f"tdtrack {shlex.join(words)}", results))


if __name__ == "__main__":
    main()
