"""Draws one person: an articulated body, seen from any side, in a stride or standing.

The body is a skeleton in three dimensions (forward, left, up; in statures), flattened at one scale: a person is
shallow against their distance from the camera. Parts are painted far to near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tdtrack.data.walkers.garments import draw_bag, draw_head, draw_lower, draw_torso
from tdtrack.data.walkers.looks import Color, Look
from tdtrack.data.walkers.pen import Pen, shade

__all__ = ["Pose", "Sprite", "draw_person"]

SUPERSAMPLE = 3
THIGH, SHANK = 0.245, 0.235
UPPER_ARM, FOREARM = 0.165, 0.15


@dataclass(frozen=True, slots=True)
class Pose:
    """How a person stands or walks at one moment.

    Attributes:
        heading: radians; 0 faces the camera, pi/2 faces right, pi faces away.
        phase: of the gait, radians; one turn is two steps.
        effort: 0 stands, 1 walks at ease, up to 1.8 runs.
        tilt: rows that one metre towards the camera goes down, in metres (how far the camera looks down).
    """

    heading: float
    phase: float
    effort: float
    tilt: float


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A drawn person.

    Attributes:
        color: ``(h, w, 3)`` uint8.
        alpha: ``(h, w)`` uint8, coverage; a pixel belongs to the person where it is at least 128.
        left: column of the frame where the sprite's first column goes; may lie outside the frame.
        top: row of the frame where its first row goes.
    """

    color: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    left: int
    top: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(h, w)``: pixels that belong to the person."""
        return self.alpha >= 128


def draw_person(look: Look, pose: Pose, scale: float, column: float, row: float) -> Sprite:
    """Draw a person whose feet stand on a point of the frame.

    Args:
        look: whom to draw.
        pose: in which moment.
        scale: pixels per metre at the person's distance.
        column: where the feet are, in pixels of the frame, continuous.
        row: the same, downwards.

    Returns:
        The sprite, cut to the drawn body; never empty.
    """
    unit = look.stature * scale
    half = math.ceil(0.5 * unit) + 2
    left, top = math.floor(column) - half, math.floor(row - 1.12 * unit) - 2
    height = math.ceil(1.27 * unit) + 5
    pen = Pen(2 * half, height, SUPERSAMPLE, column - left, row - top, unit, pose.heading, pose.tilt)
    _paint(pen, look, pose)
    color, alpha = pen.finish()
    rows, columns = np.flatnonzero((alpha >= 128).any(axis=1)), np.flatnonzero((alpha >= 128).any(axis=0))
    # One more pixel on each side keeps the soft edge.
    first_row, last_row = max(int(rows[0]) - 1, 0), int(rows[-1]) + 2
    first, last = max(int(columns[0]) - 1, 0), int(columns[-1]) + 2
    return Sprite(color[first_row:last_row, first:last], alpha[first_row:last_row, first:last], left + first, top + first_row)


@dataclass(frozen=True, slots=True)
class Leg:
    """Joints of a leg as (forward, left, up) in statures."""

    hip: tuple[float, float, float]
    knee: tuple[float, float, float]
    ankle: tuple[float, float, float]
    toe: tuple[float, float, float]


def _leg(side: float, phase: float, effort: float, build: float) -> Leg:
    """Bend one leg; the hip is at height 0, to be lifted later."""
    swing = math.cos(phase)  # positive while the leg goes forward
    thigh = 0.4 * effort * math.sin(phase) + 0.05 * effort
    bend = 0.06 + effort * (0.12 + 0.85 * max(0.0, swing) ** 1.6)
    shank = thigh - bend
    lateral = side * 0.05 * build
    hip = (0.0, lateral, 0.0)
    knee = (THIGH * math.sin(thigh), lateral, -THIGH * math.cos(thigh))
    ankle = (knee[0] + SHANK * math.sin(shank), lateral * 0.85, knee[2] - SHANK * math.cos(shank))
    foot = min(0.25, shank * 0.75)
    toe = (ankle[0] + 0.105 * math.cos(foot), lateral * 1.1, ankle[2] - 0.025 + 0.105 * math.sin(foot))
    return Leg(hip, knee, ankle, toe)


def _paint(pen: Pen, look: Look, pose: Pose) -> None:
    effort = pose.effort * look.stride
    legs = [_leg(1, pose.phase, effort, look.build), _leg(-1, pose.phase + math.pi, effort, look.build)]
    lowest = min(min(leg.ankle[2] - 0.035, leg.toe[2] - 0.018) for leg in legs)
    hip = -lowest  # the lower foot touches the ground
    legs = [Leg(*((p[0], p[1], p[2] + hip) for p in (leg.hip, leg.knee, leg.ankle, leg.toe))) for leg in legs]
    lean = look.posture * (0.4 + 0.6 * min(1.0, effort))

    behind_first = sorted(legs, key=lambda leg: pen.depth(*leg.knee[:2]) + 0.3 * pen.depth(*leg.ankle[:2]))
    arms = sorted((_arm(pen, look, side, pose, hip, lean) for side in (1.0, -1.0)), key=lambda arm: arm.depth)
    draw_bag(pen, look, hip, lean, near=False)
    draw_head(pen, look, hip, lean, behind=True)
    for arm in arms:
        if arm.depth < 0:
            arm.draw(pen, look, 0.8)
    for leg, light in zip(behind_first, (0.8, 1.0)):
        _draw_leg(pen, look, leg, light)
    draw_lower(pen, look, [(leg.knee, leg.ankle) for leg in behind_first], hip)
    draw_torso(pen, look, hip, lean)
    draw_head(pen, look, hip, lean, behind=False)
    draw_bag(pen, look, hip, lean, near=True)
    for arm in arms:
        if arm.depth >= 0:
            arm.draw(pen, look, 0.93)


def _draw_leg(pen: Pen, look: Look, leg: Leg, light: float) -> None:
    build = 0.5 + 0.5 * look.build
    skin, cloth, shoe = shade(look.skin, light), shade(look.lower_color, light), shade(look.shoe_color, light)
    hip, knee, ankle, toe = leg.hip, leg.knee, leg.ankle, leg.toe
    heel = (ankle[0] - 0.022, ankle[1], ankle[2] - 0.018)
    pen.limb(pen.at(*ankle), pen.at(*knee), 0.026 * build, 0.036 * build, skin)
    pen.limb(pen.at(*heel), pen.at(*toe), 0.026, 0.019, shoe)
    covered = look.lower_length if look.lower != "skirt" else 0.0
    if covered >= 0.99:
        pen.limb(pen.at(*ankle), pen.at(*knee), 0.031 * build, 0.045 * build, cloth)
    elif covered > 0.5:
        part = (covered - 0.5) * 2
        end = (knee[0] + (ankle[0] - knee[0]) * part, knee[1], knee[2] + (ankle[2] - knee[2]) * part)
        pen.limb(pen.at(*end), pen.at(*knee), 0.042 * build, 0.048 * build, cloth)
    pen.limb(pen.at(*knee), pen.at(*hip), 0.046 * build, 0.068 * build, cloth if covered > 0.3 else skin)


@dataclass(frozen=True, slots=True)
class _Arm:
    shoulder: tuple[float, float]
    elbow: tuple[float, float]
    hand: tuple[float, float]
    depth: float
    side: float

    def draw(self, pen: Pen, look: Look, light: float) -> None:
        build = 0.5 + 0.5 * look.build
        skin, cloth = shade(look.skin, light), shade(_sleeve_color(look), light)
        thick = 1.12 if look.hem > 0.15 else 1.0
        pen.limb(self.elbow, self.hand, 0.027 * build, 0.02 * build, skin)
        pen.disc(self.hand, 0.022, skin)
        pen.limb(self.shoulder, self.elbow, 0.034 * build, 0.028 * build, skin)
        if look.sleeve > 0.9:
            wrist = _between(self.elbow, self.hand, 0.86)
            pen.limb(self.elbow, wrist, 0.034 * build * thick, 0.028 * build * thick, cloth)
            pen.limb(self.shoulder, self.elbow, 0.042 * build * thick, 0.034 * build * thick, cloth)
            if look.pattern == "stripes":
                for part in (0.35, 0.75):
                    pen.limb(
                        _between(self.shoulder, self.elbow, part),
                        _between(self.shoulder, self.elbow, part + 0.12),
                        0.037 * build,
                        0.036 * build,
                        shade(look.upper_second, light),
                    )
        else:
            end = _between(self.shoulder, self.elbow, 0.15 + 1.6 * look.sleeve)
            pen.limb(self.shoulder, end, 0.042 * build, 0.04 * build, cloth)
        if look.bag == "handbag" and self.side > 0:
            x, y = self.hand
            bag = shade(look.bag_color, light)
            pen.polygon([(x - 0.055, y - 0.03), (x + 0.055, y - 0.03), (x + 0.07, y - 0.13), (x - 0.07, y - 0.13)], bag)
            pen.polygon(
                [(x - 0.055, y - 0.03), (x + 0.055, y - 0.03), (x + 0.055, y - 0.055), (x - 0.055, y - 0.055)], shade(bag, 0.7)
            )


def _sleeve_color(look: Look) -> Color:
    return look.upper_second if look.pattern == "block" else look.upper


def _between(start: tuple[float, float], end: tuple[float, float], part: float) -> tuple[float, float]:
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _arm(pen: Pen, look: Look, side: float, pose: Pose, hip: float, lean: float) -> _Arm:
    """Place one arm; it swings against the leg of its side."""
    phase = pose.phase if side > 0 else pose.phase + math.pi
    swing = -0.34 * pose.effort * look.arm_swing * math.sin(phase)
    bend = 0.14 + 0.3 * min(1.4, pose.effort) * look.arm_swing + max(0.0, swing) * 0.5 + (1.0 if pose.effort > 1.4 else 0.0)
    lateral = side * 0.112 * look.build
    height = hip + 0.295
    shoulder = (math.sin(lean) * 0.3, lateral, height)
    elbow = (shoulder[0] + UPPER_ARM * math.sin(swing), lateral * 1.13, height - UPPER_ARM * math.cos(swing))
    hand = (elbow[0] + FOREARM * math.sin(swing + bend), lateral * 1.12, elbow[2] - FOREARM * math.cos(swing + bend))
    depth = (pen.depth(*elbow[:2]) + pen.depth(*hand[:2])) / 2
    return _Arm(pen.at(*shoulder), pen.at(*elbow), pen.at(*hand), depth, side)
