"""The tracking loop: frames in, tracks out, onto disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tdtrack.association import Tracker
from tdtrack.association.kalman import Floats
from tdtrack.association.offline import refine
from tdtrack.errors import ConfigError, OutputError, ShapeError
from tdtrack.output.jsonl import JsonLinesWriter
from tdtrack.output.mot import MotWriter
from tdtrack.runtime.ahead import Ahead, Behind, Interrupt
from tdtrack.runtime.camera_motion import CameraMotion
from tdtrack.runtime.engine import BatchEngine, Engine, FittedFrame
from tdtrack.runtime.frames import Frame, VideoSource
from tdtrack.runtime.live import LiveSource
from tdtrack.runtime.spool import DetectionSpool
from tdtrack.runtime.summary import TrackSummary
from tdtrack.types import Detections, Tracks

__all__ = ["TrackSummary", "track_detections", "track_source"]

FrameCallback = Callable[[Frame, Detections, Tracks], None]
Naming = Callable[[Detections, Tracks], Mapping[int, str]]

_DETECTED_AHEAD = 2  # enough that the network never waits; each holds a frame
_WRITTEN_BEHIND = 4
_EVEN = 0.5
"""How far, in frames, a time stamp may be from where the frame rate has it; those of most files are rounded."""


@dataclass(slots=True)
class _Counter:
    """The numbers of a summary while they grow."""

    started: float = field(default_factory=time.perf_counter)
    frames: int = 0
    detections: int = 0
    network: float = 0.0
    association: float = 0.0
    moved: int = 0
    ids: set[int] = field(default_factory=set)

    def follow(self, camera: CameraMotion | None, frame: Frame, objects: Detections) -> Floats | None:
        """Say how the camera moved to this frame, and take the time."""
        if camera is None:
            return None
        before = time.perf_counter()
        moved = camera.advance(frame.image, objects.xyxy)
        self.association += time.perf_counter() - before
        self.moved += moved is not None
        return moved

    def associate(
        self, tracker: Tracker, detections: Detections, elapsed: float | None = None, camera: Floats | None = None
    ) -> Tracks:
        """Update the tracker and take the time."""
        before = time.perf_counter()
        tracks = tracker.update(detections, elapsed=elapsed, camera=camera)
        self.association += time.perf_counter() - before
        self.frames += 1
        self.detections += len(detections)
        self.ids.update(tracks.track_id.tolist())
        return tracks

    def rate(self) -> str:
        """Return the frames per second so far."""
        return f"{self.frames / max(time.perf_counter() - self.started, 1e-9):.1f} fps"

    def summary(
        self, files: Sequence[Path], truncated: str | None, interrupted: bool, *, dropped: int = 0, engine: str | None = None
    ) -> TrackSummary:
        """Freeze the numbers."""
        return TrackSummary(
            frames=self.frames,
            seconds=time.perf_counter() - self.started,
            network_seconds=self.network,
            association_seconds=self.association,
            camera_moved=self.moved,
            detections=self.detections,
            tracks=len(self.ids),
            files=tuple(files),
            dropped=dropped,
            engine=engine,
            truncated=truncated,
            interrupted=interrupted,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """What is written of one frame; one that could not be read has no picture."""

    tracks: Tracks
    seconds: float
    frame: Frame | None
    names: Mapping[int, str] = field(default_factory=dict)


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

    def write(self, result: _Result) -> None:
        """Write one frame's tracks."""
        if self._mot is not None:
            self._mot.write(result.tracks)
        if self._jsonl is not None:
            self._jsonl.write(result.tracks, result.seconds, result.names)
        if self._video is not None and result.frame is not None:
            self._video.write_tracks(result.frame.image, result.tracks, result.names)

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
    batch_size: int = 1,
    on_frame: FrameCallback | None = None,
    naming: Naming | None = None,
    camera: CameraMotion | None = None,
    spool: DetectionSpool | None = None,
) -> TrackSummary:
    """Track a source from its first frame on.

    Decoding, detection, association and writing run beside each other and keep the order of frames; queues between them are
    short, so the slowest holds the others back and memory stays bounded. Of a live source the network always takes the newest
    frame: the ones it missed are dropped and counted, and the tracker is told how much time they took. On Ctrl-C the files are
    finished with the frames so far; on an error no file is left under its name.

    Args:
        source: frames; closed at the end.
        engine: detects in each frame.
        tracker: links; it is reset first, so ids start at 1 and frames at 0.
        mot_path: MOT text file to write.
        jsonl_path: JSON lines file to write, one line per frame; none for dropped ones.
        video_path: annotated H.264 video to write, a frame for each one that could be read.
        progress: show a bar on the error stream.
        max_frames: stop after so many frames; of a live source dropped ones do not count.
        batch_size: frames that the network takes at once; of a live source always one.
        on_frame: called after each frame with the frame, what was detected in it and its tracks; they are its to keep.
        naming: called after each frame with what was detected in it and its tracks; returns names of tracks by id, as far as
            they are known by then, for JSON lines and video.
        camera: says how the camera moved from frame to frame; ``None`` takes it to stand still.
        spool: keeps what is detected, and saves looking again at the frames it holds; closed at the end. Not for live sources.

    Returns:
        Counts and rates, and why the source ended early if it did.

    Raises:
        OutputError: a file cannot be written.
        ConfigError: ``max_frames`` or ``batch_size`` is below 1, or the engine takes one frame at a time.
    """
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"max_frames is {max_frames}; it must be at least 1")
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
    if batch_size > 1 and not isinstance(engine, BatchEngine):
        raise ConfigError(f"batch_size is {batch_size}, but this engine takes one frame at a time; leave it at 1")
    tracker.reset()
    counter = _Counter()
    interrupted = False
    with ExitStack() as stack:
        stack.callback(source.close)
        if spool is not None:
            stack.callback(spool.close)
        interrupt = stack.enter_context(Interrupt())
        outputs = _Outputs(stack, mot_path, jsonl_path, video_path, engine.classes, source.frame_rate)
        writing = stack.enter_context(Behind(outputs.write, name="write", behind=_WRITTEN_BEHIND))
        frames = Ahead(
            _fitted(source, engine, 0 if spool is None else len(spool)),
            interrupt,
            name="read",
            limit=None if source.live else max_frames,  # of a live source the frames that are looked at count
            latest=source.live,
        )
        found = _detected(frames, engine, 1 if source.live else batch_size, spool)
        detecting = Ahead(
            found,
            interrupt,
            name="detect",
            ahead=1 if source.live else max(_DETECTED_AHEAD, batch_size),
            limit=max_frames if source.live else None,
        )
        stack.enter_context(detecting)
        stack.enter_context(frames)  # last in, first out: when reading ends, detecting does
        if isinstance(source, LiveSource):
            stack.callback(source.stop)  # else reading would not end while it waits for a camera
        bar = stack.enter_context(_bar(progress))
        total = source.length if max_frames is None else min(max_frames, source.length or max_frames)
        task = bar.add_task(f"track {source.name}", total=total, rate="")
        clock = _Clock(source, tracker, counter, writing, engine.embedding_dim)
        try:
            for frame, detections, seconds in detecting:
                counter.network += seconds
                moved = counter.follow(camera, frame, detections.select(detections.score >= tracker.config.min_score))
                tracks = counter.associate(tracker, detections, clock.advance_to(frame), moved)
                writing.put(_Result(tracks, frame.seconds, frame, naming(detections, tracks) if naming is not None else {}))
                if on_frame is not None:
                    on_frame(frame, detections, tracks)
                bar.update(task, advance=1, rate=counter.rate())
        except KeyboardInterrupt:
            interrupted = True
        interrupted = interrupted or interrupt.requested
    label = getattr(engine, "label", None)
    summary = counter.summary(outputs.files(), source.truncated, interrupted, dropped=frames.dropped, engine=label)
    return replace(summary, outages=tuple(source.outages)) if isinstance(source, LiveSource) else summary


