"""What a score is worth, and what the default association makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from tdtrack.association import Tracker
from tdtrack.association.scores import BINS, MAX_LOG_ODDS, MEMORY, PRIOR_DETECTIONS, ScoreScale
from tdtrack.types import Detections, Tracks

CENTRES = (np.arange(BINS) + 0.5) / BINS


def log_odds(share: np.ndarray) -> np.ndarray:
    return np.log(share / (1 - share))


def test_before_the_video_a_score_is_a_probability_whose_odds_are_even_at_the_break_even_score() -> None:
    got = ScoreScale(0.425).log_odds(CENTRES)
    np.testing.assert_allclose(got, np.clip(log_odds(CENTRES) - log_odds(np.array(0.425)), -MAX_LOG_ODDS, MAX_LOG_ODDS))


@pytest.mark.parametrize("even", [0.0, 1.0])
def test_a_break_even_score_at_the_end_of_the_scale_is_no_division_by_zero(even: float) -> None:
    assert np.isfinite(ScoreScale(even).log_odds(np.linspace(0, 1, 50))).all()


def test_counts_add_to_the_prior_interval_by_interval() -> None:
    random = np.random.default_rng(0)
    score, real = random.random(700), random.random(700) < 0.3
    score[:2] = 0.0, 1.0
    scale = ScoreScale(0.425)
    prior = CENTRES / (1 - CENTRES) * 0.575 / 0.425
    prior = PRIOR_DETECTIONS * prior / (1 + prior)
    for part in np.split(np.arange(700), [0, 10, 333]):
        scale.observe(score[part], real[part])
    for interval in range(BINS):
        inside = [index for index in range(700) if min(int(score[index] * BINS), BINS - 1) == interval]
        share = (prior[interval] + sum(real[inside])) / (PRIOR_DETECTIONS + len(inside))
        wanted = np.clip(log_odds(share), -MAX_LOG_ODDS, MAX_LOG_ODDS)
        assert scale.log_odds(CENTRES[interval : interval + 1])[0] == pytest.approx(wanted)


def test_what_was_long_ago_fades() -> None:
    scale = ScoreScale(0.4)
    scale.observe(np.full(int(10 * MEMORY), 0.525), np.zeros(int(10 * MEMORY), bool))
    scale.observe(np.full(int(MEMORY), 0.525), np.ones(int(MEMORY), bool))
    assert scale.log_odds(np.array([0.525]))[0] == pytest.approx(0.0, abs=0.1)  # half of what it remembers is new


def video(person: list[float]) -> list[Tracks]:
    """Track one person who stands still, by the score of each frame."""
    tracker = Tracker()
    box = np.array([[100.0, 100, 140, 180]])
    return [tracker.update(Detections(box, np.array([score]), np.zeros(1))) for score in person]


def test_a_track_that_lives_on_scores_worth_nothing_is_followed_but_not_reported() -> None:
    seen = video([0.45] * 3 + [0.12] * 60 + [0.95] * 30)
    assert len(seen[2]) == 1
    assert len(seen[62]) == 0
    assert seen[-1].track_id.tolist() == seen[2].track_id.tolist()  # the same track, trusted again


def test_a_moment_of_doubt_is_not_enough_to_hide_a_track() -> None:
    assert all(len(tracks) == 1 for tracks in video([0.95] * 30 + [0.2] * 5 + [0.95] * 5))


def test_what_an_unsure_score_is_worth_is_learned_from_what_becomes_of_such_detections() -> None:
    """A detector whose unsure boxes are second boxes on people, and one whose unsure boxes are the people."""
    random = np.random.default_rng(1)
    worth = []
    for second_boxes in (True, False):
        tracker = Tracker()
        for frame in range(200):
            left = np.array([100.0, 400, 700])
            score = np.where((frame + np.arange(3)) % 4 == 0, 0.22, 0.8)
            if second_boxes:
                left, score = np.concatenate([left, left + random.normal(0, 15, 3)]), np.array([0.8] * 3 + [0.22] * 3)
            tracker.update(Detections(np.column_stack([left, left * 0, left + 40, left * 0 + 80]), score, np.zeros(len(left))))
        worth.append(tracker._method.scores.log_odds(np.array([0.22]))[0])  # type: ignore[union-attr]
    before = ScoreScale(0.4).log_odds(np.array([0.22]))[0]
    assert worth[0] < before < worth[1]
