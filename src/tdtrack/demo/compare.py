"""Three ways to link the same detections of the held-out sequences."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig
from tdtrack.data import load_dataset
from tdtrack.data.replay import read_detections_npz, write_detections_npz
from tdtrack.evaluation.detection import average_precision
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.files import once
from tdtrack.runtime.engine import Engine, load_engine
from tdtrack.runtime.frames import Frame
from tdtrack.runtime.pipeline import TrackSummary, track_detections, track_source
from tdtrack.runtime.sources import open_source
from tdtrack.runtime.two_stage import TwoStageEngine
from tdtrack.teacher import Teacher
from tdtrack.types import Detections, Tracks

__all__ = ["MODES", "Mode", "compare", "sequence_precision"]

MIN_SCORE = 0.4  # FairMOT's; a detector trained for minutes is seldom sure
MAX_GATING_DISTANCE = 40.0  # FairMOT's 9.49 loses people when the camera shakes at 12 frames per second
MAX_LOST_SECONDS = 3.0  # the walkers come back within three seconds; the same for every mode


@dataclass(frozen=True)
class Mode:
    """One way to track: how boxes get an appearance, if at all."""

    key: str
    title: str
    method: Literal["fairmot", "motion"]
    ceiling: str = ""
    """Name of the appearance ceiling among those that the model carries."""


MOTION = Mode("motion-only", "motion only", "motion")
TWO_STAGE = Mode("two-stage", "two-stage (teacher on crops)", "fairmot", "teacher_max_appearance_cost")
ONE_STAGE = Mode("one-stage", "one-stage (tdtrack)", "fairmot", "max_appearance_cost")
MODES = (MOTION, TWO_STAGE, ONE_STAGE)


def compare(sequences: list[Path], model: Path, teacher: Teacher, out: Path) -> dict[str, dict[str, float]]:
    """Track every sequence in every mode; a sequence that an earlier run finished is kept.

    The detector runs once: its boxes are linked by motion, by the teacher's embeddings of their crops, and by its own.

    Args:
        sequences: MOT sequences with ground truth, all in one folder.
        model: trained model file, with both appearance ceilings.
        teacher: embeds the crops.
        out: folder; gets a folder of tracks per mode, the detections, and the video of one-stage tracking.

    Returns:
        By mode key the metrics over all sequences (fractions) and ``fps``: frames per second of network and association.

    Raises:
        KeyboardInterrupt: Ctrl-C, also in the middle of a sequence.
    """
    detector = load_engine(model)
    seconds = [
        once(out / f"{sequence.name}.json", lambda sequence=sequence: _link(sequence, detector, teacher, out))  # type: ignore[misc]
        for sequence in sequences
    ]
    frames = sum(spent["frames"] for spent in seconds)
    return {
        mode.key: {
            **evaluate_tracking(sequences[0].parent, out / mode.key).overall,
            "fps": frames / sum(spent[mode.key] for spent in seconds),
        }
        for mode in MODES
    }


def sequence_precision(sequences: list[Path], out: Path) -> float:
    """Return AP at IoU 0.5 of the detections that :func:`compare` left in ``out``."""
    images = load_dataset(sequences[0].parent).images
    found: list[Detections] = []
    for sequence in sequences:
        saved = read_detections_npz(_detections_file(sequence, out))
        length = sum(image.path.is_relative_to(sequence) for image in images)
        found += saved + [Detections.empty()] * (length - len(saved))  # the last frames may be without a detection
    return average_precision(images, found).ap


def _detections_file(sequence: Path, out: Path) -> Path:
    return out / f"{sequence.name}.npz"


def _link(sequence: Path, detector: Engine, teacher: Teacher, out: Path) -> dict[str, float]:
    """Track one sequence in every mode; returns its frames, and per mode key the seconds of network and association."""
    appearance = detector.metadata["appearance"]
    source = open_source(sequence)
    crops = TwoStageEngine(detector, teacher, min_embed_score=MIN_SCORE)
    found: list[Detections] = []
    embedded: list[Detections] = []
    crop_seconds = 0.0

    def tracker(mode: Mode) -> Tracker:
        config = AssociationConfig(
            method=mode.method,
            min_score=MIN_SCORE,
            max_appearance_cost=appearance.get(mode.ceiling),
            max_gating_distance=MAX_GATING_DISTANCE,
            max_lost_seconds=MAX_LOST_SECONDS,
        )
        return Tracker(config, frame_rate=source.frame_rate)

    def embed_crops(frame: Frame, detections: Detections, _: Tracks) -> None:
        nonlocal crop_seconds
        before = time.perf_counter()
        embedded.append(crops.embed(frame.image, detections))
        crop_seconds += time.perf_counter() - before
        found.append(detections)

    def mot(mode: Mode) -> Path:
        return out / mode.key / f"{sequence.name}.txt"

    one = track_source(
        source,
        detector,
        tracker(ONE_STAGE),
        mot_path=mot(ONE_STAGE),
        jsonl_path=mot(ONE_STAGE).with_suffix(".jsonl"),
        video_path=mot(ONE_STAGE).with_suffix(".mp4"),
        on_frame=embed_crops,
    )
    two = track_detections(embedded, tracker(TWO_STAGE), mot(TWO_STAGE))
    motion = track_detections(found, tracker(MOTION), mot(MOTION))
    if any(summary.interrupted for summary in (one, two, motion)):
        raise KeyboardInterrupt
    write_detections_npz(_detections_file(sequence, out), found)

    def spent(summary: TrackSummary, more: float = 0.0) -> float:
        return one.network_seconds + more + summary.association_seconds

    return {
        "frames": one.frames,
        MOTION.key: spent(motion),
        TWO_STAGE.key: spent(two, crop_seconds),
        ONE_STAGE.key: spent(one),
    }
