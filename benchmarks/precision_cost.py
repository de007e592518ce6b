"""What bfloat16 and 8-bit integers cost a trained model in AP and in its embeddings, and what they gain.

    python benchmarks/precision_cost.py --model runs/demo/model --data runs/demo/world/detection/val.json \\
        --images runs/demo/world/detection/images --out runs/precision

The int8 file is calibrated on half of the images; everything is measured on the other half, in OpenVINO.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import record
import timing

from tdtrack.data import load_dataset
from tdtrack.data.images import load_image
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.export import export_model
from tdtrack.runtime.quantize import compare_engines, quantize_model, split_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "images", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    exact, rounded = arguments.out / "model.onnx", arguments.out / "model-int8.onnx"
    description = export_model(arguments.model, exact)
    report = quantize_model(exact, arguments.data, rounded, images=str(arguments.images))
    _, measured = split_images(load_dataset(arguments.data, arguments.images), description.classes, 200, 500)
    engines = {
        name: load_engine(path, engine="openvino", device="cpu", precision=name)
        for name, path in (("fp32", exact), ("bf16", exact), ("int8", rounded))
    }
    cost = {}
    for name in ("bf16", "int8"):
        before, after, cosine, pairs = compare_engines(engines["fp32"], engines[name], measured)
        cost[name] = {"ap50_fp32": before, "ap50": after, "lost": before - after, "mean_cosine": cosine, "pairs": pairs}
    picture = load_image(measured[0].path)
    times = timing.alternate({name: lambda one=one: one(picture) for name, one in engines.items()}, arguments.rounds, warm_up=5)
    results = {
        "images": len(measured),
        "cost": cost,
        **times.ratios("fp32_over_bf16", "fp32", "bf16"),
        **times.ratios("fp32_over_int8", "fp32", "int8"),
        "megabytes": {"fp32": report.megabytes_fp32, "int8": report.megabytes_int8},
        "seconds": times.summary(),
        "load": timing.load(),
    }
    print(json.dumps(results, indent=2))
    print(
        record.save(
            "precision_cost", "python benchmarks/precision_cost.py --model RUN --data BOXES --images FOLDER --out OUT", results
        )
    )


if __name__ == "__main__":
    main()
