"""Videos, cameras and network streams, through PyAV."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from tdtrack.data.images import MAX_PIXELS
from tdtrack.errors import MediaError
from tdtrack.files import is_out_of_reach
from tdtrack.runtime.frames import DEFAULT_FRAME_RATE, Frame, out_of_reach
from tdtrack.types import Image

__all__ = ["StreamSource"]

_TIMEOUT_SECONDS = 15.0
_END_SECONDS = 1.0  # a live source that ends so close to the end it stated has ended
_MAX_FRAME_RATE = 1000.0  # a header that says more (90,000 is common) gives its clock's rate instead


class StreamSource:
    """Frames that FFmpeg can decode, from a file, a device or a network address.

    A file that is cut short or damaged gives the frames it has; ``truncated`` then says what is missing.

    Attributes:
        complete: iteration reached the end that the source stated; a live source that stated none never does.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        label: str,
        input_format: str | None = None,
        live: bool = False,
        frame_rate: float | None = None,
    ) -> None:
        """Open it and decode the first frame, which settles the size.

        Args:
            address: what FFmpeg opens.
            name: see ``VideoSource``.
            label: what messages call it; an address may hold a password.
            input_format: FFmpeg's name of a device kind; ``None`` finds out from the content.
            live: frames come in real time and may get lost on the way; nothing promises a length.
            frame_rate: overrides the rate that the source states.

        Raises:
            MediaError: it cannot be opened, holds no video, or not one frame can be decoded.
        """
        self.name = name
        self.truncated: str | None = None
        self.complete = False
        self._address, self._label, self._format, self.live = address, label, input_format, live
        self._override = frame_rate
        self._container: InputContainer | None = None
        self._start()

    def _start(self) -> None:
        """Open, read the promises of the header, and decode the first frame."""
        container, stream = self._open()
        self._container = container
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        stated = rate if 0 < rate <= _MAX_FRAME_RATE else DEFAULT_FRAME_RATE
        self.frame_rate = self._override or stated
        self._promise = _promise(container, stream, stated, self.live)
        self.length = self._promise.frames
        self._started = self.complete = False
        self._stated = container.duration / av.time_base if container.duration else math.inf
        self.truncated = None
        self._frames = self._decode(container, stream)
        first = next(self._frames, None)
        if first is None:
            self.close()
            reason = self.truncated or "it ends at once"
            raise MediaError(f"{self._label}: not one frame can be decoded ({reason}); check that it plays in a video player")
        self._first = first
        self.height, self.width = first.image.shape[:2]

    def _open(self) -> tuple[InputContainer, VideoStream]:
        """Open the container and pick its video stream."""
        timeout = _TIMEOUT_SECONDS if self.live or "://" in self._address else None
        options = {"rtsp_transport": "tcp"} if self._address.startswith("rtsp") else {}  # UDP loses packets, hence pictures
        try:
            container = av.open(self._address, format=self._format, options=options, timeout=timeout)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self._label}: cannot be opened ({_reason(error)}); {self._remedy()}") from error
        if not container.streams.video:
            container.close()
            raise MediaError(f"{self._label}: holds no video stream; give a file with pictures, and the whole of it")
        stream = container.streams.video[0]
        if getattr(stream, "codec_context", None) is None:  # PyAV types it as if FFmpeg could decode everything
            container.close()
            raise MediaError(f"{self._label}: its video is of a kind that cannot be decoded; convert it to H.264")
        if stream.width * stream.height > MAX_PIXELS:  # before a frame of that size takes the memory
            container.close()
            size = f"{stream.width}x{stream.height}"
            raise MediaError(f"{self._label}: pictures of {size}, more than {MAX_PIXELS} pixels; scale the video down")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # and where the size changes on the way
        stream.thread_type = "SLICE" if self.live else "AUTO"  # threads by frame hold back as many frames as there are threads
        return container, stream

    def _remedy(self) -> str:
        """Return what mends a failed opening."""
        if self._format is not None:
            return "check that the camera is connected, free and may be used by you"
        if "://" in self._address:
            return "check the address and that the server answers"
        return "check that it is a video and whole"

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order; a second iteration opens the source anew."""
        if self._started or self._container is None:
            self.close()
            self._start()
        self._started = True
        yield self._first
        yield from self._frames

    def close(self) -> None:
        """Release the file or device; not while another thread iterates."""
        if self._container is not None:
            self._frames.close()
            self._container.close()
            self._container = None

    def _decode(self, container: InputContainer, stream: VideoStream) -> Generator[Frame]:
        """Yield what can be decoded and leave the account of the rest in ``truncated``."""
        account = _Account(self._promise)
        first: float | None = None
        for picture in self._pictures(container, stream, account):
            index, time = account.frames, picture.time
            first = time if first is None else first
            seconds = index / self.frame_rate
            if time is not None and first is not None and self._override is None:
                seconds = time - first
            account.count(time)
            if picture.is_corrupt:
                account.damage()
            yield Frame(index, seconds, _upright(picture))
        self.complete = account.failure is None and account.end >= self._stated - _END_SECONDS
        self.truncated = None if self.live and account.failure is None else account.verdict()
        if self.truncated is not None and not self.live and "://" not in self._address:
            _require_within_reach(self._address)

    def _pictures(self, container: InputContainer, stream: VideoStream, account: _Account) -> Iterator[av.VideoFrame]:
        """Decode packet by packet, past damaged ones, until the end or until reading fails."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                account.failure = _reason(error)
                packet = None
            if packet is not None and packet.is_corrupt and not self.live:
                account.damage()  # not decoded: half a packet spoils the frames that the decoder's threads still hold
                continue
            try:
                yield from stream.decode(packet)  # no packet, or an empty one, drains the decoder
            except av.EOFError:
                return  # drained already
            except (av.FFmpegError, OSError):
                account.damage()
            if packet is None:
                return


