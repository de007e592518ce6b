"""The Re-ID part: crops by identity, seen by several cameras, as a detector would cut them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from tdtrack.data.walkers.camera import Style, draw_style, film
from tdtrack.data.walkers.config import WalkersConfig, stream
from tdtrack.data.walkers.looks import Look, make_looks
from tdtrack.data.walkers.motion import walk
from tdtrack.data.walkers.pictures import PictureWriter
from tdtrack.data.walkers.render import Shot, render_frame
from tdtrack.data.walkers.scene import Scene, build_scene
from tdtrack.types import BoolArray, FloatArray

__all__ = ["write_crops"]

MIN_CROP_VISIBILITY = 0.35
"""Less of a person is not a picture of them."""
MIN_CROP_HEIGHT = 1 / 8
"""Of the frame's height; smaller people show too little to learn from."""
MAX_FRAMES = 16
"""Frames one camera looks at one cast before it gives up on those it still lacks."""


def write_crops(config: WalkersConfig, folder: Path, camera: int) -> None:
    """Write what one camera sees of all identities that pass it.

    Training identities go to ``bounding_box_train``; of the others the first crop goes to ``query``, the rest to
    ``bounding_box_test``. Names are Market-1501's: ``0002_c1s1_000451_03.jpg`` is identity 2, camera 1, cast 1, frame
    451, third crop of that frame.

    Args:
        config: the world.
        folder: of the Re-ID set.
        camera: which camera, from 0.

    Raises:
        OutputError: a crop cannot be written.
    """
    rng = stream(config.seed, "reid", camera)
    scene = build_scene(rng, config)
    style = draw_style(rng, "reid", config.width, config.height)
    each = -(-config.crops_per_identity // config.cameras_per_identity)
    with PictureWriter() as pictures:
        for number, (first, cast) in enumerate(_casts(config)):
            on_duty = stream(config.seed, "reid-duty", number).permutation(config.reid_cameras)[: config.cameras_per_identity]
            if camera in on_duty:
                shot = _shoot(config, scene, style, stream(config.seed, "reid-shot", camera, number), first, cast)
                _cut(config, shot, pictures, folder, camera, number, each)


def _casts(config: WalkersConfig) -> list[tuple[int, list[Look]]]:
    """Split the identities into people who walk together, each cast with its first identity number."""
    casts = []
    first = 1
    for part, count in (("train", config.reid_identities), ("test", config.reid_test_identities)):
        looks, _ = make_looks(stream(config.seed, "reid-looks", part), count, config.lookalike_fraction)
        for start in range(0, count, config.max_people):
            cast = looks[start : start + config.max_people]
            casts.append((first + start, cast))
        first += count
    return casts


def _shoot(config: WalkersConfig, scene: Scene, style: Style, rng: np.random.Generator, first: int, cast: list[Look]) -> Shot:
    """Let one cast walk past one camera, filmed sparsely."""
    step = max(1, round(config.detection_gap * config.frame_rate))
    views = film(rng, config, scene.margin, MAX_FRAMES * step, 0.15 * config.camera_motion)
    placements = walk(rng, config, scene, cast, views, len(cast))
    identity = first + np.arange(len(cast), dtype=np.int64)
    return Shot(scene, style, views[::step], cast, identity, placements[::step])


def _cut(config: WalkersConfig, shot: Shot, pictures: PictureWriter, folder: Path, camera: int, number: int, each: int) -> None:
    """Write ``each`` crops of every identity in a shot, where it shows them that often."""
    rng = stream(config.seed, "reid-cut", camera, number)
    have: Counter[int] = Counter()
    for index in range(len(shot.views)):
        frame = render_frame(shot, index)
        written = 0
        for row in np.flatnonzero(_usable(frame.xyxy, frame.visibility, MIN_CROP_HEIGHT * config.height)):
            identity = int(frame.identity[row])
            if have[identity] >= each:
                continue
            part = "bounding_box_train"
            if identity > config.reid_identities:
                part = "bounding_box_test" if have[identity] else "query"
            have[identity] += 1
            written += 1
            name = f"{identity:04d}_c{camera + 1}s{number + 1}_{index + 1:06d}_{written:02d}.jpg"
            left, top, right, bottom = _jitter(rng, frame.xyxy[row], config)
            pictures.write(folder / part / name, np.ascontiguousarray(frame.image[top:bottom, left:right]), shot.style.quality)
        if all(have[int(identity)] >= each for identity in shot.identity):
            break


def _usable(xyxy: FloatArray, visibility: FloatArray, min_height: float) -> BoolArray:
    size = xyxy[:, 2:] - xyxy[:, :2]
    return np.asarray((visibility >= MIN_CROP_VISIBILITY) & (size[:, 1] >= min_height) & (size[:, 0] >= 8))


def _jitter(rng: np.random.Generator, xyxy: FloatArray, config: WalkersConfig) -> tuple[int, int, int, int]:
    """Move a box's sides as a detector would, within the frame and at least 8 pixels apart."""
    size = np.tile(xyxy[2:] - xyxy[:2], 2)
    moved = np.round(xyxy + rng.normal(0, config.box_jitter, 4) * size)
    left, top = (int(np.clip(moved[side], 0, limit - 8)) for side, limit in ((0, config.width), (1, config.height)))
    right, bottom = (
        int(np.clip(moved[side], low + 8, limit)) for side, low, limit in ((2, left, config.width), (3, top, config.height))
    )
    return left, top, right, bottom
