"""Puts scene, camera and people together into frames with exact ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from tdtrack.data.walkers.body import Pose, Sprite, draw_person
from tdtrack.data.walkers.camera import Style, View, develop, draw_style, film
from tdtrack.data.walkers.config import WalkersConfig, stream
from tdtrack.data.walkers.looks import Look, make_looks
from tdtrack.data.walkers.motion import Placement, walk
from tdtrack.data.walkers.props import Prop
from tdtrack.data.walkers.scene import Scene, build_scene
from tdtrack.types import FloatArray, Image, IntArray

__all__ = ["Frame", "Part", "Shot", "make_shot", "render_frame", "render_sequence", "sprites"]

_NOBODY = -1

Part = Literal["train", "val", "sequence"]
"""Parts made of videos: the detection set's two halves, and the MOT sequences."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """Everything that decides the frames of one video, before any is drawn.

    Attributes:
        scene: where it plays.
        style: the camera.
        views: what the camera shows in each frame.
        cast: looks of the people in it.
        identity: ``(len(cast),)`` identity numbers, unique in the world.
        placements: for each frame who is where.
    """

    scene: Scene
    style: Style
    views: list[View]
    cast: list[Look]
    identity: IntArray
    placements: list[list[Placement]]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame and its ground truth, people in ascending order of identity.

    Attributes:
        image: ``(H, W, 3)`` uint8.
        identity: ``(G,)`` int64.
        xyxy: ``(G, 4)`` float32, extent of the whole person, hidden parts included, cut at the frame; whole pixels.
        visibility: ``(G,)`` float32, share of the person's pixels, those outside the frame included, that can be seen.
    """

    image: Image
    identity: IntArray
    xyxy: FloatArray
    visibility: FloatArray


def first_identity(config: WalkersConfig, part: Part, index: int) -> int:
    """Return the number of the first identity of a part's ``index``-th video; parts never share numbers."""
    videos_before = {
        "train": 0,
        "val": config.detection_videos,
        "sequence": config.detection_videos + config.validation_videos,  # last, so that there may be ever more
    }
    reid = config.reid_identities + config.reid_test_identities
    return 1 + reid + (videos_before[part] + index) * cast_size(config)


def cast_size(config: WalkersConfig) -> int:
    """Return how many people may come into one video."""
    return 2 * config.max_people


def make_shot(config: WalkersConfig, part: Part, index: int, frames: int) -> Shot:
    """Prepare one video.

    Args:
        config: the world.
        part: "train" or "val" (of the detection set) or "sequence".
        index: which video of that part, from 0.
        frames: its length.

    Returns:
        The shot; the same whenever it is asked for with the same arguments.
    """
    rng = stream(config.seed, part, index)
    scene = build_scene(rng, config)
    style = draw_style(rng, "sequence" if part == "sequence" else "detection", config.width, config.height)
    size = cast_size(config)
    cast, _ = make_looks(rng, size, config.lookalike_fraction)
    identity = first_identity(config, part, index) + np.arange(size, dtype=np.int64)
    motion = config.camera_motion * float(rng.uniform(0.6, 1.2))
    views = film(rng, config, scene.margin, frames, motion)
    wanted = int(rng.integers(config.min_people, config.max_people + 1))
    return Shot(scene, style, views, cast, identity, walk(rng, config, scene, cast, views, wanted))


def render_sequence(config: WalkersConfig, index: int) -> Iterator[tuple[Image, IntArray, FloatArray, FloatArray]]:
    """Render one MOT sequence in memory.

    Args:
        config: the world.
        index: which sequence, from 0; may exceed the number that :func:`write_world` writes.

    Yields:
        Per frame the image (before JPEG), ``(G,)`` identities, ``(G, 4)`` boxes and ``(G,)`` visibilities: a :class:`Frame`.
    """
    shot = make_shot(config, "sequence", index, config.sequence_frames)
    for number in range(config.sequence_frames):
        frame = render_frame(shot, number)
        yield frame.image, frame.identity, frame.xyxy, frame.visibility


def sprites(shot: Shot, number: int) -> list[tuple[float, int, Sprite]]:
    """Draw everybody near one frame's view, each alone.

    Args:
        shot: the video.
        number: the frame, from 0.

    Returns:
        For each person distance in metres, index into the cast and the lit sprite, far to near.
    """
    scene, view = shot.scene, shot.views[number]
    height, width = shot.style.gain.shape[:2]
    drawn = []
    for place in sorted(shot.placements[number], key=lambda place: -place.z):
        scale = scene.ground.scale(place.z) * view.zoom
        on_canvas = scene.ground.column(place.x, place.z), scene.ground.row(place.z)
        column, row = (on_canvas[0] - view.left) * view.zoom, (on_canvas[1] - view.top) * view.zoom
        reach = 1.2 * shot.cast[place.person].stature * scale
        if not (-reach < column < width + reach and -reach < row < height + reach):
            continue
        tilt = min(0.4, scene.ground.camera_height / place.z)
        # Seen from the side of the view, a heading looks turned by the angle to the camera's axis.
        heading = place.heading - math.atan2(place.x, place.z)
        sprite = draw_person(shot.cast[place.person], Pose(heading, place.phase, place.effort, tilt), scale, column, row)
        light = scene.light_at(*on_canvas)
        drawn.append((place.z, place.person, _lit(sprite, light, scene.light_side, shot.cast[place.person])))
    return drawn


