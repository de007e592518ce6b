"""Fair times on a shared machine: variants take turns in one process, and medians are compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Times:
    """Seconds of every run by variant: on the wall, and of processor time over all threads of this process."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]

    def ratios(self, key: str, above: str, below: str) -> dict[str, float]:
        """Compare two variants.

        Returns:
            Under ``key`` the ratio of medians on the wall; under ``key_fastest`` that of the fastest runs and under
            ``key_cpu`` that of median processor times, both of which other work on the machine moves less.
        """
        return {
            key: statistics.median(self.wall[above]) / statistics.median(self.wall[below]),
            f"{key}_fastest": min(self.wall[above]) / min(self.wall[below]),
            f"{key}_cpu": statistics.median(self.cpu[above]) / statistics.median(self.cpu[below]),
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """Median, fastest and processor seconds by variant."""
        return {
            name: {"median": statistics.median(runs), "fastest": min(runs), "cpu": statistics.median(self.cpu[name])}
            for name, runs in self.wall.items()
        }


def alternate(variants: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> Times:
    """Run every variant once per round; runs of warm-up rounds are left out."""
    times = Times({name: [] for name in variants}, {name: [] for name in variants})
    for number in range(warm_up + rounds):
        for name, run in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number >= warm_up:
                times.wall[name].append(time.perf_counter() - wall)
                times.cpu[name].append(time.process_time() - cpu)
    return times


def load() -> dict[str, float]:
    """How busy the machine was: processes that wanted to run, on average over 1 and 5 minutes, ours included."""
    one, five, _ = os.getloadavg()
    return {"one_minute": one, "five_minutes": five}
