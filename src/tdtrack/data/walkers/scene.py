"""A place: ground in perspective, backdrop, light, and things to walk behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFilter

from tdtrack.data.walkers.config import WalkersConfig
from tdtrack.data.walkers.props import PROPS, Prop, draw_prop
from tdtrack.data.walkers.texture import GROUNDS, paint_backdrop, smooth_noise

__all__ = ["Ground", "Scene", "build_scene"]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a point on the ground appears on the scene's canvas (a level pinhole camera).

    Attributes:
        horizon: canvas row of the horizon.
        camera_height: metres above the ground.
        focal: focal length in pixels.
        centre: canvas column straight ahead.
        near: distance in metres of the nearest place to walk.
        far: distance in metres of the farthest.
    """

    horizon: float
    camera_height: float
    focal: float
    centre: float
    near: float
    far: float

    def scale(self, z: float) -> float:
        """Pixels per metre at a distance."""
        return self.focal / z

    def column(self, x: float, z: float) -> float:
        """Canvas column of a ground point, ``x`` metres to the right."""
        return self.centre + x * self.focal / z

    def row(self, z: float) -> float:
        """Canvas row of the ground at a distance."""
        return self.horizon + self.camera_height * self.focal / z

    def distance(self, row: float) -> float:
        """Distance at which the ground appears on a canvas row below the horizon."""
        return self.camera_height * self.focal / (row - self.horizon)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A place to walk in, painted on a canvas larger than the frame so that the camera can turn.

    Attributes:
        ground: its perspective.
        canvas: background picture.
        margin: columns and rows that the canvas is wider and higher than the frame, on each side.
        light: ``(H, W, 3)`` float32 on the canvas: how bright, and of which tint, someone is who stands there.
        light_side: from where the light comes: -1 left to 1 right.
        shadow: darkness of the shadow people cast, 0 to 1.
        props: things to walk behind.
    """

    ground: Ground
    canvas: PilImage.Image
    margin: tuple[int, int]
    light: NDArray[np.float32]
    light_side: float
    shadow: float
    props: tuple[Prop, ...]

    def light_at(self, column: float, row: float) -> NDArray[np.float32]:
        """Return the ``(3,)`` light on someone whose feet are at a canvas point, outside points as at the border."""
        height, width = self.light.shape[:2]
        return np.asarray(self.light[min(max(int(row), 0), height - 1), min(max(int(column), 0), width - 1)])


def build_scene(rng: np.random.Generator, config: WalkersConfig) -> Scene:
    """Draw a place.

    Args:
        rng: stream to draw from.
        config: frame size, camera motion (room around the frame) and number of occluders.

    Returns:
        The scene; its canvas covers every view that :func:`~tdtrack.data.walkers.camera.film` may ask for.
    """
    width, height = config.width, config.height
    margin = (round(0.2 * width), round(0.08 * height))
    columns, rows = width + 2 * margin[0], height + 2 * margin[1]
    unit = height / 256
    near_row = margin[1] + height * rng.uniform(0.95, 1.05)
    far_row = margin[1] + height * rng.uniform(0.42, 0.52)
    near_scale, far_scale = unit * rng.uniform(68, 96), unit * rng.uniform(25, 34)
    camera_height = (near_row - far_row) / (near_scale - far_scale)
    focal = 1.1 * width
    ground = Ground(
        horizon=float(near_row - camera_height * near_scale),
        camera_height=float(camera_height),
        focal=focal,
        centre=columns / 2,
        near=float(focal / near_scale),
        far=float(focal / far_scale),
    )
    kind = str(rng.choice(list(GROUNDS)))
    picture, light = _paint(rng, ground, kind, columns, rows)
    props = _place_props(rng, config, ground, columns, outdoors=kind != "hall")
    canvas = PilImage.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    canvas = _ground_contact(canvas, props, ground)
    return Scene(
        ground, canvas, margin, light, float(rng.choice([-1, 1]) * rng.uniform(0.3, 1)), float(rng.uniform(0.2, 0.5)), props
    )


def _paint(
    rng: np.random.Generator, ground: Ground, kind: str, columns: int, rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Paint background and light of the whole canvas."""
    wall = ground.far + float(rng.uniform(0.6, 2.5))
    wall_row = int(ground.row(wall))
    picture = np.empty((rows, columns, 3), np.float32)
    picture[:wall_row] = paint_backdrop(rng, columns, wall_row, ground.scale(wall), kind)
    row, column = np.mgrid[wall_row:rows, :columns].astype(np.float32)
    z = ground.camera_height * ground.focal / (row + 0.5 - ground.horizon)
    x = (column + 0.5 - ground.centre) * z / ground.focal
    footprint = z * z / (ground.camera_height * ground.focal)
    picture[wall_row:] = GROUNDS[kind](rng, x, z, footprint)

    light = np.empty((rows, columns, 3), np.float32)
    light[wall_row:] = _light(rng, x, z, kind)
    light[:wall_row] = light[wall_row]
    light /= np.clip(light.mean(), 0.95, 1.05) * 0.98  # what a camera's automatic exposure does
    picture[wall_row:] *= light[wall_row:]
    picture[:wall_row] *= 0.5 + 0.5 * light[wall_row]
    return picture, light


