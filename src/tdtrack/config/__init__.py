"""Every hyper-parameter: typed, frozen, with its meaning, unit and source.

"Sec. 4.2", "Supp. A", "Tab. 6" point into the paper; "TFMG" is TensorFlow Model Garden's RetinaNet, whose defaults the
paper's "default settings of RetinaNet" are; "FairMOT" is the association the paper adopts (Sec. 3.5).
"""

from tdtrack.config.association import AssociationConfig
from tdtrack.config.frozen import HeadConfig
from tdtrack.config.model import AssignConfig, DetectConfig, LossConfig, ModelConfig
from tdtrack.config.teacher import TeacherTrainConfig
from tdtrack.config.training import AugmentConfig, DataSource, OptimizerConfig, TrainConfig

__all__ = [
    "AssignConfig",
    "AssociationConfig",
    "AugmentConfig",
    "DataSource",
    "DetectConfig",
    "HeadConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TeacherTrainConfig",
    "TrainConfig",
]
