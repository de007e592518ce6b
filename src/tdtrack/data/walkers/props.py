"""Things that stand on the ground and hide people: pillars, trees, bushes, benches, signs, parked vans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

__all__ = ["PROPS", "Prop", "PropKind", "draw_prop"]

_SUPERSAMPLE = 3


@dataclass(frozen=True, slots=True)
class PropKind:
    """A kind of thing: how big it is, in metres, and how to paint it."""

    width: tuple[float, float]
    height: tuple[float, float]
    share: float
    paint: Callable[[np.random.Generator, ImageDraw.ImageDraw, float, float, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Prop:
    """One thing in a scene.

    Attributes:
        x: metres to the right of the camera's axis.
        z: metres before the camera.
        width: metres.
        height: metres.
        image: RGBA picture at canvas scale.
        left: canvas column of its first column.
        top: canvas row of its first row.
    """

    x: float
    z: float
    width: float
    height: float
    image: PilImage.Image
    left: int
    top: int


def draw_prop(rng: np.random.Generator, kind: PropKind, width: float, height: float, scale: float) -> PilImage.Image:
    """Paint a thing of a size in metres at a scale in pixels per metre; its foot is the picture's last row."""
    columns, rows = max(2, round(width * scale)), max(2, round(height * scale))
    image = PilImage.new("RGBA", (columns * _SUPERSAMPLE, rows * _SUPERSAMPLE))
    kind.paint(rng, ImageDraw.Draw(image), columns * _SUPERSAMPLE, rows * _SUPERSAMPLE, scale * _SUPERSAMPLE)
    small = np.asarray(image.reduce(_SUPERSAMPLE)).copy()
    grain = rng.normal(0, 5, (*small.shape[:2], 1))
    small[..., :3] = np.clip(small[..., :3] + grain, 0, 255).astype(np.uint8)
    return PilImage.fromarray(small)


def _gray(rng: np.random.Generator, low: float, high: float, spread: float = 8) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.clip(rng.uniform(low, high) + rng.normal(0, spread, 3), 0, 255)


def _rgb(color: np.ndarray[tuple[int], np.dtype[np.float64]], light: float = 1.0) -> tuple[int, int, int]:
    red, green, blue = np.clip(color * light, 0, 255)
    return int(red), int(green), int(blue)


def _pillar(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, scale: float) -> None:
    color = _gray(rng, 110, 205, 10)
    strips = 8
    for strip in range(strips):  # round: bright in the middle, darker to the sides
        light = 0.72 + 0.36 * np.sin(np.pi * (strip + 0.8) / (strips + 0.6))
        draw.rectangle((width * strip / strips, 0, width * (strip + 1) / strips, height), fill=_rgb(color, light))
    draw.rectangle((0, height - 0.25 * scale, width, height), fill=_rgb(color, 0.6))
    band = height - float(rng.uniform(1.2, 1.8)) * scale
    draw.rectangle((0, band, width, band + 0.14 * scale), fill=_rgb(_gray(rng, 60, 200, 35)))


def _tree(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, scale: float) -> None:
    trunk = np.array([92.0, 72.0, 54.0]) * rng.uniform(0.7, 1.2)
    half = 0.17 * scale
    middle = width / 2
    draw.polygon(
        [(middle - half, height), (middle - half * 0.8, 0), (middle + half * 0.8, 0), (middle + half, height)], fill=_rgb(trunk)
    )
    draw.polygon(
        [(middle + half * 0.2, height), (middle + half * 0.2, 0), (middle + half * 0.8, 0), (middle + half, height)],
        fill=_rgb(trunk, 0.75),
    )
    green = np.array([74.0, 108.0, 54.0]) * rng.uniform(0.8, 1.2)
    bottom = height - 2.3 * scale
    for _ in range(60):
        r = float(rng.uniform(0.15, 0.4)) * scale
        x, y = float(rng.uniform(r, max(r + 1, width - r))), float(rng.uniform(0, bottom - r)) if bottom > r else 0.0
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_rgb(green, float(rng.uniform(0.7, 1.25))))


