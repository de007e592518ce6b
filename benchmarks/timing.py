"""Fair times on a shared machine: variants take turns in one process, and medians are compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(variants: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Run every variant once per round; returns seconds by variant, warm-up rounds left out."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(warm_up + rounds):
        for name, run in variants.items():
            started = time.perf_counter()
            run()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], above: str, below: str) -> float:
    """Ratio of medians."""
    return statistics.median(seconds[above]) / statistics.median(seconds[below])


def fastest_ratio(seconds: Mapping[str, list[float]], above: str, below: str) -> float:
    """Ratio of the fastest runs: other work on the machine slows runs down, it never speeds one up."""
    return min(seconds[above]) / min(seconds[below])


def summary(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and fastest seconds by variant."""
    return {name: {"median": statistics.median(runs), "fastest": min(runs)} for name, runs in seconds.items()}


def load() -> dict[str, float]:
    """How busy the machine was: processes that wanted to run, on average over 1 and 5 minutes, ours included."""
    one, five, _ = os.getloadavg()
    return {"one_minute": one, "five_minutes": five}
