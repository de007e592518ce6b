"""Tracking jobs: sources or saved detections in, tracks on disk out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdtrack.association import Tracker
from tdtrack.benchmarks import scene_of
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tdtrack.runtime.engine import Engine
    from tdtrack.runtime.pipeline import TrackSummary

__all__ = ["TrackRequest", "association_for", "run_track", "track_sequences"]

METHODS = ("fairmot", "motion")
DEFAULT_FRAME_RATE = 30.0  # saved detections do not know theirs; FairMOT's lost time is 30 frames at 30 fps


@dataclass(frozen=True)
class TrackRequest:
    """What ``tdtrack track`` was asked to do.

    Attributes:
        source: video file, image folder, MOT sequence, camera number or stream URL; ``None`` with ``detections``.
        detections: saved detections (``.npz``) to track instead of a source.
        model: run folder or model file; needed with a source.
        out: result folder, or the MOT text file with ``detections``.
        association: name of the method; ``None`` takes fairmot.
        teacher: name or file of the Re-ID network for two-stage tracking.
        weights: checkpoint of a named teacher.
        device: where networks run; ``None`` takes what there is.
        engine: what runs the model; "auto" takes the best that is installed.
        precision: "fp32", "bf16" or "int8"; ``None`` takes what the file holds.
        compiled: compile the network first (torch).
        two_stage: embed crops with the teacher instead of using the model's embeddings.
        frame_rate: frames per second, where the source does not say.
        max_frames: stop after this many frames.
        batch_size: frames the network takes at once.
        video: write the annotated video.
    """

    out: str
    source: str | None = None
    detections: str | None = None
    model: str | None = None
    association: str | None = None
    teacher: str | None = None
    weights: str | None = None
    device: str | None = None
    engine: str = "auto"
    precision: str | None = None
    compiled: bool = False
    two_stage: bool = False
    frame_rate: float | None = None
    max_frames: int | None = None
    batch_size: int = 1
    video: bool = True


def association_for(method: str | None, overrides: dict[str, Any], calibrated_ceiling: float | None) -> AssociationConfig:
    """Merge the method, the user's settings and the ceiling a model carries.

    Args:
        method: "fairmot", "motion" or ``None`` for fairmot.
        overrides: settings of ``AssociationConfig`` by name.
        calibrated_ceiling: the appearance ceiling fitted to the model's embeddings, used unless the user sets one.

    Returns:
        The association settings.

    Raises:
        ConfigError: the method is unknown.
    """
    if method not in (None, *METHODS):
        raise ConfigError(f"unknown association {method!r}; choose one of {', '.join(METHODS)}")
    config = AssociationConfig(**{**overrides, "method": method or "fairmot"})
    return replace(config, max_appearance_cost=calibrated_ceiling) if config.max_appearance_cost is None else config


def run_track(request: TrackRequest, overrides: dict[str, Any]) -> TrackSummary:
    """Track a source, or saved detections.

    Args:
        request: what to track and where results go.
        overrides: settings of ``AssociationConfig`` by name.

    Returns:
        Counts and rates, and why the source ended early if it did.

    Raises:
        ConfigError: the request contradicts itself.
        MediaError: the source cannot be read.
        OutputError: results cannot be written.
    """
    if (request.source is None) == (request.detections is None):
        raise ConfigError("pass either a SOURCE or --detections FILE.npz")
    if request.detections is not None:
        return _track_saved(request, request.detections, overrides)
    return _track_source(request, str(request.source), _load(request, overrides), overrides)


def track_sequences(
    request: TrackRequest, sequences: Sequence[str], overrides: dict[str, Any]
) -> Iterator[tuple[str, TrackSummary]]:
    """Track sequences of a MOTChallenge folder, one after the other, with one model.

    MOT17 ships each scene once per public detector. Copies show the same frames, so a scene of which several are asked for is
    tracked once, under the scene's name (``MOT17-02.txt``): evaluation and submission take it for each copy.

    Args:
        request: its source is the folder that holds the sequences.
        sequences: their names.
        overrides: settings of ``AssociationConfig`` by name.

    Yields:
        Name and summary of each result, as soon as it is written.

    Raises:
        DataError: the folder lacks a sequence; all are looked for before the first is tracked.
        ConfigError: the request contradicts itself.
        MediaError: a sequence cannot be read.
        OutputError: results cannot be written.
    """
    if request.source is None or request.detections is not None:
        raise ConfigError("--sequences needs a SOURCE, the folder that holds them, and no --detections")
    scenes: dict[str, list[str]] = {}
    for name in dict.fromkeys(sequences):
        scenes.setdefault(scene_of(name), []).append(name)
    folders = {}
    for scene, copies in scenes.items():
        present = [name for name in copies if (Path(request.source) / name).is_dir()]
        if not present:
            raise DataError(
                f"{request.source}: no sequence {' or '.join(copies)} here; name the folder that holds the sequences"
            )
        folders[copies[0] if len(copies) == 1 else scene] = Path(request.source) / present[0]
    loaded = _load(request, overrides)
    for name, folder in folders.items():
        yield name, _track_source(request, str(folder), loaded, overrides, name)


def _track_saved(request: TrackRequest, path: str, overrides: dict[str, Any]) -> TrackSummary:
    from tdtrack.data.replay import read_detections_npz
    from tdtrack.runtime.pipeline import track_detections

    config = association_for(request.association, overrides, None)
    tracker = Tracker(config, frame_rate=request.frame_rate or DEFAULT_FRAME_RATE)
    return track_detections(read_detections_npz(path), tracker, Path(request.out))


def _track_source(
    request: TrackRequest, place: str, loaded: tuple[Engine, float | None], overrides: dict[str, Any], name: str = ""
) -> TrackSummary:
    """Track one source; results take its own name unless another is given."""
    from tdtrack.runtime.pipeline import track_source
    from tdtrack.runtime.sources import open_source

    engine, ceiling = loaded
    source = open_source(place, frame_rate=request.frame_rate)
    config = association_for(request.association, overrides, ceiling)
    tracker = Tracker(config, frame_rate=source.frame_rate)
    out = Path(request.out)
    return track_source(
        source,
        engine,
        tracker,
        mot_path=out / f"{name or source.name}.txt",
        jsonl_path=out / f"{name or source.name}.jsonl",
        video_path=out / f"{name or source.name}.mp4" if request.video else None,
        max_frames=request.max_frames,
        batch_size=request.batch_size,
    )


def _load(request: TrackRequest, overrides: dict[str, Any]) -> tuple[Engine, float | None]:
    """Load the model, and the teacher in front of it for two-stage tracking; its ceiling goes with its embeddings."""
    from tdtrack.runtime.engine import load_engine
    from tdtrack.runtime.two_stage import TwoStageEngine

    if request.model is None:
        raise ConfigError(f"tracking {request.source} needs --model, a run folder or model file made by tdtrack train or teach")
    detector = load_engine(
        request.model, engine=request.engine, device=request.device, precision=request.precision, compiled=request.compiled
    )
    appearance = detector.metadata.get("appearance", {})
    if not request.two_stage:
        return detector, appearance.get("max_appearance_cost")
    if request.teacher is None:
        raise ConfigError("--two-stage needs --teacher, the Re-ID network that embeds the crops")
    from tdtrack.teacher import load_teacher

    teacher = load_teacher(request.teacher, request.weights, request.device)
    min_score = float(overrides.get("min_score", AssociationConfig.min_score))
    return TwoStageEngine(detector, teacher, min_embed_score=min_score), appearance.get("teacher_max_appearance_cost")
