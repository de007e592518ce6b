"""``tdtrack teach``: from boxes to a tracker in one command (annotate, train, validate)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tdtrack.calibrate import calibrate_model, can_calibrate
from tdtrack.config import OptimizerConfig, TrainConfig
from tdtrack.data import load_dataset
from tdtrack.teach.boxes import TeachData, load_both, write_source
from tdtrack.teacher import Teacher
from tdtrack.training import train
from tdtrack.training.validate import ModelReport, evaluate_model

__all__ = ["TeachResult", "laptop_settings", "teach"]


@dataclass(frozen=True)
class TeachResult:
    """Where the model is and how good it is on the validation images.

    Attributes:
        model: the file.
        report: on the validation images.
        calibrated: the tracker was fitted to the embeddings.
    """

    model: Path
    report: ModelReport
    calibrated: bool = True

    def lines(self) -> list[str]:
        """Return what the command prints."""
        generic = (
            "no image has two boxes, so the tracker is not fitted to the embeddings; tdtrack calibrate does it on ones that do"
        )
        return [
            *self.report.lines(),
            *([] if self.calibrated else [generic]),
            f"model in {self.model}",
            f"next: tdtrack track VIDEO --model {self.model.parent} --out tracks",
        ]


def laptop_settings() -> dict[str, Any]:
    """Return the settings ``teach`` starts from: a small network that a laptop trains in under an hour.

    Source:
        Our choice: the values of ``recipes/laptop-people.yaml``.
    """
    return {
        "input_height": 320,
        "input_width": 576,
        "workers": 1,
        "validate_every": 500,
        "checkpoint_every": 100,
        "model.backbone": "mobilenetv4_conv_small",
        "model.embedding_target": "pca",
        "model.fpn_width": 96,
        "model.subnet_depth": 2,
        "model.subnet_width": 96,
        "model.embedding_width": 128,
        "model.norm_momentum": 0.03,
        "augment.min_scale": 0.6,
        "augment.max_scale": 1.6,
        "augment.brightness": 0.2,
        "augment.contrast": 0.2,
        "optimizer.algorithm": "adamw",
        "optimizer.learning_rate": 0.001,
        "optimizer.embedding_learning_rate_scale": 0.05,
        "optimizer.anchor_slots": "shared",
        "optimizer.warmup_learning_rate": 0.0001,
        "optimizer.weight_decay": 0.02,
        "optimizer.warmup_steps": 100,
        "optimizer.steps": 2000,
        "optimizer.batch_size": 8,
        "optimizer.max_gradient_norm": 10.0,
        "optimizer.ema_decay": 0.99,
    }


def teach(data: TeachData, teacher: Teacher, settings: dict[str, Any]) -> TeachResult:
    """Annotate the boxes, train the joint model on them and validate it; a second call resumes.

    Args:
        data: the boxes, and how to validate.
        teacher: gives each box its embedding.
        settings: fields of ``TrainConfig`` except ``train`` and ``validation``.

    Returns:
        The final model and its validation report.

    Raises:
        DataError: the data set cannot be used, or is too small to hold out images from.
        StoreError: the run folder holds embeddings of other data or another teacher.
        ConfigError: the run folder holds a run with other settings.
    """
    out = Path(settings["out"])
    dataset, held_out = load_both(data)
    sources = [write_source(part, out / "data", name, teacher) for part, name in ((dataset, "train"), (held_out, "val"))]
    config = TrainConfig(**{**settings, "train": (sources[0],), "validation": (sources[1],)})
    config = replace(config, model=replace(config.model, classes=dataset.classes), optimizer=_fit_schedule(config.optimizer))
    model = train(config)
    parts = (load_dataset(source.annotations, source.images) for source in reversed(sources))  # the held-out one if it will do
    crowded = next(filter(can_calibrate, parts), None)
    if crowded is not None:
        calibrate_model(model, crowded, teacher)
    report = evaluate_model(model, sources[1].annotations, sources[1].images, sources[1].store)
    return TeachResult(model, report, calibrated=crowded is not None)


def _fit_schedule(optimizer: OptimizerConfig) -> OptimizerConfig:
    """A user who only shortens the training keeps a warm-up that fits into it."""
    return replace(optimizer, warmup_steps=min(optimizer.warmup_steps, optimizer.steps // 5))