def _bush(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, _scale: float) -> None:
    green = np.array([70.0, 102.0, 50.0]) * rng.uniform(0.75, 1.2) + rng.normal(0, 6, 3)
    r = 0.28 * height
    draw.rounded_rectangle((r * 0.4, height * 0.35, width - r * 0.4, height), radius=r, fill=_rgb(green, 0.75))
    for _ in range(int(14 + 40 * width / height)):
        size = float(rng.uniform(0.1, 0.25)) * height
        x, y = float(rng.uniform(size, width - size)), float(rng.uniform(size, height - size * 0.5))
        draw.ellipse((x - size, y - size, x + size, y + size), fill=_rgb(green, float(rng.uniform(0.7, 1.3))))


def _bench(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, scale: float) -> None:
    wood, iron = np.array([132.0, 94.0, 60.0]) * rng.uniform(0.7, 1.2), (52, 52, 56)
    for x in (0.06, 0.5, 0.92):
        draw.rectangle((width * x - 0.03 * scale, height * 0.1, width * x + 0.03 * scale, height), fill=iron)
    for top in (0.0, 0.16, 0.32):
        draw.rectangle((0, height * top, width, height * (top + 0.12)), fill=_rgb(wood))
    draw.rectangle((0, height * 0.5, width, height * 0.64), fill=_rgb(wood, 1.15))


def _sign(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, scale: float) -> None:
    board, ink = _gray(rng, 80, 215, 26), _gray(rng, 60, 230, 30)
    draw.rectangle((width * 0.08, height * 0.8, width * 0.16, height), fill=(60, 60, 64))
    draw.rectangle((width * 0.84, height * 0.8, width * 0.92, height), fill=(60, 60, 64))
    draw.rectangle((0, 0, width, height * 0.86), fill=_rgb(board, 0.6))
    draw.rectangle((0.05 * scale, 0.05 * scale, width - 0.05 * scale, height * 0.86 - 0.05 * scale), fill=_rgb(board))
    draw.rectangle((width * 0.15, height * 0.12, width * 0.85, height * 0.4), fill=_rgb(ink))
    for line in (0.5, 0.6, 0.7):
        draw.rectangle(
            (width * 0.15, height * line, width * float(rng.uniform(0.5, 0.85)), height * (line + 0.04)), fill=_rgb(ink, 0.8)
        )


def _van(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, scale: float) -> None:
    body = _gray(rng, 60, 235, 25)
    glass = (48, 58, 68)
    nose = width * 0.24
    draw.polygon(
        [(0, height * 0.9), (0, height * 0.5), (nose * 0.5, height * 0.42), (nose, 0), (width, 0), (width, height * 0.9)],
        fill=_rgb(body),
    )
    draw.rectangle((0, height * 0.72, width, height * 0.9), fill=_rgb(body, 0.75))
    draw.polygon(
        [(nose * 0.6, height * 0.42), (nose * 1.02, height * 0.08), (nose * 1.6, height * 0.08), (nose * 1.6, height * 0.42)],
        fill=glass,
    )
    for start in (0.45, 0.62, 0.79):
        if rng.random() < 0.6:
            draw.rectangle((width * start, height * 0.1, width * (start + 0.14), height * 0.4), fill=glass)
    for x in (0.17, 0.8):
        r = 0.33 * scale
        draw.ellipse((width * x - r, height - 2 * r, width * x + r, height), fill=(30, 30, 32))
        draw.ellipse((width * x - r / 2, height - 1.5 * r, width * x + r / 2, height - r / 2), fill=(120, 120, 124))


def _planter(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: float, height: float, scale: float) -> None:
    _bush(rng, draw, width, height * 0.7, scale)
    color = _gray(rng, 90, 170, 12)
    draw.rectangle((width * 0.06, height * 0.5, width * 0.94, height), fill=_rgb(color))
    draw.rectangle((width * 0.03, height * 0.46, width * 0.97, height * 0.56), fill=_rgb(color, 1.12))


PROPS: dict[str, PropKind] = {
    "pillar": PropKind((0.7, 1.25), (4.5, 6.0), 3.0, _pillar),
    "tree": PropKind((1.6, 2.4), (4.0, 5.5), 1.5, _tree),
    "bush": PropKind((1.2, 2.2), (1.2, 1.9), 2.0, _bush),
    "bench": PropKind((1.5, 2.1), (0.8, 0.95), 1.0, _bench),
    "sign": PropKind((1.1, 1.9), (1.9, 2.3), 2.5, _sign),
    "van": PropKind((3.8, 4.8), (1.9, 2.2), 1.0, _van),
    "planter": PropKind((0.9, 1.6), (1.0, 1.4), 1.0, _planter),
}
