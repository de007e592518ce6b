"""What the network found so far, on disk, so that a killed tracking job does not look at every frame again."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from tdtrack.errors import BusyError, OutputError
from tdtrack.files import reason_of, try_lock
from tdtrack.types import Detections

__all__ = ["DetectionSpool"]

_FORMAT = 1
_HEAD = struct.Struct("<II")  # bytes that follow, and their CRC-32
_COUNTS = struct.Struct("<qqi")  # frame index, detections, width of an embedding or -1


class DetectionSpool:
    """An append-only file of detections, record by record; a record that a kill cut off is dropped.

    Tracking them again gives the same tracks, for association draws no random numbers and numbers are kept bit by bit.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], *, batch_size: int = 1) -> None:
        """Take up what an earlier run left, if it looked at the same frames with the same network; else begin anew.

        Args:
            path: the file; its folder is made if missing.
            key: what the detections depend on: values that JSON can hold.
            batch_size: frames the network takes at once; only whole batches are taken up, so that the next ones fall alike.

        Raises:
            OutputError: the file cannot be written.
            BusyError: another job is writing it.
        """
        self.path = path
        self._frames = 0
        title = json.dumps({"format": _FORMAT, "batch_size": batch_size, **key}, sort_keys=True).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            if not try_lock(self._file):
                raise BusyError(f"{path}: another job is writing these results; wait for it, or choose another --out")
            self._file.seek(0)
            self._start = self._end = _HEAD.size + len(title)
            if _read(self._file) == title:
                self._measure(batch_size)
            else:
                self._file.truncate(0)
                self._put(title)
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {reason_of(error)}") from error

    def __len__(self) -> int:
        """Return how many frames an earlier run has left."""
        return self._frames

    def _measure(self, batch_size: int) -> None:
        """Find the end of the last whole batch."""
        read = 0
        while _read(self._file) is not None:
            read += 1
            if read % batch_size == 0:
                self._frames, self._end = read, self._file.tell()

    def replay(self) -> Iterator[tuple[int, Detections]]:
        """Yield index and detections of each frame that an earlier run has left; nothing else may be done meanwhile."""
        self._file.seek(self._start)
        for _ in range(self._frames):
            content = _read(self._file)
            if content is None:
                raise OutputError(f"{self.path}: changed while it was read; run again")
            yield _unpack(content)
        self._file.seek(self._end)

    def append(self, index: int, detections: Detections) -> None:
        """Keep one more frame.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._put(_pack(index, detections))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {reason_of(error)}") from error

    def _put(self, content: bytes) -> None:
        self._file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
        self._file.flush()  # the system has it, so a kill of this process does not lose it

    def close(self) -> None:
        """Close the file; a later run takes it up."""
        with suppress(OSError):  # of a record that could not be written, which has been said
            self._file.close()

    def discard(self) -> None:
        """Remove the file of a job that is done."""
        self.close()
        self.path.unlink(missing_ok=True)


def _read(file: IO[bytes]) -> bytes | None:
    """Return the next record; ``None`` at the end or where the rest is damaged."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    content = file.read(length)
    return content if len(content) == length and zlib.crc32(content) == checksum else None


def _pack(index: int, found: Detections) -> bytes:
    width = -1 if found.embedding is None else found.embedding.shape[1]
    columns = [found.xyxy, found.score, found.class_id, *([] if found.embedding is None else [found.embedding])]
    return _COUNTS.pack(index, len(found), width) + b"".join(np.ascontiguousarray(column).tobytes() for column in columns)


def _unpack(content: bytes) -> tuple[int, Detections]:
    index, count, width = _COUNTS.unpack_from(content)
    numbers = np.frombuffer(content, np.uint8, offset=_COUNTS.size)
    xyxy, score, class_id, embedding = np.split(numbers, np.cumsum([16 * count, 4 * count, 8 * count]))
    return index, Detections(
        xyxy.view(np.float32).reshape(count, 4).copy(),
        score.view(np.float32).copy(),
        class_id.view(np.int64).copy(),
        None if width < 0 else embedding.view(np.float32).reshape(count, width).copy(),
    )
