"""What the embedding adds to a training step, in time and peak memory, and what annotation adds to the teacher.

python benchmarks/speed_training.py --json [--rounds 5]

ResNet-34, D = 128, batch 4, 512x512; eight people in each image to annotate.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import record
import timing
import torch
from PIL import Image

from tdtrack.config import AssignConfig, LossConfig, ModelConfig
from tdtrack.data import load_dataset
from tdtrack.model import JointModel, Targets, compute_losses
from tdtrack.model.heads import EmbeddingHead
from tdtrack.teacher import load_teacher
from tdtrack.teacher.annotate import annotate
from tdtrack.teacher.osnet import osnet_ain_x1_0, osnet_x0_25

BATCH, SIDE, PEOPLE = 4, 512, 12


class NoHead(EmbeddingHead):
    """An embedding head that does nothing: what is left is the detector's step."""

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        return features

    def at(self, hidden: list[torch.Tensor], image: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return hidden[0].new_zeros(len(anchor), len(self.conv2.weight) // self.slots)


class Step:
    """One training step of one variant."""

    def __init__(self, *, embed: bool) -> None:
        torch.manual_seed(0)
        self.model = JointModel(ModelConfig()).train()
        if not embed:
            self.model.embedding_head.__class__ = NoHead
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        rng = np.random.default_rng(0)
        self.images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
        corner = torch.from_numpy(rng.uniform(0, SIDE - 180, (BATCH, PEOPLE, 2)).astype(np.float32))
        size = torch.from_numpy(rng.uniform([30, 80], [70, 170], (BATCH, PEOPLE, 2)).astype(np.float32))
        self.targets = Targets(
            boxes=list(torch.cat([corner, corner + size], dim=2)),
            class_id=[torch.zeros(PEOPLE, dtype=torch.int64)] * BATCH,
            embedding=list(torch.nn.functional.normalize(torch.randn(BATCH, PEOPLE, 512), dim=2)),
            ignore=[torch.zeros(PEOPLE, dtype=torch.bool)] * BATCH,
        )

    def __call__(self) -> None:
        losses = compute_losses(self.model, self.model(self.images), self.targets, AssignConfig(), LossConfig())
        losses.total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def peak_megabytes(variant: str) -> float:
    """Peak resident memory of two steps, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", variant]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


TEACHERS = {"osnet_ain_x1_0": osnet_ain_x1_0, "osnet_x0_25": osnet_x0_25}
"""The paper's large teacher and its small one (Tab. 3): the less the network costs, the more decoding weighs."""


def annotation(architecture: str, images: int = 40, people: int = 8) -> dict[str, float]:
    """Crops per second of annotating image files, and of the teacher alone on crops that are ready."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(TEACHERS[architecture]().state_dict(), folder / "osnet.pth")
        teacher = load_teacher(architecture, folder / "osnet.pth", device="cpu")
        rng = np.random.default_rng(0)
        records, boxes = [], []
        for index in range(images):
            picture = Image.fromarray(rng.integers(0, 256, (45, 80, 3), dtype=np.uint8)).resize((1280, 720))
            picture.save(folder / f"{index}.jpg")
            records.append({"id": index + 1, "file_name": f"{index}.jpg", "width": 1280, "height": 720})
            for _ in range(people):
                box = [*rng.uniform(0, [1100, 400]).tolist(), 90.0, 240.0]
                boxes.append({"id": len(boxes) + 1, "image_id": index + 1, "category_id": 1, "bbox": box, "area": 90.0 * 240})
        content = {"images": records, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
        (folder / "a.json").write_text(json.dumps(content))
        dataset = load_dataset(folder / "a.json", folder)
        ready = list(rng.integers(0, 256, (64, 256, 128, 3), dtype=np.uint8))
        teacher.embed(ready)
        rates: dict[str, list[float]] = {"annotate": [], "teacher": []}
        for number in range(3):
            started = time.perf_counter()
            annotate(dataset, teacher, folder / f"{number}.parquet", progress=False)
            rates["annotate"].append(len(boxes) / (time.perf_counter() - started))
            started = time.perf_counter()
            for _ in range(len(boxes) // len(ready)):
                teacher.embed(ready)
            rates["teacher"].append(len(boxes) // len(ready) * len(ready) / (time.perf_counter() - started))
    return {key: statistics.median(values) for key, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--memory-of", choices=("joint", "detector"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of is not None:
        step = Step(embed=arguments.memory_of == "joint")
        step()
        step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        return
    before = timing.load()
    memory = {variant: peak_megabytes(variant) for variant in ("detector", "joint")}
    seconds = timing.alternate({"joint": Step(embed=True), "detector": Step(embed=False)}, arguments.rounds)
    crops = {name: annotation(name) for name in TEACHERS}
    shares = {name: rates["annotate"] / rates["teacher"] for name, rates in crops.items()}
    results = {
        "batch": BATCH,
        "side": SIDE,
        **seconds.ratios("step_over_detector_only", "joint", "detector"),
        "memory_over_detector_only": memory["joint"] / memory["detector"],
        "annotate_over_teacher": shares["osnet_ain_x1_0"],
        "annotate_over_teacher_by_teacher": shares,
        "peak_megabytes": memory,
        "crops_per_second": crops,
        "seconds": seconds.summary(),
        "load_before": before,
        "load_after": timing.load(),
    }
    path = record.save("speed_training", f"python benchmarks/speed_training.py --rounds {arguments.rounds}", results)
    print(json.dumps(results) if arguments.json else path)


if __name__ == "__main__":
    main()
