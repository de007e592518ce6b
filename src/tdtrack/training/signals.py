"""Stopping between two iterations and not inside one."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest", "ignore_interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_REQUEST_SECONDS = 5.0  # torchrun and SLURM pass on what they get, to processes that have got it themselves


class StopRequest:
    """Remember Ctrl-C or a termination request while the block runs, so that the loop can end at a whole iteration.

    What comes within five seconds of it is the same request; a later one is not held back and acts as it would without this.
    Outside the main thread nothing is caught.

    Attributes:
        received: true once a request has come.
    """

    def __init__(self) -> None:
        """Catch nothing yet; entering the block does."""
        self.received = False
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        """Start to catch requests."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def _remember(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = True, now
        elif now - self._since > _SAME_REQUEST_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let requests act again as before."""
        self._restore()


def ignore_interrupts(worker: int) -> None:  # noqa: ARG001
    """Keep a loader process alive on requests to stop, which terminals and SLURM send to it too; training ends it in order.

    Args:
        worker: number of the loader process, which the loader passes and nothing here needs.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
