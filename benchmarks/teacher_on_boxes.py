"""Rows of a table tracked with their own embeddings and with the teacher's on the same boxes: tells embeddings from detection.

    python benchmarks/teacher_on_boxes.py table5 --out runs/reproduce --rows MNet MNet-FPN --length 3 [--seeds 2]

The models are those of ``tdtrack reproduce`` with the same words; what is missing is trained. Tab. 1 has a row of this.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import record

from tdtrack.reproduce.material import WalkersMaterial
from tdtrack.reproduce.run import Request, requested
from tdtrack.reproduce.scale import walkers_scale
from tdtrack.reproduce.tables import Row
from tdtrack.reproduce.workshop import Workshop

KEPT = ("MOTA", "IDF1", "HOTA", "IDSW", "AP", "cosine")


def measure(workshop: Workshop, row: Row, seeds: int) -> dict[str, dict[str, Any]]:
    """Return the mean of every number, and each seed's, with own embeddings and with the teacher's."""
    result = {}
    for name, variant in {"own": row, "teacher's": replace(row, two_stage=True)}.items():
        measured = [workshop.measure(variant, seed) for seed in range(seeds)]
        result[name] = {
            "mean": {key: float(np.mean([one[key] for one in measured])) for key in KEPT},
            "seeds": [{key: one[key] for key in KEPT} for one in measured],
        }
        print(row.label, name, {key: round(value, 4) for key, value in result[name]["mean"].items()}, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--length", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    scale = walkers_scale()
    workshop = Workshop(WalkersMaterial(scale, arguments.out), scale, arguments.out)
    table = requested(Request(arguments.table, rows=tuple(arguments.rows), length=arguments.length), scale)
    results = {row.label: measure(workshop, row, arguments.seeds) for row in table.rows}
    words = [arguments.table, "--out", str(arguments.out), "--rows", *arguments.rows]
    words += ["--length", str(arguments.length), "--seeds", str(arguments.seeds)]
    command = f"python benchmarks/teacher_on_boxes.py {shlex.join(words)}"
    print(record.save(f"teacher-on-boxes-{arguments.table}", command, results))


if __name__ == "__main__":
    main()
