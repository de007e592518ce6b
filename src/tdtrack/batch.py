"""Tracking many videos: here or on Ray, resumable, and one bad video costs one video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

from tdtrack.errors import ConfigError, MediaError
from tdtrack.files import reason_of
from tdtrack.jobs.manifest import MANIFEST_FILE, Manifest
from tdtrack.jobs.pool import Failure, RayCluster, run_here, run_on_ray
from tdtrack.runtime.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tdtrack.runtime.summary import TrackSummary
from tdtrack.track import TrackRequest, load_models, refuse_contradictions, refuse_replacing, result_files, track_one

__all__ = ["find_videos", "holds_videos", "track_many"]

_SEQUENCE = ("seqinfo.ini", "img1")
"""A MOT sequence has one of these or both: MOT15 is published without the first."""

_NOT_THE_RESULT = frozenset({"out", "source", "detections"})  # of a request


def holds_videos(source: str, out: str) -> bool:
    """Tell whether a source is a folder of videos or sequences, and not itself a folder of frames or a sequence.

    Args:
        source: as for ``find_videos``.
        out: the result folder; what lies in it is no source.
    """
    return bool(_below(Path(source), Path(out).resolve()))


def find_videos(sources: Sequence[str], out: str) -> dict[str, str]:
    """Find the videos of a job and give each result a name.

    Args:
        sources: videos, image folders, MOT sequences, and folders that hold videos or sequences at any depth.
        out: the result folder; what lies in it is no source.

    Returns:
        Places by name. A name is the file's without its suffix; below a folder, with the folders in between. Names that
        would meet each other, or the job's account, keep the suffix.

    Raises:
        MediaError: a folder cannot be read.
        ConfigError: a source is a camera or stream, a folder holds videos and images side by side or its videos in the result
            folder, or two have the same name.
    """
    found: list[tuple[str, Path]] = []
    for source in sources:
        path = Path(source)
        if "://" in source or (source.isdigit() and not path.exists()):
            raise ConfigError(f"{source} is a camera or stream, which has no end; track it alone")
        below = _below(path, Path(out).resolve())
        found += [(child.relative_to(path).as_posix(), child) for child in below] or [(path.resolve().name, path)]
    short = [_without_suffix(name, path) for name, path in found]
    names = [name if short.count(cut) > 1 else cut for cut, (name, _) in zip(short, found)]
    videos: dict[str, str] = {}
    for name, (_, path) in zip(names, found):
        if name in videos:
            raise ConfigError(f"{videos[name]} and {path} would both leave results called {name}; name a folder above both")
        videos[name] = str(path)
    return videos


def _below(folder: Path, out: Path) -> list[Path]:
    """Return videos and sequences at any depth, hidden ones and results left out; none in what is itself a source."""
    try:
        if not folder.is_dir() or any((folder / name).exists() for name in _SEQUENCE):
            return []
        frames = any(map(_is_frame, folder.iterdir()))
        paths = sorted(folder.iterdir() if frames else folder.rglob("*"))
    except OSError as error:
        raise MediaError(f"{folder}: the folder cannot be read ({reason_of(error)}); check its permissions") from error
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    sequences = dict.fromkeys(path.parent for path in visible if path.name in _SEQUENCE)
    found = [*sequences, *(path for path in visible if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())]
    kept = [path for path in found if not path.resolve().is_relative_to(out)]
    if frames and kept:
        raise ConfigError(
            f"{folder} holds images and {len(kept)} videos, first {kept[0].name}; name the videos to track them, "
            "or move one or the other into a folder of its own"
        )
    if found and not kept and not frames:
        raise ConfigError(f"{folder}: its {len(found)} videos lie in the result folder {out}; choose another --out")
    return kept


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _without_suffix(name: str, path: Path) -> str:
    short = name if path.is_dir() else name.removesuffix(path.suffix)
    return name if f"{short.lower()}.jsonl" == MANIFEST_FILE else short


@dataclass(frozen=True, slots=True)
class _Video:
    """One video of a job; size in bytes and time of change tell whether it is still the one whose results lie there.

    Those of a folder of frames are the sum and the latest.
    """

    name: str
    place: str
    size: int | None
    modified: int | None

    @classmethod
    def at(cls, name: str, place: str) -> _Video:
        path = Path(place)
        files = filter(_is_frame, path.rglob("*")) if path.is_dir() else iter([path])
        known = [file.stat() for file in files if file.is_file()]
        if not known:
            return cls(name, place, None, None)
        return cls(name, place, sum(status.st_size for status in known), max(status.st_mtime_ns for status in known))


def track_many(
    request: TrackRequest, videos: Mapping[str, str], overrides: dict[str, Any], cluster: RayCluster | None = None
) -> Iterator[dict[str, Any]]:
    """Track videos, and keep account in ``manifest.jsonl`` in the result folder.

    Called again with the same settings, it goes on: videos whose results are there are left alone, unless the video has
    changed; failed ones are tried again. Results and, at the end, the manifest are the same bytes wherever the videos were
    tracked, as far as the engine computes the same: torch's numbers on a CPU depend on the number of its threads.

    Args:
        request: how; its source counts for nothing.
        videos: places by name, as ``find_videos`` or ``sequence_folders`` give them.
        overrides: settings of ``AssociationConfig`` by name.
        cluster: run on Ray; ``None`` tracks in this process, one after the other.

    Yields:
        The manifest's entry of each video: those that were there first, the others as they finish. ``status`` is ``done`` or
        ``failed``, ``error`` says why, ``truncated`` why a video that was tracked gave fewer frames than it promised.

    Raises:
        ConfigError: the result folder holds a job with other settings, results would replace a video, or the request
            contradicts itself.
        OutputError, WeightsError, MissingExtraError: as ``run_track`` says; what is done stays done.
        KeyboardInterrupt: the user stopped the job; the same call goes on.
    """
    refuse_contradictions(request)
    if cluster is not None and request.enroll:
        raise ConfigError("--enroll lets every video add to one gallery, in order; leave --engine ray out")
    settings = {field.name: getattr(request, field.name) for field in fields(request) if field.name not in _NOT_THE_RESULT}
    results = [path for name in videos for path in result_files(request, name).values()]
    account = Path(request.out) / MANIFEST_FILE
    if any(path.parent == account.parent and path.name.lower() == account.name for path in results):
        raise ConfigError(f"results of a video of that name would be written over {account}, the job's account; rename it")
    refuse_replacing(videos.values(), results)
    settings |= {name: _digest(getattr(request, name)) for name in ("model", "teacher", "weights")} | {"tracker": overrides}
    manifest = Manifest(account, settings)
    try:
        waiting = []
        for video in [_Video.at(name, place) for name, place in videos.items()]:
            entry = manifest.entries.get(video.name)
            if entry is not None and _is_done(entry, video, Path(request.out)):
                yield entry
            else:
                waiting.append(video)
        prepare = partial(_prepare, request, overrides, cluster is None)
        outcomes = run_here(waiting, prepare) if cluster is None else run_on_ray(waiting, prepare, cluster)
        with closing(outcomes):
            for video, outcome in outcomes:
                entry = _entry(video, outcome, Path(request.out))
                manifest.record(entry)
                yield entry
    finally:
        manifest.close()


def _digest(network: str | None) -> str | None:
    """Return what changes whenever a network's file does; the name of one that is known by name."""
    if network is None:
        return None
    path = Path(network)
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        return network
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()


