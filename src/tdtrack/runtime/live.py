"""Cameras and network streams that go away and come back."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from tdtrack.errors import MediaError
from tdtrack.runtime.frames import Frame, VideoSource
from tdtrack.types import Image

__all__ = ["MAX_OUTAGE", "LiveSource", "Outage"]

MAX_OUTAGE = 300.0
"""Seconds a stream may stay away where the user does not say: a camera that restarts needs one or two minutes."""

_log = logging.getLogger("tdtrack")

_STALL_SECONDS = 2.0  # a time without frames that is worth a line
# Seconds between attempts. An outage is noticed to be over after at most half its length more, so that tracks are found again.
_FIRST_WAIT, _WAIT_GROWTH, _LONGEST_WAIT = 0.5, 1.5, 30.0
_LEAD_SECONDS = 15.0  # frames may be stamped so far ahead of their arrival: the first was that late
_KEPT = 1000  # outages


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without frames.

    Attributes:
        start: when the last frame before it came, in seconds since the first of all.
        seconds: how long it took until the next frame, or until the source was given up.
        reason: why, as far as it is known.
    """

    start: float
    seconds: float
    reason: str


class LiveSource:
    """A live source that is opened again when it stalls, drops or fails.

    Its clock runs on meanwhile: time stamps go by arrival where a connection begins and by the stream's own stamps within it.
    Frames keep the size of the first one, whatever the stream changes to, so that boxes keep their meaning.

    An end that the stream announced, by reaching the length it stated, ends the iteration. Any other end is an outage.

    Attributes:
        outages: the last thousand, oldest first.
        name: see ``VideoSource``, as all others.
    """

    live = True
    length: int | None = None

    def __init__(
        self,
        connect: Callable[[], VideoSource],
        label: str,
        *,
        max_outage: float = MAX_OUTAGE,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Connect for the first time.

        Args:
            connect: opens the source, or raises ``MediaError``; also called to open it again.
            label: what messages call it.
            max_outage: seconds the source may stay away before the iteration ends; 0 never opens it again.
            clock: gives seconds that only rise.
            wait: lets seconds pass; ``None`` waits until :meth:`stop`.

        Raises:
            MediaError: the source cannot be opened; the first time is not tried again, for a wrong address stays wrong.
        """
        self._connect, self._label, self._max_outage, self._clock = connect, label, max_outage, clock
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._source = connect()
        self.name, self.frame_rate = self._source.name, self._source.frame_rate
        self.width, self.height = self._source.width, self._source.height
        self.outages: deque[Outage] = deque(maxlen=_KEPT)
        self.truncated: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the source ends or stays away for too long."""
        self.truncated = None
        began = self._clock()
        index, last = 0, 0.0
        reason = ""
        while True:
            origin: float | None = None
            for frame in self._source:
                if index == 0:
                    began = self._clock()
                arrived = self._clock() - began
                seconds = arrived if origin is None else origin + frame.seconds
                if index and not last < seconds <= arrived + _LEAD_SECONDS:  # the stream's clock was set
                    seconds, origin = max(arrived, last + 0.5 / self.frame_rate), None
                origin = seconds - frame.seconds if origin is None else origin
                if seconds - last >= _STALL_SECONDS:
                    self._note(Outage(last, seconds - last, reason or "no frames came"))
                reason = ""
                yield Frame(index, seconds, self._sized(frame.image))
                index, last = index + 1, seconds
            failure = self._source.truncated
            if getattr(self._source, "complete", False) or self._max_outage == 0:
                self.truncated = failure
                return
            reason = failure or "the connection was closed"
            if not self._return(began + last):
                if not self._stopped.is_set():
                    self._note(Outage(last, self._clock() - began - last, reason))
                    self.truncated = f"{reason}; it did not come back within {self._max_outage:g} s"
                return

    def _return(self, lost: float) -> bool:
        """Open the source again, waiting longer each time; returns whether it is back.

        Args:
            lost: time of the clock when the last frame came.
        """
        pause = _FIRST_WAIT
        while not self._stopped.is_set():
            self._source.close()
            try:
                self._source = self._connect()
            except MediaError as error:
                left = lost + self._max_outage - self._clock()
                if left <= 0:
                    return False
                _log.info("%s; trying again in %g s", error, min(pause, left))
                self._wait(min(pause, left))
                pause = min(_WAIT_GROWTH * pause, _LONGEST_WAIT)
            else:
                return True
        return False

    def _note(self, outage: Outage) -> None:
        self.outages.append(outage)
        _log.warning("%s: no frames for %.1f s from %.1f s on (%s)", self._label, outage.seconds, outage.start, outage.reason)

    def _sized(self, image: Image) -> Image:
        if image.shape[:2] == (self.height, self.width):
            return image
        resized = PillowImage.fromarray(image).resize((self.width, self.height), PillowImage.Resampling.BILINEAR)
        return np.array(resized)

    def stop(self) -> None:
        """End a wait for the source in another thread; the iteration ends then."""
        self._stopped.set()

    def close(self) -> None:
        """Release the source."""
        self._source.close()
