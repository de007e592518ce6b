"""The code the box subnet speaks: a box as seen from its anchor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["MAX_LOG_SCALE", "decode_boxes", "encode_boxes"]

MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest growth that decoding believes: 62.5 times the anchor's side."""

_MIN_SIDE = 1e-8


def _centre_and_size(xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(..., 2)`` centre and size, both in y, x order as the code has them."""
    top_left, bottom_right = xyxy[..., [1, 0]], xyxy[..., [3, 2]]
    return (top_left + bottom_right) / 2, bottom_right - top_left


def encode_boxes(xyxy: Tensor, anchors: Tensor) -> Tensor:
    """Describe boxes relative to anchors.

    Args:
        xyxy: ``(P, 4)`` boxes in input pixels; a side below 1e-8 pixels counts as that, so that codes stay finite.
        anchors: ``(P, 4)`` anchors in input pixels.

    Returns:
        ``(P, 4)`` codes ``(dy, dx, dh, dw)``: centre shift in anchor sides, logarithm of the growth; no variances.

    Source:
        TensorFlow Model Garden's RetinaNet.
    """
    centre, size = _centre_and_size(xyxy)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size.clamp(min=_MIN_SIDE) / anchor_size).log()], dim=-1)


def decode_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """Turn codes back into boxes; the inverse of :func:`encode_boxes` up to the growth limit.

    Args:
        codes: ``(P, 4)`` of ``(dy, dx, dh, dw)``; dh and dw above ``MAX_LOG_SCALE`` count as that, so that an untrained
            network gives no infinite box.
        anchors: ``(P, 4)`` anchors in input pixels.

    Returns:
        ``(P, 4)`` xyxy in input pixels, not clipped to the input.

    Source:
        TensorFlow Model Garden's RetinaNet.
    """
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = anchor_centre + codes[..., :2] * anchor_size
    half = codes[..., 2:].clamp(max=MAX_LOG_SCALE).exp() * anchor_size / 2
    return torch.cat([(centre - half)[..., [1, 0]], (centre + half)[..., [1, 0]]], dim=-1)
