"""tdtrack: teach any detector to track, from plain detection data.

The names below load on first use, so that tracking with saved detections needs neither torch nor a video library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tdtrack.config import AssociationConfig, ModelConfig, TeacherTrainConfig, TrainConfig
from tdtrack.errors import TdtrackError
from tdtrack.types import Detections, Tracks
from tdtrack.version import __version__

if TYPE_CHECKING:
    from tdtrack.association import Tracker
    from tdtrack.data import load_dataset
    from tdtrack.runtime import load_engine, open_source
    from tdtrack.teacher import load_teacher

_LAZY = {
    "Tracker": "tdtrack.association",
    "load_dataset": "tdtrack.data",
    "load_engine": "tdtrack.runtime",
    "load_teacher": "tdtrack.teacher",
    "open_source": "tdtrack.runtime",
}

__all__ = [
    "AssociationConfig",
    "Detections",
    "ModelConfig",
    "TdtrackError",
    "TeacherTrainConfig",
    "Tracker",
    "Tracks",
    "TrainConfig",
    "__version__",
    "load_dataset",
    "load_engine",
    "load_teacher",
    "open_source",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tdtrack' has no attribute {name!r}")
