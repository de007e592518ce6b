"""What the embedding head costs: lazy and dense against the detector alone, by D and by number of people.

python benchmarks/speed_head.py --json [--engine onnxruntime] [--rounds 7] [--plot docs/images/speed-head.png]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import networks
import record
import timing

PAPER_FPS = {64: 13.34, 128: 11.82, 256: 10.76, 512: 9.61}  # Tab. 6
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
    parser.add_argument("--plot", type=Path)
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
    if arguments.plot is not None:
        plot(seconds.wall, arguments.plot)


def plot(seconds: dict[str, list[float]], path: Path) -> None:
    """Draw frames per second by D and by people, as shares, for the paper's were measured on other hardware."""
    from matplotlib.figure import Figure

    fps = {name: 1 / statistics.median(runs) for name, runs in seconds.items()}
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_dim, by_people = figure.subplots(1, 2)
    for kind in ("lazy", "dense"):
        by_dim.plot([64, 512], [fps[f"{kind}-{dim}-100"] / fps["detector"] for dim in (64, 512)], marker="o", label=kind)
    by_dim.plot(list(PAPER_FPS), [value / PAPER_FPS[64] for value in PAPER_FPS.values()], "k^", label="paper, share of D = 64")
    by_dim.set(xlabel="D", ylabel="frames per second, share of the detector alone", xscale="log", ylim=(0, 1.1))
    by_people.plot([0, 100, 300], [fps[f"lazy-512-{people}"] for people in (0, 100, 300)], marker="o", label="lazy, D = 512")
    by_people.axhline(fps["detector"], linestyle="--", color="grey", label="detector alone")
    by_people.axhline(fps["dense-512-100"], linestyle=":", color="C1", label="dense, D = 512")
    by_people.set(xlabel="people", ylabel="frames per second", ylim=0)
    for axes in (by_dim, by_people):
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
