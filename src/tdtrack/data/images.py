"""Reading an image file, and fitting an image into the network's input."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image

from tdtrack.errors import DataError, ShapeError
from tdtrack.files import reason_of
from tdtrack.types import FloatArray, Image

__all__ = [
    "DAMAGED",
    "MAX_PIXELS",
    "PAD_COLOUR",
    "ImageFault",
    "crop_boxes",
    "fit_image",
    "image_size",
    "is_upright",
    "load_image",
    "probe_images",
]

PAD_COLOUR = (124, 116, 104)
"""ImageNet's mean colour in RGB: zero, after the model's normalisation."""

MAX_PIXELS = 178_956_970
"""Most pixels of one picture, from any source: beyond, Pillow refuses an image for what decoding it would take."""

DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, PIL.Image.DecompressionBombError)
"""What Pillow raises on damaged files, format by format, and on images of too many pixels."""
_DEEP_MODES = ("I", "F")  # Pillow cuts pixels of more than 8 bits at 255 without a word
_HEADER_THREADS = 8
_Transpose = PIL.Image.Transpose
_TURNS = {  # by orientation tag; 1 is upright
    2: _Transpose.FLIP_LEFT_RIGHT,
    3: _Transpose.ROTATE_180,
    4: _Transpose.FLIP_TOP_BOTTOM,
    5: _Transpose.TRANSPOSE,
    6: _Transpose.ROTATE_270,
    7: _Transpose.TRANSVERSE,
    8: _Transpose.ROTATE_90,
}
_LYING = 5  # from this tag on, width and height change places
_KEPT_BLOCKS = 8

# Pillow gives the memory of every image back to the system and takes it anew for the next one, page by page, which can take
# longer than decoding; so a few blocks are kept (16 MB each at most). The same as PILLOW_BLOCKS_MAX in the environment, which
# is too late for a library to set.
PIL.Image.core.set_blocks_max(_KEPT_BLOCKS)  # type: ignore[attr-defined]


def load_image(path: Path | str, *, upright: bool = False) -> Image:
    """Read an image as it is stored.

    Args:
        path: a file of any format Pillow reads, 8 bits per channel; grey and palette images become RGB, alpha is dropped.
        upright: turn it as its orientation tag says. Not for annotated images, whose boxes are in stored pixels.

    Returns:
        ``(H, W, 3)`` RGB.

    Raises:
        DataError: the file is missing, is no image, is cut short, or has more than 8 bits per channel.
    """
    with _opened(path) as opened:
        if opened.mode.startswith(_DEEP_MODES):
            raise DataError(f"{path}: pixels are of Pillow mode {opened.mode}; convert the image to 8 bits per channel")
        opened.load()
        turned = opened.transpose(_TURNS[tag]) if upright and (tag := _turn_of(opened)) else opened
        return np.array(turned if turned.mode == "RGB" else turned.convert("RGB"))  # a copy: Pillow lends read-only pixels


def image_size(path: Path | str, *, upright: bool = False) -> tuple[int, int]:
    """Read an image's width and height from its header.

    Args:
        path: the file.
        upright: as its orientation tag turns it.

    Raises:
        DataError: the file is missing or is no image.
    """
    with _opened(path) as opened:
        width, height = opened.size
        return (height, width) if upright and _turn_of(opened) >= _LYING else (width, height)


def is_upright(path: Path | str) -> bool:
    """Tell whether an image is stored as it is to be seen: no orientation tag turns it.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing or is no image.
    """
    with _opened(path) as opened:
        return not _turn_of(opened)


def fit_image(image: Image, height: int, width: int) -> tuple[Image, float]:
    """Scale an image, keeping its aspect ratio, until it touches the border of the network's input.

    Training, validation and tracking all use this, so a model meets the same pixels everywhere.

    Args:
        image: ``(H, W, 3)`` RGB, at least one pixel.
        height: of the input, in pixels.
        width: of the input, in pixels.

    Returns:
        The ``(height, width, 3)`` input, image at the top left and ``PAD_COLOUR`` around it, and the scale: a box of the image
        times the scale is a box of the input.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (min(width, max(1, round(image.shape[1] * scale))), min(height, max(1, round(image.shape[0] * scale))))
    resized = image
    if size != (image.shape[1], image.shape[0]):
        resized = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR))
    fitted = np.empty((height, width, 3), np.uint8)
    fitted[...] = PAD_COLOUR
    fitted[: size[1], : size[0]] = resized
    return fitted, scale


@dataclass(frozen=True, slots=True)
class ImageFault:
    """Why an image file cannot be used.

    Attributes:
        kind: ``"image-missing"``, ``"image-unreadable"``, ``"image-turned"`` or ``"image-size-differs"``.
        message: names the file and what is wrong with it.
    """

    kind: str
    message: str


