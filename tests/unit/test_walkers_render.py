"""Ground truth of rendered frames against counting pixels, one person at a time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PilImage

from tdtrack.data.walkers import WalkersConfig, render_sequence
from tdtrack.data.walkers.body import Pose, draw_person
from tdtrack.data.walkers.config import stream
from tdtrack.data.walkers.looks import make_looks
from tdtrack.data.walkers.render import Shot, make_shot, render_frame, sprites

CONFIG = WalkersConfig(seed=5, sequence_frames=60, occluders=6)


@pytest.fixture(scope="module")
def shot() -> Shot:
    return make_shot(CONFIG, "sequence", 0, CONFIG.sequence_frames)


def _on_big_sheet(alpha: np.ndarray, left: int, top: int, pad: int) -> np.ndarray:
    """Lay a mask on a sheet that is larger than the frame by ``pad`` on every side, pixel by pixel."""
    sheet = np.zeros((CONFIG.height + 2 * pad, CONFIG.width + 2 * pad), bool)
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            if alpha[row, column] >= 128:
                sheet[row + top + pad, column + left + pad] = True
    return sheet


def _prop_masks(shot: Shot, number: int) -> list[tuple[float, np.ndarray]]:
    """Show every thing alone, through a canvas-sized picture and the camera's own transform."""
    view = shot.views[number]
    step = 1 / view.zoom
    masks = []
    for prop in shot.scene.props:
        canvas = PilImage.new("RGBA", shot.scene.canvas.size)
        canvas.paste(prop.image, (prop.left, prop.top))
        shown = canvas.transform(
            (CONFIG.width, CONFIG.height),
            PilImage.Transform.AFFINE,
            (step, 0, view.left, 0, step, view.top),
            PilImage.Resampling.BILINEAR,
        )
        masks.append((prop.z, np.asarray(shown)[..., 3] >= 128))
    return masks


@pytest.mark.parametrize("number", [0, 17, 43])
def test_boxes_and_visibility_equal_counting_pixels_one_by_one(shot: Shot, number: int) -> None:
    pad = 250
    frame = render_frame(shot, number)
    people = {
        int(shot.identity[person]): (distance, _on_big_sheet(sprite.alpha, sprite.left, sprite.top, pad))
        for distance, person, sprite in sprites(shot, number)
    }
    things = _prop_masks(shot, number)
    inside = np.s_[pad : pad + CONFIG.height, pad : pad + CONFIG.width]
    expected = {}
    for identity, (distance, whole) in people.items():
        free = whole[inside].copy()
        for other, (other_distance, other_mask) in people.items():
            if other != identity and other_distance < distance:
                free &= ~other_mask[inside]
        for other_distance, mask in things:
            if other_distance < distance:
                free &= ~mask
        rows, columns = np.nonzero(whole)
        box = [columns.min() - pad, rows.min() - pad, columns.max() + 1 - pad, rows.max() + 1 - pad]
        box = np.clip(box, 0, [CONFIG.width, CONFIG.height] * 2)
        if box[2] > box[0] and box[3] > box[1]:
            expected[identity] = (box, free.sum() / whole.sum())
    assert frame.identity.tolist() == sorted(expected)
    assert len(expected) >= 3
    for row, identity in enumerate(frame.identity.tolist()):
        box, visibility = expected[identity]
        assert frame.xyxy[row].tolist() == box.tolist()
        # A thing cut out of the canvas and the thing alone may round an edge pixel differently.
        assert frame.visibility[row] == pytest.approx(visibility, abs=0.01)


def test_people_are_seen_in_whole_in_part_and_not_at_all(shot: Shot) -> None:
    visibility = np.concatenate([render_frame(shot, number).visibility for number in range(0, 60, 3)])
    assert ((visibility >= 0) & (visibility <= 1)).all()
    assert (visibility > 0.99).mean() > 0.3
    assert ((visibility > 0.1) & (visibility < 0.9)).any()
    assert (visibility < 0.1).any()


def test_a_sequence_in_memory_is_the_shot_frame_by_frame(shot: Shot) -> None:
    for number, (image, identity, xyxy, visibility) in zip(range(4), render_sequence(CONFIG, 0)):
        frame = render_frame(shot, number)
        assert np.array_equal(image, frame.image)
        assert image.shape == (CONFIG.height, CONFIG.width, 3)
        assert image.dtype == np.uint8
        assert np.array_equal(identity, frame.identity)
        assert np.array_equal(xyxy, frame.xyxy)
        assert np.array_equal(visibility, frame.visibility)


def test_people_leave_and_come_back_as_themselves(shot: Shot) -> None:
    config = WalkersConfig(seed=2, sequence_frames=240, return_rate=1.0)
    long = make_shot(config, "sequence", 0, 240)
    width = config.width
    seen: dict[int, list[int]] = {}
    for number, (places, view) in enumerate(zip(long.placements, long.views)):
        for place in places:
            column = (long.scene.ground.column(place.x, place.z) - view.left) * view.zoom
            if 0 <= column < width:
                seen.setdefault(place.person, []).append(number)
    gaps = [int(gap) for numbers in seen.values() for gap in np.diff(numbers) if gap > config.frame_rate]
    assert len(gaps) >= 3


def test_nobody_returns_where_nobody_should() -> None:
    config = WalkersConfig(seed=2, sequence_frames=120, return_rate=0.0, camera_motion=0, restlessness=0, max_people=20)
    shot = make_shot(config, "sequence", 0, 120)
    present = [{place.person for place in places} for places in shot.placements]
    for person in set.union(*present):
        frames = [number for number, people in enumerate(present) if person in people]
        assert frames == list(range(frames[0], frames[-1] + 1))


def test_nearer_people_are_larger_and_lower() -> None:
    look = make_looks(stream(0, "one"), 1, 0)[0][0]
    ground = make_shot(CONFIG, "train", 0, 1).scene.ground
    heights = []
    for z in (ground.near, (ground.near + ground.far) / 2, ground.far):
        sprite = draw_person(look, Pose(0, 0, 0, 0.1), ground.scale(z), 200, ground.row(z))
        heights.append(int(sprite.mask.any(axis=1).sum()))
        assert heights[-1] == pytest.approx(look.stature * ground.scale(z), rel=0.1)
    assert heights == sorted(heights, reverse=True)
    assert ground.row(ground.near) > ground.row(ground.far) > ground.horizon
    assert ground.distance(ground.row(9.0)) == pytest.approx(9.0)


def test_a_fixed_camera_stands_still_and_a_moving_one_stays_on_its_canvas() -> None:
    fixed = make_shot(WalkersConfig(seed=1, camera_motion=0), "sequence", 0, 30)
    assert len(set(fixed.views)) == 1
    moving = make_shot(WalkersConfig(seed=1, camera_motion=3), "sequence", 0, 200)
    columns, rows = moving.scene.canvas.size
    assert len(set(moving.views)) == 200
    for view in moving.views:
        assert view.left >= 0
        assert view.top >= 0
        assert view.left + 448 / view.zoom <= columns + 1e-9
        assert view.top + 256 / view.zoom <= rows + 1e-9


def test_the_light_changes_what_a_person_looks_like_as_they_move(shot: Shot) -> None:
    levels: dict[int, list[float]] = {}
    for number in range(0, 60, 2):
        for _, person, sprite in sprites(shot, number):
            levels.setdefault(person, []).append(float(sprite.color[sprite.mask].mean()))
    changes = [max(values) / min(values) for values in levels.values() if len(values) > 10]
    assert max(changes) > 1.15
