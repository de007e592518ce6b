"""Geometry and light of one training image, in NumPy: where it lands in the network input and what its boxes become.

Everything is a function of its arguments; the only randomness is the generator that the caller passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from tdtrack.boxes import Boxes, box_area, clip_to_image
from tdtrack.config import AugmentConfig
from tdtrack.data.images import PAD_COLOUR
from tdtrack.types import BoolArray, FloatArray, Image, IntArray

__all__ = ["Placement", "change_light", "choose_placement", "cut_boxes", "cut_window", "pad_window", "place_boxes"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a source image lands in the network input: scale it, cut out a window, mirror the window, paste it top left.

    Attributes:
        scaled_width: width of the whole image after scaling, in input pixels.
        scaled_height: its height.
        left: left side of the window, in pixels of the scaled image.
        top: its top side.
        width: width of the window; the input is padded where the window is smaller.
        height: its height.
        flip: mirror the window left to right.
    """

    scaled_width: int
    scaled_height: int
    left: int
    top: int
    width: int
    height: int
    flip: bool


def choose_placement(
    image_width: int, image_height: int, input_height: int, input_width: int, config: AugmentConfig, rng: np.random.Generator
) -> Placement:
    """Draw scale, window and flip for one image.

    Args:
        image_width: width of the source image in pixels.
        image_height: its height.
        input_height: height of the network input in pixels.
        input_width: its width.
        config: ranges to draw from.
        rng: source of the randomness; always advances by the same amount.

    Returns:
        The placement. With ``min_scale`` and ``max_scale`` at 1 and no flip it is the one used at inference.

    Source:
        Sec. 4.2 for flip and scale range. The rest is TFMG's ``resize_and_crop_image``: the scale is uniform and multiplies
        the one that fits the image into the input, the window is uniform over what does not fit, padding goes right and below.
    """
    ratio = rng.uniform(config.min_scale, config.max_scale)
    across, down = rng.random(2)
    flip = bool(rng.random() < config.flip)
    scale = ratio * min(input_height / image_height, input_width / image_width)
    scaled_width = max(1, round(scale * image_width))
    scaled_height = max(1, round(scale * image_height))
    width, height = min(scaled_width, input_width), min(scaled_height, input_height)
    left = int(across * (scaled_width - width + 1))
    top = int(down * (scaled_height - height + 1))
    return Placement(scaled_width, scaled_height, left, top, width, height, flip)


def cut_window(image: Image, placement: Placement) -> Image:
    """Return the window of the scaled image, ``(placement.height, placement.width, 3)``, mirrored if the placement says so.

    Args:
        image: ``(h, w, 3)`` RGB uint8.
        placement: what to cut.

    Source:
        Our choice: one antialiased resize of the window only, which costs the window and not the scaled image.
    """
    height, width = image.shape[:2]
    per_x, per_y = width / placement.scaled_width, height / placement.scaled_height
    box = (
        placement.left * per_x,
        placement.top * per_y,
        min((placement.left + placement.width) * per_x, width),  # rounding must not reach past the last pixel
        min((placement.top + placement.height) * per_y, height),
    )
    resized = Pillow.fromarray(image).resize((placement.width, placement.height), Pillow.Resampling.BILINEAR, box=box)
    window: Image = np.asarray(resized)
    return window[:, ::-1] if placement.flip else window


def pad_window(window: Image, input_height: int, input_width: int) -> Image:
    """Return the network input: the window at the top left, the rest in the padding colour.

    Args:
        window: ``(h, w, 3)`` RGB uint8, no larger than the input.
        input_height: height of the network input in pixels.
        input_width: its width.
    """
    canvas = np.empty((input_height, input_width, 3), np.uint8)
    canvas[:] = PAD_COLOUR
    canvas[: window.shape[0], : window.shape[1]] = window
    return canvas


def place_boxes(xyxy: Boxes, image_width: int, image_height: int, placement: Placement) -> Boxes:
    """Move boxes from the source image into the network input, without cutting them at the window.

    Args:
        xyxy: ``(G, 4)`` pixels of the source image.
        image_width: width of the source image in pixels.
        image_height: its height.
        placement: where the image goes.

    Returns:
        ``(G, 4)`` float64 pixels of the network input, in the same order; corners stay sorted under a flip.
    """
    scale = np.array([placement.scaled_width / image_width, placement.scaled_height / image_height] * 2)
    placed: Boxes = np.asarray(xyxy, np.float64) * scale - np.array([placement.left, placement.top] * 2)
    if placement.flip:
        placed[:, [0, 2]] = placement.width - placed[:, [2, 0]]
    return placed


def cut_boxes(placed: Boxes, placement: Placement, config: AugmentConfig) -> tuple[FloatArray, IntArray, BoolArray]:
    """Cut placed boxes at the window and judge what is left of them.

    Args:
        placed: ``(G, 4)`` boxes as ``place_boxes`` returns them.
        placement: the window.
        config: ``min_visible`` and ``min_box_side``.

    Returns:
        Three arrays with one row per box that is at all visible, in the given order: corners ``(M, 4)`` inside the window,
        row in ``placed`` ``(M,)``, and ``(M,)`` true where too little is left to learn from. Such a stump is neither a person
        nor background, so the caller marks it as ignored and does not drop it.
    """
    cut = clip_to_image(placed, placement.width, placement.height)
    rows = np.flatnonzero(box_area(cut) > 0)
    cut = cut[rows]
    visible = box_area(cut) / box_area(placed[rows])
    side = (cut[:, 2:] - cut[:, :2]).min(axis=1)
    stump = (visible < config.min_visible) | (side < config.min_box_side)
    return cut.astype(np.float32), rows, stump


def change_light(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """Multiply brightness, then contrast about the mean, by random factors.

    Args:
        image: ``(h, w, 3)`` uint8.
        config: ``brightness`` and ``contrast``, half widths of the ranges about 1.
        rng: source of the randomness; always advances by the same amount.

    Returns:
        A new image, or the given one when both ranges are empty.

    Source:
        Not in the paper; off by default.
    """
    brightness, contrast = 1 + rng.uniform(-1, 1, 2) * (config.brightness, config.contrast)
    if config.brightness == 0 and config.contrast == 0:
        return image
    mean = brightness * image.mean()
    table = (np.arange(256) * brightness - mean) * contrast + mean
    looked_up: Image = np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]
    return looked_up
