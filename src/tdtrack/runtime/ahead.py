"""Stages of a job that run beside each other, and stopping cleanly on Ctrl-C."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["Ahead", "Behind", "Interrupt"]

Item = TypeVar("Item")

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
    """The last thing in a queue: there is no more, or something failed."""

    error: BaseException | None


class Ahead(Generic[Item]):
    """Takes items from an iterable in a thread of its own, a few ahead of who wants them.

    The queue is bounded: a slow consumer holds the iterable back, so memory is bounded too. Where only the present counts,
    ``latest`` drops what waits instead. Leaving the ``with`` block stops the thread and ends the iteration.

    Attributes:
        dropped: items that nobody got, because a later one was there.
    """

    def __init__(
        self,
        items: Iterable[Item],
        interrupt: Interrupt,
        *,
        name: str,
        limit: int | None = None,
        ahead: int = 8,
        latest: bool = False,
    ) -> None:
        """Prepare; the thread starts with the ``with`` block.

        Args:
            items: where they come from; nobody else may use it until the block ends.
            interrupt: its request ends the iteration.
            name: of the thread.
            limit: stop after so many items; ``None`` takes all.
            ahead: how many items may wait.
            latest: only the newest item waits.
        """
        self.dropped = 0
        self._items = items
        self._interrupt = interrupt
        self._limit = limit
        self._latest = latest
        self._queue: queue.Queue[Item | _Ended] = queue.Queue(maxsize=1 if latest else ahead)
        self._stopping = False
        self._thread = threading.Thread(target=self._take, name=f"tdtrack-{name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in order; an error of the iterable is raised here, after the items before it."""
        while not (self._interrupt.requested or self._stopping):
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if not isinstance(item, _Ended):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return

    def _take(self) -> None:
        """Fill the queue: the thread's work."""
        error: BaseException | None = None
        try:
            if self._limit is None or self._limit > 0:
                for count, item in enumerate(self._items, start=1):
                    if self._latest:
                        self._drop_waiting()
                    if not self._put(item) or count == self._limit:
                        break
        except BaseException as caught:  # whatever it is, it belongs to the thread that waits for items
            error = caught
        self._put(_Ended(error))

    def _drop_waiting(self) -> None:
        with suppress(queue.Empty):
            self._queue.get_nowait()
            self.dropped += 1

    def _put(self, item: Item | _Ended) -> bool:
        """Wait for room in the queue; return False when nobody wants the item any more."""
        while not self._stopping:
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


class Behind(Generic[Item]):
    """Works through items in a thread of its own, a few behind who gives them.

    The queue is bounded: :meth:`put` waits while the work is behind. Leaving the ``with`` block waits for the rest; an
    error cancels it. An error of the work is raised by the next :meth:`put`, or on leaving.
    """

    def __init__(self, work: Callable[[Item], None], *, name: str, behind: int = 8) -> None:
        """Prepare; the thread starts with the ``with`` block.

        Args:
            work: called with each item in order.
            name: of the thread.
            behind: how many items may wait.
        """
        self._work = work
        self._queue: queue.Queue[Item | _Ended] = queue.Queue(maxsize=behind)
        self._error: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"tdtrack-{name}", daemon=True)

    def put(self, item: Item) -> None:
        """Hand over an item, waiting for room."""
        self._wait_for_room(item)
        self._raise_error()

    def _wait_for_room(self, item: Item | _Ended) -> None:
        while self._error is None:
            with suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_SECONDS)
                return

    def _run(self) -> None:
        while not self._stopping:
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, _Ended):
                return
            try:
                self._work(item)
            except BaseException as caught:  # it belongs to the thread that gives items
                self._error = caught
                return

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._wait_for_room(_Ended(None))
        else:
            self._stopping = True
        self._thread.join()
        if error is None:
            self._raise_error()
