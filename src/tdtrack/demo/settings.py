"""What the demo trains: a teacher and a joint model that two cores learn in minutes."""

from __future__ import annotations

from pathlib import Path

from tdtrack.config import AugmentConfig, DataSource, LossConfig, ModelConfig, OptimizerConfig, TeacherTrainConfig, TrainConfig
from tdtrack.data.walkers import World
from tdtrack.training.precision import native_precision

__all__ = ["model_settings", "teacher_settings"]


def teacher_settings(world: World, out: Path, seed: int) -> TeacherTrainConfig:
    """Return the demo's teacher: a small OSNet on small crops, which two cores train in a minute and a half."""
    return TeacherTrainConfig(
        crops=str(world.reid),
        out=str(out / "teacher.safetensors"),
        architecture="osnet_x0_25",
        crop_height=64,  # people in the demo's frames are 35 to 170 pixels tall
        crop_width=32,
        steps=500,
        learning_rate=1.2e-2,
        erase=0.1,
        seed=seed,
    )


def model_settings(world: World, out: Path, seed: int) -> TrainConfig:
    """Return the demo's training: a small network that two cores train from scratch in about seven minutes."""
    stores = out / "embeddings"
    return TrainConfig(
        out=str(out / "run"),
        train=(DataSource(str(world.train), str(world.images), str(stores / "train.parquet")),),
        validation=(DataSource(str(world.val), str(world.images), str(stores / "val.parquet")),),
        input_height=256,
        input_width=448,
        seed=seed,
        precision=native_precision(),
        validate_every=360,
        checkpoint_every=100,
        model=ModelConfig(
            backbone="test_resnet",
            embedding_dim=64,
            embedding_target="pca",
            fpn_width=64,
            subnet_depth=2,
            subnet_width=64,
            embedding_width=128,
            norm_momentum=0.05,
        ),
        loss=LossConfig(class_weight=2.0, embedding_weight=5.0),  # in minutes, the paper's 1 and 10 would cost detection
        augment=AugmentConfig(min_scale=0.85, max_scale=1.2, brightness=0.2, contrast=0.2),
        optimizer=OptimizerConfig(
            algorithm="adamw",
            learning_rate=2e-3,
            embedding_learning_rate_scale=0.08,
            anchor_slots="shared",
            warmup_learning_rate=1e-4,
            weight_decay=0.02,
            warmup_steps=50,
            steps=720,
            batch_size=8,
            max_gradient_norm=10.0,
            ema_decay=0.97,
        ),
    )
