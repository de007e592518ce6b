"""From boxes to crops, and from crops to what a Re-ID network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from tdtrack.errors import ShapeError
from tdtrack.types import FloatArray, Image

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "check_crops", "crop_boxes", "normalise_crops", "resize_crops", "unit_rows"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
    check_crops([image])
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


def check_crops(crops: Sequence[Image]) -> None:
    """Refuse anything that is not an RGB uint8 image.

    Args:
        crops: images of any size.

    Raises:
        ShapeError: names the first crop that does not fit, its shape and dtype.
    """
    for index, crop in enumerate(crops):
        shape, dtype = getattr(crop, "shape", None), getattr(crop, "dtype", None)
        if shape is None or len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
            found = f"a {type(crop).__name__}" if shape is None else f"{dtype} of shape {tuple(shape)}"
            raise ShapeError(f"crop {index} is {found}; pass RGB uint8 arrays of shape (H, W, 3)")
        if 0 in shape:
            raise ShapeError(f"crop {index} is empty, shape {tuple(shape)}; drop boxes without area")


def resize_crops(crops: Sequence[Image], height: int, width: int) -> NDArray[np.uint8]:
    """Bring crops to one size.

    Args:
        crops: ``N`` RGB uint8 images of any size.
        height: in pixels.
        width: in pixels.

    Returns:
        ``(N, height, width, 3)`` uint8. A crop that already has the size is copied unchanged.

    Source:
        Sec. 3.3 names the size. PIL's bilinear filter averages when it shrinks, as torchreid's evaluation does.
    """
    resized = np.empty((len(crops), height, width, 3), dtype=np.uint8)
    for target, crop in zip(resized, crops):
        if crop.shape[:2] == (height, width):
            target[...] = crop
        else:
            picture = PilImage.fromarray(np.ascontiguousarray(crop))
            target[...] = np.asarray(picture.resize((width, height), PilImage.Resampling.BILINEAR))
    return resized


def normalise_crops(resized: NDArray[np.uint8]) -> FloatArray:
    """Scale to ImageNet statistics and put channels first.

    Args:
        resized: ``(N, H, W, 3)`` RGB uint8.

    Returns:
        ``(N, 3, H, W)`` float32, contiguous.
    """
    images: FloatArray = np.ascontiguousarray(resized.transpose(0, 3, 1, 2), dtype=np.float32)
    images -= 255 * np.asarray(IMAGENET_MEAN, dtype=np.float32)[:, None, None]
    images /= 255 * np.asarray(IMAGENET_STD, dtype=np.float32)[:, None, None]
    return images


def unit_rows(features: FloatArray) -> FloatArray:
    """Scale every row to length 1.

    Args:
        features: ``(N, D)``.

    Returns:
        ``(N, D)`` float32; a row of zeros stays zero.
    """
    rows = np.asarray(features, dtype=np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = np.divide(rows, np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)
    return unit
