"""Tracks as MOTChallenge text."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tdtrack.boxes import xyxy_to_tlwh
from tdtrack.errors import OutputError
from tdtrack.files import atomic_write, reason_of
from tdtrack.types import Tracks

__all__ = ["MotWriter"]


class MotWriter:
    """Writes one row per track and frame: ``frame,id,left,top,width,height,score,-1,-1,-1``, frames counted from 1.

    Pixels and scores have four decimals: finer than any detector, and a tenth of a millipixel never moves an IoU across
    a matching bound. The class is not written; the format's own class column belongs to ground truth.

    The file appears under its name when the writer is closed, or its ``with`` block ends without an error.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the file.

        Args:
            path: file to write; missing parent folders are made.

        Raises:
            OutputError: the file cannot be written.
        """
        self.path = Path(path)
        self._stack = ExitStack()
        self._file = self._stack.enter_context(atomic_write(self.path))

    def write(self, tracks: Tracks) -> None:
        """Append the tracks of one frame, in their order.

        Args:
            tracks: tracks of a frame; a frame without tracks leaves no row.

        Raises:
            OutputError: the writer is closed, or the system refuses.
        """
        if self._file.closed:
            raise OutputError(f"cannot write frame {tracks.frame_index} to {self.path}: the writer is closed")
        tlwh = xyxy_to_tlwh(tracks.xyxy.astype("float64"))
        rows = [
            f"{tracks.frame_index + 1},{track_id},{left:.4f},{top:.4f},{width:.4f},{height:.4f},{score:.4f},-1,-1,-1\n"
            for track_id, (left, top, width, height), score in zip(tracks.track_id, tlwh, tracks.score)
        ]
        try:
            self._file.writelines(rows)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {reason_of(error)}") from error

    def close(self) -> None:
        """Put the finished file in its place; closing twice does nothing.

        Raises:
            OutputError: the system refuses.
        """
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)
