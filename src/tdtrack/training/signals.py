"""Stopping between two iterations and not inside one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest", "ignore_interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remember Ctrl-C or a termination request while the block runs, so that the loop can end at a whole iteration.

    A second request is not held back: it acts as it would without this. Outside the main thread nothing is caught.

    Attributes:
        received: true once a request has come.
    """

    def __init__(self) -> None:
        """Catch nothing yet; entering the block does."""
        self.received = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        """Start to catch requests."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def _remember(self, *_: int | FrameType | None) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let requests act again as before."""
        self._restore()


def ignore_interrupts(worker: int) -> None:  # noqa: ARG001
    """Keep a loader process alive on Ctrl-C, which a terminal sends to it too; the training process ends it in order.

    Args:
        worker: number of the loader process, which the loader passes and nothing here needs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
