"""Clothes, hair and bags on a body; what is on its far side stays hidden."""

from __future__ import annotations

import math
from bisect import bisect

import numpy as np

from tdtrack.data.walkers.looks import Look
from tdtrack.data.walkers.pen import Pen, Point, shade

__all__ = ["draw_bag", "draw_head", "draw_lower", "draw_torso"]

Joint = tuple[float, float, float]

# The trunk's outline: height above the hip, half width, half thickness (all in statures of a slim adult).
_HEIGHTS = (-0.34, -0.10, -0.03, 0.03, 0.12, 0.22, 0.275, 0.31, 0.325)
_WIDTHS = (0.125, 0.105, 0.094, 0.090, 0.086, 0.106, 0.112, 0.085, 0.045)
_THICKNESS = (0.10, 0.085, 0.074, 0.068, 0.064, 0.076, 0.070, 0.052, 0.040)


class _Trunk:
    """The trunk as a leaning elliptical column."""

    def __init__(self, pen: Pen, look: Look, hip: float, lean: float) -> None:
        self.pen, self.hip, self.lean = pen, hip, math.sin(lean)
        self.build = look.build

    def half(self, height: float) -> float:
        above = min(max(bisect(_HEIGHTS, height), 1), len(_HEIGHTS) - 1)
        low, high = _HEIGHTS[above - 1], _HEIGHTS[above]
        part = min(max((height - low) / (high - low), 0.0), 1.0)
        width = _WIDTHS[above - 1] + part * (_WIDTHS[above] - _WIDTHS[above - 1])
        thickness = _THICKNESS[above - 1] + part * (_THICKNESS[above] - _THICKNESS[above - 1])
        return self.pen.width(width * self.build, thickness * (0.3 + 0.7 * self.build))

    def axis(self, height: float) -> Point:
        return self.pen.at(max(0.0, height) * self.lean, 0.0, self.hip + height)

    def band(self, low: float, high: float, grow: float = 1.0) -> list[Point]:
        """Outline between two heights."""
        inner = [height for height in _HEIGHTS if low < height < high]
        heights = [low, *inner, high]
        sides = [(self.axis(height), self.half(height) * grow) for height in heights]
        right = [(centre[0] + half, centre[1]) for centre, half in sides]
        left = [(centre[0] - half, centre[1]) for centre, half in sides]
        return right + left[::-1]

    def panel(self, start: float, end: float, low: float, high: float, grow: float = 1.0) -> list[Point] | None:
        """Outline of a piece of the surface between two angles (0 is the front, pi/2 the body's left) and heights."""
        middle = math.remainder((start + end) / 2 + self.pen.heading, math.tau)
        half = (end - start) / 2
        first, last = max(middle - half, -math.pi / 2), min(middle + half, math.pi / 2)
        if first >= last:
            return None
        points = []
        for height, angles in ((low, (first, last)), (high, (last, first))):
            centre, width = self.axis(height), self.half(height) * grow
            points += [(centre[0] + width * math.sin(angle), centre[1]) for angle in angles]
        return points


def draw_torso(pen: Pen, look: Look, hip: float, lean: float) -> None:
    """Paint the upper garment with its pattern."""
    trunk = _Trunk(pen, look, hip, lean)
    hem = 0.12 - look.hem - 0.08
    pen.polygon(trunk.band(hem, 0.325), look.upper)
    second = look.upper_second
    if look.pattern == "stripes":
        for low in np.arange(hem + 0.02, 0.28, 0.07):
            pen.polygon(trunk.band(float(low), float(low) + 0.033), second)
    elif look.pattern == "block":
        pen.polygon(trunk.band(0.17, 0.325), second)
    else:
        _panels(pen, look, trunk, hem)
    # A collar, and the shade under the hem, separate the garments.
    pen.polygon(trunk.band(hem, hem + 0.012), shade(look.upper, 0.72))
    if look.bag == "backpack":
        for side in (0.5, -0.62):
            strap = trunk.panel(side, side + 0.14, 0.06, 0.30)
            if strap:
                pen.polygon(strap, shade(look.bag_color, 0.85))
    if look.bag == "satchel":
        _satchel_strap(pen, look, trunk)


