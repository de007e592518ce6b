"""Tracking jobs: sources or saved detections in, tracks on disk out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tdtrack.association import Tracker
from tdtrack.association.calibration import appearance_for
from tdtrack.association.offline import refine
from tdtrack.association.tracker import METHODS
from tdtrack.benchmarks import scene_of
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, DataError, MediaError
from tdtrack.files import sweep
from tdtrack.output.jsonl import JsonLinesWriter
from tdtrack.output.mot import MotWriter
from tdtrack.types import Detections, Tracks
from tdtrack.version import __version__

if TYPE_CHECKING:
    from tdtrack.runtime.engine import Engine
    from tdtrack.runtime.frames import Frame, VideoSource
    from tdtrack.runtime.pipeline import TrackSummary
    from tdtrack.runtime.spool import DetectionSpool

__all__ = [
    "TrackRequest",
    "association_for",
    "load_models",
    "refuse_replacing",
    "result_files",
    "run_track",
    "sequence_folders",
    "track_one",
]

DEFAULT_FRAME_RATE = 30.0  # saved detections do not know theirs


@dataclass(frozen=True)
class TrackRequest:
    """What ``tdtrack track`` was asked to do.

    Attributes:
        source: video file, image folder, MOT sequence, camera number or stream URL; ``None`` with ``detections``.
        detections: saved detections (``.npz``, MOT ``.txt``, COCO results ``.json``) to track instead of a source.
        model: run folder or model file; needed with a source.
        out: result folder, or the MOT text file with ``detections``.
        association: name of the method; ``None`` takes "evidence".
        teacher: name or file of the Re-ID network for two-stage tracking.
        weights: checkpoint of a named teacher.
        device: where networks run; ``None`` takes what there is.
        engine: what runs the model; "auto" takes the best that is installed.
        precision: "fp32", "bf16" or "int8"; ``None`` takes what the file holds.
        compiled: compile the network first (torch).
        two_stage: embed crops with the teacher instead of using the model's embeddings.
        frame_rate: frames per second, where the source does not say.
        max_frames: stop after this many frames.
        max_outage: seconds a camera or live stream may stay away before tracking ends; 0 takes any end as the end.
        batch_size: frames the network takes at once.
        video: write the annotated video.
        offline: link and fill finished tracks; text files hold the result, the video shows what was known in each frame.
        gallery: folder of known objects, ``NAME/*.jpg`` or ``NAME.jpg``; ``NAME.names.json`` says which track is whom. Video
            and JSON lines show names as soon as they are known.
        enroll: add the tracks' looks to the gallery, nameless ones under new names, for other videos and cameras.
        camera_motion: "on", "off", or "auto": with the default association, where OpenCV is installed.
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
    max_outage: float = 300.0
    batch_size: int = 1
    video: bool = True
    offline: bool = False
    gallery: str | None = None
    enroll: bool = False
    camera_motion: str = "auto"


def association_for(
    method: str | None, overrides: dict[str, Any], appearance: dict[str, Any], prefix: str = ""
) -> AssociationConfig:
    """Merge the method, the user's settings and what a model carries about its embeddings.

    Args:
        method: "evidence", "fairmot", "motion" or ``None`` for evidence.
        overrides: settings of ``AssociationConfig`` by name.
        appearance: what calibration stored with the model (``tdtrack.calibrate``); used unless the user sets the same.
        prefix: of the keys in ``appearance``: "teacher_" for two-stage tracking.

    Returns:
        The association settings.

    Raises:
        ConfigError: the method is unknown.
    """
    if method not in (None, *METHODS):
        raise ConfigError(f"unknown association {method!r}; choose one of {', '.join(METHODS)}")
    config = AssociationConfig(**{**overrides, "method": method or "evidence"})
    if config.max_appearance_cost is None:
        config = replace(config, max_appearance_cost=appearance.get(f"{prefix}max_appearance_cost"))
    statistics = appearance.get(f"{prefix}cosine_statistics")
    if config.cosine_statistics is None and statistics is not None:
        config = replace(config, cosine_statistics=tuple(statistics))
    return config


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
    refuse_contradictions(request)
    if request.detections is not None:
        if request.gallery is not None:
            raise ConfigError("--gallery compares with photos, which needs the model: track a SOURCE, not saved detections")
        if request.model is not None or request.two_stage or request.camera_motion == "on":
            raise ConfigError(
                "--detections are linked as they are, without pictures; leave --model, --two-stage and --camera-motion out"
            )
        return _track_saved(request, request.detections, overrides)
    return track_one(request, str(request.source), load_models(request, overrides), overrides)


def refuse_contradictions(request: TrackRequest) -> None:
    """Refuse a request whose options do not go together, for one video as for many.

    Raises:
        ConfigError: they do not; says which to leave out.
    """
    if request.enroll and request.gallery is None:
        raise ConfigError("--enroll adds to a gallery; name its folder with --gallery DIR")
    if request.gallery is not None and request.offline:
        raise ConfigError("--gallery names the tracks as they were found, and --offline joins them anew; leave one out")
    if request.max_frames is not None and request.max_frames < 1:
        raise ConfigError(f"max_frames is {request.max_frames}; it must be at least 1")


def sequence_folders(root: str | None, sequences: Sequence[str]) -> dict[str, str]:
    """Find sequences of a MOTChallenge folder, and what their results are called.

    MOT17 ships each scene once per public detector. Copies show the same frames, so a scene of which several are asked for is
    tracked once, under the scene's name (``MOT17-02.txt``): evaluation and submission take it for each copy.

    Args:
        root: the folder that holds the sequences.
        sequences: their names.

    Returns:
        Folders by name of the result.

    Raises:
        DataError: the folder lacks a sequence.
        ConfigError: there is no folder.
    """
    if root is None:
        raise ConfigError("--sequences needs one SOURCE, the folder that holds them")
    scenes: dict[str, list[str]] = {}
    for name in dict.fromkeys(sequences):
        scenes.setdefault(scene_of(name), []).append(name)
    folders = {}
    for scene, copies in scenes.items():
        present = [Path(root) / name for name in copies if (Path(root) / name).is_dir()]
        if not present:
            raise DataError(f"{root}: no sequence {' or '.join(copies)} here; name the folder that holds the sequences")
        chosen = next(filter(_has_frames, present), present[0])  # images may lie in one copy only
        folders[copies[0] if len(copies) == 1 else scene] = str(chosen)
    return folders


def _has_frames(sequence: Path) -> bool:
    from tdtrack.runtime.sources import IMAGE_SUFFIXES

    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in sequence.glob("*/*"))


