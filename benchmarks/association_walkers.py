"""Our association and other people's on what trained models find in walkers' sequences: 12 frames a second, a shaking camera.

    python benchmarks/association_walkers.py --runs RUN... --sequences FOLDER [--boxmot PYTHON] [--trackers PYTHON]

RUN are the models of the second row of ``tdtrack reproduce fig6 --scale recipes/reproduce-demo-world.yaml --seeds 2``
(``runs/reproduce/runs``), FOLDER the sequences of its world. All runs and sequences count together. Ours take what
calibration stored in each model; peers run with their default settings and our embeddings, and see no frames.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import association
import numpy as np
import record

from tdtrack.association import Tracker, evidence
from tdtrack.association.kalman import Floats
from tdtrack.config import AssociationConfig
from tdtrack.data.replay import read_detections_npz, write_detections_npz
from tdtrack.output.mot import MotWriter
from tdtrack.runtime.camera_motion import CameraMotion
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.sources import open_source
from tdtrack.track import association_for

GATE = 40.0
"""Squared Mahalanobis distance; FairMOT's 9.5 is too narrow at 12 frames a second."""


def look(run: Path, sequence: Path, out: Path) -> tuple[list[Floats | None], dict[str, Any]]:
    """Detect in a sequence, lay the result out like DATA/replay; returns the camera's motion and what calibration stored."""
    engine, camera = load_engine(run, device="cpu"), CameraMotion()
    found, moved = [], []
    for frame in open_source(sequence):
        found.append(engine(frame.image))
        sure = found[-1].select(found[-1].score >= AssociationConfig().min_score)
        moved.append(camera.advance(frame.image, sure.xyxy))
    (out / "gt").mkdir(parents=True)
    write_detections_npz(out / "detections.npz", found)
    shutil.copy(sequence / "gt" / "gt.txt", out / "gt" / "gt.txt")
    shutil.copy(sequence / "seqinfo.ini", out / "seqinfo.ini")
    return moved, engine.metadata["appearance"]


def track(
    bench: association.Bench,
    name: str,
    configs: dict[str, AssociationConfig],
    cameras: dict[str, Sequence[Floats | None]] | None,
) -> dict[str, Any]:
    """Track everything one way, with the settings and the camera's motion of each folder."""
    out, frames, seconds = bench.scratch / name.replace(" ", "-"), 0, 0.0
    for folder in bench.folders:
        records = read_detections_npz(folder / "detections.npz")
        tracker = Tracker(configs[folder.name], frame_rate=association.rate_of(folder))
        moved = cameras[folder.name] if cameras is not None else [None] * len(records)
        with MotWriter(out / f"{folder.name}.txt") as writer:
            for detections, camera in zip(records, moved):
                before = time.perf_counter()
                tracks = tracker.update(detections, camera=camera)
                seconds, frames = seconds + time.perf_counter() - before, frames + 1
                writer.write(tracks)
    return bench.score(out) | {"milliseconds per frame": round(1000 * seconds / frames, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--boxmot", type=str, default=None)
    parser.add_argument("--trackers", type=str, default=None)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    peers = association.earlier_peers("association-walkers", {"roboflow": arguments.trackers, "boxmot": arguments.boxmot})

    def report(name: str, row: dict[str, Any]) -> None:
        results[name] = row
        print(
            f"{name:40} " + "  ".join(f"{key} {row[key]}" for key in (*association.METRICS, "failed") if key in row), flush=True
        )
        command = "python benchmarks/association_walkers.py --runs RUN... --sequences FOLDER"
        record.save("association-walkers", command, {"runs": len(arguments.runs), "rows": results})

    with tempfile.TemporaryDirectory() as scratch:
        replay, cameras, stored = Path(scratch) / "replay", {}, {}
        for number, run in enumerate(arguments.runs):
            for sequence in sorted(path for path in arguments.sequences.iterdir() if path.is_dir()):
                name = f"{number}-{sequence.name}"
                cameras[name], stored[name] = look(run, sequence, replay / name)
        bench = association.Bench(replay, Path(scratch) / "results")
        ours = {name: association_for(None, {}, appearance) for name, appearance in stored.items()}
        unsure = {name: replace(config, min_low_score=config.min_score) for name, config in ours.items()}
        fairmot = {name: association_for("fairmot", {}, appearance) for name, appearance in stored.items()}
        wide = {name: replace(config, max_gating_distance=GATE) for name, config in fairmot.items()}
        fixed = {name: replace(config, max_appearance_cost=0.4) for name, config in fairmot.items()}
        report("evidence (default)", track(bench, "evidence", ours, cameras))
        report("without camera motion", track(bench, "still", ours, None))
        report("without low scores", track(bench, "sure", unsure, cameras))
        with mock.patch.multiple(evidence, UNSURE_IOU=0.0, TELLING_IOU=0.0, MAX_TRUST=np.inf):
            report("unsure boxes anywhere, trust without limit", track(bench, "anywhere", ours, cameras))
        report("perfect linker", bench.perfect())
        report("fairmot, ceiling calibrated", track(bench, "fairmot", fairmot, None))
        report("fairmot, ceiling calibrated, gate 40", track(bench, "wide", wide, None))
        report("the same with camera motion", track(bench, "wide-camera", wide, cameras))
        report("fairmot, ceiling 0.4", track(bench, "fixed", fixed, None))
        report("motion", track(bench, "motion", {name: AssociationConfig(method="motion") for name in ours}, None))
        for python, script, names in (
            (arguments.trackers, "roboflow_replay.py", association.ROBOFLOW),
            (arguments.boxmot, "boxmot_replay.py", association.BOXMOT),
        ):
            for name in names if python else ():
                report(f"{name} ({script.partition('_')[0]})", bench.peer(python, script, name))
        for name, row in peers.items():
            report(name, row)


if __name__ == "__main__":
    main()