def _lit(sprite: Sprite, light: NDArray[np.float32], side: float, look: Look) -> Sprite:
    """Apply the light at the place: its level and tint, from one side and from above, over folds of cloth."""
    height, width = sprite.alpha.shape
    across = 1 + 0.2 * side * np.linspace(-1, 1, width, dtype=np.float32)
    upright = np.linspace(1.08, 0.9, height, dtype=np.float32)
    folds = np.asarray(_folds(look).resize((width, height), PilImage.Resampling.BILINEAR))
    level = folds * (upright[:, None] * (across[None] / 128))
    color = np.clip(sprite.color * (level[..., None] * light), 0, 255).astype(np.uint8)
    return Sprite(color, sprite.alpha, sprite.left, sprite.top)


@lru_cache(maxsize=256)
def _folds(look: Look) -> PilImage.Image:
    """Uneven cloth, the same for a person at all times."""
    rng = np.random.default_rng(round(look.stature * 1e6))
    return PilImage.fromarray(np.clip(rng.normal(128, 13, (20, 9)), 80, 176).astype(np.uint8))


def render_frame(shot: Shot, number: int) -> Frame:
    """Draw one frame of a video and measure its ground truth.

    Args:
        shot: the video.
        number: the frame, from 0.
    """
    height, width = shot.style.gain.shape[:2]
    view, scene = shot.views[number], shot.scene
    step = 1 / view.zoom
    picture = scene.canvas.transform(
        (width, height), PilImage.Transform.AFFINE, (step, 0, view.left, 0, step, view.top), PilImage.Resampling.BILINEAR
    )
    people = sprites(shot, number)
    _cast_shadows(picture, shot, number)
    owner = np.full((height, width), _NOBODY, np.int16)
    things: Sequence[tuple[float, int, Sprite | Prop]] = [*people, *((prop.z, _NOBODY, prop) for prop in scene.props)]
    for _, person, thing in sorted(things, key=lambda item: -item[0]):
        sprite = _project(thing, view, width, height) if isinstance(thing, Prop) else thing
        if sprite is not None:
            _paste(picture, owner, sprite, person)
    image = develop(shot.style, picture, number)

    rows = []
    for _, person, sprite in people:
        xyxy = _extent(sprite, width, height)
        if xyxy[2] > xyxy[0] and xyxy[3] > xyxy[1]:
            seen = np.count_nonzero(owner == person) / np.count_nonzero(sprite.mask)
            rows.append((int(shot.identity[person]), xyxy, seen))
    rows.sort(key=lambda row: row[0])
    return Frame(
        image,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
    )


def _extent(sprite: Sprite, width: int, height: int) -> tuple[int, int, int, int]:
    """Extent of a sprite's mask, cut at the frame."""
    mask = sprite.mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        max(0, sprite.left + int(columns[0])),
        max(0, sprite.top + int(rows[0])),
        min(width, sprite.left + int(columns[-1]) + 1),
        min(height, sprite.top + int(rows[-1]) + 1),
    )


def _paste(picture: PilImage.Image, owner: NDArray[np.int16], sprite: Sprite, person: int) -> None:
    """Lay a sprite over the picture and take over its pixels."""
    height, width = owner.shape
    rows, columns = sprite.alpha.shape
    top, left = max(0, -sprite.top), max(0, -sprite.left)
    bottom, right = min(rows, height - sprite.top), min(columns, width - sprite.left)
    if top >= bottom or left >= right:
        return
    color, alpha = sprite.color[top:bottom, left:right], sprite.alpha[top:bottom, left:right]
    row, column = sprite.top + top, sprite.left + left
    picture.paste(PilImage.fromarray(color), (column, row), PilImage.fromarray(alpha))
    window = owner[row : row + bottom - top, column : column + right - left]
    window[alpha >= 128] = person


def _project(prop: Prop, view: View, width: int, height: int) -> Sprite | None:
    """Show a thing as the view shows it, or ``None`` outside the frame."""
    left, top = (prop.left - view.left) * view.zoom, (prop.top - view.top) * view.zoom
    first, last = max(0, math.floor(left)), min(width, math.ceil(left + prop.image.width * view.zoom))
    upper, lower = max(0, math.floor(top)), min(height, math.ceil(top + prop.image.height * view.zoom))
    if first >= last or upper >= lower:
        return None
    step = 1 / view.zoom
    move = (step, 0, (first - left) * step, 0, step, (upper - top) * step)
    shown = np.asarray(
        prop.image.transform((last - first, lower - upper), PilImage.Transform.AFFINE, move, PilImage.Resampling.BILINEAR)
    )
    return Sprite(shown[..., :3], shown[..., 3], first, upper)


_BLOB = np.exp(-np.square(np.linspace(-2, 2, 33))[:, None] - np.square(np.linspace(-2, 2, 33))[None])


def _cast_shadows(picture: PilImage.Image, shot: Shot, number: int) -> None:
    """Darken the ground beside people's feet, away from the light."""
    scene, view = shot.scene, shot.views[number]
    blob = PilImage.fromarray((_BLOB * 255 * min(1.0, 1.6 * scene.shadow)).astype(np.uint8))
    for place in shot.placements[number]:
        scale = scene.ground.scale(place.z) * view.zoom
        column = (scene.ground.column(place.x, place.z) - view.left) * view.zoom - scene.light_side * 0.35 * scale
        row = (scene.ground.row(place.z) - view.top) * view.zoom
        size = max(3, round(1.5 * scale)), max(3, round(0.5 * scale))
        corner = round(column - size[0] / 2), round(row - size[1] / 2)
        picture.paste((12, 12, 18), corner, blob.resize(size, PilImage.Resampling.BILINEAR))