def crop_boxes(image: Image, xyxy: FloatArray) -> list[Image]:
    """Cut boxes out of an image.

    Args:
        image: ``(H, W, 3)`` RGB uint8.
        xyxy: ``(N, 4)`` boxes in pixels of the image; parts outside are cut off.

    Returns:
        ``N`` views of the image in the order of the boxes: corners rounded to whole pixels, at least one pixel wide and high.

    Raises:
        ShapeError: the image or the boxes have another shape, or a corner is not finite.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ShapeError(
            f"the image to crop is {image.dtype} of shape {image.shape}; pass an RGB uint8 array of shape (H, W, 3)"
        )
    boxes = np.asarray(xyxy, dtype=np.float64)
    if boxes.size == 0:
        return []
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(f"xyxy has shape {boxes.shape}, expected (any, 4)")
    if not np.isfinite(boxes).all():
        bad = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise ShapeError(f"box {bad} has corners {boxes[bad].tolist()}; drop boxes that are not finite before cropping")
    height, width = image.shape[:2]
    corners = np.rint(boxes).astype(np.int64)  # rint rounds as PIL's crop does
    left = np.clip(corners[:, 0], 0, width - 1)
    top = np.clip(corners[:, 1], 0, height - 1)
    right = np.clip(corners[:, 2], left + 1, width)
    bottom = np.clip(corners[:, 3], top + 1, height)
    return [image[y1:y2, x1:x2] for x1, y1, x2, y2 in zip(left, top, right, bottom)]


def probe_images(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int] | None], *, decode: bool = False, upright: bool = False
) -> list[ImageFault | tuple[int, int]]:
    """Read the headers of image files and find those that cannot be used.

    Args:
        paths: the image files.
        sizes: the width and height each file should have; ``None`` takes any.
        decode: also decode every image, which finds files that are cut short but takes a hundred times longer.
        upright: refuse images that an orientation tag turns: what is a fraction of one side may be meant of the other.

    Returns:
        For each file its width and height, or what is wrong with it.
    """
    with ThreadPoolExecutor(_HEADER_THREADS) as pool:  # most of the time goes into waiting for the disk
        return list(pool.map(lambda pair: _probe(*pair, decode=decode, upright=upright), zip(paths, sizes)))


@contextmanager
def _opened(path: Path | str) -> Iterator[PIL.Image.Image]:
    """Open an image; what Pillow cannot read, also later in the block, is a ``DataError``."""
    try:
        with PIL.Image.open(path) as opened:
            yield opened
    except DAMAGED as error:
        raise DataError(f"{path}: cannot read the image: {_reason(error, path)}") from error


def _turn_of(opened: PIL.Image.Image) -> int:
    """Return the orientation tag of an opened image where it asks for a turn, 2 to 8; 0 where it does not or cannot be read."""
    try:
        tag = opened.getexif().get(PIL.ExifTags.Base.Orientation)
    except DAMAGED:  # of the tags, not of the pixels
        return 0
    return tag if tag in _TURNS else 0


def _probe(path: Path, size: tuple[int, int] | None, *, decode: bool, upright: bool) -> ImageFault | tuple[int, int]:
    try:
        with PIL.Image.open(path) as opened:
            width, height = opened.size
            deep = opened.mode.startswith(_DEEP_MODES)
            # Pillow decodes a PNG file to look for tags behind its pixels.
            turn = _turn_of(opened) if upright and (opened.format != "PNG" or "exif" in opened.info) else 0
            if decode:
                opened.load()
    except FileNotFoundError:
        return ImageFault("image-missing", f"image file {path} does not exist")
    except DAMAGED as error:
        return ImageFault("image-unreadable", f"image file {path} cannot be read: {_reason(error, path)}")
    if deep:
        return ImageFault("image-unreadable", f"image file {path} has more than 8 bits per channel")
    if turn:
        return ImageFault(
            "image-turned",
            f"image file {path} is turned by its orientation tag ({turn}), and whether its boxes are fractions of the turned "
            "or of the stored picture is not known: store it upright, without the tag",
        )
    if size is not None and size != (width, height):
        said = f"image file {path} is {width}x{height}, the annotations say {size[0]}x{size[1]}"
        turned = "; its orientation tag turns it: store it upright" if size == (height, width) else ""
        return ImageFault("image-size-differs", said + turned)
    return width, height


def _reason(error: Exception, path: Path | str) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return "it is empty" if Path(path).stat().st_size == 0 else "it is not an image of a known format"
    return reason_of(error) if isinstance(error, OSError) else str(error) or type(error).__name__
