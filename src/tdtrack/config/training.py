"""What training sees, and how it learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tdtrack.config.check import require
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.config.model import AssignConfig, DetectConfig, LossConfig, ModelConfig

__all__ = ["AugmentConfig", "DataSource", "OptimizerConfig", "TrainConfig"]

_PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed")  # half precision throughout loses small gradients


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
        require(0 <= self.flip <= 1, f"augment.flip is {self.flip}; it must lie in [0, 1]")
        require(
            0 < self.min_scale <= self.max_scale,
            f"augment.min_scale {self.min_scale} and max_scale {self.max_scale} must be positive and in this order",
        )
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augment.{name} is {value}; it must lie in [0, 1]")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with warm-up and cosine decay (Sec. 4.2, Supp. A).

    Attributes:
        algorithm: "sgd" is the paper's; "adamw" learns faster in runs of a few thousand iterations (not in the paper).
        learning_rate: where the cosine starts (Sec. 4.2, for batch 16).
        embedding_learning_rate_scale: learning rate of the embedding head's last convolution, relative to the rest (not in the
            paper). Its outputs are small, a few hundredths, and its inputs many: in short runs full steps drown what it learns.
        anchor_slots: last embedding kernels while training; the saved model is the paper's. "own": one for each anchor slot, as
            the paper. "shared": beside each slot's own, one that all slots share; the two are added. In short runs a slot sees
            too few boxes to learn alone. "tied": one for all slots; iterations are shorter, most so where embeddings are wide
            (the latter two not in the paper).
        warmup_learning_rate: where the linear warm-up starts (Sec. 4.2).
        warmup_steps: length of the warm-up in iterations (Sec. 4.2).
        steps: length of training in iterations, warm-up included (Sec. 4.2: 300K to 500K).
        momentum: of SGD; AdamW's first beta (TFMG).
        weight_decay: L2 (decoupled with AdamW), on convolution kernels only (Supp. A; TFMG).
        batch_size: images per iteration over all devices (Sec. 4.2; 32 for benchmark models, Supp. A).
        accumulate: micro-batches that each device's share of a batch is cut into, one in memory at a time (not in the paper).
            Gradients are those of the whole batch, except that batch norm sees a micro-batch at a time.
        learning_rate_batch: batch size that ``learning_rate`` was chosen for; it is then multiplied by ``batch_size`` over this
            (the linear rule of Goyal et al., 2017). 0 takes the rate as it is.
        max_gradient_norm: gradients are scaled down to this norm; 0 is off (not in the paper: short small-batch runs need it).
        ema_decay: decay of the averaged weights that are evaluated and saved; 0 is off (not in the paper).
    """

    algorithm: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.15
    embedding_learning_rate_scale: float = 1.0
    anchor_slots: Literal["own", "shared", "tied"] = "own"
    warmup_learning_rate: float = 0.001
    warmup_steps: int = 2000
    steps: int = 300_000
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 16
    accumulate: int = 1
    learning_rate_batch: int = 0
    max_gradient_norm: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a schedule that cannot run.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        require(self.steps >= 1, f"optimizer.steps is {self.steps}; it must be at least 1")
        require(self.batch_size >= 1, f"optimizer.batch_size is {self.batch_size}; it must be at least 1")
        require(self.accumulate >= 1, f"optimizer.accumulate is {self.accumulate}; it must be at least 1")
        require(
            self.learning_rate_batch >= 0,
            f"optimizer.learning_rate_batch is {self.learning_rate_batch}; it must be a number of images, or 0 for no scaling",
        )
        require(
            0 <= self.warmup_steps <= self.steps,
            f"optimizer.warmup_steps is {self.warmup_steps}; it must lie in 0..steps ({self.steps})",
        )
        for name in ("ema_decay", "momentum"):
            require(0 <= getattr(self, name) < 1, f"optimizer.{name} is {getattr(self, name)}; it must lie in [0, 1)")
        for name in ("learning_rate", "warmup_learning_rate", "weight_decay"):
            require(getattr(self, name) >= 0, f"optimizer.{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class DataSource:
    """One annotated data set.

    Attributes:
        annotations: file or folder of any layout in ``docs/data.md``: a COCO JSON file, a folder of MOTChallenge sequences, ...
        images: folder that image names are relative to; empty looks where the layout keeps them.
        store: embedding store of this data set, made by ``tdtrack annotate``.
        identities: JSON file that says who is in which box (``data/identities.py``); read only where ``loss.supervision`` is
            "identities", never by the paper's method.
        skip_bad_boxes: drop what ``tdtrack doctor`` reports instead of stopping; as it was when the store was made.
        format: layout of the data set; "auto" tells it by its signs.
        split: part of a layout that holds several, for instance "val", or of a folder of sequences, for instance "MOT15-val";
            empty is the part to train on, or all sequences.
        box: which of a person's boxes, where the layout has more than one.
        rename: classes of the data set that the model knows by another name, for instance {pedestrian: person, people: person}.
    """

    annotations: str
    images: str = ""
    store: str = ""
    identities: str = ""
    skip_bad_boxes: bool = False
    format: DataFormat = "auto"
    split: str = ""
    box: BoxKind = "full"
    rename: dict[str, str] = field(default_factory=dict)


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
        devices: how many on each machine; ``torchrun`` or SLURM, where they start the processes, say it instead.
        nodes: machines; told like ``devices``.
        precision: "32-true", "64-true", "16-mixed" or "bf16-mixed", in Lightning Fabric's words.
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
    nodes: int = 1
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
        require(len(self.train) >= 1, "train is empty; name at least one data set")
        require(
            self.input_height >= 32 and self.input_width >= 32,
            f"input {self.input_height}x{self.input_width} is smaller than 32x32",
        )
        require(self.seed >= 0, f"seed is {self.seed}; it must not be negative")
        require(self.workers >= 0, f"workers is {self.workers}; it must be a number of processes, or 0 for none")
        require(self.precision in _PRECISIONS, f"precision is {self.precision!r}; it must be one of {', '.join(_PRECISIONS)}")
        if self.loss.supervision == "identities":
            nameless = [source.annotations for source in self.train if not source.identities]
            require(not nameless, f"loss.supervision is 'identities' but {', '.join(nameless)} names none; set its identities")
