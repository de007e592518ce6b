"""Our association and other people's on the same detections, and what each part of ours is worth.

    python benchmarks/association.py trackers --data-root DATA [--boxmot ENV/bin/python] [--trackers ENV/bin/python]
    python benchmarks/association.py parts --data-root DATA
    python benchmarks/association.py sensitivity --data-root DATA
    python benchmarks/association.py weak --data-root DATA
    python benchmarks/association.py speed [--boxmot ENV/bin/python]
    python benchmarks/association.py solvers

All sequences of DATA/replay together, one setting for all, TrackEval's metrics by plain IoU without ignore rules (MOT17 ground
truth: class 1). Constants were chosen on ``CHOSEN_ON``; ``HELD_OUT`` says how they do elsewhere, but was in sight when those of
scores and returns were chosen. Peers run in their own
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
import several_looks
from scipy.optimize import linear_sum_assignment

from tdtrack.association import Tracker, appearance, evidence, kalman, scores
from tdtrack.association import tracker as tracking
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


class SizesForgotten(evidence.Evidence):
    """Lets the size of a lost track become as uncertain as its place, as a Kalman filter would."""

    def _predict(self, seconds: float) -> None:
        before = self._tracks.covariance[:, kalman.BOTH :, kalman.ASPECT :].copy()
        lost = self._tracks.seen < self._clock - 1.5 * seconds
        super()._predict(seconds)
        both, velocity = before[lost, 0], before[lost, 1]
        frames = evidence.NOISE_FRAME_RATE * seconds
        self._tracks.covariance[lost, kalman.VALUE, kalman.ASPECT :] += frames * (2 * both + frames * velocity)
        self._tracks.covariance[lost, kalman.BOTH, kalman.ASPECT :] += both + frames * velocity
        self._tracks.covariance[lost, kalman.VELOCITY, kalman.ASPECT :] += velocity


FAITHFUL = {
    "fairmot, ceiling 0.4": AssociationConfig(method="fairmot", max_appearance_cost=0.4),
    "fairmot, ceiling 0.3": AssociationConfig(method="fairmot", max_appearance_cost=0.3),
    "motion": AssociationConfig(method="motion"),
}
PARTS: dict[str, tuple[AssociationConfig, dict[tuple[Any, str], Any]]] = {
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
    "lost tracks found by place alone": (AssociationConfig(), {(evidence, "MIN_RETURN_EVIDENCE"): -np.inf}),
    "looks of who was away count in full": (AssociationConfig(), {(evidence, "AWAY_LOOK_SHARE"): 1.0}),
    "sizes forgotten like places": (AssociationConfig(), {(tracking, "Evidence"): SizesForgotten}),
    "without looks": (AssociationConfig(), {(appearance, "MAX_EVIDENCE"): 0.0}),
    "overlap ignored": (AssociationConfig(), {(evidence, "BENEFIT_OF_DOUBT"): -50.0}),
    "scores not weighed": (AssociationConfig(), {(scores, "MAX_LOG_ODDS"): 0.0, (evidence, "BENEFIT_OF_DOUBT"): 50.0}),
    "unsure boxes anywhere": (AssociationConfig(), {(evidence, "UNSURE_IOU"): 0.0, (evidence, "TELLING_IOU"): 0.0}),
    "trust without limit": (AssociationConfig(), {(evidence, "MAX_TRUST"): 1e9}),
    "worth of scores not learned": (AssociationConfig(), {(scores, "PRIOR_DETECTIONS"): 1e9}),
    "the mean of all looks": (AssociationConfig(), {(evidence, "NEW_LOOK_SHARE"): 0.0}),
    "the last look alone": (AssociationConfig(), {(evidence, "NEW_LOOK_SHARE"): 1.0}),
    "tried: the last 10 looks too": (AssociationConfig(), {(tracking, "Evidence"): several_looks.LastLooks}),
    "tried: 10 different looks too": (AssociationConfig(), {(tracking, "Evidence"): several_looks.DifferentLooks}),
}
SHAKEN: dict[tuple[Any, str], tuple[float, float]] = {
    (module, name): (0.75 * getattr(module, name), 1.25 * getattr(module, name))
    for module, names in (
        (evidence, ("MEASUREMENT_NOISE", "TAIL", "ISOLATED_IOU", "SURE_IOU", "HIDDEN_HITS", "DUPLICATE_IOU", "NEW_LOOK_SHARE")),
        (
            evidence,
            (
                "MIN_RETURN_EVIDENCE",
                "AWAY_LOOK_SHARE",
                "MIN_TRUST",
                "MAX_TRUST",
                "UNSURE_IOU",
                "TELLING_IOU",
                "NEAR_IOU",
                "BENEFIT_OF_DOUBT",
            ),
        ),
        (appearance, ("MEMORY", "GENERIC_PAIRS", "BALANCE", "MAX_EVIDENCE")),
        (scores, ("PRIOR_DETECTIONS", "MEMORY", "MAX_LOG_ODDS")),
    )
    for name in names
} | {(evidence, "TRUST_KEPT"): (0.9375, 0.9625), (evidence, "SURE_HITS"): (2, 4)}  # 1 - TRUST_KEPT by a quarter; whole hits
SHAKEN_SETTINGS = {"min_score": 0.4, "min_low_score": 0.1, "max_hidden_seconds": 0.2, "max_lost_seconds": 10.0}
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
        self,
        name: str,
        config: AssociationConfig,
        frame_rate: float | None = None,
        *,
        offline: bool = False,
        false_boxes: str | None = None,
    ) -> dict[str, Any]:
        out = self.scratch / name.replace(" ", "-")
        frames, seconds = 0, 0.0
        for index, folder in enumerate(self.folders):
            tracker = Tracker(config, frame_rate=frame_rate or rate_of(folder))
            records = read_detections_npz(folder / "detections.npz")
            if false_boxes is not None:
                records = with_false_boxes(records, false_boxes, index)
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


def earlier_peers(suite: str, environments: dict[str, str | None]) -> dict[str, dict[str, Any]]:
    """Return the recorded rows of peers whose environment is not given this time, with the commit they were measured at."""
    file = record.RESULTS / f"{suite}--{record.machine()}.json"
    if not file.is_file():
        return {}
    earlier = json.loads(file.read_text())
    missing = tuple(f"({name})" for name, python in environments.items() if python is None)
    rows = {name: row for name, row in earlier["results"]["rows"].items() if name.endswith(missing)}
    return {name: {"measured at commit": earlier["commit"], **row} for name, row in rows.items()}


def _true_tracks(index: int, found: Detections, people: np.ndarray) -> Tracks:
    boxes = np.concatenate([people[:, 2:4], people[:, 2:4] + people[:, 4:6]], axis=1)
    overlap = iou(found.xyxy.astype(np.float64), boxes)
    rows, columns = linear_sum_assignment(np.where(overlap >= 0.5, overlap, 0), maximize=True)
    right = overlap[rows, columns] >= 0.5
    rows, columns = rows[right], columns[right]
    ids = people[columns, 1].astype(np.int64)
    order = np.argsort(ids)
    return Tracks(index, ids[order], found.xyxy[rows[order]], found.score[rows[order]], found.class_id[rows[order]])


def shaken() -> dict[str, tuple[AssociationConfig, dict[tuple[Any, str], Any]]]:
    """Return every constant and setting a quarter less and a quarter more, the others as they are."""
    rows: dict[str, tuple[AssociationConfig, dict[tuple[Any, str], Any]]] = {}
    for (module, name), values in SHAKEN.items():
        room = module.__name__.rpartition(".")[2]
        rows |= {f"{room}.{name} = {value:g}": (AssociationConfig(), {(module, name): value}) for value in values}
    for name, value in SHAKEN_SETTINGS.items():
        settings = [{name: factor * value} for factor in (0.75, 1.25)]
        rows |= {f"{name} = {setting[name]:g}": (AssociationConfig(**setting), {}) for setting in settings}  # type: ignore[arg-type]
    return rows


def with_false_boxes(video: list[Detections], kind: str, seed: int) -> list[Detections]:
    """Add what a weak detector finds: unsure boxes of people's sizes where nobody is.

    Args:
        video: a record per frame, with embeddings.
        kind: "scattered", 20 a frame anywhere, or "standing", 10 a frame that come and go at 20 places, and 8 anywhere. Scores
            lie between 0.1 and 0.45.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    every = np.concatenate([found.xyxy for found in video])
    edge, heights = every[:, 2:].max(axis=0), every[:, 3] - every[:, 1]
    dim = next(found.embedding.shape[1] for found in video if found.embedding is not None)
    mean = np.concatenate([found.embedding for found in video if found.embedding is not None]).mean(axis=0)
    places, sizes, looks = random.uniform(0, edge, (20, 2)), random.choice(heights, 20), random.normal(size=(20, dim))
    more = []
    for found in video:
        here = np.flatnonzero(random.random(20) < 0.5) if kind == "standing" else np.zeros(0, np.int64)
        scattered = random.poisson(8 if kind == "standing" else 20)
        height = np.concatenate([sizes[here] * np.exp(random.normal(0, 0.05, len(here))), random.choice(heights, scattered)])
        centre = places[here] + random.normal(0, 0.05, (len(here), 2)) * sizes[here, None]
        centre = np.concatenate([centre, random.uniform(0, edge, (scattered, 2))])
        look = np.concatenate([looks[here] + random.normal(0, 0.4, (len(here), dim)), random.normal(size=(scattered, dim))])
        look = look / np.linalg.norm(look, axis=1, keepdims=True) + mean / np.linalg.norm(mean)
        half = height[:, None] * [0.2, 0.5]
        false = Detections(
            np.concatenate([centre - half, centre + half], axis=1),
            0.1 + 0.35 * random.beta(1, 2, len(height)),
            np.zeros(len(height)),
            look / np.linalg.norm(look, axis=1, keepdims=True),
        )
        columns = [(getattr(found, name), getattr(false, name)) for name in ("xyxy", "score", "class_id", "embedding")]
        more.append(Detections(*(np.concatenate(pair) for pair in columns)))
    return more


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


