"""The whole path on real photos and video: annotate, train, measure.

    python benchmarks/real_people.py people  --data-root DATA --out runs/real-people
    python benchmarks/real_people.py overfit --data-root DATA --out runs/overfit

DATA holds ``penn-fudan-*``, ``coco-person-*``, ``mot15-half``, ``mot17-mini`` and ``teachers`` (see benchmarks/README.md). Both
parts resume where they were stopped, and run the same commands a user would.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import record
import yaml

from tdtrack.cli import main as tdtrack

REPOSITORY = Path(__file__).resolve().parent.parent
COCO_SETS = ("penn-fudan-train", "coco-person-train", "penn-fudan-test", "coco-person-val")
SEQUENCE = "ADL-Rundle-6"


class Job:
    """Runs tdtrack commands and remembers them."""

    def __init__(self, data_root: Path, out: Path) -> None:
        self.data_root = data_root
        self.out = out
        self.commands: list[str] = []

    def run(self, *words: object) -> None:
        line = [str(word) for word in words]
        shown = shlex.join(line).replace(str(self.data_root), "DATA").replace(str(self.out), f"runs/{self.out.name}")
        print(f"$ tdtrack {shown}", flush=True)
        self.commands.append(f"tdtrack {shown}")
        status = tdtrack(line)
        if status:
            sys.exit(status)

    def annotate(self, name: str, data: Path, images: Path | None) -> Path:
        store = self.out / "embeddings" / f"{name}.parquet"
        weights = self.data_root / "teachers" / "osnet_x0_25_msmt17.pth"
        folder = () if images is None else ("--images", images)
        self.run("annotate", "--data", data, *folder, "--teacher", "osnet_x0_25", "--weights", weights, "--out", store)
        return store

    def source(self, name: str) -> dict[str, str]:
        data, images = self.data_root / name / "annotations.json", self.data_root / name / "images"
        return {"annotations": str(data), "images": str(images), "store": str(self.annotate(name, data, images))}

    def train(self, recipe: str, train: list[dict[str, str]], validation: list[dict[str, str]]) -> float:
        """Train by a recipe of this repository on the given data; returns hours from start to end, interruptions included."""
        settings: dict[str, Any] = yaml.safe_load((REPOSITORY / "recipes" / recipe).read_text())
        settings.update(out=str(self.out / "run"), train=train, validation=validation)
        path = self.out / "recipe.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        started = time.perf_counter()
        self.run("train", "--config", path)
        return (time.perf_counter() - started) / 3600

    def evaluate(self, name: str, source: dict[str, str]) -> dict[str, Any]:
        numbers = self.out / f"{name}.json"
        words = [
            "evaluate",
            "--gt",
            source["annotations"],
            "--model",
            self.out / "run",
            "--store",
            source["store"],
            "--json",
            numbers,
        ]
        if source["images"]:
            words += ["--images", source["images"]]
        self.run(*words)
        return dict(json.loads(numbers.read_text()))

    def track(self, sequence: Path, association: str) -> dict[str, Any]:
        folder, numbers = self.out / "tracks" / association, self.out / f"tracks-{association}.json"
        self.run("track", sequence, "--model", self.out / "run", "--out", folder, "--association", association)
        self.run("evaluate", "--gt", sequence, "--results", folder, "--json", numbers)
        overall = json.loads(numbers.read_text())["overall"]
        return {key: overall[key] for key in ("MOTA", "IDF1", "HOTA", "IDSW", "CLR_TP", "CLR_FP", "CLR_FN") if key in overall}


def people(job: Job) -> dict[str, Any]:
    """Learn from 197 photos with the real OSNet x0.25; measure on photos and a video that were not seen."""
    sources = {name: job.source(name) for name in COCO_SETS}
    hours = job.train(
        "real-people.yaml",
        [sources["penn-fudan-train"], sources["coco-person-train"]],
        [sources["penn-fudan-test"], sources["coco-person-val"]],
    )
    sequence = job.data_root / "mot15-half" / SEQUENCE
    return {
        "hours": round(hours, 2),
        "detection": {name: job.evaluate(name, sources[name]) for name in COCO_SETS},
        "tracking": {SEQUENCE: {association: job.track(sequence, association) for association in ("fairmot", "motion")}},
    }


def overfit(job: Job) -> dict[str, Any]:
    """Learn 39 MOT17 frames by heart: proof that the learning works on real pixels."""
    data = job.data_root / "mot17-mini"
    source = {"annotations": str(data), "images": "", "store": str(job.annotate("mot17-mini", data, None))}
    hours = job.train("overfit-mot17-mini.yaml", [source], [source])
    return {"hours": round(hours, 2), "detection": {"mot17-mini": job.evaluate("mot17-mini", source)}}


PARTS = {"people": people, "overfit": overfit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    job = Job(arguments.data_root, arguments.out)
    results = PARTS[arguments.part](job)
    command = f"python benchmarks/real_people.py {arguments.part} --data-root DATA --out runs/{arguments.out.name}"
    print(record.save(f"real-{arguments.part}", command, {**results, "commands": job.commands}))


if __name__ == "__main__":
    main()
