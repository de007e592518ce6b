"""Association alone: saved detections with embeddings, FairMOT's way and without appearance.

    python benchmarks/replay.py --data-root DATA

All sequences together, TrackEval's metrics by the flag column alone (no ignore rules), MOT17 ground truth = pedestrians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import record

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig
from tdtrack.data.replay import read_detections_npz
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.runtime.pipeline import track_detections

SETTINGS = {
    "fairmot, ceiling 0.4": AssociationConfig(method="fairmot", max_appearance_cost=0.4),
    "fairmot, ceiling 0.3": AssociationConfig(method="fairmot", max_appearance_cost=0.3),
    "motion": AssociationConfig(method="motion"),
}


def measure(folders: list[Path], config: AssociationConfig, out: Path, truth: Path) -> dict[str, Any]:
    frames, seconds = 0, 0.0
    for folder in folders:
        records = read_detections_npz(folder / "detections.npz")
        tracker = Tracker(config, frame_rate=30.0)
        started = time.perf_counter()
        track_detections(records, tracker, out / f"{folder.name}.txt")
        seconds += time.perf_counter() - started
        frames += len(records)
    overall = evaluate_tracking(truth, out, rules="flags").overall
    return {key: overall[key] for key in ("HOTA", "MOTA", "IDF1", "IDSW")} | {"milliseconds_per_frame": 1000 * seconds / frames}


def pedestrians_only(folders: list[Path], out: Path) -> Path:
    """Copy ground truth, keeping class 1 where there is a class column (nine columns)."""
    for folder in folders:
        lines = (folder / "gt" / "gt.txt").read_text().split()
        kept = [line for line in lines if line.count(",") != 8 or line.split(",")[7] == "1"]
        target = out / folder.name / "gt" / "gt.txt"
        target.parent.mkdir(parents=True)
        target.write_text("\n".join(kept) + "\n")
        (out / folder.name / "seqinfo.ini").write_text((folder / "seqinfo.ini").read_text())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    arguments = parser.parse_args()
    folders = sorted(path for path in (arguments.data_root / "replay").iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory() as scratch:
        truth = pedestrians_only(folders, Path(scratch) / "gt")
        results = {
            name: measure(folders, config, Path(scratch) / str(position), truth)
            for position, (name, config) in enumerate(SETTINGS.items())
        }
    for name, row in results.items():
        print(f"{name:22} " + "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    print(record.save("replay", "python benchmarks/replay.py --data-root DATA", {"sequences": len(folders), **results}))


if __name__ == "__main__":
    main()
