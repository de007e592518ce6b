"""A light preset, and the same with the paper's ResNet-34 in place of its backbone, on walkers after equal training.

    python benchmarks/light.py --out runs/reproduce [--steps 400] [--recipe recipes/light-320.yaml] [--threads 2]

Both take the recipe's input size, augmentation and optimizer, and world and teacher of ``tdtrack reproduce --scale
recipes/reproduce-demo-world.yaml``, whose folder may be given: what is there is kept. The ceiling is calibrated, the
association the default.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import record
import torch
import yaml

from tdtrack.cli.reproduce_verbs import read_scale
from tdtrack.reproduce import walkers_scale
from tdtrack.reproduce.material import WalkersMaterial
from tdtrack.reproduce.scale import Scale
from tdtrack.reproduce.tables import Row
from tdtrack.reproduce.workshop import Workshop
from tdtrack.training.pace import seconds_per_iteration
from tdtrack.training.precision import native_precision

SHORT = {"workers": 0, "validate_every": 0, "loss.class_weight": 2.0, "loss.embedding_weight": 5.0}
"""For a training of minutes: in those, the paper's weights of 1 and 10 cost detection, as in the demo."""


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/light-320.yaml"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = yaml.safe_load(arguments.recipe.read_text())
    train = flat({name: value for name, value in recipe.items() if name not in ("out", "train", "validation")})
    train |= SHORT | {"optimizer.steps": arguments.steps, "precision": native_precision()}
    base = read_scale("recipes/reproduce-demo-world.yaml", walkers_scale())
    scale = Scale(base.walkers, base.teacher, train, {"method": "evidence"})
    workshop = Workshop(WalkersMaterial(scale, arguments.out), scale, arguments.out)
    rows = {
        arguments.recipe.stem: Row("light"),
        "with resnet34": Row("resnet34", settings={"model.backbone": "resnet34"}),
    }
    results: dict[str, Any] = {"steps": arguments.steps, "recipe": arguments.recipe.name}
    for name, row in rows.items():
        if not workshop.trained(row, 0):
            print(f"{name}: {seconds_per_iteration(workshop.plan(row, 0)):.2f} seconds an iteration", flush=True)
        results[name] = {key: value for key, value in workshop.measure(row, 0).items() if key not in ("fps", "sequences")}
        print(name, json.dumps(results[name]), flush=True)
    command = f"python benchmarks/light.py --out runs/reproduce --recipe {arguments.recipe} --steps {arguments.steps}"
    print(record.save(f"light-{arguments.recipe.stem}", command, results))


if __name__ == "__main__":
    main()
