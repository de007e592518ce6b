"""Every hyper-parameter: typed, frozen, with its meaning, unit and source.

"Sec. 4.2", "Supp. A", "Tab. 6" point into the paper; "TFMG" is TensorFlow Model Garden's RetinaNet, whose defaults the
paper's "default settings of RetinaNet" are; "FairMOT" is the association the paper adopts (Sec. 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tdtrack.errors import ConfigError

__all__ = [
    "AssignConfig",
    "AssociationConfig",
    "AugmentConfig",
    "DataSource",
    "DetectConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TeacherTrainConfig",
    "TrainConfig",
]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The joint model (Sec. 3.2).

    Attributes:
        backbone: name of a timm network with features at strides 8, 16 and 32. ResNet-34 is the paper's (Sec. 4.2).
        pretrained: start from timm's ImageNet weights. The paper trains from scratch (Supp. A).
        classes: class names, in the order of class ids.
        embedding_dim: D_s, numbers in a student embedding. 128 in the benchmark models (Sec. 4.2), 512 in Tab. 1.
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
    pretrained: bool = False
    classes: tuple[str, ...] = ("person",)
    embedding_dim: int = 128
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
        _require(len(self.classes) >= 1, "model.classes is empty; name at least one class")
        _require(self.embedding_dim >= 1, f"model.embedding_dim is {self.embedding_dim}; it must be at least 1")
        _require(
            2 <= self.min_level <= self.max_level <= 9,
            f"model levels {self.min_level}..{self.max_level} must ascend within 2..9",
        )
        _require(
            all(ratio > 0 for ratio in self.anchor_aspect_ratios) and len(self.anchor_aspect_ratios) > 0,
            f"model.anchor_aspect_ratios {self.anchor_aspect_ratios} must all be positive (width over height)",
        )
        _require(self.anchor_scales >= 1, f"model.anchor_scales is {self.anchor_scales}; it must be at least 1")
        _require(0 < self.class_prior < 1, f"model.class_prior is {self.class_prior}; it must lie between 0 and 1")

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
    """

    focal_alpha: float = 0.25
    focal_gamma: float = 1.5
    huber_delta: float = 0.1
    class_weight: float = 1.0
    box_weight: float = 50.0
    embedding_weight: float = 10.0


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


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training image (Sec. 4.2).

    Attributes:
        flip: probability of a horizontal flip (Sec. 4.2).
        min_scale: smallest random scale, relative to the image fitted into the input (Sec. 4.2).
        max_scale: largest random scale (Sec. 4.2).
        min_box_side: a box whose clipped width or height falls below this many input pixels counts neither as object nor
            as background (not in the paper).
        min_visible: the same for a box of which less than this fraction stays inside the crop (not in the paper).
        brightness: multiply pixels by a factor in ``[1 - b, 1 + b]`` (not in the paper; 0 is off).
        contrast: the same for contrast about the image mean (not in the paper; 0 is off).
    """

    flip: float = 0.5
    min_scale: float = 0.5
    max_scale: float = 2.0
    min_box_side: float = 2.0
    min_visible: float = 0.3
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that nothing can be drawn from.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        _require(0 <= self.flip <= 1, f"augment.flip is {self.flip}; it must lie in [0, 1]")
        _require(
            0 < self.min_scale <= self.max_scale,
            f"augment.min_scale {self.min_scale} and max_scale {self.max_scale} must be positive and in this order",
        )
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"augment.{name} is {value}; it must lie in [0, 1]")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with warm-up and cosine decay (Sec. 4.2, Supp. A).

    Attributes:
        algorithm: "sgd" is the paper's; "adamw" learns faster in runs of a few thousand iterations (not in the paper).
        learning_rate: where the cosine starts (Sec. 4.2, for batch 16).
        embedding_learning_rate_scale: learning rate of the embedding head's last convolution, relative to the rest (not in the
            paper). Its outputs are small, a few hundredths, and its inputs many: in short runs full steps drown what it learns.
        warmup_learning_rate: where the linear warm-up starts (Sec. 4.2).
        warmup_steps: length of the warm-up in iterations (Sec. 4.2).
        steps: length of training in iterations, warm-up included (Sec. 4.2: 300K to 500K).
        momentum: of SGD; AdamW's first beta (TFMG).
        weight_decay: L2 (decoupled with AdamW), on convolution kernels only (Supp. A; TFMG).
        batch_size: images per iteration over all devices (Sec. 4.2; 32 for benchmark models, Supp. A).
        max_gradient_norm: gradients are scaled down to this norm; 0 is off (not in the paper: short small-batch runs need it).
        ema_decay: decay of the averaged weights that are evaluated and saved; 0 is off (not in the paper).
    """

    algorithm: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.15
    embedding_learning_rate_scale: float = 1.0
    warmup_learning_rate: float = 0.001
    warmup_steps: int = 2000
    steps: int = 300_000
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 16
    max_gradient_norm: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a schedule that cannot run.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        _require(self.steps >= 1, f"optimizer.steps is {self.steps}; it must be at least 1")
        _require(self.batch_size >= 1, f"optimizer.batch_size is {self.batch_size}; it must be at least 1")
        _require(
            0 <= self.warmup_steps <= self.steps,
            f"optimizer.warmup_steps is {self.warmup_steps}; it must lie in 0..steps ({self.steps})",
        )
        _require(0 <= self.ema_decay < 1, f"optimizer.ema_decay is {self.ema_decay}; it must lie in [0, 1)")


