"""What must hold for any world."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.data.walkers import WalkersConfig
from tdtrack.data.walkers.body import Pose, draw_person
from tdtrack.data.walkers.config import stream
from tdtrack.data.walkers.looks import make_looks
from tdtrack.data.walkers.render import make_shot, render_frame

LOOKS = make_looks(stream(0, "property"), 60, 0.5)[0]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LOOKS),
    st.floats(-10, 10),
    st.floats(0, 6.3),
    st.floats(0, 1.8),
    st.floats(0, 0.4),
    st.floats(12, 110),
    st.floats(-300, 300),
)
def test_a_drawn_person_is_whole_and_stands_on_the_spot(look, heading, phase, effort, tilt, scale, column) -> None:
    sprite = draw_person(look, Pose(heading, phase, effort, tilt), scale, column, 200.0)
    mask = sprite.mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    # Nothing is cut off at the sprite's border: one soft pixel surrounds the body.
    assert rows[0] == columns[0] == 1
    assert (rows[-1], columns[-1]) == (mask.shape[0] - 2, mask.shape[1] - 2)
    height = look.stature * scale
    feet, head = sprite.top + rows[-1] + 1, sprite.top + rows[0]
    assert abs(feet - 200) <= 0.12 * height + 2
    assert 0.75 * height <= 200 - head <= 1.12 * height + 2
    assert sprite.left + columns[0] <= column + 0.25 * height
    assert sprite.left + columns[-1] >= column - 0.25 * height


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["train", "val", "sequence"]), st.integers(0, 3), st.floats(0, 2))
def test_truth_lies_inside_the_frame(seed, part, index, motion) -> None:
    config = WalkersConfig(seed=seed, width=192, height=112, camera_motion=motion, sequences=4, validation_videos=4)
    shot = make_shot(config, part, index, 9)
    for number in (0, 8):
        frame = render_frame(shot, number)
        x1, y1, x2, y2 = frame.xyxy.T
        assert ((x1 >= 0) & (y1 >= 0) & (x2 <= 192) & (y2 <= 112) & (x2 > x1) & (y2 > y1)).all()
        assert (frame.xyxy == np.round(frame.xyxy)).all()
        assert ((frame.visibility >= 0) & (frame.visibility <= 1)).all()
        assert (np.diff(frame.identity) > 0).all()
        assert set(frame.identity.tolist()) <= set(shot.identity.tolist())