@dataclass(slots=True)
class _Clock:
    """Keeps the tracker's time in step with the source's.

    Attributes:
        position: frame times that have passed, those of missing and dropped frames included.
        looked: time stamp of the last frame, in seconds.
    """

    source: VideoSource
    tracker: Tracker
    counter: _Counter
    writing: Behind[_Result]
    embedding_dim: int | None
    position: int = 0
    looked: float | None = None

    def advance_to(self, frame: Frame) -> float | None:
        """Let the time up to a frame pass; returns the seconds since the last one where the frame rate does not say.

        A numbered sequence that lacks a frame shows nothing there, which counts as seeing nobody. A live source went on while
        nobody looked, so nobody counts as lost; how long says its time stamp, not the number of frames that arrived. Frames
        of a file come at its frame rate unless their time stamps say otherwise: some files have holes, or no even rate.
        """
        if self.source.live:
            return self._advance_live(frame.seconds)
        for missing in range(self.position, frame.index):
            unseen = self.counter.associate(self.tracker, Detections.empty(self.embedding_dim))
            self.writing.put(_Result(unseen, missing / self.source.frame_rate, None))
        before, self.looked = self.looked, frame.seconds
        unwatched = 0.0 if before is None else frame.seconds - before - (frame.index - self.position) / self.source.frame_rate
        self.position = frame.index + 1
        uneven = abs(unwatched * self.source.frame_rate - 1) > _EVEN and unwatched > 0
        return unwatched if uneven else None

    def _advance_live(self, seconds: float) -> float | None:
        now = max(self.position, round(seconds * self.source.frame_rate))
        missed, self.position = now - self.position, now + 1
        before, self.looked = self.looked, seconds
        if before is None or seconds <= before:  # what came before the first look is no time in which a track could move
            return None
        if seconds - before > self.tracker.config.lost_seconds:
            self.tracker.forget()
        self.tracker.skip(missed)
        return seconds - before


