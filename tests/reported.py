"""What the readers of data sets say of bad records, and what they keep."""

from __future__ import annotations

import re
from pathlib import Path

from layouts import Box
from tdtrack.data import load_dataset
from tdtrack.data.load import inspect_dataset

PEOPLE = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)], [Box(1, 2, 30, 20)]]
"""The boxes of two images."""


def problems(path: Path, **how: object) -> list[str]:
    return [f"{problem.kind}: {problem}" for problem in inspect_dataset(path, **how)[2]]  # type: ignore[arg-type]


def left(path: Path, **how: object) -> list[str]:
    """The images that are left when what is bad is skipped."""
    return [image.path.name for image in load_dataset(path, skip_bad=True, **how).images]  # type: ignore[arg-type]


def only(path: Path, pattern: str, boxes: int, **how: object) -> None:
    """One problem, by its words, and the boxes that are left without it."""
    found = problems(path, **how)
    assert len(found) == 1, found
    assert re.search(pattern, found[0]), found[0]
    assert load_dataset(path, skip_bad=True, **how).num_boxes == boxes  # type: ignore[arg-type]
