"""One update of a BoxMOT tracker with as many tracks as detections; its own process and environment, like ``boxmot_replay.py``.

    BOXMOT_ENV/bin/python benchmarks/peers/boxmot_speed.py BotSort --scene SCENE.npz

SCENE.npz holds ``xyxy`` (frames, N, 4) and ``look`` (frames, N, D). Prints one JSON line: milliseconds of processor time of
every update, and BoxMOT's version.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import metadata
from pathlib import Path

import boxmot
import numpy as np
import torch
from boxmot.structures.detections import Detections
from boxmot.structures.geometry import Boxes
from boxmot_replay import SETTINGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", choices=sorted(SETTINGS))
    parser.add_argument("--scene", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grey = np.full((1080, 1920, 3), 114, np.uint8)
    scene = np.load(arguments.scene, allow_pickle=False)
    tracker = getattr(boxmot, arguments.tracker)(**SETTINGS[arguments.tracker])
    spent = []
    for frame, (xyxy, look) in enumerate(zip(scene["xyxy"], scene["look"])):
        found = Detections(
            Boxes(torch.from_numpy(xyxy.astype(np.float32))),
            torch.full((len(xyxy),), 0.9),
            torch.zeros(len(xyxy), dtype=torch.int64),
            sample_id=str(frame),
            embeddings=torch.from_numpy(look.astype(np.float32)),
        )
        started = time.process_time()
        tracker.update(found, grey)
        spent.append(1000 * (time.process_time() - started))
    print(json.dumps({"milliseconds": spent, "version": metadata.version("boxmot")}))


if __name__ == "__main__":
    main()
