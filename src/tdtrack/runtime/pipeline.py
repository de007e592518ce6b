"""The tracking loop: frames in, tracks out, onto disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tdtrack.association import Tracker
from tdtrack.association.offline import refine
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.output.jsonl import JsonLinesWriter
from tdtrack.output.mot import MotWriter
from tdtrack.runtime.ahead import Interrupt, ReadAhead
from tdtrack.runtime.engine import Engine
from tdtrack.runtime.frames import Frame, VideoSource
from tdtrack.types import Detections, Tracks

__all__ = ["TrackSummary", "track_detections", "track_source"]

FrameCallback = Callable[[Frame, Detections, Tracks], None]


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """What came of a tracking job.

    Attributes:
        frames: tracked, those of which nothing was seen included.
        seconds: wall clock for everything, decoding and writing included.
        network_seconds: time in the engine; 0 with saved detections.
        association_seconds: time in the tracker.
        detections: in all frames together, as the tracker got them.
        tracks: different ids.
        files: what was written.
        truncated: why the source gave fewer or damaged frames; ``None`` when all is well.
        interrupted: Ctrl-C ended it early; the files hold the frames until then.
    """

    frames: int
    seconds: float
    network_seconds: float
    association_seconds: float
    detections: int
    tracks: int
    files: tuple[Path, ...] = ()
    truncated: str | None = None
    interrupted: bool = False

    @property
    def fps(self) -> float:
        """Frames per second from source to file; 0 without frames."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def network_fps(self) -> float | None:
        """Frames per second of the engine alone; ``None`` where none ran."""
        return self.frames / self.network_seconds if self.network_seconds > 0 else None

    @property
    def association_fps(self) -> float | None:
        """Frames per second of the tracker alone; ``None`` without frames."""
        return self.frames / self.association_seconds if self.association_seconds > 0 else None

    def lines(self) -> list[str]:
        """Return the summary for people, a line each."""
        rates = [f"{self.fps:.1f} frames per second"]
        rates += [f"network alone {self.network_fps:.1f}"] if self.network_fps is not None else []
        rates += [f"association alone {self.association_fps:.0f}"] if self.association_fps is not None else []
        lines = [
            f"{self.frames} frames, {self.detections} detections, {self.tracks} tracks in {self.seconds:.1f} s",
            ", ".join(rates),
        ]
        lines += [f"wrote {path}" for path in self.files]
        if self.truncated is not None:
            lines.append(f"the source is incomplete: {self.truncated}; what it holds was tracked")
        if self.interrupted:
            lines.append(f"interrupted after {self.frames} frames; the files hold these")
        return lines


@dataclass(slots=True)
class _Counter:
    """The numbers of a summary while they grow."""

    started: float = field(default_factory=time.perf_counter)
    frames: int = 0
    detections: int = 0
    network: float = 0.0
    association: float = 0.0
    ids: set[int] = field(default_factory=set)

    def associate(self, tracker: Tracker, detections: Detections) -> Tracks:
        """Update the tracker and take the time."""
        before = time.perf_counter()
        tracks = tracker.update(detections)
        self.association += time.perf_counter() - before
        self.frames += 1
        self.detections += len(detections)
        self.ids.update(tracks.track_id.tolist())
        return tracks

    def detect(self, engine: Engine, frame: Frame) -> Detections:
        """Run the engine and take the time."""
        before = time.perf_counter()
        detections = engine(frame.image)
        self.network += time.perf_counter() - before
        return detections

    def rate(self) -> str:
        """Return the frames per second so far."""
        return f"{self.frames / max(time.perf_counter() - self.started, 1e-9):.1f} fps"

    def summary(self, files: Sequence[Path], truncated: str | None, interrupted: bool) -> TrackSummary:
        """Freeze the numbers."""
        seconds = time.perf_counter() - self.started
        return TrackSummary(
            self.frames,
            seconds,
            self.network,
            self.association,
            self.detections,
            len(self.ids),
            tuple(files),
            truncated,
            interrupted,
        )


class _Outputs:
    """The files of one job, opened together so that a bad path is known before the first frame is decoded."""

    def __init__(
        self,
        stack: ExitStack,
        mot_path: Path | str | None,
        jsonl_path: Path | str | None = None,
        video_path: Path | str | None = None,
        classes: tuple[str, ...] = (),
        frame_rate: float = 0.0,
    ) -> None:
        self._mot = stack.enter_context(MotWriter(mot_path)) if mot_path is not None else None
        self._jsonl = stack.enter_context(JsonLinesWriter(jsonl_path, classes)) if jsonl_path is not None else None
        self._video = None
        if video_path is not None:
            from tdtrack.output.video import OverlayVideoWriter  # here, for saved detections need no video library

            self._video = stack.enter_context(OverlayVideoWriter(video_path, frame_rate=frame_rate, classes=classes))

    def write(self, tracks: Tracks, seconds: float, frame: Frame | None) -> None:
        """Write one frame's tracks; a frame that could not be read has no picture."""
        if self._mot is not None:
            self._mot.write(tracks)
        if self._jsonl is not None:
            self._jsonl.write(tracks, seconds)
        if self._video is not None and frame is not None:
            self._video.write_tracks(frame.image, tracks)

    def files(self) -> list[Path]:
        """Return what is on disk after closing; a video without a frame is not."""
        made = [writer.path for writer in (self._mot, self._jsonl) if writer is not None]
        if self._video is not None and self._video.frames > 0:
            made.append(self._video.path)
        return made


