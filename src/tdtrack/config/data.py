"""The words that say how a data set is to be read."""

from __future__ import annotations

from typing import Literal

__all__ = ["BoxKind", "DataFormat"]

DataFormat = Literal[
    "auto",
    "coco",
    "mot",
    "crowdhuman",
    "citypersons",
    "caltech",
    "eth",
    "cuhk-sysu",
    "prw",
    "yolo",
    "jde",
    "visdrone",
]
"""Layout of a data set; ``auto`` tells it by the signs of the file or folder."""

BoxKind = Literal["full", "visible", "head"]
"""Which of the boxes that a layout gives each person: whole body, the part in sight, or the head."""