def _require_within_reach(path: str) -> None:
    """Raise where frames are missing because the file or its disk has gone, not because the file is short."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(-1, os.SEEK_END)
            file.read(1)
    except OSError as error:
        if is_out_of_reach(error):
            raise MediaError(out_of_reach(path, error)) from error


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a header says about the length.

    Attributes:
        start: time stamp of the first frame in seconds; ``None`` takes what the first decoded frame has.
        frames: how many, exact or from the duration; ``None`` where unknown.
        counted: ``frames`` is a count of the header, not an estimate.
        seconds: duration; ``None`` where unknown.
        frame_rate: frames per second as stated.
        slack: how many seconds earlier than promised the last frame may end.
    """

    start: float | None
    frames: int | None
    counted: bool
    seconds: float | None
    frame_rate: float
    slack: float


def _promise(container: InputContainer, stream: VideoStream, frame_rate: float, live: bool) -> _Promise:
    """Read the length from the header: the shorter of what the stream and the container say, for an edit list may trim."""
    start = None if stream.start_time is None or stream.time_base is None else float(stream.start_time * stream.time_base)
    if live:
        return _Promise(start, None, False, None, frame_rate, math.inf)
    durations = []
    if stream.duration and stream.time_base is not None:
        durations.append(float(stream.duration * stream.time_base))
    if container.duration:
        durations.append(container.duration / av.time_base)
    seconds = min(durations, default=None)
    counted = stream.frames > 0
    if counted and "mov" not in container.format.name:
        # Without edit lists every frame counts; FFmpeg shortens the duration of a cut AVI and starts its clock a frame early.
        seconds, start = stream.frames / frame_rate, None
    frames = stream.frames if counted else None if seconds is None else round(seconds * frame_rate)
    # The length of a whole container covers its sound as well, which may outlast the picture.
    slack = 1.5 / frame_rate if counted else 3 / frame_rate if len(container.streams) == 1 else 0.5
    return _Promise(start, frames, counted, seconds, frame_rate, slack)


@dataclass(slots=True)
class _Account:
    """What came of a promise.

    Attributes:
        promise: of the header.
        frames: decoded so far.
        end: where the last of them ended, in seconds.
        damaged: packets and frames that are damaged or could not be decoded.
        first_damage: where the first of them was, in seconds.
        origin: time stamp that counts as second 0.
        failure: why reading stopped; ``None`` at a proper end.
    """

    promise: _Promise
    frames: int = 0
    end: float = 0.0
    damaged: int = 0
    first_damage: float = 0.0
    origin: float | None = None
    failure: str | None = None

    def count(self, time: float | None) -> None:
        """Note a decoded frame and its time stamp in seconds, where it has one."""
        self.frames += 1
        if self.origin is None:
            self.origin = time if self.promise.start is None else self.promise.start
        elapsed = (self.frames - 1) / self.promise.frame_rate
        if time is not None and self.origin is not None:
            elapsed = time - self.origin
        self.end = elapsed + 1 / self.promise.frame_rate

    def damage(self) -> None:
        """Note something damaged at the present position."""
        if self.damaged == 0:
            self.first_damage = self.end
        self.damaged += 1

    def verdict(self) -> str | None:
        """Return why frames are missing or damaged, or ``None``."""
        reasons = []
        if self.failure is not None:
            reasons.append(f"reading stopped at {self.end:.2f} s ({self.failure})")
        if self.damaged:
            reasons.append(f"damaged data ({self.damaged} packets or frames, the first near {self.first_damage:.2f} s)")
        if self._is_short():
            about = "" if self.promise.counted else "about "
            reasons.append(f"{about}{self.promise.frames} frames are promised, {self.frames} could be decoded")
        return "; ".join(reasons) or None

    def _is_short(self) -> bool:
        """Return whether the picture ends early; a count alone misleads, for an edit list hides frames on purpose."""
        promise = self.promise
        fewer = not promise.counted or promise.frames is None or self.frames < promise.frames
        if promise.seconds is None:
            return promise.counted and fewer
        return fewer and self.end < promise.seconds - promise.slack


def _upright(picture: av.VideoFrame) -> Image:
    """Return the pixels, turned as the display matrix asks: a phone held upright stores its video lying."""
    pixels: Image = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
    quarter_turns = round(picture.rotation / 90) % 4  # counter-clockwise, as NumPy turns
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def _reason(error: Exception) -> str:
    """Return FFmpeg's words without the address, which may hold a password."""
    return getattr(error, "strerror", None) or type(error).__name__
