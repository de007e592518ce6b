"""Tab. 1's systems at several score floors, and each at its own: one floor for all compares them at one point only.

    python benchmarks/score_floors.py --out runs/reproduce [--seeds 2]

The models are those of ``tdtrack reproduce table1 --out runs/reproduce``; what is missing is trained. Each row detects and
embeds once; what it found is tracked from every floor. A model's own floor is the score of its best F1 on the world's held-out
boxes, which nobody tracks in.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import record

from tdtrack.association import Tracker
from tdtrack.boxes import iou
from tdtrack.config import AssociationConfig
from tdtrack.data import load_source
from tdtrack.data.images import load_image
from tdtrack.data.replay import read_detections_npz, write_detections_npz
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.reproduce.material import Material, WalkersMaterial
from tdtrack.reproduce.scale import walkers_scale
from tdtrack.reproduce.tables import Row
from tdtrack.reproduce.workshop import Workshop
from tdtrack.runtime.engine import Engine, load_engine
from tdtrack.runtime.pipeline import track_detections
from tdtrack.runtime.sources import open_source
from tdtrack.types import Detections

FLOORS = (0.3, 0.4, 0.5, 0.6)
LOWEST = 0.2
"""Boxes below are not looked at."""
METRICS = ("MOTA", "IDF1", "HOTA", "IDSW")


def sure(found: Detections) -> Detections:
    """Return the boxes that are looked at."""
    return found.select(found.score >= LOWEST)


def best_f1(detector: Engine, material: Material) -> float:
    """Return the score from which on a detector's boxes have the best F1 on the held-out images."""
    scores, right, boxes = [], [], 0
    for image in load_source(material.held_out()).images:
        found, truth = sure(detector(load_image(image.path))), image.xyxy[~image.ignore]
        overlap, boxes = iou(found.xyxy, truth), boxes + len(truth)
        for row in np.argsort(-found.score):  # each takes the free box that it overlaps most
            hit = len(truth) > 0 and overlap[row].max() >= 0.5
            if hit:
                overlap[:, overlap[row].argmax()] = 0
            scores.append(found.score[row])
            right.append(hit)
    order = np.argsort(-np.array(scores))
    hits, rank = np.cumsum(np.array(right)[order]), np.arange(1, len(order) + 1)
    return float(np.array(scores)[order][np.argmax(2 * hits / (rank + boxes))])


def detect(engine: Engine, sequences: Sequence[Path], out: Path) -> None:
    """Write what an engine finds in each sequence; what is there already is kept."""
    for sequence in sequences:
        if not (file := out / f"{sequence.name}.npz").is_file():
            write_detections_npz(file, [sure(engine(frame.image)) for frame in open_source(sequence)])


def track(config: AssociationConfig, sequences: Sequence[Path], found: Path, out: Path) -> dict[str, float]:
    """Track what was found from the settings' floor on and compare with the truth."""
    for sequence in sequences:
        tracker = Tracker(config, frame_rate=open_source(sequence).frame_rate)
        track_detections(read_detections_npz(found / f"{sequence.name}.npz"), tracker, out / f"{sequence.name}.txt")
    report = evaluate_tracking(sequences[0].parent, out, sequences=[sequence.name for sequence in sequences])
    return {metric: report.overall[metric] for metric in METRICS}


def measure(workshop: Workshop, row: Row, seed: int) -> dict[str, Any]:
    """Return a row's own floor and what it reaches from every floor."""
    model, config = workshop.equip(row, seed)
    detector, sequences, folder = load_engine(model), workshop.material.sequences(), workshop.folder(row, seed)
    found = folder / f"found-from-{LOWEST}"
    detect(workshop.engine(row, detector, LOWEST), sequences, found)
    own = best_f1(detector, workshop.material)
    result: dict[str, Any] = {"own floor": own}
    for name, floor in {**{str(floor): floor for floor in FLOORS}, "own": own}.items():
        result[name] = track(replace(config, min_score=floor), sequences, found, folder / f"tracks-{name}")
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in result[name].items())
        print(f"{row.label}, seed {seed}, floor {floor:.3f}: {numbers}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    scale = walkers_scale()
    workshop = Workshop(WalkersMaterial(scale, arguments.out), scale, arguments.out)
    rows = scale.of("table1").rows[:3]  # the fourth is about embeddings on equal boxes
    measured = {row.label: [measure(workshop, row, seed) for seed in range(arguments.seeds)] for row in rows}
    means = {
        label: {
            "own floor": [one["own floor"] for one in seeds],
            **{floor: float(np.mean([one[floor]["IDF1"] for one in seeds])) for floor in (*map(str, FLOORS), "own")},
        }
        for label, seeds in measured.items()
    }
    for label, row in means.items():
        print(label, row)
    command = f"python benchmarks/score_floors.py --out {arguments.out} --seeds {arguments.seeds}"
    print(record.save("score-floors", command, {"mean IDF1": means, "rows": measured}))


if __name__ == "__main__":
    main()
