"""Tracks as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tdtrack.errors import OutputError
from tdtrack.files import atomic_write, reason_of
from tdtrack.types import Tracks

__all__ = ["JsonLinesWriter", "readable_json"]


def readable_json(content: object, *, indent: int | None = None) -> str:
    """Return JSON that keeps letters as they are, and escapes what no encoding has: names of files may hold it.

    Args:
        content: what JSON can hold.
        indent: as of ``json.dumps``.
    """
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half a letter becomes JSON's own escape for it


class JsonLinesWriter:
    """Writes one JSON object per frame, also for a frame without tracks.

    ``{"frame_index": 0, "seconds": 0.0, "tracks": [{"id": 1, "xyxy": [x1, y1, x2, y2], "score": 0.9, "class": "person"}]}``:
    frames count from 0, ``seconds`` is ``null`` where the source has no clock, boxes are corners in pixels of the frame
    (three decimals, scores four), and the class is its name, or its number where no names are known. A track that is known
    to be somebody also has ``"name": "Anna"``.

    The file appears under its name when the writer is closed, or its ``with`` block ends without an error.
    """

    def __init__(self, path: Path | str, classes: Sequence[str] = ()) -> None:
        """Open the file.

        Args:
            path: file to write; missing parent folders are made.
            classes: class names in the order of class ids; empty to write the ids.

        Raises:
            OutputError: the file cannot be written.
        """
        self.path = Path(path)
        self.classes = tuple(classes)
        self._stack = ExitStack()
        self._file = self._stack.enter_context(atomic_write(self.path))

    def write(self, tracks: Tracks, seconds: float | None = None, names: Mapping[int, str] | None = None) -> None:
        """Append one frame.

        Args:
            tracks: tracks of the frame.
            seconds: time of the frame from the start of the video, where known.
            names: of tracks, by id, as far as they are known.

        Raises:
            OutputError: the writer is closed, or the system refuses.
        """
        if self._file.closed:
            raise OutputError(f"cannot write frame {tracks.frame_index} to {self.path}: the writer is closed")
        known = names or {}
        rows = [
            {"id": int(track_id), "xyxy": [round(float(side), 3) for side in xyxy], "score": round(float(score), 4)}
            | {"class": self._class(int(class_id))}
            | ({"name": known[int(track_id)]} if int(track_id) in known else {})
            for track_id, xyxy, score, class_id in zip(tracks.track_id, tracks.xyxy, tracks.score, tracks.class_id)
        ]
        clock = None if seconds is None else round(float(seconds), 6)
        line = readable_json({"frame_index": int(tracks.frame_index), "seconds": clock, "tracks": rows})
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {reason_of(error)}") from error

    def _class(self, class_id: int) -> str | int:
        return self.classes[class_id] if 0 <= class_id < len(self.classes) else class_id

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
