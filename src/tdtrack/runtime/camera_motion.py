"""How the camera moved from one frame to the next, by the flow of what stands still."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.association.kalman import Floats
from tdtrack.errors import ConfigError, MissingExtraError
from tdtrack.types import FloatArray, Image

__all__ = ["CameraMotion", "camera_motion_for"]

CAMERA_MOTION = ("auto", "on", "off")

SMALL = 384
"""Longer side of the picture in which flow is measured, in pixels."""

MAX_POINTS = 200
MIN_POINTS = 12
"""Points that have to agree; below, the picture is empty, or another one."""
MIN_AGREEING = 0.4
"""Share of the points that have to agree: a cut, or a crowd that fills the picture, has no common motion."""
AGREE_WITHIN = 1.0
"""Pixels of the small picture."""
STANDS_STILL = 0.3
"""A motion that moves no corner of the small picture by so many pixels is none: flow is no more exact than that."""
STILL_FRAMES = 25
"""Frames without motion after which the camera is taken to stand."""
LOOK_EVERY = 5
"""A camera that stands is looked at once in so many frames, until it moves."""
BORDER = 0.1
"""Border around each object that is left out too, in its sides: edges of people move with them."""


def camera_motion_for(choice: str, method: str) -> CameraMotion | None:
    """Return what estimates the camera's motion, where it is wanted and can be had.

    Args:
        choice: "on", "off", or "auto": for the default association where OpenCV is installed, and never for FairMOT's, which
            the paper takes as it is.
        method: of association.

    Raises:
        ConfigError: there is no such choice.
        MissingExtraError: "on", and OpenCV is not installed.
    """
    if choice not in CAMERA_MOTION:
        raise ConfigError(f"camera motion is {choice!r}; choose one of {', '.join(CAMERA_MOTION)}")
    if choice == "off" or (choice == "auto" and method != "evidence"):
        return None
    try:
        return CameraMotion()
    except MissingExtraError:
        if choice == "on":
            raise
        return None


class CameraMotion:
    """Follows the camera through a video: corners of the background, optical flow, and the motion that most of them share.

    Source:
        As BoT-SORT (Aharon, Orfaig, Bobrovsky, 2022) and OpenCV's video stabilisation do: Shi and Tomasi's corners, pyramidal
        Lucas-Kanade, a similarity transform by RANSAC. All constants are ours.
    """

    def __init__(self) -> None:
        """Start before the first frame.

        Raises:
            MissingExtraError: OpenCV is not installed, or lacks libraries of the system.
        """
        try:
            import cv2
        except ImportError as error:
            raise MissingExtraError("opencv-python-headless", "camera", "following the camera") from error
        self._cv2: Any = cv2
        self._before: NDArray[np.uint8] | None = None
        self._points: NDArray[np.float32] | None = None
        self._shape: tuple[int, ...] = ()
        self._still = self._skipped = 0

    def advance(self, image: Image, xyxy: FloatArray) -> Floats | None:
        """Look at the next frame.

        Args:
            image: ``(H, W, 3)`` RGB.
            xyxy: ``(N, 4)`` objects in it, which are not followed into the frame after it.

        Returns:
            ``(2, 3)`` affine map of pixels where the camera was last known to be to this frame's: the last frame's, but for
            motions so small that they show only together. ``None`` for the first frame, one of another size, a camera that
            stands still, and where no motion explains most of what is seen.
        """
        same_size = self._shape == image.shape
        if same_size and self._still >= STILL_FRAMES and self._skipped < LOOK_EVERY - 1:
            self._skipped += 1
            return None
        self._skipped = 0
        now, scale = self._shrink(image)
        affine = None
        if same_size and self._before is not None and self._points is not None:
            affine = self._between(self._before, now, self._points)
        if affine is not None and _travel(affine, *now.shape) < STANDS_STILL:
            self._still += 1
            return None
        self._still = 0
        self._before, self._points, self._shape = now, self._corners(now, xyxy * scale), image.shape
        if affine is not None:
            affine[:, 2] /= scale
        return affine

    def _corners(self, grey: NDArray[np.uint8], xyxy: FloatArray) -> NDArray[np.float32] | None:
        """Return ``(P, 1, 2)`` corners that lie on no object; ``None`` where there are none."""
        height, width = grey.shape
        background = np.full((height, width), 255, np.uint8)
        border = BORDER * np.tile(xyxy[:, 2:] - xyxy[:, :2], 2) * [-1, -1, 1, 1]
        for left, top, right, bottom in np.clip(xyxy + border, 0, [width, height] * 2).astype(int).tolist():
            background[top : bottom + 1, left : right + 1] = 0
        corners: NDArray[np.float32] | None = self._cv2.goodFeaturesToTrack(
            grey, maxCorners=MAX_POINTS, qualityLevel=0.01, minDistance=8, mask=background
        )
        return corners

    def _shrink(self, image: Image) -> tuple[NDArray[np.uint8], float]:
        """Return a small grey picture, and its scale."""
        cv2 = self._cv2
        scale = min(1.0, SMALL / max(image.shape[:2]))
        width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
        grey = image
        if scale < 0.5:  # in two steps: averaging all pixels of a large frame takes ten times as long
            grey = cv2.resize(grey, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        if grey.shape[:2] != (height, width):
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY), scale

    def _between(self, before: NDArray[np.uint8], now: NDArray[np.uint8], points: NDArray[np.float32]) -> Floats | None:
        """Return the ``(2, 3)`` motion that most points share, in pixels of the small picture; ``None`` where there is none."""
        cv2 = self._cv2
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, points, None, winSize=(15, 15), maxLevel=3)
        kept = found[:, 0] > 0
        if kept.sum() < MIN_POINTS:
            return None
        cv2.setRNGSeed(0)  # RANSAC draws; the same video gives the same tracks
        affine, agreeing = cv2.estimateAffinePartial2D(points[kept], moved[kept], None, cv2.RANSAC, AGREE_WITHIN)
        if affine is None or agreeing.sum() < max(MIN_POINTS, MIN_AGREEING * len(points)):
            return None
        return np.asarray(affine, np.float64)


def _travel(affine: Floats, height: int, width: int) -> float:
    """Return how far a motion takes the corner of a picture that it takes farthest, in pixels."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    return float(np.abs(corners @ affine.T - corners[:, :2]).max())