def _light(rng: np.random.Generator, x: NDArray[np.float32], z: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Light on the ground: a slow gradient, and shade with edges (of roofs, crowns, lamps) outdoors and in."""
    angle = float(rng.uniform(0, 2 * np.pi))
    along = (x * np.cos(angle) + (z - 11) * np.sin(angle)) / 9
    level = 1 + float(rng.uniform(0.08, 0.25)) * np.clip(along, -1, 1)
    size = float(rng.uniform(2.5, 5))
    field = smooth_noise(rng, x / size + 17, z / size) + 0.35 * smooth_noise(rng, x / size * 3, z / size * 3)
    softness = 0.25 if kind == "hall" else float(rng.uniform(0.05, 0.2))
    shade = np.clip(field / softness + 0.5 + float(rng.uniform(-2, 1)), 0, 1)
    sun = np.array([1.06, 1.0, 0.92]) * rng.uniform(1.04, 1.15)
    cool = np.array([0.9, 0.98, 1.08]) * rng.uniform(0.62, 0.8)
    return np.asarray(level[..., None] * (sun + (cool - sun) * shade[..., None]), np.float32)


def _place_props(
    rng: np.random.Generator, config: WalkersConfig, ground: Ground, columns: int, *, outdoors: bool
) -> tuple[Prop, ...]:
    """Stand things where they hide someone for a while but never most of the view."""
    kinds = {name: kind for name, kind in PROPS.items() if outdoors or name not in ("tree", "van", "bush")}
    share = np.array([kind.share for kind in kinds.values()])
    props: list[Prop] = []
    taken: list[tuple[float, float]] = []
    vans = 0
    for _ in range(int(rng.poisson(config.occluders))):
        name = list(kinds)[int(rng.choice(len(kinds), p=share / share.sum()))]
        kind = kinds[name]
        size = float(rng.uniform(*kind.width)), float(rng.uniform(*kind.height))
        # Scale, not distance, is drawn evenly: near things would fill the frame, so wide ones stand in the back half.
        low, high = ground.focal / ground.far * 1.08, ground.focal / ground.near * 0.8
        limit = min(high, 0.26 * config.width / size[0])
        if limit <= low or (name == "van" and vans):
            continue
        scale = float(rng.uniform(low, limit))
        z = ground.focal / scale
        column = float(rng.uniform(0.12, 0.88)) * columns
        half = size[0] * scale / 2
        if any(column - half < right and left < column + half for left, right in taken):
            continue
        taken.append((column - half - 8, column + half + 8))
        vans += name == "van"
        image = draw_prop(rng, kind, *size, scale)
        left, top = round(column - image.width / 2), round(ground.row(z)) - image.height
        props.append(Prop((column - ground.centre) / scale, z, size[0], size[1], image, left, top))
    return tuple(props)


def _ground_contact(canvas: PilImage.Image, props: tuple[Prop, ...], ground: Ground) -> PilImage.Image:
    """Darken the ground where things stand on it."""
    if not props:
        return canvas
    dark = PilImage.new("L", canvas.size)
    draw = ImageDraw.Draw(dark)
    for prop in props:
        column, row, scale = ground.column(prop.x, prop.z), ground.row(prop.z), ground.scale(prop.z)
        half, deep = prop.width * 0.55 * scale, 0.12 * scale
        draw.ellipse((column - half, row - deep, column + half, row + deep), fill=110)
    dark = dark.filter(ImageFilter.GaussianBlur(2))
    return PilImage.composite(PilImage.new("RGB", canvas.size), canvas, dark)