def result_files(request: TrackRequest, name: str) -> dict[str, Path]:
    """Return the files that tracking a source may write, by their ending.

    Args:
        request: names the folder, and says whether there will be a video.
        name: of the results.
    """
    endings = ("txt", "jsonl", "names.json", "resume", *(("mp4",) if request.video else ()))
    return {ending: Path(request.out) / f"{name}.{ending}" for ending in endings}


def refuse_replacing(sources: Iterable[str], results: Iterable[Path]) -> None:
    """Refuse to write results where a source lies.

    Args:
        sources: files, or whatever else can be tracked.
        results: files that may be written.

    Raises:
        ConfigError: a result would replace a source; names it.
    """
    there = {place: source for source in sources if (place := _place(source))}
    for path in results:
        place = _place(path)
        if place in there:
            raise ConfigError(f"results would be written over {there[place]}, which is to be tracked; choose another --out")


def _place(path: str | Path) -> tuple[int, int] | None:
    """Return what two names of one file have in common; ``None`` where there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _track_saved(request: TrackRequest, path: str, overrides: dict[str, Any]) -> TrackSummary:
    from tdtrack.data.saved import read_detections
    from tdtrack.runtime.pipeline import track_detections

    refuse_replacing([path], [Path(request.out)])
    config = association_for(request.association, overrides, {})
    tracker = Tracker(config, frame_rate=DEFAULT_FRAME_RATE if request.frame_rate is None else request.frame_rate)
    return track_detections(read_detections(path)[: request.max_frames], tracker, Path(request.out), offline=request.offline)


def track_one(
    request: TrackRequest,
    place: str,
    loaded: tuple[Engine, dict[str, Any]],
    overrides: dict[str, Any],
    *,
    name: str = "",
    progress: bool = True,
) -> TrackSummary:
    """Track one source.

    Args:
        request: how, and the result folder; its own source counts for nothing.
        place: the source.
        loaded: what ``load_models`` gave for the request.
        overrides: settings of ``AssociationConfig`` by name.
        name: of the results, which may begin with folders; empty takes the source's own.
        progress: show a bar on the error stream.

    Raises:
        ConfigError, MediaError, OutputError: as ``run_track`` says; also where results would replace the source, or a live
            one is to be improved on when it has ended.
    """
    from tdtrack.runtime.camera_motion import camera_motion_for
    from tdtrack.runtime.enrolment import TrackNaming, video_origin
    from tdtrack.runtime.pipeline import track_source
    from tdtrack.runtime.sources import open_source

    engine, appearance = loaded
    source = open_source(place, frame_rate=request.frame_rate, max_outage=request.max_outage)
    files = result_files(request, name or source.name)
    try:
        refuse_replacing([place], files.values())
        if source.live and request.offline:
            raise ConfigError(f"--offline improves on the tracks of files, and {source.name} is live; leave it out")
    except ConfigError:
        source.close()
        raise
    config = association_for(request.association, overrides, appearance, "teacher_" if request.two_stage else "")
    tracker = Tracker(config, frame_rate=source.frame_rate)
    history = _History(config.floor) if request.offline else None
    origin = video_origin(place) if request.enroll else None
    naming = None if request.gallery is None else TrackNaming(Path(request.gallery), engine, config, origin)
    sweep(Path(request.out))
    spool = _spool(request, place, source, engine, config.floor, files["resume"])
    summary = track_source(
        source,
        engine,
        tracker,
        mot_path=files["txt"],
        jsonl_path=files["jsonl"],
        video_path=files.get("mp4"),
        max_frames=request.max_frames,
        batch_size=request.batch_size,
        on_frame=history,
        naming=naming,
        camera=camera_motion_for(request.camera_motion, config.method),
        spool=spool,
        progress=progress,
    )
    if naming is not None:
        written = naming.write(files["names.json"], whole=not summary.interrupted)
        summary = replace(summary, files=(*summary.files, *written))
    if history is not None:
        refined = history.refined(summary.frames, tracker.frame_rate)
        with MotWriter(files["txt"]) as mot, JsonLinesWriter(files["jsonl"], engine.classes) as lines:
            for tracks in refined:
                mot.write(tracks)
                lines.write(tracks, history.seconds.get(tracks.frame_index, tracks.frame_index / source.frame_rate))
        summary = replace(summary, tracks=len({track_id for tracks in refined for track_id in tracks.track_id.tolist()}))
    if spool is not None and not summary.interrupted:
        spool.discard()
    return summary


def _spool(
    request: TrackRequest, place: str, source: VideoSource, engine: Engine, floor: float, path: Path
) -> DetectionSpool | None:
    """Open the file that keeps what the network finds; none for what cannot be read twice, or may change unseen."""
    from tdtrack.runtime.frames import ImageSource, out_of_reach
    from tdtrack.runtime.spool import DetectionSpool

    if source.live or not Path(place).exists():
        return None
    frames = source.paths if isinstance(source, ImageSource) else [Path(place)]
    networks = [Path(name) for name in (request.model, request.teacher, request.weights) if name and Path(name).exists()]
    networks = [file for entry in networks for file in (sorted(entry.glob("model.*")) if entry.is_dir() else [entry])]
    try:
        stamps = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in [*networks, *frames]]
    except OSError as error:
        raise MediaError(out_of_reach(error.filename, error)) from error
    how = {
        key: getattr(request, key) for key in ("device", "engine", "precision", "compiled", "two_stage", "teacher", "weights")
    }
    label = getattr(engine, "label", type(engine).__name__)
    made_by = {"tdtrack": __version__, "engine_label": label, "floor": floor if request.two_stage else None}
    digest = sha256("\n".join(stamps).encode("utf-8", "surrogateescape"))  # names on old disks need not be UTF-8
    key = {**how, **made_by, "files": digest.hexdigest()}
    return DetectionSpool(path, key, batch_size=request.batch_size)


class _History:
    """Keeps what the tracker was given and what it said, frame by frame, to improve on it in the end.

    Attributes:
        seconds: time stamps by frame.
    """

    def __init__(self, floor: float) -> None:
        self.seconds: dict[int, float] = {}
        self._floor = floor
        self._frames: dict[int, tuple[Detections, Tracks]] = {}

    def __call__(self, frame: Frame, detections: Detections, tracks: Tracks) -> None:
        """Keep one frame; detections that took no part are not needed."""
        self.seconds[frame.index] = frame.seconds
        self._frames[frame.index] = detections.select(detections.score >= self._floor), tracks

    def refined(self, frames: int, frame_rate: float) -> list[Tracks]:
        """Return the improved tracks of every frame; frames that could not be read hold what is interpolated."""
        none = np.zeros(0, np.int64)
        nothing = Detections.empty(), Tracks(0, none, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none)
        kept = [self._frames.get(index, nothing) for index in range(frames)]
        return refine([tracks for _, tracks in kept], [detections for detections, _ in kept], frame_rate)


def load_models(request: TrackRequest, overrides: dict[str, Any]) -> tuple[Engine, dict[str, Any]]:
    """Load the model, and the teacher in front of it for two-stage tracking.

    Args:
        request: names them.
        overrides: settings of ``AssociationConfig`` by name.

    Returns:
        The engine, and what calibration stored with the model.

    Raises:
        ConfigError, WeightsError, MissingExtraError: as ``load_engine`` and ``load_teacher`` say, or one is not named.
    """
    from tdtrack.runtime.engine import load_engine
    from tdtrack.runtime.two_stage import TwoStageEngine

    if request.model is None:
        raise ConfigError(
            f"tracking {request.source or 'videos'} needs --model, a run folder or model file made by tdtrack train or teach"
        )
    detector = load_engine(
        request.model, engine=request.engine, device=request.device, precision=request.precision, compiled=request.compiled
    )
    appearance = detector.metadata.get("appearance", {})
    if not request.two_stage:
        return detector, appearance
    if request.teacher is None:
        raise ConfigError("--two-stage needs --teacher, the Re-ID network that embeds the crops")
    from tdtrack.teacher import load_teacher

    teacher = load_teacher(request.teacher, request.weights, request.device)
    appearance = appearance_for(detector.metadata, teacher.fingerprint)
    floor = association_for(request.association, overrides, {}).floor
    return TwoStageEngine(detector, teacher, min_embed_score=floor), appearance
