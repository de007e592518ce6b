"""Constant-velocity Kalman filter over boxes, for all tracks at once.

The state of a track is ``(cx, cy, w/h, h)`` and the velocity of each, per frame; a measurement is the first four. All
noise but that of the aspect ratio grows with the height of the box: a person twice as near moves twice as many pixels.

A coordinate and its velocity never mix with another coordinate: the noise is diagonal, and so is the start. The 8 x 8
covariance therefore is four 2 x 2 blocks, of which three numbers differ, and every step is plain arithmetic on
``(T, 3, 4)`` arrays: no matrix is inverted.

Source:
    FairMOT, which has it from DeepSORT (Wojke et al. 2017): noise of 1/20 of the height in position and 1/160 in
    velocity, 1e-2 and 1e-5 in the aspect ratio (1e-1 in its measurement). The blocks are ours; the numbers are the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "initiate", "move", "predict", "spread", "squared_mahalanobis", "update"]

Floats = NDArray[np.float64]
"""Filters run in float64: covariances span ten orders of magnitude."""

POSITION_NOISE = 1 / 20
VELOCITY_NOISE = 1 / 160
ASPECT_NOISE = 1e-2
ASPECT_VELOCITY_NOISE = 1e-5
ASPECT_MEASUREMENT_NOISE = 1e-1

ASPECT = 2
HEIGHT = 3
HEIGHT_VELOCITY = 7

VALUE, BOTH, VELOCITY = range(3)
"""The three numbers of a block: variance of the value, covariance of value and velocity, variance of the velocity."""


def _variances(height: Floats, position: float, aspect: float) -> Floats:
    """Return ``(T, 4)`` variances of (cx, cy, w/h, h): a share of the height squared, constant for the ratio."""
    variances = np.repeat(np.square(position * height)[:, None], 4, axis=1)
    variances[:, ASPECT] = aspect * aspect
    return variances


def initiate(xyah: Floats) -> tuple[Floats, Floats]:
    """Start one filter per box, at rest.

    Args:
        xyah: ``(T, 4)`` centre x, centre y, width over height, height, in pixels; heights positive.

    Returns:
        ``(T, 8)`` means and ``(T, 3, 4)`` covariances: twice the position noise and ten times the velocity noise
        of a prediction, since one box says nothing about speed.
    """
    height = xyah[:, HEIGHT]
    # The aspect ratio keeps its single noise: FairMOT trusts the first ratio it sees.
    position = _variances(height, 2 * POSITION_NOISE, ASPECT_NOISE)
    velocity = _variances(height, 10 * VELOCITY_NOISE, ASPECT_VELOCITY_NOISE)
    mean = np.concatenate([xyah, np.zeros_like(xyah)], axis=1)
    return mean, np.stack([position, np.zeros_like(position), velocity], axis=1)


def predict(mean: Floats, covariance: Floats, frames: float = 1.0) -> tuple[Floats, Floats]:
    """Move every filter on.

    Args:
        mean: ``(T, 8)`` states after the last frame.
        covariance: ``(T, 3, 4)`` their covariances.
        frames: how far, in frames; noise variance grows in proportion.

    Returns:
        States and covariances before this frame's measurement, of the same shapes.
    """
    height = mean[:, HEIGHT]
    value, both, velocity = covariance[:, VALUE], covariance[:, BOTH], covariance[:, VELOCITY]
    moved = mean.copy()
    moved[:, :4] += frames * mean[:, 4:]
    grown = np.stack(
        [
            value + frames * (2 * both + frames * velocity) + frames * _variances(height, POSITION_NOISE, ASPECT_NOISE),
            both + frames * velocity,
            velocity + frames * _variances(height, VELOCITY_NOISE, ASPECT_VELOCITY_NOISE),
        ],
        axis=1,
    )
    return moved, grown


def move(mean: Floats, covariance: Floats, affine: Floats) -> tuple[Floats, Floats]:
    """Follow the camera: say where every state lies in the picture after it moved.

    Args:
        mean: ``(T, 8)`` states in pixels of the last frame.
        covariance: ``(T, 3, 4)`` their covariances.
        affine: ``(2, 3)`` map of the last frame's pixels to this frame's: rotation, scale and shift.

    Returns:
        States and covariances in pixels of this frame. Sizes and uncertainties follow the scale alone: a box stays upright.
    """
    linear, shift = affine[:, :2], affine[:, 2]
    scale = np.sqrt(abs(np.linalg.det(linear)))
    moved = mean.copy()
    moved[:, :2] = mean[:, :2] @ linear.T + shift
    moved[:, 4:6] = mean[:, 4:6] @ linear.T
    moved[:, [HEIGHT, HEIGHT_VELOCITY]] *= scale
    grown = covariance * scale**2
    grown[:, :, ASPECT] = covariance[:, :, ASPECT]
    return moved, grown


def spread(mean: Floats, covariance: Floats, measurement_noise: float = POSITION_NOISE) -> Floats:
    """Say how widely measurements of every track scatter around its state.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 3, 4)`` their covariances.
        measurement_noise: standard deviation of a measured side or position, in box heights.

    Returns:
        ``(T, 4)`` variances of the expected xyah, measurement noise included.
    """
    variances: Floats = covariance[:, VALUE] + _variances(mean[:, HEIGHT], measurement_noise, ASPECT_MEASUREMENT_NOISE)
    return variances


def update(mean: Floats, covariance: Floats, xyah: Floats, measurement_noise: float = POSITION_NOISE) -> tuple[Floats, Floats]:
    """Correct every filter with its own measurement.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 3, 4)`` their covariances.
        xyah: ``(T, 4)`` measured boxes, row by row those of the states.
        measurement_noise: standard deviation of a measured side or position, in box heights.

    Returns:
        Corrected states and covariances, of the shapes given.
    """
    value, both, velocity = covariance[:, VALUE], covariance[:, BOTH], covariance[:, VELOCITY]
    scatter = spread(mean, covariance, measurement_noise)
    gain, velocity_gain = value / scatter, both / scatter
    innovation = xyah - mean[:, :4]
    corrected = mean + np.concatenate([gain * innovation, velocity_gain * innovation], axis=1)
    return corrected, np.stack([value - gain * value, both - gain * both, velocity - velocity_gain * both], axis=1)


def squared_mahalanobis(mean: Floats, covariance: Floats, xyah: Floats, measurement_noise: float = POSITION_NOISE) -> Floats:
    """Measure how far every box is from where every track should be, in units of that track's uncertainty.

    Args:
        mean: ``(T, 8)`` predicted states.
        covariance: ``(T, 3, 4)`` their covariances.
        xyah: ``(N, 4)`` measured boxes.
        measurement_noise: standard deviation of a measured side or position, in box heights.

    Returns:
        ``(T, N)`` squared distances; chi-square with 4 degrees of freedom for a box of the track.
    """
    # Multiplied out, the squares of all pairs are one matrix product; float64 has the digits to spare that this costs.
    precision = 1 / spread(mean, covariance, measurement_noise)
    state = mean[:, :4]
    weighted = precision * state
    distance: Floats = np.concatenate([precision, -2 * weighted], axis=1) @ np.concatenate([np.square(xyah), xyah], axis=1).T
    distance += (weighted * state).sum(axis=1)[:, None]
    return np.maximum(distance, 0.0, out=distance)