def crowd_scene(size: int, dim: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes ``(F, N, 4)`` and unit looks ``(F, N, D)`` of people who stand in rows and shake."""
    random = np.random.default_rng(0)
    columns = int(np.ceil(np.sqrt(size)))
    corner = np.stack(np.meshgrid(np.arange(columns), np.arange(columns)), axis=-1).reshape(-1, 2)[:size] * [60.0, 120.0]
    at = corner + random.normal(0, 2, (frames, *corner.shape))
    look = random.normal(size=(size, dim)) + random.normal(0, 0.3, (frames, size, dim))
    return np.concatenate([at, at + np.array([40, 90])], axis=2), look / np.linalg.norm(look, axis=2, keepdims=True)


def speed(boxmot: str | None, sizes: tuple[int, ...] = (100, 200, 500, 1000), dim: int = 128) -> dict[str, Any]:
    """Milliseconds of processor time of one update of N tracks with N detections, of the assignment alone, and of peers at 100.

    Ours and the peers take turns, so that what else the machine does meets all of them.
    """
    found: dict[str, Any] = {}
    for size in sizes:
        spent = _updates(*crowd_scene(size, dim, 42 if size == sizes[0] else 12))
        cost = np.random.default_rng(0).normal(size=(size, size))
        found[str(size)] = {"update": _spread(spent), "assignment of random costs": _spread(_assignments(cost))}
    if boxmot is None:
        return found
    with tempfile.TemporaryDirectory() as folder:
        xyxy, look = crowd_scene(sizes[0], dim, 42)
        scene = Path(folder) / "scene.npz"
        np.savez(scene, xyxy=xyxy, look=look)
        program = Path(__file__).parent / "peers" / "boxmot_speed.py"
        peers: dict[str, Any] = {}
        for name in (name for name in BOXMOT if name != "HybridSort"):  # seconds an update
            ours = _updates(xyxy, look)
            words = [boxmot, str(program), name, "--scene", str(scene)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                peers[name] = {"failed": done.stderr.strip().splitlines()[-1]}
                continue
            told = json.loads(done.stdout.splitlines()[-1])
            theirs = told["milliseconds"][2:]
            peers[name] = {"update": _spread(theirs), "ours, just before": _spread(ours), "version": told["version"]}
            peers[name]["times ours, by best"] = round(min(theirs) / min(ours), 1)
            peers[name]["times ours, by median"] = round(float(np.median(theirs) / np.median(ours)), 1)
    return found | {f"BoxMOT at {sizes[0]}": peers}


def _updates(xyxy: np.ndarray, look: np.ndarray) -> list[float]:
    """Return the milliseconds of every update after the second, in a tracker of its own."""
    tracker, size = Tracker(), xyxy.shape[1]
    frames = [Detections(boxes, np.full(size, 0.9), np.zeros(size), seen) for boxes, seen in zip(xyxy, look)]
    return [_cpu_milliseconds(tracker.update, found) for found in frames][2:]


def _assignments(cost: np.ndarray) -> list[float]:
    return [_cpu_milliseconds(linear_sum_assignment, cost) for _ in range(5)]


def _spread(milliseconds: list[float]) -> dict[str, float]:
    return {"best ms": round(min(milliseconds), 3), "median ms": round(float(np.median(milliseconds)), 3)}


def solvers(sizes: tuple[int, ...] = (20, 100, 500, 1000)) -> dict[str, Any]:
    """Milliseconds of scipy's and lapx's assignment in turns: of random costs, and of a frame's, where few pairs are near."""
    import lap  # lapx; not a dependency of tdtrack

    found = {}
    for size in sizes:
        random = np.random.default_rng(size)
        at = random.uniform(0, np.sqrt(size), (size, 2))
        near = np.linalg.norm(at[:, None] - (at + random.normal(0, 0.1, at.shape))[None], axis=2)
        for kind, cost in (("random", random.normal(size=(size, size))), ("of a frame", np.minimum(near, 0.5) - 0.5)):
            ours, theirs = [], []
            for _ in range(15 if size <= 100 else 5):
                ours.append(_cpu_milliseconds(linear_sum_assignment, cost))
                theirs.append(_cpu_milliseconds(lap.lapjv, cost))
            found[f"{size}, {kind}"] = {"scipy": _spread(ours), "lapx": _spread(theirs)}
    return found


def _cpu_milliseconds(call: Callable[[Any], object], argument: object) -> float:
    started = time.process_time()
    call(argument)
    return 1000 * (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("trackers", "parts", "sensitivity", "weak", "speed", "solvers"))
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
        command = "python benchmarks/association.py speed" + (" --boxmot ENV/bin/python" if arguments.boxmot else "")
        print(record.save(suite, command, speed(arguments.boxmot)))
        return
    if arguments.what == "solvers":
        print(record.save(suite, "python benchmarks/association.py solvers", solvers()))
        return
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.data_root / "replay", Path(scratch))
        if arguments.what == "weak":
            for kind in ("scattered", "standing"):
                for name in ("evidence (default)", "without low scores", "scores not weighed"):
                    config, changed = PARTS.get(name, (AssociationConfig(), {}))
                    with ExitStack() as stack:
                        for (module, constant), value in changed.items():
                            stack.enter_context(mock.patch.object(module, constant, value))
                        report(f"{kind}: {name}", bench.ours(f"{kind}-{name}", config, false_boxes=kind))
            return
        peers = earlier_peers(suite, {"roboflow": arguments.trackers, "boxmot": arguments.boxmot})
        report("evidence (default)", bench.ours("evidence", AssociationConfig()))
        if arguments.what in ("parts", "sensitivity"):
            if arguments.what == "parts":
                report("every sequence taken for 30 fps", bench.ours("at-30", AssociationConfig(), 30.0))
            for name, (config, changed) in (PARTS if arguments.what == "parts" else shaken()).items():
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
        for name, row in peers.items():
            report(name, row)
        for name, config in FAITHFUL.items():
            report(name, bench.ours(name, config, 30.0))


if __name__ == "__main__":
    main()
