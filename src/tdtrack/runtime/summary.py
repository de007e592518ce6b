"""What came of a tracking job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tdtrack.runtime.live import Outage

__all__ = ["TrackSummary"]


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """What came of a tracking job.

    Attributes:
        frames: tracked, those of which nothing was seen included.
        seconds: wall clock for everything, decoding and writing included; less than the parts together, which overlap.
        network_seconds: time in the engine; 0 with saved detections.
        association_seconds: time in the tracker, and in following the camera.
        detections: in all frames together, as the tracker got them.
        tracks: different ids.
        files: what was written.
        dropped: frames of a live source that nobody looked at, because a later one was there.
        engine: what detected, where it says so.
        truncated: why the source gave fewer or damaged frames; ``None`` when all is well.
        interrupted: Ctrl-C ended it early; the files hold the frames until then.
        camera_moved: frames into which the camera moved; 0 where nobody looked at its motion.
        outages: times without frames of a camera or stream, the last thousand.
    """

    frames: int
    seconds: float
    network_seconds: float
    association_seconds: float
    detections: int
    tracks: int
    files: tuple[Path, ...] = ()
    dropped: int = 0
    engine: str | None = None
    truncated: str | None = None
    interrupted: bool = False
    camera_moved: int = 0
    outages: tuple[Outage, ...] = ()

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
        lines += [f"engine: {self.engine}"] if self.engine is not None else []
        lines += [f"the camera moved into {self.camera_moved} of them"] if self.camera_moved else []
        lines += [f"{self.dropped} frames came faster than they could be tracked and were dropped"] if self.dropped else []
        lines += [f"wrote {path}" for path in self.files]
        if self.outages:
            total, longest = sum(outage.seconds for outage in self.outages), max(outage.seconds for outage in self.outages)
            lines.append(f"the source was away {len(self.outages)} times, {total:.1f} s together, {longest:.1f} s at most")
        if self.truncated is not None:
            lines.append(f"the source is incomplete: {self.truncated}; what it holds was tracked")
        if self.interrupted:
            lines.append(f"interrupted after {self.frames} frames; the files hold these")
        return lines
