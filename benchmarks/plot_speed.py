"""Draw what ``speed_head.py`` and ``speed_two_stage.py`` recorded on one machine, beside the paper's points.

python benchmarks/plot_speed.py --out docs/images/speed.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import record
from matplotlib.figure import Figure

PAPER_FPS = {64: 13.34, 128: 11.82, 256: 10.76, 512: 9.61}  # Tab. 6
PAPER_TWO_STAGE = 3.03 / 9.61  # Tab. 1: two-stage and one-stage, on MOT15


def read(suite: str) -> dict[str, Any]:
    path = record.RESULTS / f"{suite}--{record.machine()}.json"
    return json.loads(path.read_text())["results"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    head, stages = read("speed_head"), read("speed_two_stage")
    fps = {name: 1 / values["median"] for name, values in head["seconds"].items()}
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    by_dim, by_people = figure.subplots(1, 2, sharey=True)
    for kind in ("lazy", "dense"):
        shares = [fps[f"{kind}-{dim}-100"] / fps["detector"] for dim in (64, 512)]
        by_dim.plot([64, 512], shares, marker="o", label=f"{kind} head, 100 people")
    paper = [value / PAPER_FPS[64] * fps["dense-64-100"] / fps["detector"] for value in PAPER_FPS.values()]
    by_dim.plot(list(PAPER_FPS), paper, "k^", label="paper (dense), D = 64 laid on ours")
    by_dim.set(xlabel="embedding dimensions D", ylabel="frames per second,\nshare of the detector alone", xscale="log")
    by_dim.set_xticks(list(PAPER_FPS), [str(dim) for dim in PAPER_FPS])
    by_dim.minorticks_off()
    people = [int(number) for number in stages["two_stage_over_one_stage"]]
    alone = stages["seconds"]["one-0"]["median"]
    for kind, label in (("one", "one-stage (lazy)"), ("two", "two-stage (OSNet x1.0 on crops)")):
        shares = [alone / stages["seconds"][f"{kind}-{number}"]["median"] for number in people]
        by_people.plot(people, shares, marker="o", label=label)
    by_people.axhline(fps["dense-512-100"] / fps["detector"], linestyle=":", color="grey", label="dense head, any number")
    by_people.axhline(PAPER_TWO_STAGE, linestyle="--", color="k", linewidth=0.8, label="paper, two-stage over one-stage")
    by_people.set(xlabel="people in the frame, D = 512", ylim=(0, 1.1))
    for axes in (by_dim, by_people):
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"ResNet-34-FPN at 608x1088, {head['engine']}, {record.machine()}", fontsize=10)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
