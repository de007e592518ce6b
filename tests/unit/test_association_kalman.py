"""The stacked filter against a textbook one, matrix by matrix and track by track."""

from __future__ import annotations

import numpy as np
import pytest

from tdtrack.association import kalman

MEASURE = np.eye(4, 8)


class Textbook:
    """One track, written as in any textbook, with FairMOT's noise spelled out."""

    def __init__(self, z: np.ndarray) -> None:
        h = z[3]
        self.x = np.array([*z, 0, 0, 0, 0])
        deviations = [2 * h / 20, 2 * h / 20, 1e-2, 2 * h / 20, 10 * h / 160, 10 * h / 160, 1e-5, 10 * h / 160]
        self.P = np.diag(np.square(deviations))

    def predict(self) -> None:
        h = self.x[3]
        F = np.eye(8)
        for i in range(4):
            F[i, i + 4] = 1
        Q = np.diag(np.square([h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]))
        self.x = F @ self.x
        self.P = F @ self.P @ F.T + Q

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        h = self.x[3]
        R = np.diag(np.square([h / 20, h / 20, 1e-1, h / 20]))
        return MEASURE @ self.x, MEASURE @ self.P @ MEASURE.T + R

    def update(self, z: np.ndarray) -> None:
        mean, S = self.expected()
        K = self.P @ MEASURE.T @ np.linalg.inv(S)
        self.x = self.x + K @ (z - mean)
        self.P = self.P - K @ S @ K.T

    def squared_mahalanobis(self, z: np.ndarray) -> float:
        mean, S = self.expected()
        return float((z - mean) @ np.linalg.inv(S) @ (z - mean))


def boxes(random: np.random.Generator, count: int) -> np.ndarray:
    return np.column_stack([random.uniform(0, 1000, (count, 2)), random.uniform(0.2, 1, count), random.uniform(20, 400, count)])


def dense(covariance: np.ndarray) -> np.ndarray:
    """Write the three numbers of each 2 x 2 block into the 8 x 8 matrix they stand for."""
    full = np.zeros((len(covariance), 8, 8))
    for i in range(4):
        full[:, i, i], full[:, i + 4, i + 4] = covariance[:, kalman.VALUE, i], covariance[:, kalman.VELOCITY, i]
        full[:, i, i + 4] = full[:, i + 4, i] = covariance[:, kalman.BOTH, i]
    return full


def test_stacked_filters_equal_the_textbook() -> None:
    random = np.random.default_rng(0)
    start = boxes(random, 5)
    mean, covariance = kalman.initiate(start)
    textbook = [Textbook(z) for z in start]
    for _ in range(30):
        mean, covariance = kalman.predict(mean, covariance)
        for one in textbook:
            one.predict()
        others = boxes(random, 7)
        distance = kalman.squared_mahalanobis(mean, covariance, others)
        np.testing.assert_allclose(distance, [[one.squared_mahalanobis(z) for z in others] for one in textbook], rtol=1e-8)
        spread = kalman.spread(mean, covariance)
        np.testing.assert_allclose(mean[:, :4], [one.expected()[0] for one in textbook], rtol=1e-9)
        np.testing.assert_allclose(spread, [np.diag(one.expected()[1]) for one in textbook], rtol=1e-9, atol=1e-12)
        measured = np.abs(mean[:, :4] + random.normal(0, [3, 3, 0.02, 5], (5, 4))) + 1e-3
        mean, covariance = kalman.update(mean, covariance, measured)
        for one, z in zip(textbook, measured):
            one.update(z)
        np.testing.assert_allclose(mean, [one.x for one in textbook], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(dense(covariance), [one.P for one in textbook], rtol=1e-7, atol=1e-9)


def test_no_tracks_and_no_boxes_are_fine() -> None:
    mean, covariance = kalman.initiate(np.zeros((0, 4)))
    assert mean.shape == (0, 8)
    assert covariance.shape == (0, 3, 4)
    mean, covariance = kalman.predict(mean, covariance)
    mean, covariance = kalman.update(mean, covariance, np.zeros((0, 4)))
    assert kalman.squared_mahalanobis(mean, covariance, np.ones((3, 4))).shape == (0, 3)
    one = kalman.initiate(np.array([[10.0, 10, 0.5, 20]]))
    assert kalman.squared_mahalanobis(*one, np.zeros((0, 4))).shape == (1, 0)


def test_steady_walk_is_learned() -> None:
    mean, covariance = kalman.initiate(np.array([[0.0, 50, 0.4, 100]]))
    for step in range(1, 60):
        mean, covariance = kalman.predict(mean, covariance)
        mean, covariance = kalman.update(mean, covariance, np.array([[3.0 * step, 50, 0.4, 100]]))
    assert mean[0, 4] == pytest.approx(3, abs=1e-3)
    predicted, _ = kalman.predict(mean, covariance)
    assert predicted[0, 0] == pytest.approx(180, abs=0.05)


def test_covariance_stays_positive_over_a_long_track() -> None:
    random = np.random.default_rng(1)
    mean, covariance = kalman.initiate(np.array([[0.0, 0, 0.5, 80], [0, 0, 3.0, 2]]))
    for _ in range(3000):
        mean, covariance = kalman.predict(mean, covariance)
        measured = np.array([[0.0, 0, 0.5, 80], [0, 0, 3.0, 2]]) + random.normal(0, 0.2, (2, 4))
        mean, covariance = kalman.update(mean, covariance, measured)
    assert (np.linalg.eigvalsh(dense(covariance)) > 0).all()


def test_a_step_of_some_frames_moves_as_far_and_doubts_as_much_as_that_many_steps_from_rest() -> None:
    start = kalman.initiate(np.array([[10.0, 20, 0.5, 100]]))
    start[0][0, 4] = 3.0
    once = kalman.predict(*start, frames=4)
    mean, covariance = start
    for _ in range(4):
        mean, covariance = kalman.predict(mean, covariance)
    np.testing.assert_allclose(once[0], mean)
    # Noise of the velocity, which builds up in small steps, is all that differs.
    built_up = np.array([1, 1, 0, 1]) * (100 / 160) ** 2 * (1 + 4 + 9)
    np.testing.assert_allclose(covariance[0, 0] - once[1][0, 0], built_up, atol=1e-8)


def test_the_camera_takes_states_along() -> None:
    mean, covariance = kalman.initiate(np.array([[10.0, 20, 0.5, 100]]))
    mean[0, 4:6] = [1, 2]
    turn = np.array([[0.0, -2.0, 5.0], [2.0, 0.0, 7.0]])  # a quarter turn, twice as large, and a shift
    moved, grown = kalman.move(mean, covariance, turn)
    np.testing.assert_allclose(moved[0], [-40 + 5, 20 + 7, 0.5, 200, -4, 2, 0, 0])
    np.testing.assert_allclose(grown[0, 0], covariance[0, 0] * [4, 4, 1, 4])
    back, shrunk = kalman.move(moved, grown, np.array([[0.0, 0.5, -3.5], [-0.5, 0.0, 2.5]]))
    np.testing.assert_allclose(back, mean, atol=1e-12)
    np.testing.assert_allclose(shrunk, covariance, atol=1e-12)
