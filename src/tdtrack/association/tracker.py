"""Linking detections into tracks, frame by frame: checks what comes in, keeps time, and hands the frame to the method."""

from __future__ import annotations

import math

import numpy as np

from tdtrack.association.candidates import take_part
from tdtrack.association.evidence import Evidence
from tdtrack.association.fairmot import FairMot
from tdtrack.association.kalman import Floats
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.types import Detections, Tracks

__all__ = ["Tracker"]

METHODS = ("evidence", "fairmot", "motion")


class Tracker:
    """Gives detections of one video ids that persist.

    How is the method's business: "evidence" (``tdtrack.association.evidence``, the default), "fairmot" and "motion"
    (``tdtrack.association.fairmot``). Ids belong to the instance, start at 1 and are not used twice before ``reset``; a
    track that is never confirmed takes its id along, so there are gaps.
    """

    def __init__(self, config: AssociationConfig = AssociationConfig(), *, frame_rate: float = 30.0) -> None:  # noqa: B008
        """Start without tracks.

        Args:
            config: method, score floors and ceilings.
            frame_rate: frames per second of the video; turns settings in seconds into frames.

        Raises:
            ConfigError: the method is unknown, or the frame rate is not a positive number.
        """
        if config.method not in METHODS:
            raise ConfigError(f"association method is {config.method!r}; choose one of {', '.join(METHODS)}")
        if not (math.isfinite(frame_rate) and frame_rate > 0):
            raise ConfigError(f"frame_rate is {frame_rate}; it must be a positive number of frames per second")
        self.config = config
        self.frame_rate = frame_rate
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; the next frame has index 0, the next track id 1, and embeddings may have another width."""
        self._next_frame = 0
        self._embedding_dim: int | None = None
        self._method = (Evidence if self.config.method == "evidence" else FairMot)(self.config, self.frame_rate)

    def update(self, detections: Detections, *, elapsed: float | None = None, camera: Floats | None = None) -> Tracks:
        """Take in the next frame.

        Args:
            detections: what was found in it, in any order and with any scores; rows below the method's score floor and
                boxes without width or height take no part. Frames without detections must be passed too: time advances
                with every call. Method "evidence" goes by motion alone where a frame or a row (zeros) has no embedding.
            elapsed: seconds since the last frame, where frames come at uneven times; ``None`` takes the frame rate's.
            camera: ``(2, 3)`` affine map of the last frame's pixels to this frame's, where the camera's motion is known;
                ``None`` where it is not, or the camera stands still.

        Returns:
            The confirmed tracks of this frame, in order of id, with filtered boxes; empty where there are none.

        Raises:
            ShapeError: the method needs embeddings and there are none, they are not finite, their width differs from
                that of earlier frames, or there are thousands of boxes. The tracker is as before the call.
            ConfigError: ``elapsed`` is not a positive number.
        """
        if elapsed is not None and not (math.isfinite(elapsed) and elapsed > 0):
            raise ConfigError(f"frame {self._next_frame}: elapsed is {elapsed}; it must be a positive number of seconds")
        config = self.config
        use_embedding = config.method != "motion" and len(detections) > 0
        if use_embedding:
            self._check_embedding(detections)
        candidates = take_part(detections, min_score=config.floor, frame_index=self._next_frame, use_embedding=use_embedding)
        if use_embedding and detections.embedding is not None:
            self._embedding_dim = detections.embedding.shape[1]
        frame = self._next_frame
        self._next_frame += 1
        if camera is not None:
            self._method.move_camera(camera)
        return self._method.step(candidates, frame, elapsed)

    def skip(self, frames: int) -> None:
        """Let time pass in which nobody looked: tracks move on as they last did.

        Args:
            frames: how many frame times, at least 0.
        """
        self._next_frame += frames
        self._method.skip(frames)

    def forget(self) -> None:
        """Drop all tracks, as when nobody has looked for so long that nobody is looked for; ids go on."""
        self._method.forget()

    def _check_embedding(self, detections: Detections) -> None:
        """Refuse embeddings that cannot be compared."""
        if detections.embedding is None:
            if self.config.method == "evidence":
                return
            raise ShapeError(
                f"frame {self._next_frame}: {len(detections)} detections have no embeddings, which method 'fairmot' compares; "
                "use method 'motion' or 'evidence', or a model with embeddings"
            )
        width = detections.embedding.shape[1]
        if self._embedding_dim not in (None, width):
            raise ShapeError(
                f"frame {self._next_frame}: embeddings have {width} dimensions, those of earlier frames {self._embedding_dim}; "
                "call reset() between videos of different models"
            )
        bad = np.flatnonzero(~np.isfinite(detections.embedding).all(axis=1))
        if len(bad):
            raise ShapeError(
                f"frame {self._next_frame}: embedding row {bad[0]} has NaN or infinite entries; check the model that made it"
            )
