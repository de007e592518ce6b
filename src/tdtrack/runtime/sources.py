"""The door to every source of frames: videos, folders of images, MOT sequences, cameras and streams."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tdtrack.data.mot import find_sequence_folders, read_sequence
from tdtrack.data.reading import IMAGE_SUFFIXES
from tdtrack.errors import ConfigError, DataError, MediaError
from tdtrack.files import reason_of
from tdtrack.runtime.frames import DEFAULT_FRAME_RATE, Frame, ImageSource, VideoSource
from tdtrack.runtime.live import MAX_OUTAGE, LiveSource
from tdtrack.runtime.streams import StreamSource

__all__ = ["DEFAULT_FRAME_RATE", "IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "Frame", "VideoSource", "open_source"]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv"})
"""Endings by which videos are found in a folder; a video that is named may end as it likes."""

_LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "srt", "tcp"})


def open_source(source: str | int | Path, *, frame_rate: float | None = None, max_outage: float = MAX_OUTAGE) -> VideoSource:
    """Open whatever holds frames.

    Args:
        source: a video file; an image file; a folder of images, taken in natural order (``2.jpg`` before ``10.jpg``) and
            turned as their orientation tags say; a MOTChallenge sequence folder, with or without ``seqinfo.ini``, its images as
            they are stored, for its boxes are in stored pixels; a camera number, as a number or as text (``./0`` is a folder of
            that name); or a stream address such as ``rtsp://host/path`` or ``https://host/clip.mp4``.
        frame_rate: frames per second, instead of what the source states; image folders state none and take 30.
        max_outage: seconds a camera or live stream may stay away before it counts as ended; 0 takes any end as the end.

    Returns:
        The source, its size and rate known.

    Raises:
        MediaError: there is no such source, it cannot be read, or it holds no pictures; names it, the reason and the remedy.
        ConfigError: the frame rate is not a positive number, or the outage below 0.
    """
    if frame_rate is not None and not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ConfigError(f"frame_rate is {frame_rate}; it must be a positive number of frames per second")
    if not max_outage >= 0:
        raise ConfigError(f"max_outage is {max_outage}; it must be at least 0 seconds")
    text = str(source)
    if isinstance(source, int) or (isinstance(source, str) and text.isascii() and text.isdigit()):
        return _open_camera(int(source), frame_rate, max_outage)
    if not isinstance(source, Path) and "://" in text:
        return _open_address(text, frame_rate, max_outage)
    path = Path(source)
    try:
        path.stat()
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({reason_of(error)}); check the path and its permissions") from error
    if path.is_dir():
        return _open_sequence(path, frame_rate) if (path / "seqinfo.ini").is_file() else _open_folder(path, frame_rate)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path.stem, [path], frame_rate=frame_rate or DEFAULT_FRAME_RATE)
    return StreamSource(str(path), name=path.stem, label=str(path), frame_rate=frame_rate)


def _open_sequence(folder: Path, frame_rate: float | None) -> VideoSource:
    """Open a MOTChallenge sequence; a gap in the numbers of its files is a gap in time."""
    try:
        sequence = read_sequence(folder)
    except DataError as error:
        raise MediaError(str(error)) from error
    info = sequence.info
    if not sequence.frames:
        raise MediaError(f"{folder}: {info.image_dir} holds no {info.image_ext} images; copy the frames of the sequence there")
    return ImageSource(
        info.name,
        sequence.frames,
        frame_rate=frame_rate or info.frame_rate,
        indices=sequence.frame_index.tolist(),
        length=info.length,
        upright=False,
    )


def _open_folder(folder: Path, frame_rate: float | None) -> VideoSource:
    """Open a folder of images, or a MOTChallenge sequence without ``seqinfo.ini``."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
        if not files and (folder / "img1").is_dir():
            return _open_sequence(folder, frame_rate)
        below = find_sequence_folders(folder)
    except OSError as error:
        raise MediaError(f"{folder}: the folder cannot be read ({reason_of(error)}); check its permissions") from error
    if not files:
        remedy = f"name one of its sequences, for instance {below[0]}" if below else "name a folder that holds the frames"
        raise MediaError(f"{folder}: the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); {remedy}")
    name = folder.resolve().name or "images"
    return ImageSource(name, sorted(files, key=_natural_key), frame_rate=frame_rate or DEFAULT_FRAME_RATE)


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort by the numbers in a name as numbers; the name itself settles ties such as ``1.jpg`` and ``01.jpg``."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], path.name


def _open_camera(number: int, frame_rate: float | None, max_outage: float) -> VideoSource:
    """Open a camera through what the operating system offers."""
    if sys.platform.startswith("linux"):
        address, device = f"/dev/video{number}", "v4l2"
    elif sys.platform == "darwin":
        address, device = str(number), "avfoundation"
    else:
        address, device = str(number), "vfwcap"  # dshow, its successor, knows cameras by name only
    name, label = f"camera-{number}", f"camera {number}"

    def connect() -> VideoSource:
        return StreamSource(address, name=name, label=label, input_format=device, live=True, frame_rate=frame_rate)

    return LiveSource(connect, label, max_outage=max_outage)


def _open_address(address: str, frame_rate: float | None, max_outage: float) -> VideoSource:
    """Open a network stream; user name and password stay out of names and messages."""
    try:
        parts = urlsplit(address)
    except ValueError:
        raise MediaError(
            "the address cannot be read as one (it is not printed for the password in it); write signs such as [ and ] in user "
            "name and password as %5B and %5D"
        ) from None
    host = parts.netloc.rpartition("@")[2]
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(parts.path).stem or host).strip("-") or "stream"
    label = f"{parts.scheme}://{host}{parts.path}"
    live = parts.scheme.lower() in _LIVE_SCHEMES

    def connect() -> VideoSource:
        return StreamSource(address, name=name, label=label, live=live, frame_rate=frame_rate)

    return LiveSource(connect, label, max_outage=max_outage) if live else connect()
