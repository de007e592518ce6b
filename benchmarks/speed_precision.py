"""What bfloat16 gains on this processor: one network with the lazy head, OpenVINO, fp32 and bf16 in turns.

python benchmarks/speed_precision.py --json [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import networks
import record
import timing

from tdtrack.runtime.exported import open_session

PEOPLE = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args()
    image = networks.random_image()
    before = timing.load()
    with tempfile.TemporaryDirectory() as scratch:
        networks.session(Path(scratch), "openvino", PEOPLE, "lazy", 512)
        (path,) = Path(scratch).glob("*.onnx")
        opened = {name: open_session(path, "openvino", device="cpu", precision=name) for name in ("fp32", "bf16")}
        variants = {name: networks.runner(session, image, PEOPLE) for name, session in opened.items()}
        seconds = timing.alternate(variants, arguments.rounds, warm_up=2)
    results = {
        "engines": [session.label for session in opened.values()],
        "input": [networks.HEIGHT, networks.WIDTH],
        "rounds": arguments.rounds,
        **seconds.ratios("fp32_over_bf16", "fp32", "bf16"),
        "seconds": seconds.summary(),
        "load_before": before,
        "load_after": timing.load(),
    }
    saved = record.save("speed_precision", f"python benchmarks/speed_precision.py --rounds {arguments.rounds}", results)
    print(json.dumps(results) if arguments.json else saved)


if __name__ == "__main__":
    main()
