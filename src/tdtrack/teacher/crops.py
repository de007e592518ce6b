"""From boxes to crops, and from crops to what a Re-ID network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from tdtrack.data.images import crop_boxes
from tdtrack.errors import ShapeError
from tdtrack.types import FloatArray, Image

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "check_crops", "crop_boxes", "normalise_crops", "resize_crops", "unit_rows"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
