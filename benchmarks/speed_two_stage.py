"""One-stage tracking's network against the two-stage counterpart: the same detector, OSNet x1.0 on crops, the same engine.

python benchmarks/speed_two_stage.py --json [--engine openvino --precision bf16] [--rounds 5] [--people 0,10,30,100,300]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import networks
import numpy as np
import record
import timing
import torch

from tdtrack.runtime.exported import ExportedEngine
from tdtrack.runtime.two_stage import TwoStageEngine
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.teacher.crops import normalise_crops, resize_crops
from tdtrack.teacher.osnet import osnet_x1_0

DIM = 512  # Tab. 1
CROP = (256, 128)  # Sec. 3.3
PAPER = {"one_stage_fps": 9.61, "two_stage_fps_mot15": 3.03, "two_stage_fps_mot20": 0.98}  # Tab. 1, Supp. C


def export_osnet(path: Path) -> None:
    """Write OSNet x1.0 with random weights as ONNX; it takes any number of crops."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            osnet_x1_0().eval(),
            (torch.zeros(2, 3, *CROP),),
            str(path),
            dynamo=False,
            opset_version=18,
            input_names=["crops"],
            output_names=["features"],
            dynamic_axes={"crops": {0: "n"}, "features": {0: "n"}},
        )


def crop_network(path: Path, engine: str, precision: str) -> Teacher:
    """Open OSNet in the detector's engine."""
    if engine == "onnxruntime":
        return load_teacher(path, device="cpu")
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", hints)

    def embed(crops: Sequence[np.ndarray]) -> np.ndarray:
        features = compiled(normalise_crops(resize_crops(crops, *CROP)), share_inputs=True)[0]
        return np.asarray(features, np.float32)

    return load_teacher(embed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", default="onnxruntime", choices=("onnxruntime", "openvino"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--people", default="0,10,30,100,300")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args()
    crowds = [int(number) for number in arguments.people.split(",")]
    frame = networks.random_image()[0]
    before = timing.load()
    with tempfile.TemporaryDirectory() as scratch:
        export_osnet(Path(scratch) / "osnet.onnx")
        teacher = crop_network(Path(scratch) / "osnet.onnx", arguments.engine, arguments.precision)
        variants = {}
        for people in crowds:
            one, bare = (
                ExportedEngine(
                    networks.session(Path(scratch), arguments.engine, people, embedding, DIM, precision=arguments.precision),
                    min_score=0.0,
                )
                for embedding in ("lazy", "none")
            )
            two = TwoStageEngine(bare, teacher)
            for name, engine in (("one", one), ("two", two)):
                if len(engine(frame)) != people:
                    raise RuntimeError(f"{name}-stage found {len(engine(frame))} people, {people} were to be forced")
                variants[f"{name}-{people}"] = lambda engine=engine: engine(frame)
        seconds = timing.alternate(variants, arguments.rounds, warm_up=0)  # forcing the number has warmed up
    by_people = {n: seconds.ratios("two_stage_over_one_stage", f"two-{n}", f"one-{n}") for n in crowds}
    results = {
        "engine": one.label,
        "input": [networks.HEIGHT, networks.WIDTH],
        "rounds": arguments.rounds,
        **{key: {str(n): by_people[n][key] for n in crowds} for key in by_people[crowds[0]]},
        "paper": PAPER,
        "seconds": seconds.summary(),
        "load_before": before,
        "load_after": timing.load(),
    }
    how = f"--engine {arguments.engine} --precision {arguments.precision}"
    command = f"python benchmarks/speed_two_stage.py {how} --rounds {arguments.rounds} --people {arguments.people}"
    suite = "speed_two_stage" if arguments.engine == "onnxruntime" else f"speed_two_stage-openvino-{arguments.precision}"
    path = record.save(suite, command, results)
    print(json.dumps(results) if arguments.json else path)


if __name__ == "__main__":
    main()
