"""Frames out of ``.seq`` videos, the container of the Caltech pedestrian data."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tdtrack.errors import DataError
from tdtrack.files import atomic_write, reason_of

__all__ = ["read_seq", "unpack_caltech"]

_HEADER = struct.Struct("<I24s2i512s9id432x")
_MAGIC = 0xFEED
_KINDS = {102: (".jpg", b"\xff\xd8"), 201: (".jpg", b"\xff\xd8"), 1: (".png", b"\x89PNG"), 2: (".png", b"\x89PNG")}
_GAPS = (8, 16, 4, 12)  # bytes of time stamp and padding after a frame, by version of the writer
_MAX_FRAME_BYTES = 64_000_000


def read_seq(path: Path) -> Iterator[tuple[str, bytes]]:
    """Read the frames of a ``.seq`` video one by one.

    Args:
        path: a file of JPEG or PNG frames.

    Yields:
        Each frame's ending (``".jpg"``) and its bytes, which are those of an image file.

    Raises:
        DataError: the file is no such video, its frames are not compressed, or it is cut short; names the frame.

    Source:
        The header as public readers of the format have it. Writers leave 8 or 16 bytes between frames without saying which, so
        the next frame is looked for by its own first bytes.
    """
    try:
        with path.open("rb") as file:
            yield from _frames(file, path)
    except OSError as error:
        raise DataError(f"{path}: cannot read the video: {reason_of(error)}") from error


def unpack_caltech(root: Path | str, out: Path | str | None = None, *, every: int = 1) -> tuple[int, int]:
    """Write the frames of Caltech's videos as image files, where ``read_caltech`` looks for them.

    Files that exist are kept, so an interrupted run goes on; memory holds one frame at a time.

    Args:
        root: the data set's folder, with ``set00/V000.seq`` in it or in its ``videos``.
        out: folder for ``set00/V000/I00000.jpg`` and so on; ``None`` is ``images`` in ``root``.
        every: take every N-th frame, the last of each stretch as the benchmark does: 30 gives frames 29, 59, ...

    Returns:
        Number of videos, and of frames written.

    Raises:
        DataError: there are no videos, or one is damaged.
        OutputError: a frame cannot be written.
    """
    root = Path(root)
    videos = sorted([*root.glob("set[0-9][0-9]/V[0-9][0-9][0-9].seq"), *root.glob("videos/set[0-9][0-9]/V[0-9][0-9][0-9].seq")])
    if not videos:
        raise DataError(f"{root}: no set00/V000.seq here or in videos/; unpack the data set's .tar files first")
    written = 0
    for video in videos:
        folder = Path(out or root / "images") / video.parent.name / video.stem
        for index, (suffix, content) in enumerate(read_seq(video)):
            target = folder / f"I{index:05d}{suffix}"
            if (index + 1) % every == 0 and not target.exists():
                with atomic_write(target, "wb") as file:
                    file.write(content)
                written += 1
    return len(videos), written


def _frames(file: IO[bytes], path: Path) -> Iterator[tuple[str, bytes]]:
    size = os.fstat(file.fileno()).st_size
    head = file.read(_HEADER.size)
    fields = _HEADER.unpack(head) if len(head) == _HEADER.size else None
    if fields is None or fields[0] != _MAGIC:
        raise DataError(f"{path}: not a .seq video: it does not begin with the format's own header")
    image_format, count = fields[10], fields[11]
    if image_format not in _KINDS:
        raise DataError(f"{path}: frames of format {image_format} are not JPEG or PNG; Caltech's videos are JPEG")
    if not 0 < count < size:
        raise DataError(f"{path}: claims {count} frames in {size} bytes; the header is damaged")
    suffix, begin = _KINDS[image_format]
    position = _HEADER.size
    for index in range(count):
        if index:
            position = _next_frame(file, position, begin)
        length = _length_at(file, position, begin)
        if length is None or position + length > size:
            raise DataError(f"{path}: frame {index} of {count} is missing or damaged; fetch the video again")
        file.seek(position + 4)
        yield suffix, file.read(length - 4)
        position += length


def _length_at(file: IO[bytes], position: int, begin: bytes) -> int | None:
    """Return the length of the frame at a position, the four bytes of the length included; ``None`` where there is none."""
    file.seek(position)
    head = file.read(4 + len(begin))
    length = int.from_bytes(head[:4], "little")
    return length if head[4:] == begin and 4 + len(begin) < length < _MAX_FRAME_BYTES else None


def _next_frame(file: IO[bytes], end: int, begin: bytes) -> int:
    return next((end + gap for gap in _GAPS if _length_at(file, end + gap, begin) is not None), end)
