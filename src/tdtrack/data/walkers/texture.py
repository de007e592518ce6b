"""Procedural surfaces: grounds in perspective and the backdrop behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw

__all__ = ["GROUNDS", "paint_backdrop", "smooth_noise"]

Plane = NDArray[np.float32]
GroundPainter = Callable[[np.random.Generator, Plane, Plane, Plane], Plane]


def smooth_noise(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Sample a smooth random field, one feature per unit.

    Args:
        rng: stream to draw the field from.
        u: first coordinate, any shape.
        v: second coordinate, the same shape.

    Returns:
        Values about 0, roughly in ``[-1, 1]``.
    """
    lattice = rng.uniform(-1, 1, (64, 64)).astype(np.float32)
    whole_u, whole_v = np.floor(u), np.floor(v)
    fu, fv = u - whole_u, v - whole_v
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    i, j = whole_u.astype(np.int64) & 63, whole_v.astype(np.int64) & 63
    i1, j1 = (i + 1) & 63, (j + 1) & 63
    top = lattice[i, j] * (1 - fv) + lattice[i, j1] * fv
    bottom = lattice[i1, j] * (1 - fv) + lattice[i1, j1] * fv
    return np.asarray(top * (1 - fu) + bottom * fu, np.float32)


def _octaves(rng: np.random.Generator, x: Plane, z: Plane, footprint: Plane, finest: float, count: int) -> Plane:
    """Sum noise from features of ``finest`` metres upwards; features smaller than a pixel fade."""
    total = np.zeros_like(x)
    for octave in range(count):
        size = finest * 3.1**octave
        fade = np.clip(1.5 * size / footprint - 0.5, 0, 1)
        total += smooth_noise(rng, x / size, z / size) * fade * (0.6 + 0.2 * octave)
    return total


def _mix(base: NDArray[Any], color: NDArray[Any], share: NDArray[Any]) -> Plane:
    return np.asarray(base * (1 - share[..., None]) + color * share[..., None], np.float32)


def _joints(u: Plane, pitch: float, line: float, footprint: Plane) -> Plane:
    """Coverage in 0..1 of lines of a width in metres every ``pitch`` metres, faded where a pixel holds many."""
    distance = np.abs(u - np.round(u / pitch) * pitch)
    sharp = np.clip((line / 2 - distance) / np.maximum(footprint, 1e-6) + 0.5, 0, 1)
    far = np.clip(footprint / pitch * 2 - 0.4, 0, 1)
    return np.asarray(sharp * (1 - far) + line / pitch * far, np.float32)


def _tiles(rng: np.random.Generator, x: Plane, z: Plane, footprint: Plane) -> Plane:
    pitch = float(rng.uniform(0.5, 1.3))
    base = rng.uniform(105, 195) + rng.normal(0, 9, 3)
    depth = rng.uniform(1.0, 1.8) * pitch
    shift = (np.floor(z / depth) % 2) * (pitch / 2 if rng.random() < 0.4 else 0)
    u = x + shift
    table = rng.normal(0, 1, (64, 64)).astype(np.float32)
    checker = float(rng.choice([0, 0, 22]))
    column, line = np.floor(u / pitch).astype(np.int64), np.floor(z / depth).astype(np.int64)
    visible = np.clip(1.4 - footprint / pitch * 2, 0, 1)
    tone = (table[column & 63, line & 63] * 6 + checker * ((column + line) % 2 - 0.5)) * visible
    tone = tone + 7 * _octaves(rng, x, z, footprint, 0.05, 4)
    color = base.astype(np.float32) + tone[..., None]
    joint = np.maximum(_joints(u, pitch, 0.03, footprint * 0.5), _joints(z, depth, 0.035, footprint))
    return _mix(color, base * rng.uniform(0.6, 0.8), joint * 0.9)


def _asphalt(rng: np.random.Generator, x: Plane, z: Plane, footprint: Plane) -> Plane:
    base = rng.uniform(95, 145) + rng.normal(0, 3, 3)
    color = base.astype(np.float32) + (9 * _octaves(rng, x, z, footprint, 0.03, 6))[..., None]
    paint = np.array([214.0, 212.0, 200.0]) * rng.uniform(0.85, 1.0)
    if rng.random() < 0.5:  # a crossing
        middle, pitch = float(rng.uniform(9, 13)), 1.0
        inside = np.clip((1.6 - np.abs(z - middle)) / footprint + 0.5, 0, 1)
        stripes = _joints(x, pitch, 0.5, footprint * 0.4) * inside
    else:
        line = float(rng.uniform(-3, 3))
        stripes = np.clip((0.07 - np.abs(x - line - 0.12 * z)) / (footprint * 0.4) + 0.5, 0, 1)
        stripes = stripes * (np.mod(z, 3.0) < 1.8)
    worn = 0.75 + 0.2 * _octaves(rng, x, z, footprint, 0.08, 2)
    return _mix(color, paint, np.asarray(stripes * np.clip(worn, 0, 1), np.float32))


