"""Three teachers, three widths: appearance calibrated without identities against FairMOT's fixed ceiling of 0.4.

    python benchmarks/ceilings.py --work FOLDER [--steps 250]

On the walkers world. Each teacher is trained shortly, embeds the crops of one simulated detector's boxes (ground truth, shaken
and dropped by visibility, and a false box per frame) in the sequences, and is cut to D numbers as a student's target is: the
first D, or the D principal directions. Ceiling and cosine statistics are fitted to the held-out images as ``tdtrack calibrate``
fits a teacher's; nothing else differs between the rows. What is in FOLDER already is kept.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from association import METRICS, rate_of

from tdtrack.association import Tracker
from tdtrack.association.costs import unit_length
from tdtrack.calibrate import MAX_IMAGES, _teacher_views, _Views  # what `tdtrack calibrate` measures on a teacher
from tdtrack.config import AssociationConfig, TeacherTrainConfig
from tdtrack.data import load_dataset
from tdtrack.data.images import crop_boxes, load_image
from tdtrack.data.replay import read_detections_npz, write_detections_npz
from tdtrack.data.walkers import WalkersConfig, World, write_world
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.model.target import principal_directions
from tdtrack.runtime.pipeline import track_detections
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.teacher.train import train_teacher
from tdtrack.types import Detections

TEACHERS = ("osnet_x0_25", "osnet_ain_x0_25", "resnet50_fc512")
WIDTHS = (64, 128, 512)
LEARNING_RATES = {"resnet50_fc512": 1e-3}
PEDESTRIAN = "1"

Reduce = Callable[[np.ndarray], np.ndarray]


def simulate(sequence: Path, seed: int) -> list[Detections]:
    """Return what an imperfect detector finds: a record per frame, without embeddings."""
    rows = [line.split(",") for line in (sequence / "gt" / "gt.txt").read_text().split()]
    people = np.array([[float(value) for value in row] for row in rows if row[7] == PEDESTRIAN])
    random = np.random.default_rng(seed)
    video = []
    for frame in range(1, int(people[:, 0].max()) + 1):
        here = people[people[:, 0] == frame]
        seen = here[random.random(len(here)) < np.minimum(0.97, 1.3 * here[:, 8])]
        visible = seen[:, 8:]
        tlwh = seen[:, 2:6] + random.normal(0, 0.04, (len(seen), 4)) * (1.5 - visible) * seen[:, [4, 5, 4, 5]]
        score = np.clip(random.normal(0.35 + 0.6 * visible[:, 0], 0.1), 0.05, 0.99)
        false = people[random.integers(0, len(people), random.poisson(1)), 2:6]
        false[:, 0] += random.normal(0, 60, len(false))
        tlwh = np.concatenate([tlwh, false])
        score = np.concatenate([score, random.uniform(0.05, 0.45, len(false))])
        xyxy = np.concatenate([tlwh[:, :2], tlwh[:, :2] + np.maximum(tlwh[:, 2:], 4.0)], axis=1)
        video.append(Detections(xyxy, score, np.zeros(len(xyxy))))
    return video


def embedded(sequence: Path, teacher: Teacher, seed: int, saved: Path) -> list[Detections]:
    """Return the simulated detections with the teacher's whole embeddings."""
    if not saved.is_file():
        found = []
        for boxes, image in zip(simulate(sequence, seed), sorted((sequence / "img1").iterdir())):
            picture = load_image(image)
            inside = np.clip(boxes.xyxy, 0, [picture.shape[1], picture.shape[0]] * 2)
            boxes = boxes.select((inside[:, 2:] - inside[:, :2] >= 2).all(axis=1))
            found.append(boxes.with_embedding(teacher.embed(crop_boxes(picture, boxes.xyxy))))
        saved.parent.mkdir(parents=True, exist_ok=True)
        write_detections_npz(saved, found)
    return read_detections_npz(saved)