def _panels(pen: Pen, look: Look, trunk: _Trunk, hem: float) -> None:
    second = look.upper_second
    if look.pattern == "pinstripes":
        for angle in np.arange(-math.pi, math.pi, math.pi / 5):
            panel = trunk.panel(float(angle), float(angle) + 0.24, hem, 0.30)
            if panel:
                pen.polygon(panel, second)
    elif look.pattern == "logo":
        for angle, low, high, width in ((0.0, 0.13, 0.24, 0.55), (math.pi, 0.10, 0.26, 0.75)):
            panel = trunk.panel(angle - width, angle + width, low, high)
            if panel:
                pen.polygon(panel, second)
    elif look.pattern == "open":
        panel = trunk.panel(-0.4, 0.4, hem, 0.318)
        if panel:
            pen.polygon(panel, second)


def _satchel_strap(pen: Pen, look: Look, trunk: _Trunk) -> None:
    """A strap from the body's left shoulder to its right hip, over the front or the back."""
    sign = 1.0 if pen.cosine >= 0 else -1.0
    top, bottom = trunk.axis(0.29), trunk.axis(-0.02)
    across = trunk.half(0.22) * 0.75 * sign * (0.4 + 0.6 * abs(pen.cosine))
    strap = shade(look.bag_color, 0.85)
    pen.limb((top[0] + across, top[1]), (bottom[0] - across, bottom[1]), 0.011, 0.011, strap)


def draw_lower(pen: Pen, look: Look, legs: list[tuple[Joint, Joint]], hip: float) -> None:
    """Paint what hangs around both legs: the seat of trousers, or a skirt."""
    trunk = _Trunk(pen, look, hip, 0.0)
    pen.polygon(trunk.band(-0.045, 0.12), look.lower_color)
    if look.lower != "skirt":
        return
    part = look.lower_length
    points = [pen.at(*(k + (a - k) * max(0.0, part * 2 - 1) for k, a in zip(knee, ankle))) for knee, ankle in legs]
    bottom = hip - part * 0.46
    left, right = min(x for x, _ in points) - 0.06, max(x for x, _ in points) + 0.06
    half = trunk.half(-0.03)
    outline = [
        (-half * 0.9, hip + 0.04),
        (half * 0.9, hip + 0.04),
        (max(right, half * 1.15), bottom),
        (min(left, -half * 1.15), bottom),
    ]
    pen.polygon(outline, look.lower_color)
    fold = (outline[2][0] + outline[3][0]) / 2
    pen.polygon([(0.0, hip), (fold + 0.02, bottom), (fold - 0.02, bottom)], shade(look.lower_color, 0.82))


def draw_head(pen: Pen, look: Look, hip: float, lean: float, *, behind: bool) -> None:
    """Paint neck, face, hair and hat; with ``behind`` only what lies behind the trunk."""
    x, neck = _Trunk(pen, look, hip, lean).axis(0.31)
    x += 0.02 * pen.sine
    centre = (x, neck + 0.105)
    facing = pen.cosine
    hair = look.hair_color
    if look.hair in ("long", "tail") and look.hat != "hood":
        over_the_back = facing < 0
        if over_the_back is not behind:
            _hair_on_back(pen, look, centre, neck)
    if behind:
        return
    skin = look.skin
    pen.limb((x, neck - 0.01), (x, neck + 0.05), 0.033, 0.03, shade(skin, 0.86))
    crown = hair if look.hair != "bald" else skin
    curly = 1.22 if look.hair == "curly" and look.hat == "none" else 1.0
    pen.ellipse((x - 0.006 * pen.sine, centre[1] + 0.006), 0.058 * curly, 0.071 * curly, crown)
    if facing > -0.45:
        # The face slides to the side it looks to and narrows as it turns away.
        turn = max(0.0, min(1.0, (facing + 0.45) / 1.1))
        shift = 0.024 * pen.sine
        pen.ellipse((x + shift, centre[1] - 0.012), 0.05 * (0.45 + 0.55 * turn), 0.059, skin)
        if facing > 0.2:
            for eye in (-0.019, 0.019):
                pen.ellipse((x + shift * 1.5 + eye, centre[1] - 0.002), 0.007, 0.0055, (40, 32, 30))
            pen.ellipse((x + shift * 1.5, centre[1] - 0.042), 0.014, 0.0045, shade(skin, 0.72))
    if look.hair == "bun" and look.hat == "none":
        pen.disc((x - 0.05 * pen.sine, centre[1] + 0.062), 0.03, shade(hair, 0.9))
    _draw_hat(pen, look, centre)


