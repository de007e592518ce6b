"""H.264 video files, through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image as PillowImage

from tdtrack.errors import OutputError, ShapeError
from tdtrack.files import atomic_write
from tdtrack.output.overlay import TrackOverlay
from tdtrack.types import Image, Tracks

__all__ = ["OverlayVideoWriter", "VideoWriter"]

_ENCODER = "libx264"
_BT709 = 1  # FFmpeg's number for BT.709 as matrix, primaries and transfer; what players assume of HD video


class _DiscardedError(Exception):
    """Tells the temporary file that it is not wanted."""


class VideoWriter:
    """Writes frames into an ``.mp4`` that browsers play.

    The file appears under its name only when it is closed whole; until then a hidden file beside it grows. When no
    frame was written, no file appears. As a context manager it is discarded when the block raises.
    """

    def __init__(self, path: Path | str, *, frame_rate: float, crf: int = 23, preset: str = "veryfast") -> None:
        """Open the file; its picture size is that of the first frame.

        Args:
            path: file to make, folders included; an existing one is replaced at the end.
            frame_rate: frames per second, positive.
            crf: constant rate factor of x264, 0 (lossless) to 51; 23 is its usual quality.
            preset: x264's trade of speed against size, "ultrafast" to "veryslow".

        Raises:
            OutputError: the folder cannot be written, the frame rate or quality is out of range, or this build of
                PyAV has no H.264 encoder.
        """
        self.path = Path(path)
        self.frames = 0
        if not 0 < frame_rate < 10_000:
            raise OutputError(f"{self.path}: a frame rate of {frame_rate} cannot be written; give one above 0")
        if not 0 <= crf <= 51:
            raise OutputError(f"{self.path}: crf is {crf}; it must lie in 0 (lossless) to 51 (worst)")
        exact = Fraction(frame_rate)  # the limit finds 30000/1001 again in its float, and 1/60
        self._rate = exact.limit_denominator(1001) if exact >= 1 else 1 / (1 / exact).limit_denominator(1001)
        # x264's macroblock tree gives small pictures other bytes from run to run; a resumed job must end in the same ones.
        self._options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        self._stream: VideoStream | None = None
        self._size = (0, 0)
        self._file = atomic_write(self.path, "wb")
        temporary = self._file.__enter__().name
        try:
            # By name, not as a file object: to put the index at the front, FFmpeg opens the file a second time.
            self._container = av.open(temporary, "w", format="mp4", options={"movflags": "+faststart"})
        except (OSError, av.FFmpegError) as error:
            self._throw_away(error)
            raise OutputError(f"cannot write {self.path}: {_reason(error)}") from error
        self._open = True

    def _start(self, height: int, width: int) -> VideoStream:
        """Add the stream; 4:2:0 colour needs even sides, so odd ones grow by a pixel."""
        try:
            stream = cast(VideoStream, self._container.add_stream(_ENCODER, rate=self._rate, options=self._options))
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(
                f"{self.path}: this build of PyAV cannot encode H.264 ({_ENCODER}: {error}); "
                "install the wheel from PyPI: pip install --force-reinstall av"
            ) from error
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        self._size = (height, width)
        self._stream = stream
        return stream

    def write(self, image: Image) -> None:
        """Append a frame.

        Args:
            image: ``(H, W, 3)`` RGB uint8. One of another size than the first is fitted into it between black bars.

        Raises:
            ShapeError: it is not an RGB uint8 image.
            OutputError: the disk is full, or the writer is closed.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ShapeError(f"a video frame must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if not self._open:
            raise OutputError(f"{self.path}: the video is closed already; write frames before closing it")
        height, width = image.shape[:2]
        stream = self._stream or self._start(height, width)
        if (height, width) != self._size:
            image = _fit_between_bars(image, *self._size)
        bottom, right = self._size[0] % 2, self._size[1] % 2
        if bottom or right:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709)
        frame.pts = self.frames
        frame.time_base = 1 / self._rate
        self._mux(stream, frame)
        self.frames += 1

    def _mux(self, stream: VideoStream, frame: av.VideoFrame | None) -> None:
        """Encode a frame, or what the encoder still holds, and write the packets."""
        try:
            self._container.mux(stream.encode(frame))
        except (OSError, av.FFmpegError) as error:
            raise OutputError(f"cannot write frame {self.frames} of {self.path}: {_reason(error)}") from error

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing.

        Raises:
            OutputError: the rest cannot be written; then no file is left.
        """
        if not self._open:
            return
        if self._stream is None:
            self.discard()
            return
        try:
            self._mux(self._stream, None)
            self._container.close()
        except (OSError, av.FFmpegError) as error:
            raise OutputError(f"cannot finish {self.path}: {_reason(error)}") from error
        else:
            self._open = False
            self._file.__exit__(None, None, None)
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave no file behind; does nothing after ``close``."""
        if not self._open:
            return
        self._open = False
        with suppress(OSError, av.FFmpegError):  # what cannot be finished is thrown away all the same
            self._container.close()
        self._throw_away(_DiscardedError())

    def _throw_away(self, reason: Exception) -> None:
        """End the temporary file without giving it its name."""
        self._file.__exit__(type(reason), reason, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class OverlayVideoWriter(VideoWriter):
    """A video of frames with their tracks drawn on them."""

    def __init__(
        self,
        path: Path | str,
        *,
        frame_rate: float,
        classes: tuple[str, ...] = (),
        trail_seconds: float = 1.0,
        crf: int = 23,
        preset: str = "veryfast",
    ) -> None:
        """Open the file.

        Args:
            path: file to make; see ``VideoWriter``.
            frame_rate: frames per second, positive.
            classes: class names; labels name the class where there is more than one.
            trail_seconds: length of the trail behind each person's feet; 0 draws none.
            crf: see ``VideoWriter``.
            preset: see ``VideoWriter``.

        Raises:
            OutputError: see ``VideoWriter``.
        """
        super().__init__(path, frame_rate=frame_rate, crf=crf, preset=preset)
        self._overlay = TrackOverlay(trail_frames=round(trail_seconds * frame_rate), classes=classes)

    def write_tracks(self, image: Image, tracks: Tracks, names: Mapping[int, str] | None = None) -> None:
        """Append a frame with its tracks; frames come in order.

        Args:
            image: ``(H, W, 3)`` RGB uint8.
            tracks: in pixels of the image.
            names: of tracks, by id, as far as they are known.

        Raises:
            ShapeError: it is not an RGB uint8 image.
            OutputError: the disk is full, or the writer is closed.
        """
        self.write(self._overlay.draw(image, tracks, names))


def _fit_between_bars(image: Image, height: int, width: int) -> Image:
    """Scale an image to fit ``height`` x ``width``, keep its shape, fill the rest with black."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner_height, inner_width = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    resized = PillowImage.fromarray(image).resize((inner_width, inner_height), PillowImage.Resampling.BILINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas[top : top + inner_height, left : left + inner_width] = np.asarray(resized)
    return canvas


def _reason(error: Exception) -> str:
    """Return the system's or FFmpeg's words."""
    return getattr(error, "strerror", None) or str(error)