def _fitted(source: VideoSource, engine: Engine, known: int) -> Iterator[tuple[Frame, FittedFrame | None]]:
    """Fit frames into the network's input where the engine lets us, beside the network; not those that it will not look at."""
    for number, frame in enumerate(source):
        yield frame, engine.fit(frame.image) if number >= known and isinstance(engine, BatchEngine) else None


def _detected(
    frames: Iterable[tuple[Frame, FittedFrame | None]], engine: Engine, batch_size: int, spool: DetectionSpool | None
) -> Iterator[tuple[Frame, Detections, float]]:
    """Run the engine where the spool does not know; yields each frame with what was found and the seconds it took."""
    rest = iter(frames)
    if spool is not None:
        for (index, known), (frame, _) in zip(spool.replay(), rest):  # in this order no frame is lost when the spool ends
            if index != frame.index:
                raise OutputError(f"{spool.path} holds frame {index}, not {frame.index}; the source has changed: delete it")
            yield frame, known, 0.0
    while group := list(islice(rest, batch_size)):
        before = time.perf_counter()
        if isinstance(engine, BatchEngine):
            found = engine.detect_fitted([fitted for _, fitted in group if fitted is not None])
        else:
            found = [engine(frame.image) for frame, _ in group]
        seconds = (time.perf_counter() - before) / len(group)
        for (frame, _), detections in zip(group, found):
            if spool is not None:
                spool.append(frame.index, detections)
            yield frame, detections, seconds


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
                outputs.write(_Result(tracks, index / tracker.frame_rate, None))
            bar.update(task, advance=1, rate=counter.rate())
        if offline:
            finished = refine(finished, detections[: len(finished)], tracker.frame_rate)
            counter.ids = {track_id for tracks in finished for track_id in tracks.track_id.tolist()}
            for index, tracks in enumerate(finished):
                outputs.write(_Result(tracks, index / tracker.frame_rate, None))
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
