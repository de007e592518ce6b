"""What bfloat16 and 8-bit integers gain on this processor: one network with the lazy head, OpenVINO, all three in turns; and
ONNX Runtime beside them, which ``--engine auto`` takes second.

python benchmarks/speed_precision.py --json [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import networks
import numpy as np
import record
import timing
from PIL import Image

from tdtrack.runtime.exported import open_session
from tdtrack.runtime.quantize import quantize_model

PEOPLE = 100


def rounded(path: Path, folder: Path, images: int = 8) -> Path:
    """Quantise as ``tdtrack quantize`` does, on smooth noise: speed does not depend on what it was calibrated on."""
    rng = np.random.default_rng(0)
    records, boxes = [], []
    for index in range(1, images + 1):
        coarse = Image.fromarray(rng.integers(0, 256, (38, 68, 3), dtype=np.uint8))
        coarse.resize((networks.WIDTH, networks.HEIGHT)).save(folder / f"{index}.png")
        records.append({"id": index, "file_name": f"{index}.png", "width": networks.WIDTH, "height": networks.HEIGHT})
        boxes.append({"id": index, "image_id": index, "category_id": 1, "bbox": [10, 10, 50, 100], "area": 5000})
    content = {"images": records, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    out = folder / "int8.onnx"
    quantize_model(path, folder / "boxes.json", out, images=str(folder), max_images=1)
    return out


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
        opened["int8"] = open_session(rounded(path, Path(scratch)), "openvino", device="cpu", precision="int8")
        opened["onnxruntime"] = open_session(path, "onnxruntime", device="cpu", precision=None)
        variants = {name: networks.runner(session, image, PEOPLE) for name, session in opened.items()}
        seconds = timing.alternate(variants, arguments.rounds, warm_up=2)
    results = {
        "engines": [session.label for session in opened.values()],
        "input": [networks.HEIGHT, networks.WIDTH],
        "rounds": arguments.rounds,
        **seconds.ratios("fp32_over_bf16", "fp32", "bf16"),
        **seconds.ratios("fp32_over_int8", "fp32", "int8"),
        **seconds.ratios("onnxruntime_over_openvino", "onnxruntime", "fp32"),
        "seconds": seconds.summary(),
        "load_before": before,
        "load_after": timing.load(),
    }
    saved = record.save("speed_precision", f"python benchmarks/speed_precision.py --rounds {arguments.rounds}", results)
    print(json.dumps(results) if arguments.json else saved)


if __name__ == "__main__":
    main()
