"""How a scene is filmed: where the camera points in each frame, and what it makes of the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageEnhance, ImageFilter

from tdtrack.data.walkers.config import WalkersConfig
from tdtrack.types import Image

__all__ = ["STYLES", "Style", "StyleRange", "View", "develop", "draw_style", "film"]


_SHIFT = 96
"""Rows and columns that the sheet of noise is larger than a frame, so that each frame gets another part of it."""


@dataclass(frozen=True, slots=True)
class View:
    """Which part of the canvas one frame shows.

    Attributes:
        left: canvas column of the frame's left border, continuous.
        top: canvas row of its upper border.
        zoom: frame pixels per canvas pixel, at least 1.
    """

    left: float
    top: float
    zoom: float


def film(rng: np.random.Generator, config: WalkersConfig, margin: tuple[int, int], frames: int, motion: float) -> list[View]:
    """Move the camera: a slow pan that changes its mind, the shake of a hand, a little zoom.

    Args:
        rng: stream to draw from.
        config: frame size and rate.
        margin: room around the frame on the canvas, columns and rows.
        frames: number of frames.
        motion: strength; 0 gives a camera on a tripod.

    Returns:
        One view per frame, each inside the canvas.
    """
    seconds = np.arange(frames) / config.frame_rate
    reach = margin[0] * 0.7 * min(1.0, motion)
    # Two sines that never repeat together: the pan slows, turns and speeds up again.
    periods = rng.uniform((8, 4), (13, 6))
    starts = rng.uniform(0, 2 * np.pi, 2)
    pan = 0.7 * np.sin(2 * np.pi * seconds / periods[0] + starts[0]) + 0.3 * np.sin(
        2 * np.pi * seconds / periods[1] + starts[1]
    )
    shake = rng.normal(0, (0.8, 0.6), (frames, 2)) * motion * config.height / 256
    sway = np.zeros((frames, 2))
    for frame in range(1, frames):  # slower than the shake, drawn back to rest
        sway[frame] = sway[frame - 1] * 0.85 + rng.normal(0, 0.7, 2) * motion * config.height / 256
    zoom = 1 + 0.05 * min(1.0, motion) * (1 + np.sin(2 * np.pi * seconds / rng.uniform(6, 12) + rng.uniform(0, 6)))
    views = []
    for frame in range(frames):
        factor = float(zoom[frame])
        wide, tall = config.width / factor, config.height / factor
        left = margin[0] + reach * pan[frame] + shake[frame, 0] + sway[frame, 0] + (config.width - wide) / 2
        top = margin[1] + shake[frame, 1] + sway[frame, 1] + (config.height - tall) / 2
        left = float(np.clip(left, 0, config.width + 2 * margin[0] - wide))
        top = float(np.clip(top, 0, config.height + 2 * margin[1] - tall))
        views.append(View(left, top, factor))
    return views


@dataclass(frozen=True, slots=True)
class StyleRange:
    """From what a part's camera styles are drawn; each pair is the lowest and the highest value.

    Attributes:
        exposure: brightness gain.
        warmth: gain of red over blue.
        gamma: of the tone curve.
        contrast: about the middle grey.
        saturation: 1 leaves colours as they are.
        vignette: darkening of the corners.
        noise: standard deviation in grey levels.
        blur: radius in pixels.
        quality: of the JPEG files.
    """

    exposure: tuple[float, float]
    warmth: tuple[float, float]
    gamma: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    vignette: tuple[float, float]
    noise: tuple[float, float]
    blur: tuple[float, float]
    quality: tuple[int, int]


STYLES: dict[str, StyleRange] = {
    # Surveillance cameras: off colours, soft, noisy.
    "reid": StyleRange(
        (0.88, 1.3), (0.84, 1.2), (0.85, 1.25), (0.8, 1.15), (0.65, 1.2), (0.0, 0.25), (2, 6), (0.2, 0.65), (72, 90)
    ),
    # Consumer cameras: punchy.
    "detection": StyleRange(
        (0.92, 1.3), (0.9, 1.14), (0.85, 1.15), (0.9, 1.25), (0.8, 1.3), (0.0, 0.3), (1, 5), (0.0, 0.6), (78, 92)
    ),
    # One dim or hazy camera per sequence, none of which the other parts have.
    "sequence": StyleRange(
        (0.9, 1.2), (0.86, 1.1), (0.9, 1.2), (0.82, 1.15), (0.75, 1.15), (0.1, 0.35), (2, 6), (0.0, 0.6), (78, 90)
    ),
}
"""Camera styles by part of the world."""


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """One camera's rendering of light.

    Attributes:
        curve: ``(3, 256)`` float32, tone curve of each channel.
        gain: ``(H, W, 1)`` float32, vignette.
        grain: ``(H + 96, W + 96, 3)`` float32 of noise, a window of which lies on each frame.
        saturation: 1 leaves colours as they are.
        blur: radius in pixels.
        quality: of the JPEG files.
        drift: how far automatic exposure swings, as a fraction.
    """

    curve: NDArray[np.float32]
    gain: NDArray[np.float32]
    grain: NDArray[np.float32]
    saturation: float
    blur: float
    quality: int
    drift: float


def draw_style(rng: np.random.Generator, part: str, width: int, height: int) -> Style:
    """Draw a camera of one part of the world for frames of a size."""
    ranges = STYLES[part]
    exposure, warmth = float(rng.uniform(*ranges.exposure)), float(rng.uniform(*ranges.warmth))
    gains = np.array([warmth, rng.uniform(0.97, 1.03), 1 / warmth]) * exposure
    gamma, contrast = float(rng.uniform(*ranges.gamma)), float(rng.uniform(*ranges.contrast))
    levels = np.clip(np.arange(256)[None] / 255 * gains[:, None], 0, None) ** gamma
    curve = ((levels - 0.5) * contrast + 0.5) * 255
    y, x = np.mgrid[:height, :width]
    radius = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 2
    gain = 1 - float(rng.uniform(*ranges.vignette)) * radius[..., None]
    noise = float(rng.uniform(*ranges.noise))
    size = height + _SHIFT, width + _SHIFT
    grain = rng.standard_normal((*size, 1), np.float32) * noise + rng.standard_normal((*size, 3), np.float32) * (0.4 * noise)
    return Style(
        curve.astype(np.float32),
        gain.astype(np.float32),
        np.asarray(grain, np.float32),
        float(rng.uniform(*ranges.saturation)),
        float(rng.uniform(*ranges.blur)),
        int(rng.integers(ranges.quality[0], ranges.quality[1] + 1)),
        float(rng.uniform(0.02, 0.1)),
    )


def develop(style: Style, frame: PilImage.Image, number: int) -> Image:
    """Turn a drawn frame into what the camera records.

    Args:
        style: the camera.
        frame: RGB picture of the style's size.
        number: of the frame; sets the noise and the swing of the exposure.

    Returns:
        The recorded frame.
    """
    if style.blur > 0.15:
        frame = frame.filter(ImageFilter.BoxBlur(style.blur))
    frame = ImageEnhance.Color(frame).enhance(style.saturation)
    pixels = np.asarray(frame)
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(number)
    row, column = rng.integers(_SHIFT, size=2)
    exposure = np.float32(1 + style.drift * np.sin(number * 0.13))
    recorded = np.empty(pixels.shape, np.float32)
    for channel in range(3):
        np.take(style.curve[channel] * exposure, pixels[..., channel], out=recorded[..., channel])
    recorded *= style.gain
    recorded += style.grain[row : row + height, column : column + width]
    return np.clip(recorded, 0, 255, out=recorded).astype(np.uint8)
