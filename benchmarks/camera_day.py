"""A day in the life of a camera: 24 hours of time stamps at full speed, with stalls, drops, failures and changes of size.

    python benchmarks/camera_day.py [--hours 24] [--rate 5]

The camera and its clock are simulated (``tests/camera.py``), and a network that knows who is there stands for the real one;
source, pipeline, tracker and writers are tdtrack's. About six faults an hour take from 3 seconds to 4 minutes.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from camera import KINDS, Camera, Fault, Network, Watch
from tdtrack.association import Tracker
from tdtrack.runtime.frames import Frame
from tdtrack.runtime.live import LiveSource
from tdtrack.runtime.pipeline import track_source
from tdtrack.types import Detections, Tracks


def plan(hours: float, random: np.random.Generator) -> list[Fault]:
    found, now = [], 0.0
    while (now := now + random.uniform(120, 1080)) < hours * 3600 - 300:
        seconds = float(np.exp(random.uniform(np.log(3), np.log(240))))
        found.append(Fault(now, seconds, KINDS[random.integers(len(KINDS))]))
        now += seconds
    return found


def resident_megabytes() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


class HourlyWatch(Watch):
    """Also takes the memory every hour."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(camera)
        self.memory: list[float] = []

    def __call__(self, frame: Frame, detections: Detections, tracks: Tracks) -> None:
        super().__call__(frame, detections, tracks)
        if frame.seconds >= 3600 * (len(self.memory) + 1):
            self.memory.append(resident_megabytes())
            print(f"hour {len(self.memory)}: {self.memory[-1]} MB", flush=True)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, entry: logging.LogRecord) -> None:
        self.lines.append(entry.getMessage())


def camera_day(hours: float, rate: float, folder: Path) -> dict[str, Any]:
    faults = plan(hours, np.random.default_rng(1))
    camera = Camera(rate, hours * 3600, list(faults))
    source = LiveSource(camera.connect, "camera", clock=camera.clock, wait=camera.wait, max_outage=600)
    watch, log, tracker = HourlyWatch(camera), Lines(), Tracker(frame_rate=rate)
    logger = logging.getLogger("tdtrack")
    logger.addHandler(log)
    logger.propagate = False
    mot, lines = folder / "day.txt", folder / "day.jsonl"
    summary = track_source(source, Network(camera), tracker, mot_path=mot, jsonl_path=lines, progress=False, on_frame=watch)
    outages = list(source.outages)
    errors = [abs(gap[1] - outage.seconds) for gap, outage in zip(camera.gaps, outages, strict=True)]
    return {
        "hours": hours,
        "frames_per_second": rate,
        "frames": summary.frames,
        "dropped": summary.dropped,
        "faults": dict(Counter(fault.kind for fault in faults)),
        "connections": camera.connections,
        "picture_sizes": sorted(map(list, camera.sizes)),
        "gaps_of_2_s_or_more": len(camera.gaps),
        "outages_logged": len(log.lines),
        "largest_error_of_a_length_s": max(errors),
        "seconds_away": sum(outage.seconds for outage in outages),
        "longest_s": max(outage.seconds for outage in outages),
        "track_ids": int((watch.person_of_id >= 0).sum()),
        "people": int((watch.ids_of_person > 0).sum()),
        "ids_that_meant_two_people": watch.confused,
        "people_split_though_no_gap_was_as_long_as_a_track_may_be_lost": watch.split(camera.gaps, tracker.config.lost_seconds),
        "ended_with": summary.truncated,
        "wall_seconds": summary.seconds,
        "resident_mb_by_hour": watch.memory,
        "resident_mb_growth_after_the_second_hour": round(watch.memory[-1] - watch.memory[min(1, len(watch.memory) - 1)], 1),
        "first_lines_of_the_log": log.lines[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--rate", type=float, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = camera_day(arguments.hours, arguments.rate, Path(folder))
    print(results)
    if arguments.hours >= 24:
        print(record.save("camera_day", f"python benchmarks/camera_day.py --rate {arguments.rate:g}", results))


if __name__ == "__main__":
    main()
