"""Run one BoxMOT tracker on saved detections; its own process and environment, because BoxMOT is AGPL and tdtrack is not.

    BOXMOT_ENV/bin/python benchmarks/peers/boxmot_replay.py BotSort --replay DATA/replay --out OUT

Writes MOT text, one file per sequence, and prints one JSON line: frames, and seconds in the tracker's update.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import boxmot
import numpy as np
import torch
from boxmot.structures.detections import Detections
from boxmot.structures.geometry import Boxes

SETTINGS = {
    "BotSort": {"use_cmc": False},
    "DeepOcSort": {"cmc_off": True},
    "BoostTrack": {"use_cmc": False, "use_embeddings": True},
    "HybridSort": {},
    "StrongSort": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", choices=sorted(SETTINGS))
    parser.add_argument("--replay", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    grey = np.full((1080, 1920, 3), 114, np.uint8)  # saved detections have no picture; camera motion is off
    frames, seconds = 0, 0.0
    for folder in sorted(path for path in arguments.replay.iterdir() if path.is_dir()):
        arrays = np.load(folder / "detections.npz", allow_pickle=False)
        tracker = getattr(boxmot, arguments.tracker)(**SETTINGS[arguments.tracker])
        lines = []
        for frame in range(1, int(arrays["frame"].max()) + 1):
            rows = np.flatnonzero(arrays["frame"] == frame)
            looks = arrays["embedding"][rows].astype(np.float32)
            found = Detections(
                Boxes(torch.from_numpy(arrays["xyxy"][rows].astype(np.float32))),
                torch.from_numpy(arrays["score"][rows].astype(np.float32)),
                torch.zeros(len(rows), dtype=torch.int64),
                sample_id=str(frame),
                embeddings=torch.from_numpy(looks / np.linalg.norm(looks, axis=1, keepdims=True)),
            )
            started = time.perf_counter()
            tracks = tracker.update(found, grey)
            seconds += time.perf_counter() - started
            frames += 1
            boxes, ids = tracks.geometry.values.numpy(), tracks.track_ids.numpy()
            for (left, top, right, bottom), track_id in zip(boxes, ids):
                lines.append(f"{frame},{track_id},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},1,-1,-1,-1\n")
        (arguments.out / f"{folder.name}.txt").write_text("".join(lines))
    print(json.dumps({"frames": frames, "seconds": seconds, "version": boxmot.__version__}))


if __name__ == "__main__":
    main()
