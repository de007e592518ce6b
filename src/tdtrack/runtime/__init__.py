"""The runtime room: sources of frames, engines that detect in them, and the loop that tracks.

The names below load on first use, so that neither a video library nor a network is imported for one that needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tdtrack.runtime.engine import Engine, load_engine
    from tdtrack.runtime.frames import Frame, VideoSource
    from tdtrack.runtime.pipeline import track_detections, track_source
    from tdtrack.runtime.sources import open_source
    from tdtrack.runtime.summary import TrackSummary
    from tdtrack.runtime.two_stage import TwoStageEngine

_LAZY = {
    "Engine": "engine",
    "Frame": "frames",
    "TrackSummary": "summary",
    "TwoStageEngine": "two_stage",
    "VideoSource": "frames",
    "load_engine": "engine",
    "open_source": "sources",
    "track_detections": "pipeline",
    "track_source": "pipeline",
}

__all__ = [
    "Engine",
    "Frame",
    "TrackSummary",
    "TwoStageEngine",
    "VideoSource",
    "load_engine",
    "open_source",
    "track_detections",
    "track_source",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"tdtrack.runtime.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'tdtrack.runtime' has no attribute {name!r}")
