"""Writes many small pictures without waiting for the disk after each."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image as PilImage

from tdtrack.files import atomic_write
from tdtrack.types import Image

__all__ = ["PictureWriter"]

_THREADS = 6
_MAX_WAITING = 48


class PictureWriter:
    """Writes JPEG files, each whole or not at all, while the caller draws the next.

    A context manager; at its end all pictures are on the disk.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS)
        self._waiting: deque[Future[None]] = deque()

    def write(self, path: Path, image: Image, quality: int) -> None:
        """Write one picture soon.

        Args:
            path: the file.
            image: the picture; it is encoded before this returns.
            quality: of the JPEG file, 1 to 95.

        Raises:
            OutputError: this picture or an earlier one cannot be written.
        """
        buffer = io.BytesIO()
        PilImage.fromarray(image).save(buffer, "JPEG", quality=quality)
        self._waiting.append(self._pool.submit(_write, path, buffer.getvalue()))
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            for future in self._waiting:
                future.result()


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path, "wb") as file:
        file.write(content)