@dataclass(frozen=True)
class DataSource:
    """One annotated data set.

    Attributes:
        annotations: a COCO JSON file, or a folder of MOTChallenge sequences.
        images: folder the file names of a COCO file are relative to; empty for MOT folders.
        store: embedding store of this data set, made by ``tdtrack annotate``.
        skip_bad_boxes: drop what ``tdtrack doctor`` reports instead of stopping; as it was when the store was made.
    """

    annotations: str
    images: str = ""
    store: str = ""
    skip_bad_boxes: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """One training run: what ``tdtrack train --config recipe.yaml`` reads.

    Attributes:
        out: run folder; checkpoints, logs and the final model go there.
        train: data sets to learn from, mixed image by image.
        validation: data sets for AP and embedding agreement during training; may be empty.
        input_height: height of the network input in pixels (Sec. 4.2: 608).
        input_width: width of the network input in pixels (Sec. 4.2: 1088).
        seed: of initial weights, order and augmentation.
        workers: loader processes; the result does not depend on it.
        accelerator: Lightning Fabric's choice of hardware.
        devices: how many.
        precision: Lightning Fabric's precision, for instance "32-true", "bf16-mixed".
        validate_every: iterations between validations; 0 is only at the end.
        checkpoint_every: iterations between resumable checkpoints.
        log_every: iterations between rows of the log.
        init_from: a run folder or weights file whose model weights training starts from; empty starts from scratch.
        model: the network.
        assign: which anchor learns which box.
        loss: the losses and their weights.
        detect: how validation turns predictions into detections.
        augment: what happens to a training image.
        optimizer: SGD, its schedule and the length of training.
    """

    out: str
    train: tuple[DataSource, ...]
    validation: tuple[DataSource, ...] = ()
    input_height: int = 608
    input_width: int = 1088
    seed: int = 0
    workers: int = 0
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    validate_every: int = 5000
    checkpoint_every: int = 1000
    log_every: int = 20
    init_from: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    assign: AssignConfig = field(default_factory=AssignConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Refuse a run that cannot start.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        _require(len(self.train) >= 1, "train is empty; name at least one data set")
        _require(
            self.input_height >= 32 and self.input_width >= 32,
            f"input {self.input_height}x{self.input_width} is smaller than 32x32",
        )


@dataclass(frozen=True)
class TeacherTrainConfig:
    """Training a Re-ID teacher on crops by identity (not in the paper, whose teachers come trained).

    Attributes:
        crops: folder in Market-1501 layout (``bounding_box_train/0002_c1s1_000451_03.jpg``, identity first).
        out: file to write (``.safetensors``).
        architecture: one of the teacher networks.
        crop_height: height that crops are resized to, in pixels.
        crop_width: width that crops are resized to, in pixels.
        steps: iterations.
        identities_per_batch: identities drawn per iteration.
        crops_per_identity: crops drawn of each.
        learning_rate: of AdamW, cosine to zero.
        weight_decay: of AdamW.
        label_smoothing: of the identity cross-entropy.
        contrastive_weight: of the supervised contrastive loss beside the cross-entropy; 0 is off.
        contrastive_temperature: what cosine similarities are divided by in it.
        erase: probability that a random rectangle is erased.
        seed: of weights, order and augmentation.
        checkpoint_every: iterations between resumable checkpoints.
    """

    crops: str
    out: str
    architecture: str = "osnet_x0_25"
    crop_height: int = 256
    crop_width: int = 128
    steps: int = 2000
    identities_per_batch: int = 16
    crops_per_identity: int = 4
    learning_rate: float = 6e-3
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    contrastive_weight: float = 1.0
    contrastive_temperature: float = 0.1
    erase: float = 0.3
    seed: int = 0
    checkpoint_every: int = 200


@dataclass(frozen=True)
class AssociationConfig:
    """FairMOT's association (Sec. 3.5), and the same without appearance.

    Attributes:
        method: "fairmot" uses appearance and motion; "motion" the same tracker with overlap alone.
        min_score: detections below do not take part (FairMOT: 0.4; Supp. A: 0.5 on MOT16/17, 0.3 on MOT20).
        min_new_score: an unmatched detection starts a track only from this score; never below ``min_score``
            (FairMOT: equal to ``min_score``).
        max_appearance_cost: ceiling of the blended appearance and motion cost; must be fitted to the embedding space. ``None``
            takes the one a model carries, and where none does FairMOT's 0.4.
        appearance_weight: share of the cosine distance in that cost; the rest is squared Mahalanobis distance (FairMOT: 0.98).
        max_gating_distance: squared Mahalanobis distance beyond which a match is impossible (chi-square 0.95, 4 d.o.f.).
        max_iou_distance: ceiling of the second stage, tracked tracks only (Sec. 3.5).
        max_unconfirmed_iou_distance: ceiling for tracks seen once (FairMOT).
        max_motion_iou_distance: ceiling of the first stage when there is no appearance (SORT: IoU 0.3).
        max_duplicate_iou_distance: a tracked and a lost track closer than this are one, the younger goes (FairMOT).
        smoothing: share of the old embedding in a track's running one (FairMOT: 0.9).
        max_lost_seconds: how long a lost track can be found again (FairMOT: 30 frames at 30 fps).
    """

    method: Literal["fairmot", "motion"] = "fairmot"
    min_score: float = 0.4
    min_new_score: float = 0.0
    max_appearance_cost: float | None = None
    appearance_weight: float = 0.98
    max_gating_distance: float = 9.4877
    max_iou_distance: float = 0.5
    max_unconfirmed_iou_distance: float = 0.7
    max_motion_iou_distance: float = 0.7
    max_duplicate_iou_distance: float = 0.15
    smoothing: float = 0.9
    max_lost_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values no tracker can work with.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        for name in ("min_score", "min_new_score", "appearance_weight", "smoothing"):
            _require(0 <= getattr(self, name) <= 1, f"tracker.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        ceiling = self.max_appearance_cost
        _require(ceiling is None or ceiling > 0, f"tracker.max_appearance_cost is {ceiling}; it must be above 0")
        _require(self.max_lost_seconds >= 0, f"tracker.max_lost_seconds is {self.max_lost_seconds}; it must be at least 0")
