"""Looks: persistent, told apart by enough, alike on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from tdtrack.data.walkers import WalkersConfig
from tdtrack.data.walkers.body import Pose, draw_person
from tdtrack.data.walkers.config import stream
from tdtrack.data.walkers.looks import make_looks
from tdtrack.errors import ConfigError

BODY = {"stature", "build", "stride"}  # always a little different
TOGETHER = [  # attributes that one change may touch together
    {"upper"},
    {"lower_color"},
    {"pattern", "upper_second"},
    {"bag", "bag_color"},
    {"hair", "hair_color", "hat", "hat_color"},
]


def test_lookalikes_differ_from_their_model_in_one_or_two_attributes() -> None:
    looks, group = make_looks(stream(0, "looks"), 400, 0.5)
    sizes = Counter(group)
    assert 0.35 < sum(size for size in sizes.values() if size > 1) / 400 < 0.65
    assert max(sizes.values()) <= 4
    pairs = 0
    for number in range(1, 400):
        if group[number] != group[number - 1] or group[number - 1] == (group[number - 2] if number > 1 else -1):
            continue  # only the first member and the second
        pairs += 1
        differing = {
            field.name
            for field in fields(looks[0])
            if getattr(looks[number], field.name) != getattr(looks[number - 1], field.name)
        }
        changes = sum(bool(differing & attributes) for attributes in TOGETHER)
        assert 1 <= changes <= 2
        assert differing <= BODY.union(*TOGETHER)
    assert pairs > 20


@pytest.mark.parametrize(("fraction", "alike"), [(0.0, False), (1.0, True)])
def test_nobody_or_everybody_has_a_lookalike(fraction: float, alike: bool) -> None:
    _, group = make_looks(stream(1, "looks"), 200, fraction)
    sizes = Counter(group[:-4])  # the last group may be cut
    assert all((size > 1) is alike for name, size in sizes.items() if name != group[-4])


def test_looks_are_all_different_and_a_longer_list_starts_the_same() -> None:
    looks, _ = make_looks(stream(2, "looks"), 300, 0.5)
    assert len(set(looks)) == 300
    assert make_looks(stream(2, "looks"), 50, 0.5)[0] == looks[:50]


def test_every_attribute_shows() -> None:
    """Two pictures of one look are equal; a change of colour changes the picture."""
    looks, _ = make_looks(stream(3, "looks"), 40, 0.5)
    pose = Pose(0.4, 1.0, 1.0, 0.1)
    pictures = [draw_person(look, pose, 80, 100.3, 150.8) for look in looks]
    again = draw_person(looks[0], pose, 80, 100.3, 150.8)
    assert np.array_equal(again.color, pictures[0].color)
    assert np.array_equal(again.alpha, pictures[0].alpha)
    assert len({picture.color.tobytes() for picture in pictures}) == 40


def test_a_person_looks_different_from_each_side_and_in_each_step() -> None:
    look = make_looks(stream(4, "looks"), 1, 0)[0][0]
    sides = {draw_person(look, Pose(angle, 0.5, 1, 0.1), 80, 100, 150).color.tobytes() for angle in np.arange(0, 6.2, 0.5)}
    steps = {draw_person(look, Pose(1.2, phase, 1, 0.1), 80, 100, 150).alpha.tobytes() for phase in np.arange(0, 6.2, 0.5)}
    assert len(sides) == len(steps) == 13


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"frame_rate": 0.0}, "frame_rate is 0.0"),
        ({"return_rate": 1.5}, "return_rate is 1.5"),
        ({"min_people": 9, "max_people": 4}, "max_people 4 is below min_people 9"),
        ({"cameras_per_identity": 9}, "cameras_per_identity 9 is more than the 8 reid_cameras"),
        ({"width": 10}, "width is 10"),
        ({"camera_motion": float("nan")}, "camera_motion is nan"),
    ],
)
def test_a_world_that_cannot_be_made_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WalkersConfig(**settings)  # type: ignore[arg-type]


def test_every_setting_says_what_it_means() -> None:
    documented = WalkersConfig.__doc__ or ""
    for field in fields(WalkersConfig):
        assert f"        {field.name}: " in documented or f"    {field.name}: " in documented
