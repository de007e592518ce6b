"""Makes each model once and measures it; everything lies under a name that its settings and inputs determine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tdtrack.association import Tracker
from tdtrack.calibrate import calibrate_model, normalise_model
from tdtrack.config import AssociationConfig, DataSource, TrainConfig
from tdtrack.data import load_dataset, load_source
from tdtrack.data.dataset import AnnotatedImage
from tdtrack.errors import DataError
from tdtrack.evaluation.detection import average_precision
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.files import once
from tdtrack.model.checkpoint import MODEL_FILE
from tdtrack.reproduce.material import Material, content_key
from tdtrack.reproduce.scale import Scale, apply_settings
from tdtrack.reproduce.tables import Row
from tdtrack.runtime.engine import Engine, load_engine
from tdtrack.runtime.pipeline import TrackSummary, track_source
from tdtrack.runtime.sources import open_source
from tdtrack.runtime.two_stage import TwoStageEngine
from tdtrack.teacher.annotate import annotate
from tdtrack.training import train
from tdtrack.training.samples import keep_classes
from tdtrack.training.validate import evaluate_model
from tdtrack.types import Detections, Image

__all__ = ["Measurement", "Workshop"]

Measurement = dict[str, Any]
"""One row and seed: numbers by key of ``COLUMNS``, and under ``"sequences"`` MOTA, IDF1, HOTA and AP of each sequence."""

_MEASURED = "measurement.json"
_KEPT = ("MOTA", "IDF1", "HOTA", "IDSW")


@dataclass(frozen=True)
class Workshop:
    """Trains and measures rows.

    Attributes:
        material: data and teachers.
        scale: training length and tracker.
        out: folder for stores, runs and results.
    """

    material: Material
    scale: Scale
    out: Path

    def plan(self, row: Row, seed: int) -> TrainConfig:
        """Return the training of a row, before any of its data is made: ``train`` is a placeholder.

        Args:
            row: the row.
            seed: of initial weights, order and augmentation.
        """
        config = TrainConfig(out="", train=(DataSource(row.data, identities="withheld"),), seed=seed)
        config = apply_settings(config, {**self.scale.train, **row.settings})
        config = replace(config, optimizer=replace(config.optimizer, steps=config.optimizer.steps * row.length))
        # Where it lies, and what does not change the result, have no part in its name.
        named = asdict(replace(config, workers=0, checkpoint_every=0))
        data = self.material.data_key(row.data, identities=config.loss.supervision == "identities")
        key = content_key(named, data, self.material.teacher_key(row.teacher))
        return replace(config, out=str(self.out / "runs" / key))

    def trained(self, row: Row, seed: int) -> bool:
        """Tell whether the model of this row and seed is there; several rows may share it."""
        return (Path(self.plan(row, seed).out) / MODEL_FILE).is_file()

    def prepare(self, row: Row) -> None:
        """Make what rows have in common: the world, a teacher, and its embeddings of the boxes to learn from.

        Args:
            row: the row.

        Raises:
            TdtrackError: whatever stops a stage; the stages before it are kept.
        """
        self._training(row, self.plan(row, seed=0))
        self._annotated(self.material.held_out(), "held-out", row.teacher)
        self.material.teacher_map(row.teacher)

    def measured(self, row: Row, seed: int) -> bool:
        """Tell whether the numbers of this row and seed are there."""
        return (self.folder(row, seed) / _MEASURED).is_file()

    def measure(self, row: Row, seed: int) -> Measurement:
        """Train a row's model, track with it and measure; what is there already is kept.

        Args:
            row: the row.
            seed: as in ``plan``.

        Raises:
            TdtrackError: whatever stops a stage; the stages before it are kept.
            KeyboardInterrupt: the user stopped it; the training resumes where it was.
        """
        measurement: Measurement = once(self.folder(row, seed) / _MEASURED, lambda: self._measure(row, seed))
        return measurement

    def folder(self, row: Row, seed: int) -> Path:
        """Return where what was measured on this row and seed lies, whether it is there or not."""
        how = asdict(self._tracker()), row.two_stage, *(["normalised"] if row.normalised else [])
        key = content_key(Path(self.plan(row, seed).out).name, *how, self.material.sequences_key())
        return self.out / "results" / key

    def equip(self, row: Row, seed: int) -> tuple[Path, AssociationConfig]:
        """Make what a row tracks with.

        Args:
            row: the row.
            seed: as in ``plan``.

        Returns:
            Its model, trained if it was not, normalised where the row asks for it, and calibrated to the held-out boxes;
            and the scale's tracker with what calibration found.

        Raises:
            TdtrackError: whatever stops a stage; the stages before it are kept.
        """
        plan = self.plan(row, seed)
        model = Path(plan.out) / MODEL_FILE
        if not model.is_file():
            train(replace(plan, train=self._training(row, plan)))
        if row.normalised:
            datasets = [load_source(source) for source in self.material.training(row.data, identities=False)]
            model = normalise_model(model, datasets, self.folder(row, seed) / MODEL_FILE)
        teacher = self.material.teacher(row.teacher)
        held_out = self._annotated(self.material.held_out(), "held-out", row.teacher)
        fitted = calibrate_model(model, load_source(held_out), teacher, again=True)  # the model may be older than these boxes
        prefix = "teacher_" if row.two_stage else ""
        config = replace(
            self._tracker(),
            max_appearance_cost=fitted[f"{prefix}max_appearance_cost"],
            cosine_statistics=tuple(fitted[f"{prefix}cosine_statistics"]),
        )
        return model, config

    def engine(self, row: Row, detector: Engine, floor: float) -> Engine:
        """Return what a row tracks with: the detector itself, or with the teacher on crops of boxes from the floor on."""
        if not row.two_stage:
            return detector
        return TwoStageEngine(detector, self.material.teacher(row.teacher), min_embed_score=floor)

    def _measure(self, row: Row, seed: int) -> Measurement:
        model, config = self.equip(row, seed)
        held_out = self._annotated(self.material.held_out(), "held-out", row.teacher)
        agreement = evaluate_model(
            model,
            held_out.annotations,
            held_out.images,
            held_out.store,
            split=held_out.split,
            skip_bad=held_out.skip_bad_boxes,
        )
        measurement = self._track(row, model, config, self.folder(row, seed) / "tracks")
        return {**measurement, "cosine": agreement.mean_cosine, "teacher_mAP": self.material.teacher_map(row.teacher)}

    def _training(self, row: Row, plan: TrainConfig) -> tuple[DataSource, ...]:
        sources = self.material.training(row.data, identities=plan.loss.supervision == "identities")
        return tuple(self._annotated(source, row.data, row.teacher) for source in sources)

    def _annotated(self, source: DataSource, data: str, teacher: str) -> DataSource:
        """Give a data set its teacher's embeddings, unless it has them."""
        dataset = load_source(source)
        key = content_key(data, dataset.fingerprint(), self.material.teacher_key(teacher))
        store = self.out / "stores" / f"{key}.parquet"
        annotate(dataset, self.material.teacher(teacher), store)  # returns at once where there is one
        return replace(source, store=str(store))

    def _track(self, row: Row, model: Path, config: AssociationConfig, out: Path) -> Measurement:
        """Track every sequence; returns tracking metrics, AP of what was detected on the way, and frames per second."""
        detector = _Recorder(load_engine(model))
        engine = self.engine(row, detector, config.floor)
        truth: dict[str, Sequence[AnnotatedImage]] = {}
        found: dict[str, list[Detections]] = {}
        spent: list[TrackSummary] = []
        for sequence in self.material.sequences():
            detector.found = []
            source = open_source(sequence)
            summary = track_source(
                source, engine, Tracker(config, frame_rate=source.frame_rate), mot_path=out / f"{sequence.name}.txt"
            )
            if summary.interrupted:
                raise KeyboardInterrupt
            spent.append(summary)
            found[sequence.name] = detector.found
            truth[sequence.name] = keep_classes(load_dataset(sequence, skip_bad=True), detector.classes).images
            _check_frames(sequence, truth[sequence.name], detector.found)
        report = evaluate_tracking(self.material.sequences()[0].parent, out, sequences=list(found))
        seconds = sum(summary.network_seconds + summary.association_seconds for summary in spent)
        everywhere = [images for name in found for images in truth[name]]
        return {
            **{name: report.overall[name] for name in _KEPT},
            "AP": average_precision(everywhere, [one for name in found for one in found[name]]).ap,
            "fps": sum(summary.frames for summary in spent) / seconds,
            "sequences": {
                name: {
                    **{metric: report.sequences[name][metric] for metric in _KEPT},
                    "AP": average_precision(truth[name], found[name]).ap,
                }
                for name in found
            },
        }

    def _tracker(self) -> AssociationConfig:
        return AssociationConfig(**self.scale.tracker)


class _Recorder:
    """An engine that remembers the boxes it found, whatever a second stage does with them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.classes, self.embedding_dim, self.metadata = engine.classes, engine.embedding_dim, engine.metadata
        self.found: list[Detections] = []

    def __call__(self, frame: Image) -> Detections:
        detections = self._engine(frame)
        self.found.append(Detections(detections.xyxy, detections.score, detections.class_id))
        return detections


def _check_frames(sequence: Path, truth: Sequence[AnnotatedImage], found: Sequence[Detections]) -> None:
    if len(truth) != len(found):
        raise DataError(
            f"{sequence}: {len(found)} frames could be read but {len(truth)} are annotated; restore the missing ones"
        )
