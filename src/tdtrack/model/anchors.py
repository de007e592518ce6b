"""Anchor boxes: where they sit, how big they are and in which order they come.

An anchor's index runs over levels from fine to coarse, then rows, then columns, then the A slots of a cell. A slot is
``scale * len(aspect_ratios) + ratio``: all aspect ratios of the smallest scale come first. Every tensor of the model
that has one row per anchor keeps this order.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tdtrack.config import ModelConfig

__all__ = ["cell_anchors", "pyramid_anchors", "pyramid_shapes"]


def pyramid_shapes(height: int, width: int, min_level: int, max_level: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns of every pyramid level for an input of any size.

    Args:
        height: of the network input, in pixels.
        width: of the network input, in pixels.
        min_level: finest level.
        max_level: coarsest level.

    Returns:
        ``(H_l, W_l)`` for each level, fine to coarse; sizes that do not divide round up, as strided convolutions do.
    """
    return tuple((-(-height // 2**level), -(-width // 2**level)) for level in range(min_level, max_level + 1))


def cell_anchors(stride: int, config: ModelConfig) -> Tensor:
    """Return the anchors of a cell centred at the origin.

    Args:
        stride: of the level, in pixels.
        config: gives the scales, the aspect ratios (width over height) and the size in strides.

    Returns:
        ``(A, 4)`` float64 xyxy in slot order. The aspect ratio changes the shape and keeps the area.

    Source:
        Sec. 4.2 for scales and ratios; size and ratio convention from TensorFlow Model Garden's RetinaNet.
    """
    scale = 2 ** (torch.arange(config.anchor_scales, dtype=torch.float64) / config.anchor_scales)
    root = torch.tensor(config.anchor_aspect_ratios, dtype=torch.float64).sqrt()
    side = config.anchor_size * stride * scale[:, None]
    half = torch.stack([side * root, side / root], dim=-1).reshape(-1, 2) / 2
    return torch.cat([-half, half], dim=1)


@lru_cache(maxsize=32)
def pyramid_anchors(level_shapes: tuple[tuple[int, int], ...], config: ModelConfig, device: torch.device) -> Tensor:
    """Return the anchors of all levels; centres lie at ``(i + 0.5) * stride``.

    Args:
        level_shapes: ``(H_l, W_l)`` from ``config.min_level`` on.
        config: of the model.
        device: where the anchors are needed.

    Returns:
        ``(sum(H_l * W_l) * A, 4)`` float32 xyxy in input pixels, not clipped to the input, in the order of this module.
        The tensor is cached and shared: never write into it.

    Source:
        Sec. 4.2; centres from TensorFlow Model Garden's RetinaNet.
    """
    levels = []
    # A tensor born in inference mode could never take part in training, and this one outlives its first caller.
    with torch.inference_mode(False):
        for level, (rows, columns) in enumerate(level_shapes, start=config.min_level):
            stride = 2**level
            y = (torch.arange(rows, dtype=torch.float64) + 0.5) * stride
            x = (torch.arange(columns, dtype=torch.float64) + 0.5) * stride
            centre_y, centre_x = torch.meshgrid(y, x, indexing="ij")
            centre = torch.stack([centre_x, centre_y, centre_x, centre_y], dim=-1)
            levels.append((centre[:, :, None] + cell_anchors(stride, config)).reshape(-1, 4))
        return torch.cat(levels).to(device, torch.float32)
