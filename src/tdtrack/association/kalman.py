"""Constant-velocity Kalman filter over boxes, for all tracks at once.

The state of a track is ``(cx, cy, w/h, h)`` and the velocity of each, per frame; a measurement is the first four. All
noise but that of the aspect ratio grows with the height of the box: a person twice as near moves twice as many pixels.

Source:
    FairMOT, which has it from DeepSORT (Wojke et al. 2017): noise of 1/20 of the height in position and 1/160 in
    velocity, 1e-2 and 1e-5 in the aspect ratio (1e-1 in its measurement).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "initiate", "predict", "project", "squared_mahalanobis", "update"]

Floats = NDArray[np.float64]
"""Filters run in float64: covariances span ten orders of magnitude."""

POSITION_NOISE = 1 / 20
VELOCITY_NOISE = 1 / 160
ASPECT_NOISE = 1e-2
ASPECT_VELOCITY_NOISE = 1e-5
ASPECT_MEASUREMENT_NOISE = 1e-1

HEIGHT = 3
HEIGHT_VELOCITY = 7

_TRANSITION = np.eye(8) + np.eye(8, k=4)
"""One frame: every position gains its velocity."""


def _deviations(height: Floats, position: float, aspect: float) -> Floats:
    """Return ``(T, 4)`` standard deviations of (cx, cy, w/h, h): a share of the height, constant for the ratio."""
    deviations = np.repeat((position * height)[:, None], 4, axis=1)
    deviations[:, 2] = aspect
    return deviations


def _diagonal(deviations: Floats) -> Floats:
    """Return ``(T, d, d)`` covariances without correlation from ``(T, d)`` standard deviations."""
    return np.square(deviations)[:, :, None] * np.eye(deviations.shape[1])


def initiate(xyah: Floats) -> tuple[Floats, Floats]:
    """Start one filter per box, at rest.

    Args:
        xyah: ``(T, 4)`` centre x, centre y, width over height, height, in pixels; heights positive.

    Returns:
        ``(T, 8)`` means and ``(T, 8, 8)`` covariances: twice the position noise and ten times the velocity noise
        of a prediction, since one box says nothing about speed.
    """
    height = xyah[:, HEIGHT]
    # The aspect ratio keeps its single noise: FairMOT trusts the first ratio it sees.
    position = _deviations(height, 2 * POSITION_NOISE, ASPECT_NOISE)
    velocity = _deviations(height, 10 * VELOCITY_NOISE, ASPECT_VELOCITY_NOISE)
    mean = np.concatenate([xyah, np.zeros_like(xyah)], axis=1)
    return mean, _diagonal(np.concatenate([position, velocity], axis=1))


def predict(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Move every filter on by one frame.

    Args:
        mean: ``(T, 8)`` states after the last frame.
        covariance: ``(T, 8, 8)`` their covariances.

    Returns:
        States and covariances before this frame's measurement, of the same shapes.
    """
    height = mean[:, HEIGHT]
    position = _deviations(height, POSITION_NOISE, ASPECT_NOISE)
    velocity = _deviations(height, VELOCITY_NOISE, ASPECT_VELOCITY_NOISE)
    noise = _diagonal(np.concatenate([position, velocity], axis=1))
    return mean @ _TRANSITION.T, _TRANSITION @ covariance @ _TRANSITION.T + noise


def project(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Say which measurement every filter expects.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 8, 8)`` their covariances.

    Returns:
        ``(T, 4)`` expected xyah and ``(T, 4, 4)`` covariances, measurement noise included.
    """
    noise = _diagonal(_deviations(mean[:, HEIGHT], POSITION_NOISE, ASPECT_MEASUREMENT_NOISE))
    return mean[:, :4], covariance[:, :4, :4] + noise


def update(mean: Floats, covariance: Floats, xyah: Floats) -> tuple[Floats, Floats]:
    """Correct every filter with its own measurement.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 8, 8)`` their covariances.
        xyah: ``(T, 4)`` measured boxes, row by row those of the states.

    Returns:
        Corrected states and covariances, of the shapes given.
    """
    expected, spread = project(mean, covariance)
    cross = covariance[:, :4, :]  # (T, 4, 8): measurement against state, since the measurement is the state's first half
    gain = np.linalg.solve(spread, cross).transpose(0, 2, 1)
    innovation = (xyah - expected)[:, :, None]
    return mean + (gain @ innovation)[:, :, 0], covariance - gain @ cross


def squared_mahalanobis(mean: Floats, covariance: Floats, xyah: Floats) -> Floats:
    """Measure how far every box is from where every track should be, in units of that track's uncertainty.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 8, 8)`` their covariances.
        xyah: ``(N, 4)`` measured boxes.

    Returns:
        ``(T, N)`` squared distances; chi-square with 4 degrees of freedom for a box of the track.
    """
    expected, spread = project(mean, covariance)
    innovation = xyah[None, :, :] - expected[:, None, :]
    scaled = np.linalg.solve(spread, innovation.transpose(0, 2, 1)).transpose(0, 2, 1)
    distance: Floats = (innovation * scaled).sum(axis=2)
    return distance
