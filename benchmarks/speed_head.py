"""What the embedding head costs: lazy and dense against the detector alone, by D and by number of people.

python benchmarks/speed_head.py --json [--engine onnxruntime] [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import networks
import record
import timing

VARIANTS = {
    "detector": ("none", 64, 100),
    "lazy-64-100": ("lazy", 64, 100),
    "lazy-512-100": ("lazy", 512, 100),
    "lazy-512-0": ("lazy", 512, 0),
    "lazy-512-300": ("lazy", 512, 300),
    "dense-64-100": ("dense", 64, 100),
    "dense-512-100": ("dense", 512, 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="onnxruntime", choices=("onnxruntime", "openvino"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args()
    image = networks.random_image()
    before = timing.load()
    with tempfile.TemporaryDirectory() as scratch:
        variants = {}
        for name, (embedding, dim, people) in VARIANTS.items():
            opened = networks.session(Path(scratch), arguments.engine, people, embedding, dim)
            variants[name] = networks.runner(opened, image, people)
        seconds = timing.alternate(variants, arguments.rounds)
    results = {"engine": opened.label, "input": [networks.HEIGHT, networks.WIDTH], "rounds": arguments.rounds}
    for key, above, below in (
        ("lazy_over_detector", "lazy-512-100", "detector"),
        ("dense_over_detector", "dense-512-100", "detector"),
        ("d512_over_d64", "lazy-512-100", "lazy-64-100"),
        ("people300_over_none", "lazy-512-300", "lazy-512-0"),
        ("dense64_over_detector", "dense-64-100", "detector"),
    ):
        results |= seconds.ratios(key, above, below)
    results |= {"seconds": seconds.summary(), "load_before": before, "load_after": timing.load()}
    suite = "speed_head" if arguments.engine == "onnxruntime" else f"speed_head-{arguments.engine}"
    path = record.save(
        suite, f"python benchmarks/speed_head.py --engine {arguments.engine} --rounds {arguments.rounds}", results
    )
    print(json.dumps(results) if arguments.json else path)


if __name__ == "__main__":
    main()
