"""``tdtrack teach``: from boxes to a tracker in one command.

``joint`` trains a joint model of our own; ``detector`` gives an embedding head to a detector that stays as it is.
"""

from tdtrack.teach.boxes import TeachData
from tdtrack.teach.detector import DetectorRequest, TaughtDetector, teach_detector
from tdtrack.teach.joint import TeachResult, laptop_settings, teach

__all__ = [
    "DetectorRequest",
    "TaughtDetector",
    "TeachData",
    "TeachResult",
    "laptop_settings",
    "teach",
    "teach_detector",
]
