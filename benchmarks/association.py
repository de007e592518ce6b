"""Our association and other people's on the same detections, and what each part of ours is worth.

    python benchmarks/association.py trackers --data-root DATA [--boxmot ENV/bin/python] [--trackers ENV/bin/python]
    python benchmarks/association.py parts --data-root DATA
    python benchmarks/association.py speed

All sequences of DATA/replay together, one setting for all, TrackEval's metrics by plain IoU without ignore rules (MOT17 ground
truth: class 1). Constants were chosen on ``CHOSEN_ON``; ``HELD_OUT`` says how they do elsewhere. Peers run in their own
environments and processes, with their default settings and our embeddings; a peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import configparser
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import record
from scipy.optimize import linear_sum_assignment

from tdtrack.association import Tracker, appearance, evidence
from tdtrack.boxes import iou
from tdtrack.config import AssociationConfig
from tdtrack.data.replay import read_detections_npz
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.output.mot import MotWriter
from tdtrack.runtime.pipeline import track_detections
from tdtrack.types import Detections, Tracks

CHOSEN_ON = ("ADL-Rundle-6", "ETH-Bahnhof", "MOT17-02", "TUD-Stadtmitte")
HELD_OUT = ("KITTI-17", "MOT17-09", "MOT17-13", "PETS09-S2L1")
METRICS = ("HOTA", "MOTA", "IDF1", "IDSW")

FAITHFUL = {
    "fairmot, ceiling 0.4": AssociationConfig(method="fairmot", max_appearance_cost=0.4),
    "fairmot, ceiling 0.3": AssociationConfig(method="fairmot", max_appearance_cost=0.3),
    "motion": AssociationConfig(method="motion"),
}
PARTS: dict[str, tuple[AssociationConfig, dict[tuple[Any, str], float]]] = {
    "without low scores": (AssociationConfig(min_low_score=0.4), {}),
    "without reporting hidden objects": (AssociationConfig(max_hidden_seconds=0.0), {}),
    "lost tracks wait 1 s": (AssociationConfig(max_lost_seconds=1.0), {}),
    "tracks reported at once": (AssociationConfig(min_hits=1), {}),
    "without duplicates' removal": (AssociationConfig(), {(evidence, "DUPLICATE_IOU"): 1.1}),
    "looks learned under overlap too": (AssociationConfig(), {(evidence, "ISOLATED_IOU"): 1.1}),
    "FairMOT's measurement noise": (AssociationConfig(), {(evidence, "MEASUREMENT_NOISE"): 0.05}),
    "normal instead of Student t": (AssociationConfig(), {(evidence, "TAIL"): 1e6}),
    "scale not learned (generic)": (AssociationConfig(), {(appearance, "GENERIC_PAIRS"): 1e9}),
    "balance in the middle": (AssociationConfig(), {(appearance, "BALANCE"): 0.5}),
}
BOXMOT = ("BotSort", "DeepOcSort", "BoostTrack", "HybridSort", "StrongSort")
ROBOFLOW = ("SORTTracker", "ByteTrackTracker", "OCSORTTracker", "CBIoUTracker", "BoTSORTTracker")


class Bench:
    """The sequences, their ground truth, and a place for results."""

    def __init__(self, replay: Path, scratch: Path) -> None:
        self.replay, self.scratch = replay, scratch
        self.folders = sorted(path for path in replay.iterdir() if path.is_dir())
        self.truth = scratch / "gt"
        for folder in self.folders:
            pedestrians_only(folder, self.truth)

    def score(self, out: Path) -> dict[str, Any]:
        """Evaluate a folder of results: all sequences, those that were held out, and each one's IDF1."""
        report = evaluate_tracking(self.truth, out, rules="flags")
        row: dict[str, Any] = {name: round(float(report.overall[name]), 4) for name in METRICS}
        row["IDF1 per sequence"] = {name: round(float(values["IDF1"]), 4) for name, values in report.sequences.items()}
        for title, names in (("chosen on", CHOSEN_ON), ("held out", HELD_OUT)):
            chosen = [report.sequences[name] for name in names if name in report.sequences]
            if chosen:
                counts = [sum(float(values[key]) for values in chosen) for key in ("IDTP", "IDFP", "IDFN")]
                row[f"IDF1, {title}"] = round(2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]), 4)
        return row

    def ours(
        self, name: str, config: AssociationConfig, frame_rate: float | None = None, *, offline: bool = False
    ) -> dict[str, Any]:
        out = self.scratch / name.replace(" ", "-")
        frames, seconds = 0, 0.0
        for folder in self.folders:
            tracker = Tracker(config, frame_rate=frame_rate or rate_of(folder))
            records = read_detections_npz(folder / "detections.npz")
            summary = track_detections(records, tracker, out / f"{folder.name}.txt", offline=offline)
            frames, seconds = frames + summary.frames, seconds + summary.association_seconds
        return self.score(out) | {"milliseconds per frame": round(1000 * seconds / frames, 3)}

    def peer(self, python: str, script: str, tracker: str) -> dict[str, Any]:
        out = self.scratch / f"{script}-{tracker}"
        program = Path(__file__).parent / "peers" / script
        words = [python, str(program), tracker, "--replay", str(self.replay), "--out", str(out)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        spent = json.loads(done.stdout.splitlines()[-1])
        return self.score(out) | {
            "milliseconds per frame": round(1000 * spent["seconds"] / spent["frames"], 3),
            "version": spent["version"],
        }

    def perfect(self) -> dict[str, Any]:
        """Give each detection scored 0.1 or more the identity of the person it overlaps by half, if any."""
        out = self.scratch / "perfect"
        for folder in self.folders:
            people = np.loadtxt(self.truth / folder.name / "gt" / "gt.txt", delimiter=",")
            people = people[people[:, 6] != 0]
            with MotWriter(out / f"{folder.name}.txt") as writer:
                for index, found in enumerate(read_detections_npz(folder / "detections.npz")):
                    writer.write(_true_tracks(index, found.select(found.score >= 0.1), people[people[:, 0] == index + 1]))
        return self.score(out)


def _true_tracks(index: int, found: Detections, people: np.ndarray) -> Tracks:
    boxes = np.concatenate([people[:, 2:4], people[:, 2:4] + people[:, 4:6]], axis=1)
    overlap = iou(found.xyxy.astype(np.float64), boxes)
    rows, columns = linear_sum_assignment(np.where(overlap >= 0.5, overlap, 0), maximize=True)
    right = overlap[rows, columns] >= 0.5
    rows, columns = rows[right], columns[right]
    ids = people[columns, 1].astype(np.int64)
    order = np.argsort(ids)
    return Tracks(index, ids[order], found.xyxy[rows[order]], found.score[rows[order]], found.class_id[rows[order]])


def rate_of(folder: Path) -> float:
    info = configparser.ConfigParser()
    info.read(folder / "seqinfo.ini")
    return float(info["Sequence"]["frameRate"])


def pedestrians_only(folder: Path, out: Path) -> None:
    """Copy ground truth, keeping class 1 where there is a class column (nine columns)."""
    lines = (folder / "gt" / "gt.txt").read_text().split()
    kept = [line for line in lines if line.count(",") != 8 or line.split(",")[7] == "1"]
    target = out / folder.name / "gt" / "gt.txt"
    target.parent.mkdir(parents=True)
    target.write_text("\n".join(kept) + "\n")
    (out / folder.name / "seqinfo.ini").write_text((folder / "seqinfo.ini").read_text())


def speed(sizes: tuple[int, ...] = (100, 200, 500, 1000), dim: int = 128) -> dict[str, Any]:
    """Median milliseconds of processor time of one update of N tracks with N detections, and of the assignment alone."""
    found = {}
    for size in sizes:
        random = np.random.default_rng(0)
        columns = int(np.ceil(np.sqrt(size)))
        corner = np.stack(np.meshgrid(np.arange(columns), np.arange(columns)), axis=-1).reshape(-1, 2)[:size] * [60.0, 120.0]
        looks = random.normal(size=(size, dim))
        tracker, spent = Tracker(), []
        for _ in range(12):
            at = corner + random.normal(0, 2, corner.shape)
            seen = looks + random.normal(0, 0.3, looks.shape)
            seen /= np.linalg.norm(seen, axis=1, keepdims=True)
            detections = Detections(
                np.concatenate([at, at + np.array([40, 90])], axis=1), np.full(size, 0.9), np.zeros(size), seen
            )
            spent.append(_cpu_milliseconds(tracker.update, detections))
        cost = random.normal(size=(size, size))
        alone = [_cpu_milliseconds(linear_sum_assignment, cost) for _ in range(5)]
        found[str(size)] = {
            "update, median ms": round(float(np.median(spent[2:])), 3),
            "update, best ms": round(min(spent[2:]), 3),
            "assignment of random costs, median ms": round(float(np.median(alone)), 3),
        }
    return found


def _cpu_milliseconds(call: Callable[[Any], object], argument: object) -> float:
    started = time.process_time()
    call(argument)
    return 1000 * (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("trackers", "parts", "speed"))
    parser.add_argument("--data-root", type=Path, default=Path("DATA"))
    parser.add_argument("--boxmot", type=str, default=None, help="Python of an environment with boxmot, torch and torchvision")
    parser.add_argument("--trackers", type=str, default=None, help="Python of an environment with Roboflow's trackers")
    arguments = parser.parse_args()
    suite = "association" if arguments.what == "trackers" else f"association-{arguments.what}"
    results: dict[str, Any] = {}

    def report(name: str, row: dict[str, Any]) -> None:
        results[name] = row
        print(f"{name:40} " + "  ".join(f"{key} {row[key]}" for key in (*METRICS, "failed") if key in row), flush=True)
        command = f"python benchmarks/association.py {arguments.what} --data-root DATA"
        record.save(suite, command, {"chosen on": CHOSEN_ON, "held out": HELD_OUT, "rows": results})

    if arguments.what == "speed":
        print(record.save(suite, "python benchmarks/association.py speed", speed()))
        return
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.data_root / "replay", Path(scratch))
        report("evidence (default)", bench.ours("evidence", AssociationConfig()))
        if arguments.what == "parts":
            for name, (config, changed) in PARTS.items():
                with ExitStack() as stack:
                    for (module, constant), value in changed.items():
                        stack.enter_context(mock.patch.object(module, constant, value))
                    report(name, bench.ours(name, config))
            return
        report("evidence, offline", bench.ours("offline", AssociationConfig(), offline=True))
        report("evidence, every sequence taken for 30 fps", bench.ours("at-30", AssociationConfig(), 30.0))
        report("perfect linker", bench.perfect())
        for python, script, names in (
            (arguments.trackers, "roboflow_replay.py", ROBOFLOW),
            (arguments.boxmot, "boxmot_replay.py", BOXMOT),
        ):
            for name in names if python else ():
                report(f"{name} ({script.partition('_')[0]})", bench.peer(python, script, name))
        for name, config in FAITHFUL.items():
            report(name, bench.ours(name, config, 30.0))


if __name__ == "__main__":
    main()
