"""Anti-aliased drawing of round limbs and panels on a body."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw

from tdtrack.data.walkers.looks import Color

__all__ = ["Pen", "shade"]

Point = tuple[float, float]


def shade(color: Color, light: float) -> Color:
    """Return a colour at another brightness; 1 leaves it."""
    red, green, blue = (min(255, int(value * light)) for value in color)
    return red, green, blue


class Pen:
    """Draws in body coordinates (statures, right and up from the feet) on a canvas finer than the pixels it ends as."""

    def __init__(
        self, width: int, height: int, supersample: int, column: float, row: float, unit: float, heading: float, tilt: float
    ) -> None:
        """Prepare an empty canvas.

        Args:
            width: of the finished drawing, in pixels.
            height: of the finished drawing.
            supersample: canvas pixels per finished pixel and side.
            column: where the feet are, in finished pixels.
            row: the same, downwards.
            unit: finished pixels per stature.
            heading: where the body faces, radians (0 to the camera, pi/2 right).
            tilt: how far a point nearer to the camera slides down, per length.
        """
        self.heading, self.tilt = heading, tilt
        self.sine, self.cosine = math.sin(heading), math.cos(heading)
        self._column, self._row, self._unit = column * supersample, row * supersample, unit * supersample
        self._supersample = supersample
        # Four plain channels, of which the last is coverage: Pillow averages them as they are, which is what drawings of
        # full coverage on nothing need, while RGBA would cost two more passes over the fine canvas.
        self._canvas = PilImage.new("CMYK", (width * supersample, height * supersample))
        self._draw = ImageDraw.Draw(self._canvas)

    def at(self, forward: float, left: float, up: float) -> Point:
        """Flatten a body point: statures to the right of the feet, and up."""
        return forward * self.sine + left * self.cosine, up - self.tilt * self.depth(forward, left)

    def depth(self, forward: float, left: float) -> float:
        """Tell how much nearer to the camera than the body's axis a point is, in statures."""
        return forward * self.cosine - left * self.sine

    def width(self, lateral: float, thickness: float) -> float:
        """Half width, as seen, of an upright elliptical cylinder."""
        return math.hypot(lateral * self.cosine, thickness * self.sine)

    def limb(self, start: Point, end: Point, start_radius: float, end_radius: float, color: Color) -> None:
        """Fill a tapering bar with round ends."""
        (x0, y0), (x1, y1) = self._pixel(start), self._pixel(end)
        r0, r1 = start_radius * self._unit, end_radius * self._unit
        length = math.hypot(x1 - x0, y1 - y0)
        if length > 1e-6:
            nx, ny = (y0 - y1) / length, (x1 - x0) / length
            corners = [(x0 + nx * r0, y0 + ny * r0), (x1 + nx * r1, y1 + ny * r1)]
            corners += [(x1 - nx * r1, y1 - ny * r1), (x0 - nx * r0, y0 - ny * r0)]
            self._draw.polygon(corners, fill=(*color, 255))
        self._draw.ellipse((x0 - r0, y0 - r0, x0 + r0, y0 + r0), fill=(*color, 255))
        self._draw.ellipse((x1 - r1, y1 - r1, x1 + r1, y1 + r1), fill=(*color, 255))

    def disc(self, centre: Point, radius: float, color: Color) -> None:
        """Fill a disc."""
        self.ellipse(centre, radius, radius, color)

    def ellipse(self, centre: Point, across: float, upright: float, color: Color) -> None:
        """Fill an upright ellipse given by its two radii."""
        x, y = self._pixel(centre)
        rx, ry = across * self._unit, upright * self._unit
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=(*color, 255))

    def dome(self, centre: Point, across: float, upright: float, color: Color) -> None:
        """Fill the upper half of an ellipse."""
        x, y = self._pixel(centre)
        rx, ry = across * self._unit, upright * self._unit
        self._draw.pieslice((x - rx, y - ry, x + rx, y + ry), 180, 360, fill=(*color, 255))

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._pixel(point) for point in points], fill=(*color, 255))

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return colour ``(h, w, 3)`` and coverage ``(h, w)`` at the finished size."""
        small = self._canvas.reduce(self._supersample)
        pixels = np.asarray(PilImage.frombytes("RGBa", small.size, small.tobytes()).convert("RGBA"))
        return pixels[..., :3], pixels[..., 3]

    def _pixel(self, point: Point) -> Point:
        return self._column + point[0] * self._unit, self._row - point[1] * self._unit