def _grass(rng: np.random.Generator, x: Plane, z: Plane, footprint: Plane) -> Plane:
    base = np.array([92.0, 122.0, 62.0]) * rng.uniform(0.8, 1.2) + rng.normal(0, 6, 3)
    tone = 13 * _octaves(rng, x * 1.6, z, footprint, 0.04, 6)
    color = base.astype(np.float32) + tone[..., None] * np.array([1.0, 0.9, 0.6], np.float32)
    if rng.random() < 0.7:  # a path across
        slope, start, wide = float(rng.uniform(-0.4, 0.4)), float(rng.uniform(8, 12)), float(rng.uniform(1.0, 2.2))
        edge = z - start - slope * x + 0.3 * smooth_noise(rng, x, z)
        share = np.clip((wide - np.abs(edge)) / 0.25, 0, 1)
        path = np.array([176.0, 158.0, 128.0]) + rng.normal(0, 8, 3)
        gravel = 8 * _octaves(rng, x, z, footprint, 0.05, 3)
        color = _mix(color, path, np.asarray(share, np.float32)) + (gravel * share)[..., None]
    return color


def _bricks(rng: np.random.Generator, x: Plane, z: Plane, footprint: Plane) -> Plane:
    base = np.array([150.0, 120.0, 102.0]) * rng.uniform(0.8, 1.15) + rng.normal(0, 8, 3)
    pitch, depth = 0.42, 0.24
    line = np.floor(z / depth).astype(np.int64)
    u = x + (line % 2) * pitch / 2
    table = rng.normal(0, 1, (64, 64)).astype(np.float32)
    visible = np.clip(1.4 - footprint / depth, 0, 1)
    tone = table[np.floor(u / pitch).astype(np.int64) & 63, line & 63] * 12 * visible + 7 * _octaves(
        rng, x, z, footprint, 0.05, 5
    )
    joint = np.maximum(_joints(u, pitch, 0.02, footprint * 0.5), _joints(z, depth, 0.02, footprint))
    return _mix(base.astype(np.float32) + tone[..., None], base * 0.7, joint)


def _hall(rng: np.random.Generator, x: Plane, z: Plane, footprint: Plane) -> Plane:
    """A polished indoor floor with large slabs and long inlays."""
    base = rng.uniform(150, 205) + np.array([6.0, 0.0, -8.0]) * rng.uniform(0, 2)
    color = base.astype(np.float32) + (5 * _octaves(rng, x, z * 0.5, footprint, 0.2, 4))[..., None]
    joint = np.maximum(_joints(x, 2.4, 0.02, footprint * 0.4), _joints(z, 2.4, 0.03, footprint))
    color = _mix(color, base * 0.8, joint)
    inlay = _joints(x + 1.2, 4.8, 0.35, footprint * 0.4)
    return _mix(color, rng.uniform(60, 150) + rng.normal(0, 15, 3), inlay * 0.7)


GROUNDS: dict[str, GroundPainter] = {"tiles": _tiles, "asphalt": _asphalt, "grass": _grass, "bricks": _bricks, "hall": _hall}
"""Painters by name: ``(rng, x, z, footprint) -> (..., 3)`` colours of ground points in metres; ``footprint`` is the depth
in metres that one pixel covers there."""


def paint_backdrop(rng: np.random.Generator, width: int, height: int, scale: float, ground: str) -> NDArray[np.float32]:
    """Paint what stands behind the ground.

    Args:
        rng: stream to draw from.
        width: in pixels.
        height: in pixels; its last row stands on the ground.
        scale: pixels per metre at its distance.
        ground: name of the ground before it; decides between a hall, a street and a park.

    Returns:
        ``(height, width, 3)`` colours.
    """
    fine = 2
    image = PilImage.new("RGB", (width * fine, max(height, 1) * fine))
    draw = ImageDraw.Draw(image)
    painter = {"hall": _wall, "grass": _trees}.get(ground, _houses)
    painter(rng, draw, width * fine, height * fine, scale * fine)
    pixels = np.asarray(image.reduce(fine), np.float32)
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    return np.asarray(
        pixels + (5 * smooth_noise(rng, columns / 3, rows / 3) + 6 * smooth_noise(rng, columns / 30, rows / 30))[..., None]
    )


def _tint(rng: np.random.Generator, low: float, high: float, spread: float) -> tuple[int, int, int]:
    red, green, blue = np.clip(rng.uniform(low, high) + rng.normal(0, spread, 3), 0, 255)
    return int(red), int(green), int(blue)