def teacher_views(teacher: Teacher, annotations: Path, images: Path) -> _Views:
    chosen = [image for image in load_dataset(annotations, images).images if int((~image.ignore).sum()) >= 2]
    return _teacher_views(teacher, chosen[:: -(-len(chosen) // MAX_IMAGES)])


def reductions(learned: np.ndarray, width: int) -> dict[str, Reduce]:
    """Return the ways from ``(N, D_t)`` to ``(N, D)``, the second fitted to ``learned``."""
    mean = learned.mean(axis=0)
    centred = torch.from_numpy((learned - mean).astype(np.float64))
    directions = principal_directions(centred.T @ centred / len(centred), width).numpy()
    return {
        "first": lambda rows: unit_length(rows[:, :width]).astype(np.float32),
        "principal": lambda rows: unit_length((rows - mean) @ directions).astype(np.float32),
    }


def trackers(fitted: dict[str, Any]) -> dict[str, AssociationConfig]:
    """Return what is compared; gate and patience are the demo's, for a shaking camera and people who come back."""
    same = {"max_lost_seconds": 3.0}
    gate = {"method": "fairmot", "max_gating_distance": 40.0}
    statistics = tuple(fitted["cosine_statistics"])
    return {
        "fairmot, 0.4": AssociationConfig(**gate, **same, max_appearance_cost=0.4),
        "fairmot, calibrated": AssociationConfig(**gate, **same, max_appearance_cost=fitted["max_appearance_cost"]),
        "evidence, generic": AssociationConfig(**same),
        "evidence, calibrated": AssociationConfig(**same, cosine_statistics=statistics),
    }


def run(videos: dict[Path, list[Detections]], config: AssociationConfig, truth: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as out:
        for sequence, video in videos.items():
            track_detections(video, Tracker(config, frame_rate=rate_of(sequence)), Path(out) / f"{sequence.name}.txt")
        report = evaluate_tracking(truth, Path(out))
    return {name: round(float(report.overall[name]), 4) for name in METRICS}


def rows_of(world: World, teacher: Teacher, saved: Path) -> dict[str, Any]:
    """Return one teacher's rows: width and reduction, then tracker."""
    sequences = {path: embedded(path, teacher, i, saved / f"{path.name}.npz") for i, path in enumerate(world.sequences)}
    learned = np.concatenate(teacher_views(teacher, world.train, world.images).first)
    held_out = teacher_views(teacher, world.val, world.images)
    rows: dict[str, Any] = {}
    for width in WIDTHS:
        for name, reduce in reductions(learned, width).items():
            first, second = ([reduce(part) for part in parts] for parts in (held_out.first, held_out.second))
            fitted = _Views(first, second, held_out.both, held_out.image).fit()
            videos = {
                path: [found.with_embedding(reduce(found.embedding)) for found in video if found.embedding is not None]
                for path, video in sequences.items()
            }
            row = {title: run(videos, config, world.sequences[0].parent) for title, config in trackers(fitted).items()}
            rows[f"{name} {width}"] = {"ceiling": round(fitted["max_appearance_cost"], 4), **row}
            print(
                f"{name} {width}", fitted["max_appearance_cost"], {key: value["IDF1"] for key, value in row.items()}, flush=True
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for world, teachers and embeddings")
    parser.add_argument("--steps", type=int, default=250, help="of each teacher's training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = write_world(WalkersConfig(), arguments.work / "world", workers=1)
    results: dict[str, Any] = {}
    for architecture in TEACHERS:
        config = TeacherTrainConfig(
            crops=str(world.reid),
            out=str(arguments.work / "teachers" / f"{architecture}.safetensors"),
            architecture=architecture,
            crop_height=64,
            crop_width=32,
            steps=arguments.steps,
            learning_rate=LEARNING_RATES.get(architecture, 1.2e-2),
            erase=0.1,
        )
        teacher = load_teacher(train_teacher(config))
        results[architecture] = rows_of(world, teacher, arguments.work / "embedded" / architecture)
        command = f"python benchmarks/ceilings.py --work FOLDER --steps {arguments.steps}"
        print(record.save("association-ceilings", command, {"teachers": results}))


if __name__ == "__main__":
    main()
