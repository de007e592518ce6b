"""The model room: the joint RetinaNet of Sec. 3.2 to 3.4 and everything its training and its detections need.

``joint`` puts together ``backbones``, ``fpn`` and ``heads``; ``anchors`` and ``boxcode`` give its outputs a meaning;
``assign`` and ``losses`` teach it; ``detect`` reads it; ``checkpoint`` keeps it on disk.
"""

from importlib.util import find_spec

from tdtrack.errors import MissingExtraError

for _package in ("torch", "torchvision", "timm", "safetensors"):
    if find_spec(_package) is None:
        raise MissingExtraError(_package, "train", "the joint model")

from tdtrack.model.checkpoint import load_model, load_weights, read_metadata, read_teacher_target, save_model  # noqa: E402
from tdtrack.model.detect import DetectedTensors  # noqa: E402
from tdtrack.model.identity import UNKNOWN, IdentityHead  # noqa: E402
from tdtrack.model.joint import JointModel, Predictions, weight_decay_groups  # noqa: E402
from tdtrack.model.losses import BatchTotals, Losses, Targets, assign_batch, compute_losses  # noqa: E402
from tdtrack.model.target import TeacherTarget, principal_directions  # noqa: E402

__all__ = [
    "UNKNOWN",
    "BatchTotals",
    "DetectedTensors",
    "IdentityHead",
    "JointModel",
    "Losses",
    "Predictions",
    "Targets",
    "TeacherTarget",
    "assign_batch",
    "compute_losses",
    "load_model",
    "load_weights",
    "principal_directions",
    "read_metadata",
    "read_teacher_target",
    "save_model",
    "weight_decay_groups",
]
