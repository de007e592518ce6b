"""The joint model, which anchor learns which box, the losses, and how predictions become detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tdtrack.config.check import require

__all__ = ["AssignConfig", "DetectConfig", "LossConfig", "ModelConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """The joint model (Sec. 3.2).

    Attributes:
        backbone: name of a timm network with features at strides 8, 16 and 32, or "spinenet49", "spinenet49s". ResNet-34 is the
            paper's (Sec. 4.2); Tab. 5 adds MobileNet (timm's mobilenetv1_100) and ResNet-50.
        pyramid: "fpn" fuses levels from coarse to fine; "lateral" does not, a 1x1 convolution makes each level (Tab. 5's MNet).
            SpineNet is a pyramid itself and needs neither.
        pretrained: start from timm's ImageNet weights. The paper trains from scratch (Supp. A).
        classes: class names, in the order of class ids.
        embedding_dim: D_s, numbers in a student embedding. 128 in the benchmark models (Sec. 4.2), 512 in Tab. 1.
        embedding_target: what a student learns of its teacher: "first" is the teacher's first D_s numbers (Sec. 3.4); "centred"
            the same about the mean of the training boxes, so that what all embeddings have in common is no likeness;
            "pca" the D_s directions in which they vary most, about their mean (both not in the paper; nearly all that tells
            objects apart lies in few directions, and prefixes of "pca" work too).
        min_level: finest pyramid level; level l has stride 2^l (Sec. 4.2).
        max_level: coarsest pyramid level (Sec. 4.2).
        fpn_width: channels of every pyramid level (TFMG: 256).
        subnet_depth: 3x3 convolutions before the last one in the class and the box subnet (Sec. 4.2).
        subnet_width: their channels (Sec. 4.2).
        embedding_width: channels between the two convolutions of the embedding head (Sec. 4.2).
        anchor_scales: anchors per octave; scale k is 2^(k / anchor_scales) (Sec. 4.2).
        anchor_aspect_ratios: **width over height** (Sec. 4.2; the convention is TFMG's).
        anchor_size: side of a square anchor of scale 0, in strides (TFMG).
        norm_eps: epsilon of batch norm (Supp. A).
        norm_momentum: PyTorch's momentum, 1 - 0.997 (Supp. A).
        class_prior: initial foreground probability, set through the last bias (TFMG).
    """

    backbone: str = "resnet34"
    pyramid: Literal["fpn", "lateral"] = "fpn"
    pretrained: bool = False
    classes: tuple[str, ...] = ("person",)
    embedding_dim: int = 128
    embedding_target: Literal["first", "centred", "pca"] = "first"
    min_level: int = 3
    max_level: int = 7
    fpn_width: int = 256
    subnet_depth: int = 4
    subnet_width: int = 128
    embedding_width: int = 256
    anchor_scales: int = 3
    anchor_aspect_ratios: tuple[float, ...] = (0.25, 0.5, 1.0)
    anchor_size: float = 4.0
    norm_eps: float = 1e-3
    norm_momentum: float = 0.003
    class_prior: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values no model can be built from.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        require(len(self.classes) >= 1, "model.classes is empty; name at least one class")
        require(1 <= self.embedding_dim <= 65_536, f"model.embedding_dim is {self.embedding_dim}; it must lie in 1..65536")
        require(
            2 <= self.min_level <= self.max_level <= 9,
            f"model levels {self.min_level}..{self.max_level} must ascend within 2..9",
        )
        require(
            all(ratio > 0 for ratio in self.anchor_aspect_ratios) and len(self.anchor_aspect_ratios) > 0,
            f"model.anchor_aspect_ratios {self.anchor_aspect_ratios} must all be positive (width over height)",
        )
        require(self.pyramid in ("fpn", "lateral"), f"model.pyramid is {self.pyramid!r}; it must be 'fpn' or 'lateral'")
        for name in ("fpn_width", "subnet_width", "embedding_width"):
            width = getattr(self, name)
            require(1 <= width <= 16_384, f"model.{name} is {width}; it must lie in 1..16384")
        require(0 <= self.subnet_depth <= 64, f"model.subnet_depth is {self.subnet_depth}; it must lie in 0..64")
        require(1 <= self.anchor_scales <= 64, f"model.anchor_scales is {self.anchor_scales}; it must lie in 1..64")
        require(0 < self.class_prior < 1, f"model.class_prior is {self.class_prior}; it must lie between 0 and 1")

    @property
    def anchors_per_cell(self) -> int:
        """A: anchors at one position of one level (9 in the paper)."""
        return self.anchor_scales * len(self.anchor_aspect_ratios)


@dataclass(frozen=True)
class AssignConfig:
    """Which anchor learns which box (TFMG).

    Attributes:
        min_positive_iou: an anchor with at least this IoU to its best box is positive.
        max_negative_iou: an anchor whose best IoU is below this is background; in between it is ignored.
        force_best: every box also gets the anchor that overlaps it most.
        min_ignore_share: an anchor that would be background is ignored when this share of its area lies in one ignore
            region (not in the paper, whose data sets' ignore regions it does not mention).
    """

    min_positive_iou: float = 0.5
    max_negative_iou: float = 0.5
    force_best: bool = True
    min_ignore_share: float = 0.5


@dataclass(frozen=True)
class LossConfig:
    """The losses (Sec. 3.4, Eq. 1 and 2).

    Attributes:
        focal_alpha: weight of the positive class (Sec. 4.2).
        focal_gamma: focusing exponent (Sec. 4.2).
        huber_delta: where the box loss turns from quadratic to linear (Sec. 4.2).
        class_weight: alpha_c of Eq. 2 (Sec. 4.2).
        box_weight: alpha_b of Eq. 2 (Sec. 4.2).
        embedding_weight: alpha_e of Eq. 2 (Sec. 4.2; 2 to 10 alike, Supp. B).
        supervision: what embeddings learn from: "teacher" is the paper's method; "identities" is FairMOT's cross-entropy over
            those that the data sets name, weighted by ``embedding_weight`` too (for Tab. 4's counterpart only).
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 1.5
    huber_delta: float = 0.1
    class_weight: float = 1.0
    box_weight: float = 50.0
    embedding_weight: float = 10.0
    supervision: Literal["teacher", "identities"] = "teacher"

    def __post_init__(self) -> None:
        """Refuse losses that cannot be computed.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        require(self.huber_delta > 0, f"loss.huber_delta is {self.huber_delta}; it must be positive")


@dataclass(frozen=True)
class DetectConfig:
    """From raw predictions to detections (Sec. 3.2).

    Attributes:
        min_score: detections below are dropped (Sec. 3.2).
        nms_iou: of two boxes of one class that overlap more, the better stays (Sec. 3.2).
        pre_nms_top: anchors per image that enter NMS, best first (TFMG).
        max_detections: detections kept per image. The paper keeps 100, which cannot hold MOT20; ours is 300.
    """

    min_score: float = 0.05
    nms_iou: float = 0.5
    pre_nms_top: int = 5000
    max_detections: int = 300

    def __post_init__(self) -> None:
        """Refuse thresholds by which nothing, or nothing that can be used, is found.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        for name in ("min_score", "nms_iou"):
            require(0 <= getattr(self, name) <= 1, f"detect.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        for name in ("pre_nms_top", "max_detections"):
            require(1 <= getattr(self, name) <= 100_000, f"detect.{name} is {getattr(self, name)}; it must lie in 1..100000")
