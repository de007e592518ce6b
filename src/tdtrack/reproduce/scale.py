"""How large a reproduction is: the world, the teachers' training, the students' training, and the tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from tdtrack.data.walkers import WalkersConfig
from tdtrack.errors import ConfigError
from tdtrack.reproduce.tables import TABLES, Table
from tdtrack.training.precision import native_precision

__all__ = ["Scale", "apply_settings", "paper_scale", "walkers_scale"]

Record = TypeVar("Record")


@dataclass(frozen=True)
class Scale:
    """Everything but what tables are about.

    Attributes:
        walkers: the synthetic world; not used with a folder of real data.
        teacher: dotted settings of ``TeacherTrainConfig``, for the world's teachers.
        train: dotted settings of ``TrainConfig``, for Tab. 1's one-stage row.
        tracker: settings of ``AssociationConfig``.
        teacher_steps: iterations of single teachers, by their name in Tab. 3, in place of what ``teacher`` says.
        table_length: how many times as long as ``train`` says the rows of single tables are trained, by the table's name.
    """

    walkers: WalkersConfig
    teacher: Mapping[str, Any]
    train: Mapping[str, Any]
    tracker: Mapping[str, Any]
    teacher_steps: Mapping[str, int] = field(default_factory=dict)
    table_length: Mapping[str, int] = field(default_factory=dict)

    def of(self, name: str) -> Table:
        """Return a table whose rows are trained as long as this scale wants.

        Args:
            name: a key of ``TABLES``.

        Raises:
            ConfigError: there is no such table, or ``table_length`` names one that there is not, or a length below 1.
        """
        for known in (name, *self.table_length):
            if known not in TABLES:
                raise ConfigError(f"there is no table {known!r}; choose one of {', '.join(TABLES)}")
        table, length = TABLES[name], self.table_length.get(name, 1)
        if length < 1:
            raise ConfigError(f"table_length of {name} is {length}; it must be at least 1")
        return replace(table, rows=tuple(replace(row, length=row.length * length) for row in table.rows))


def walkers_scale() -> Scale:
    """Return a world and trainings for two CPU cores: some 4 minutes for a model of the default backbone on one of them.

    Source:
        Our choice: the demo's optimizer and augmentation, with D_s = 512 of Tab. 1 and the paper's association. The world is
        calmer than the demo's, so that the two-stage tracker does no worse in it than on the paper's validation sequences,
        and many videos of few frames show many people. ON-Large trains until its mAP is about the paper's. The weight of the
        embedding is not the paper's 10, which costs a network this small its detection (Fig. 6 in docs/paper.md). Tab. 1
        trains six times as long, for it asks how near one network comes to two, Fig. 5 as well, for a short training sees too
        little of a large set, and Tab. 4 eighteen times, FairMOT's thirty passes, for identities are learned slowly; the other
        tables ask how rows differ at equal training.
    """
    return Scale(
        walkers=WalkersConfig(
            detection_videos=240,
            detection_frames=10,
            sequences=24,
            frame_rate=20.0,
            camera_motion=0.5,
            occluders=2.0,
            lookalike_fraction=0.2,
            return_rate=0.3,
            restlessness=0.1,
        ),
        teacher={"crop_height": 64, "crop_width": 32, "steps": 210, "learning_rate": 1.2e-2, "erase": 0.1},
        train={
            "input_height": 256,
            "input_width": 448,
            "precision": native_precision(),
            "validate_every": 0,
            "checkpoint_every": 100,
            "model.backbone": "test_resnet",
            "model.embedding_dim": 512,
            "model.embedding_target": "centred",
            "model.fpn_width": 96,
            "model.subnet_depth": 2,
            "model.subnet_width": 64,
            "model.embedding_width": 256,
            "model.norm_momentum": 0.05,
            "loss.embedding_weight": 1.0,
            "augment.min_scale": 0.85,
            "augment.max_scale": 1.2,
            "augment.brightness": 0.2,
            "augment.contrast": 0.2,
            "optimizer.algorithm": "adamw",
            "optimizer.learning_rate": 1.5e-3,
            "optimizer.embedding_learning_rate_scale": 0.01,
            "optimizer.anchor_slots": "tied",
            "optimizer.warmup_learning_rate": 1e-4,
            "optimizer.weight_decay": 0.02,
            "optimizer.warmup_steps": 100,
            "optimizer.steps": 1000,
            "optimizer.batch_size": 4,
            "optimizer.max_gradient_norm": 10.0,
            "optimizer.ema_decay": 0.97,
        },
        tracker={"method": "fairmot", "min_score": 0.4, "max_gating_distance": 40.0, "max_lost_seconds": 3.0},
        table_length={"table1": 6, "table4": 18, "fig5": 6},
    )


def paper_scale() -> Scale:
    """Return the paper's setting of Tab. 1, for a folder of real data: our defaults with D_s = 512."""
    return Scale(
        walkers=WalkersConfig(), teacher={}, train={"model.embedding_dim": 512}, tracker={"method": "fairmot", "min_score": 0.5}
    )


def apply_settings(record: Record, settings: Mapping[str, Any]) -> Record:
    """Return a settings record with some of its fields, and of the records in it, replaced.

    Args:
        record: a frozen dataclass, perhaps of dataclasses.
        settings: values by dotted name, for instance ``{"model.backbone": "resnet50"}``.

    Raises:
        ConfigError: a name is not a setting, or the record refuses a value.
    """
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    names = {item.name for item in fields(record)}  # type: ignore[arg-type]
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        if first not in names or (rest and not is_dataclass(getattr(record, first))):
            raise ConfigError(f"{name} is not a setting of {type(record).__name__}; it has {', '.join(sorted(names))}")
        if rest:
            nested.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    own |= {name: apply_settings(own.get(name, getattr(record, name)), inner) for name, inner in nested.items()}
    return replace(record, **own)  # type: ignore[type-var]