def _is_done(entry: Mapping[str, Any], video: _Video, out: Path) -> bool:
    same = (entry.get("size"), entry.get("modified")) == (video.size, video.modified)
    return same and entry["status"] == "done" and all((out / name).is_file() for name in entry["files"])


def _prepare(request: TrackRequest, overrides: dict[str, Any], progress: bool) -> Callable[[_Video], TrackSummary]:
    """Load the models once for all videos of a process."""
    return partial(_track, request, overrides, load_models(request, overrides), progress)


def _track(request: TrackRequest, overrides: dict[str, Any], loaded: Any, progress: bool, video: _Video) -> TrackSummary:
    summary = track_one(request, video.place, loaded, overrides, name=video.name, progress=progress)
    if summary.interrupted:
        raise KeyboardInterrupt
    return summary


def _entry(video: _Video, outcome: TrackSummary | Failure, out: Path) -> dict[str, Any]:
    """Return what the manifest keeps: nothing that changes from run to run."""
    if isinstance(outcome, Failure):
        return asdict(video) | {"status": "failed", "error": outcome.reason, "files": []}
    return asdict(video) | {
        "status": "done",
        "frames": outcome.frames,
        "detections": outcome.detections,
        "tracks": outcome.tracks,
        "engine": outcome.engine,
        "truncated": outcome.truncated,
        "files": [path.relative_to(out).as_posix() for path in outcome.files if path.is_relative_to(out)],
    }