def _houses(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int, scale: float) -> None:
    draw.rectangle((0, 0, width, height), fill=_tint(rng, 170, 225, 8))
    left = -float(rng.uniform(0, 4)) * scale
    while left < width:
        right = left + float(rng.uniform(5, 11)) * scale
        wall = _tint(rng, 105, 205, 11)
        roof = height - float(rng.uniform(4, 11)) * scale
        draw.rectangle((left, roof, right, height), fill=wall)
        glass, frame = _tint(rng, 45, 120, 8), tuple(int(c * 0.75) for c in wall)
        floor, pitch = 3.0 * scale, float(rng.uniform(1.6, 2.6)) * scale
        wide, tall = pitch * float(rng.uniform(0.4, 0.62)), floor * float(rng.uniform(0.45, 0.6))
        shop = rng.random() < 0.6
        for number in range(5):
            sill = height - number * floor - 0.85 * scale
            x = left + 0.4 * scale
            while x + wide < right - 0.3 * scale:
                if number == 0 and shop:
                    draw.rectangle(
                        (x, sill - tall, x + pitch * 0.85, height - 0.3 * scale), fill=_tint(rng, 70, 150, 13), outline=frame
                    )
                elif sill - tall > roof:
                    draw.rectangle((x, sill - tall, x + wide, sill), fill=glass, outline=frame, width=max(1, int(0.08 * scale)))
                x += pitch
        if shop:
            draw.rectangle(
                (left + 0.2 * scale, height - 3.1 * scale, right - 0.2 * scale, height - 2.6 * scale),
                fill=_tint(rng, 70, 190, 26),
            )
        left = right
    draw.rectangle((0, height - 0.22 * scale, width, height), fill=_tint(rng, 90, 140, 4))


def _trees(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int, scale: float) -> None:
    draw.rectangle((0, 0, width, height), fill=(196, 212, 226))
    green = np.array([96.0, 130.0, 74.0]) * rng.uniform(0.85, 1.15)
    for layer in range(3):  # far crowns are high and hazy, near ones low and dark
        for _ in range(int(width / scale * 2.2)):
            x, y = float(rng.uniform(0, width)), height - float(rng.uniform(0.3, 6.0 - 1.8 * layer)) * scale
            tone = green * (1.08 - 0.14 * layer) * rng.uniform(0.88, 1.1) + (2 - layer) * 9
            for _ in range(7):
                r = float(rng.uniform(0.25, 0.75)) * scale
                dx, dy = rng.normal(0, 0.55, 2) * scale
                color = _shades(tone * rng.uniform(0.92, 1.08))
                draw.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), fill=color)
    draw.rectangle((0, height - 0.6 * scale, width, height), fill=_shades(green * 0.68))


def _shades(color: NDArray[Any]) -> tuple[int, int, int]:
    red, green, blue = np.clip(color, 0, 255)
    return int(red), int(green), int(blue)


def _wall(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int, scale: float) -> None:
    wall = _tint(rng, 165, 225, 7)
    draw.rectangle((0, 0, width, height), fill=wall)
    draw.rectangle((0, height - 1.1 * scale, width, height), fill=tuple(int(c * 0.86) for c in wall))
    x = float(rng.uniform(0, 2)) * scale
    while x < width:
        kind = rng.integers(4)
        wide = float(rng.uniform(1.2, 3.0)) * scale
        if kind == 0:
            draw.rectangle((x, height - 2.2 * scale, x + wide, height), fill=_tint(rng, 70, 150, 18), outline=(60, 60, 60))
            draw.line(
                (x + wide / 2, height - 2.2 * scale, x + wide / 2, height), fill=(60, 60, 60), width=max(1, int(0.05 * scale))
            )
        elif kind == 1:
            draw.rectangle(
                (x, height - 2.6 * scale, x + wide, height - 1.2 * scale), fill=_tint(rng, 80, 210, 28), outline=(90, 90, 90)
            )
        elif kind == 2:
            draw.rectangle(
                (x, height - 3.0 * scale, x + wide * 1.4, height - 0.5 * scale),
                fill=_tint(rng, 190, 235, 6),
                outline=(110, 110, 116),
            )
        x += wide * 1.5 + float(rng.uniform(0.3, 2)) * scale
    draw.rectangle((0, height - 0.14 * scale, width, height), fill=tuple(int(c * 0.6) for c in wall))
    for row in np.arange(height - 4.2 * scale, 0, -1.4 * scale):
        draw.rectangle((0, float(row) - 0.1 * scale, width, float(row)), fill=tuple(min(255, int(c * 1.1)) for c in wall))