def track_source(
    source: VideoSource,
    engine: Engine,
    tracker: Tracker,
    *,
    mot_path: Path | str | None = None,
    jsonl_path: Path | str | None = None,
    video_path: Path | str | None = None,
    progress: bool = True,
    max_frames: int | None = None,
    on_frame: FrameCallback | None = None,
) -> TrackSummary:
    """Track a source from its first frame on.

    Frames are decoded ahead in a thread; detection, association and writing keep their order. On Ctrl-C the files are
    finished with the frames so far; on an error no file is left under its name.

    Args:
        source: frames; closed at the end.
        engine: detects in each frame.
        tracker: links; it is reset first, so ids start at 1 and frames at 0.
        mot_path: MOT text file to write.
        jsonl_path: JSON lines file to write, one line per frame.
        video_path: annotated H.264 video to write, a frame for each one that could be read.
        progress: show a bar on the error stream.
        max_frames: stop after so many frames.
        on_frame: called after each frame with the frame, what was detected in it and its tracks; they are its to keep.

    Returns:
        Counts and rates, and why the source ended early if it did.

    Raises:
        OutputError: a file cannot be written.
        ConfigError: ``max_frames`` is below 1.
    """
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"max_frames is {max_frames}; it must be at least 1")
    tracker.reset()
    counter = _Counter()
    interrupted = False
    with ExitStack() as stack:
        stack.callback(source.close)
        interrupt = stack.enter_context(Interrupt())
        frames = stack.enter_context(ReadAhead(source, interrupt, max_frames=max_frames))
        outputs = _Outputs(stack, mot_path, jsonl_path, video_path, engine.classes, source.frame_rate)
        bar = stack.enter_context(_bar(progress))
        total = source.length if max_frames is None else min(max_frames, source.length or max_frames)
        task = bar.add_task(f"track {source.name}", total=total, rate="")
        try:
            for frame in frames:
                for missing in range(counter.frames, frame.index):
                    unseen = counter.associate(tracker, Detections.empty(engine.embedding_dim))
                    outputs.write(unseen, missing / source.frame_rate, None)
                detections = counter.detect(engine, frame)
                tracks = counter.associate(tracker, detections)
                outputs.write(tracks, frame.seconds, frame)
                if on_frame is not None:
                    on_frame(frame, detections, tracks)
                bar.update(task, advance=1, rate=counter.rate())
        except KeyboardInterrupt:
            interrupted = True
        interrupted = interrupted or interrupt.requested
    return counter.summary(outputs.files(), source.truncated, interrupted)


def track_detections(
    detections: Sequence[Detections],
    tracker: Tracker,
    mot_path: Path | str | None = None,
    *,
    offline: bool = False,
    progress: bool = False,
) -> TrackSummary:
    """Track saved detections.

    Args:
        detections: one record per frame, in order.
        tracker: links; it is reset first.
        mot_path: MOT text file to write.
        offline: link and fill the finished tracks before they are written (``tdtrack.association.offline``).
        progress: show a bar on the error stream.

    Returns:
        Counts and rates; an interruption by Ctrl-C leaves the frames so far in the file.

    Raises:
        ShapeError: the tracker needs embeddings and a frame has none; names the frame.
        OutputError: the file cannot be written.
    """
    tracker.reset()
    counter = _Counter()
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        outputs = _Outputs(stack, mot_path)
        bar = stack.enter_context(_bar(progress))
        task = bar.add_task("track", total=len(detections), rate="")
        finished: list[Tracks] = []
        for index, found in enumerate(detections):
            if interrupt.requested:
                break
            try:
                tracks = counter.associate(tracker, found)
            except ShapeError as error:
                raise ShapeError(f"frame_index {index}: {error}") from error
            finished.append(tracks)
            if not offline:
                outputs.write(tracks, index / tracker.frame_rate, None)
            bar.update(task, advance=1, rate=counter.rate())
        if offline:
            finished = refine(finished, detections[: len(finished)], tracker.frame_rate)
            counter.ids = {track_id for tracks in finished for track_id in tracks.track_id.tolist()}
            for index, tracks in enumerate(finished):
                outputs.write(tracks, index / tracker.frame_rate, None)
    return counter.summary(outputs.files(), None, interrupt.requested)


def _bar(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )
