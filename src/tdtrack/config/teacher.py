"""Training a Re-ID teacher."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TeacherTrainConfig"]


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
