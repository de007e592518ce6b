"""Run one tracker of Roboflow's ``trackers`` on saved detections, in an environment of its own.

    TRACKERS_ENV/bin/python benchmarks/peers/roboflow_replay.py SORTTracker --replay DATA/replay --out OUT

Writes MOT text, one file per sequence, and prints one JSON line: frames, and seconds in the tracker's update.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import supervision as sv
import trackers

SETTINGS = {
    "SORTTracker": {},
    "ByteTrackTracker": {},
    "OCSORTTracker": {},
    "CBIoUTracker": {},
    "BoTSORTTracker": {"enable_cmc": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", choices=sorted(SETTINGS))
    parser.add_argument("--replay", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    frames, seconds = 0, 0.0
    for folder in sorted(path for path in arguments.replay.iterdir() if path.is_dir()):
        arrays = np.load(folder / "detections.npz", allow_pickle=False)
        tracker = getattr(trackers, arguments.tracker)(**SETTINGS[arguments.tracker])
        lines = []
        for frame in range(1, int(arrays["frame"].max()) + 1):
            rows = np.flatnonzero(arrays["frame"] == frame)
            found = sv.Detections(
                arrays["xyxy"][rows].astype(np.float32), confidence=arrays["score"][rows], class_id=np.zeros(len(rows), int)
            )
            started = time.perf_counter()
            tracks = tracker.update(found)
            seconds += time.perf_counter() - started
            frames += 1
            for (left, top, right, bottom), track_id in zip(tracks.xyxy, tracks.tracker_id):
                if track_id >= 0:
                    lines.append(f"{frame},{track_id},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},1,-1,-1,-1\n")
        (arguments.out / f"{folder.name}.txt").write_text("".join(lines))
    print(json.dumps({"frames": frames, "seconds": seconds, "version": version("trackers")}))


if __name__ == "__main__":
    main()
