"""Box conventions and overlap, in NumPy.

``xyxy`` is the form in memory, ``tlwh`` lives only in MOT and COCO files, ``xyah`` (centre, width over height, height)
only in the Kalman filter. Boxes are continuous: a box from 10 to 20 is 10 pixels wide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[Any]
"""``(N, 4)`` of any float type; the functions here keep it."""


def tlwh_to_xyxy(tlwh: Boxes) -> Boxes:
    """Turn ``(N, 4)`` left, top, width, height into corners."""
    return np.concatenate([tlwh[..., :2], tlwh[..., :2] + tlwh[..., 2:]], axis=-1)


def xyxy_to_tlwh(xyxy: Boxes) -> Boxes:
    """Turn ``(N, 4)`` corners into left, top, width, height."""
    return np.concatenate([xyxy[..., :2], xyxy[..., 2:] - xyxy[..., :2]], axis=-1)


def xyxy_to_xyah(xyxy: Boxes) -> Boxes:
    """Turn ``(N, 4)`` corners into centre x, centre y, width over height, height (height must be positive)."""
    size = xyxy[..., 2:] - xyxy[..., :2]
    centre = xyxy[..., :2] + size / 2
    return np.concatenate([centre, size[..., :1] / size[..., 1:], size[..., 1:]], axis=-1)


def xyah_to_xyxy(xyah: Boxes) -> Boxes:
    """Turn ``(N, 4)`` centre x, centre y, width over height, height into corners."""
    half = np.concatenate([xyah[..., 2:3] * xyah[..., 3:4], xyah[..., 3:4]], axis=-1) / 2
    return np.concatenate([xyah[..., :2] - half, xyah[..., :2] + half], axis=-1)


def box_area(xyxy: Boxes) -> NDArray[Any]:
    """Return the ``(N,)`` area in square pixels; zero where a side is not positive."""
    size = np.clip(xyxy[..., 2:] - xyxy[..., :2], 0, None)
    area: NDArray[Any] = size[..., 0] * size[..., 1]
    return area


def intersection(a: Boxes, b: Boxes) -> NDArray[Any]:
    """Return the ``(N, M)`` overlap area of every box in ``a`` with every box in ``b``."""
    # Axis by axis: (N, M, 2) arrays take three times as long.
    width = np.minimum(a[:, 2, None], b[:, 2]) - np.maximum(a[:, 0, None], b[:, 0])
    height = np.minimum(a[:, 3, None], b[:, 3]) - np.maximum(a[:, 1, None], b[:, 1])
    area: NDArray[Any] = np.maximum(width, 0) * np.maximum(height, 0)
    return area


def iou(a: Boxes, b: Boxes) -> NDArray[Any]:
    """Return the ``(N, M)`` intersection over union in ``[0, 1]``; zero where both boxes have no area."""
    overlap = intersection(a, b)
    union = box_area(a)[:, None] + box_area(b)[None, :] - overlap
    table: NDArray[Any] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return table


def clip_to_image(xyxy: Boxes, width: int, height: int) -> Boxes:
    """Return the boxes cut at the border of a ``width`` x ``height`` image."""
    clipped: NDArray[Any] = np.clip(xyxy, 0, np.array([width, height, width, height], xyxy.dtype))
    return clipped
