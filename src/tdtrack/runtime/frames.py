"""One frame, what every source of frames offers, and image files as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tdtrack.data.images import image_size, load_image
from tdtrack.errors import DataError, MediaError
from tdtrack.files import is_out_of_reach, reason_of
from tdtrack.types import Image

__all__ = ["DEFAULT_FRAME_RATE", "Frame", "ImageSource", "VideoSource", "out_of_reach"]

DEFAULT_FRAME_RATE = 30.0
"""Frames per second where neither the source nor the user says."""


def out_of_reach(path: Path | str, error: OSError) -> str:
    """Return what to say of a file that can no longer be read while it is tracked."""
    return f"{path}: has gone or is out of reach ({reason_of(error)}); bring it, its disk or its mount back and run again"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        index: position from 0. It skips a number where a frame is known to be missing from a numbered sequence.
        seconds: time since the first frame.
        image: ``(H, W, 3)`` RGB uint8, upright; of a MOTChallenge sequence as it is stored.
    """

    index: int
    seconds: float
    image: Image


class VideoSource(Protocol):
    """Frames in order. Iterating again starts from the beginning, as far as a camera has one.

    Attributes:
        name: short name fit for a file name: of the file or sequence, without folder and suffix.
        frame_rate: frames per second, positive.
        length: how many frames are promised; ``None`` where nobody knows.
        width: of the first frame, in pixels.
        height: of the first frame, in pixels.
        live: frames come in real time, and who is slow misses some.
        truncated: after iterating to the end, why frames are missing or damaged; ``None`` when all is well.
    """

    name: str
    frame_rate: float
    length: int | None
    width: int
    height: int
    live: bool
    truncated: str | None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order."""
        ...

    def close(self) -> None:
        """Release the file or device; safe to call twice."""
        ...


class ImageSource:
    """Image files as a video.

    Attributes:
        paths: the files, in order.
        upright: images are turned as their orientation tags say.
    """

    live = False

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        *,
        frame_rate: float,
        indices: Sequence[int] | None = None,
        length: int | None = None,
        upright: bool = True,
    ) -> None:
        """Look at the first image's size; pixels are read while iterating.

        Args:
            name: see ``VideoSource``.
            paths: the images in order, at least one.
            frame_rate: frames per second, positive.
            indices: frame index of each image, ascending; ``None`` counts from 0 without gaps.
            length: how many frames there should be; ``None`` means as many as there are images.
            upright: turn images as their orientation tags say.

        Raises:
            MediaError: the first image cannot be read.
        """
        self.name = name
        self.frame_rate = frame_rate
        self.truncated: str | None = None
        self.paths = tuple(paths)
        self._indices = tuple(range(len(paths)) if indices is None else indices)
        self.length: int | None = len(self.paths) if length is None else length
        self.upright = upright
        try:
            self.width, self.height = image_size(self.paths[0], upright=upright)
        except DataError as error:
            raise MediaError(f"{error}; replace it or remove it") from error

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read; damaged ones are counted in ``truncated``.

        Raises:
            MediaError: an image has gone since, or its disk does not answer.
        """
        self.truncated = None
        unreadable: list[str] = []
        for index, path in zip(self._indices, self.paths):
            try:
                image = load_image(path, upright=self.upright)
            except DataError as error:
                if isinstance(error.__cause__, OSError) and is_out_of_reach(error.__cause__):
                    raise MediaError(out_of_reach(path, error.__cause__)) from error
                unreadable.append(str(error))
                continue
            yield Frame(index, index / self.frame_rate, image)
        reasons = []
        if unreadable:
            reasons.append(f"{len(unreadable)} of {len(self.paths)} images cannot be read, the first: {unreadable[0]}")
        if self.length is not None and len(self.paths) < self.length:
            reasons.append(f"{self.length} frames are promised, {len(self.paths)} images are there")
        self.truncated = "; ".join(reasons) or None

    def path_of(self, index: int) -> Path:
        """Return the file of a frame, by its index."""
        return self.paths[self._indices.index(index)]

    def close(self) -> None:
        """Nothing is held open between images."""
