"""Decoding ahead of the network, and stopping cleanly on Ctrl-C."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

from tdtrack.runtime.frames import Frame, VideoSource

__all__ = ["Interrupt", "ReadAhead"]

_POLL_SECONDS = 0.1  # how soon a waiting thread notices that it should stop


class Interrupt:
    """Turns the first Ctrl-C into a request, so that no file ends in the middle of a frame.

    A second Ctrl-C interrupts at once. Outside the main thread, where Python takes no signals, it changes nothing.

    Attributes:
        requested: Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._former: Any = None
        self._installed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._request)
            self._installed = True
        return self

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._installed:
            # None stands for a handler that was not set from Python and cannot be put back.
            signal.signal(signal.SIGINT, signal.default_int_handler if self._former is None else self._former)
            self._installed = False


@dataclass(frozen=True, slots=True)
class _Ended:
    """The last thing in the queue: the source is at its end, or failed."""

    error: BaseException | None


class ReadAhead:
    """Reads a source in a thread of its own, a few frames ahead.

    The queue is bounded: a slow reader holds the source back, so memory is too. Leaving the ``with`` block stops the thread.
    """

    def __init__(self, source: VideoSource, interrupt: Interrupt, *, max_frames: int | None = None, ahead: int = 8) -> None:
        """Prepare; reading starts with the ``with`` block.

        Args:
            source: where frames come from; nobody else may use it until the block ends.
            interrupt: its request ends the iteration.
            max_frames: stop after so many frames; ``None`` reads all.
            ahead: how many decoded frames may wait.
        """
        self._source = source
        self._interrupt = interrupt
        self._max_frames = max_frames
        self._queue: queue.Queue[Frame | _Ended] = queue.Queue(maxsize=ahead)
        self._stopping = False
        self._thread = threading.Thread(target=self._read, name="tdtrack-read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        self._thread.join()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order; an error of the source is raised here, after the frames before it."""
        while not self._interrupt.requested:
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, Frame):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return

    def _read(self) -> None:
        """Fill the queue: the thread's work."""
        error: BaseException | None = None
        try:
            if self._max_frames is None or self._max_frames > 0:
                for count, frame in enumerate(self._source, start=1):
                    if not self._put(frame) or count == self._max_frames:
                        break
        except BaseException as caught:  # whatever it is, it belongs to the thread that waits for frames
            error = caught
        self._put(_Ended(error))

    def _put(self, item: Frame | _Ended) -> bool:
        """Wait for room in the queue; return False when nobody wants the item any more."""
        while not self._stopping:
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
