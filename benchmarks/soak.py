"""A tracker that never stops: a million frames, memory, ids and time per update.

    python benchmarks/soak.py [--frames 1000000]

People with looks of their own walk through a scene, three on average, and leave; a new crowd comes every 2,000 frames.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import record

from tdtrack.association import Tracker
from tdtrack.types import Detections

CROWD_FRAMES = 2_000
BLOCKS = 20
DIM = 64
FRAME_RATE = 30.0


def crowd(random: np.random.Generator) -> list[Detections]:
    """Return one crowd's detections, a record per frame."""
    people = 20
    begin = random.integers(0, CROWD_FRAMES - 300, people)
    left, speed = random.uniform(0, 1500, people), random.normal(0, 3, people)
    top, height = random.uniform(0, 600, people), random.uniform(80, 300, people)
    looks = random.normal(size=(people, DIM))
    video = []
    for frame in range(CROWD_FRAMES):
        here = np.flatnonzero((frame >= begin) & (frame < begin + 300) & (random.random(people) < 0.95))
        size = height[here, None] * [0.4, 1.0]
        corner = np.column_stack([left[here] + speed[here] * (frame - begin[here]), top[here]])
        corner += random.normal(0, 0.02, corner.shape) * size
        look = looks[here] + random.normal(0, 0.3, (len(here), DIM))
        look /= np.linalg.norm(look, axis=1, keepdims=True)
        xyxy = np.concatenate([corner, corner + size], axis=1)
        video.append(Detections(xyxy, random.uniform(0.3, 1, len(here)), np.zeros(len(here)), look))
    return video


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(frames: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    crowds = [crowd(random) for _ in range(10)]  # made before, so that only the tracker's memory can grow
    tracker = Tracker(frame_rate=FRAME_RATE)
    patience = int(FRAME_RATE * (tracker.config.lost_seconds + 1))
    last_seen: dict[int, int] = {}
    returned, repeated, newest = 0, 0, 0
    blocks: list[dict[str, float]] = []
    spent = detections = 0.0
    for frame in range(frames):
        video = crowds[frame // CROWD_FRAMES % len(crowds)]
        found = video[frame % CROWD_FRAMES]
        started = time.process_time()
        tracks = tracker.update(found)
        spent += time.process_time() - started
        detections += len(found)
        ids = tracks.track_id.tolist()
        repeated += len(ids) != len(set(ids))
        for track_id in ids:
            if track_id not in last_seen and track_id <= newest - 1000:
                returned += 1  # an id that was given up long ago
            last_seen[track_id] = frame
            newest = max(newest, track_id)
        if frame % 1000 == 999:
            last_seen = {key: seen for key, seen in last_seen.items() if frame - seen <= patience}
        if (frame + 1) % (frames // BLOCKS) == 0:
            gc.collect()
            per_update = 1000 * spent / (frames // BLOCKS)
            blocks.append({"frames": frame + 1, "resident_mb": resident_megabytes(), "cpu_ms_per_update": per_update})
            print(f"{frame + 1:>9} frames  {blocks[-1]['resident_mb']:.1f} MB  {per_update:.3f} ms", flush=True)
            spent = 0.0
    half = len(blocks) // 2
    return {
        "frames": frames,
        "detections": detections,
        "ids_given": newest,
        "frames_with_an_id_twice": repeated,
        "ids_used_again_after_their_time": returned,
        "resident_mb_growth_after_first_block": blocks[-1]["resident_mb"] - blocks[0]["resident_mb"],
        "cpu_ms_first_half": float(np.mean([block["cpu_ms_per_update"] for block in blocks[:half]])),
        "cpu_ms_second_half": float(np.mean([block["cpu_ms_per_update"] for block in blocks[half:]])),
        "blocks": blocks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(record.save("soak", f"python benchmarks/soak.py --frames {arguments.frames}", soak(arguments.frames)))


if __name__ == "__main__":
    main()