def _hair_on_back(pen: Pen, look: Look, centre: Point, neck: float) -> None:
    x = centre[0] - 0.03 * pen.sine
    hair = shade(look.hair_color, 0.92)
    if look.hair == "tail":
        end = (x - 0.05 * pen.sine, neck - 0.05)
        pen.limb((x - 0.03 * pen.sine, centre[1] + 0.03), end, 0.026, 0.016, hair)
        return
    width = 0.062 - 0.012 * abs(pen.sine)
    pen.limb((x, centre[1] + 0.01), (x - 0.015 * pen.sine, neck - 0.055), width, width * 0.8, hair)


def _draw_hat(pen: Pen, look: Look, centre: Point) -> None:
    x, y = centre
    color = look.hat_color
    if look.hat == "cap":
        brim = 0.085 * pen.sine
        if pen.cosine > -0.3:
            pen.ellipse((x + brim * 0.75, y + 0.026 - 0.012 * max(0.0, pen.cosine)), 0.05, 0.011, shade(color, 0.75))
        pen.dome((x, y + 0.022), 0.063, 0.062, color)
    elif look.hat == "beanie":
        pen.dome((x, y + 0.012), 0.065, 0.078, color)
        pen.polygon(
            [(x - 0.065, y + 0.03), (x + 0.065, y + 0.03), (x + 0.065, y + 0.008), (x - 0.065, y + 0.008)], shade(color, 0.78)
        )
    elif look.hat == "hood":
        pen.ellipse((x - 0.012 * pen.sine, y + 0.002), 0.073, 0.086, color)
        if pen.cosine > -0.3:
            shift = 0.03 * pen.sine
            pen.ellipse((x + shift, y - 0.012), 0.045 * (0.6 + 0.4 * max(0.0, pen.cosine)), 0.058, shade(look.skin, 0.9))


def draw_bag(pen: Pen, look: Look, hip: float, lean: float, *, near: bool) -> None:
    """Paint a backpack or a shoulder bag if it is on the asked side of the trunk (a handbag goes with its hand)."""
    trunk = _Trunk(pen, look, hip, lean)
    if look.bag == "backpack":
        if (pen.cosine < 0) is not near:
            return
        depth = 0.085
        middle = trunk.axis(0.18)
        centre = (middle[0] - (depth + 0.02) * pen.sine, middle[1])
        half = pen.width(0.085 * look.build, 0.06)
        low, high = centre[1] - 0.12, centre[1] + 0.115
        pen.limb((centre[0], low + half * 0.6), (centre[0], high - half * 0.6), half, half * 0.92, look.bag_color)
        pen.limb(
            (centre[0], low + half * 0.7), (centre[0], low + half * 0.9), half * 0.62, half * 0.62, shade(look.bag_color, 0.78)
        )
    elif look.bag == "satchel":
        # It hangs on the body's right hip, which is nearer to the camera when the person faces left... or away.
        side = -0.115 * look.build
        if (pen.depth(0.0, side) >= 0) is not near:
            return
        x, y = pen.at(0.0, side, hip - 0.05)
        half = pen.width(0.03, 0.075)
        pen.polygon([(x - half, y + 0.055), (x + half, y + 0.055), (x + half, y - 0.06), (x - half, y - 0.06)], look.bag_color)
        pen.polygon(
            [(x - half, y + 0.055), (x + half, y + 0.055), (x + half, y + 0.005), (x - half, y + 0.005)],
            shade(look.bag_color, 0.8),
        )
