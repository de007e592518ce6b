"""Drawing tracks on frames, and exchange with ``supervision.Detections``.

Supervision runs with or without OpenCV and warns where it is absent; the warning is about speed only and is silenced here,
because tdtrack leaves OpenCV out on purpose (its wheels need libGL on a bare server).
"""

from __future__ import annotations

import colorsys
import math
import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from tdtrack.errors import ShapeError
from tdtrack.types import Detections, Image, Tracks

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="OpenCV", category=UserWarning)
    import supervision as sv

__all__ = ["TrackOverlay", "from_supervision", "to_supervision", "track_color"]

_HUE_STEP = 0.61803398875  # the golden ratio: however many hues are taken, neighbours in the order stay far apart
_SHADES = ((0.80, 0.95), (0.45, 1.0), (0.95, 0.72), (0.65, 0.85))  # saturation and value, in turns
_NUM_COLORS = 60
_LUMA = np.array([0.2126, 0.7152, 0.0722])  # brightness of red, green and blue (BT.709)
_MIN_LUMA = 0.35
_CAP_HEIGHT = 24.0  # pixels of a capital letter at text scale 1 in supervision's fonts


def track_color(track_id: int) -> tuple[int, int, int]:
    """Return the colour of a track: the same for an id in every frame, run and process.

    Args:
        track_id: any non-negative integer; colours repeat after 60 ids.

    Returns:
        Red, green and blue in ``[0, 255]``. Consecutive ids get clearly different hues.

    Source:
        Our choice: hues one golden ratio apart.
    """
    slot = track_id % _NUM_COLORS
    saturation, value = _SHADES[slot % len(_SHADES)]
    rgb = np.array(colorsys.hsv_to_rgb((0.58 + slot * _HUE_STEP) % 1.0, saturation, value))
    lift = max(0.0, _MIN_LUMA - float(rgb @ _LUMA)) / (1.0 - float(rgb @ _LUMA))  # towards white: pure blue drowns in shade
    red, green, blue = np.rint(255 * (rgb + lift * (1.0 - rgb))).astype(int).tolist()
    return red, green, blue


def _text_color(track_id: int) -> tuple[int, int, int]:
    """Return black or white, whichever reads better on the colour of a track."""
    return (20, 20, 20) if np.array(track_color(track_id)) @ _LUMA > 140 else (255, 255, 255)


def _palette(colors: list[tuple[int, int, int]]) -> sv.ColorPalette:
    """Build a palette for RGB frames: supervision paints in BGR order, so red and blue change places."""
    return sv.ColorPalette([sv.Color(r=blue, g=green, b=red) for red, green, blue in colors])


class TrackOverlay:
    """Draws boxes, ids and short trails; one instance follows one video.

    Line widths and letters grow with the frame, so that a 448x256 clip and a 1080p one read alike.
    """

    def __init__(self, *, trail_frames: int = 30, classes: tuple[str, ...] = ()) -> None:
        """Prepare an overlay; the drawing tools are made for the size of the first frame.

        Args:
            trail_frames: length of the trail behind each person's feet, in frames; 0 draws none.
            classes: class names; labels name the class where there is more than one.
        """
        self._trail_frames = trail_frames
        self._classes = classes
        self._size: tuple[int, int] | None = None
        self._label_height = 0
        self._box: sv.BoxAnnotator | None = None
        self._label: sv.LabelAnnotator | None = None
        self._trace: sv.TraceAnnotator | None = None

    def _fit_to(self, height: int, width: int) -> None:
        """Make the annotators for a frame size; trails start anew, for their points are pixels of the former size."""
        scale = math.sqrt(height * width / (720 * 1280))  # 1 at 720p
        line = max(2, round(2.2 * scale))
        padding, text_scale = max(2, round(5 * scale)), max(0.34, 0.52 * scale)
        self._label_height = round(_CAP_HEIGHT * text_scale) + 2 * padding
        colors = _palette([track_color(slot) for slot in range(_NUM_COLORS)])
        lookup = sv.ColorLookup.TRACK
        self._box = sv.BoxAnnotator(color=colors, thickness=line, color_lookup=lookup)
        self._label = sv.LabelAnnotator(
            color=colors,
            text_color=_palette([_text_color(slot) for slot in range(_NUM_COLORS)]),
            text_scale=text_scale,
            text_thickness=max(1, round(1.4 * scale)),
            text_padding=padding,
            color_lookup=lookup,
        )
        if self._trail_frames > 0:
            self._trace = sv.TraceAnnotator(
                color=colors,
                position=sv.Position.BOTTOM_CENTER,
                trace_length=self._trail_frames,
                thickness=line,
                color_lookup=lookup,
            )
        self._size = (height, width)

    def draw(self, frame: Image, tracks: Tracks, names: Mapping[int, str] | None = None) -> Image:
        """Return a copy of a frame with its tracks drawn; call once for each frame, in order.

        Args:
            frame: ``(H, W, 3)`` RGB.
            tracks: in pixels of the frame; none leaves the picture as it is and lets trails fade.
            names: of tracks, by id, as far as they are known.

        Returns:
            ``(H, W, 3)`` RGB, a new array.
        """
        if self._size != frame.shape[:2]:
            self._fit_to(*frame.shape[:2])
        canvas = frame.copy()
        detections = to_supervision(tracks)
        if self._trace is not None:
            canvas = self._trace.annotate(canvas, detections)
        if len(tracks) == 0 or self._box is None or self._label is None:
            return canvas
        canvas = self._box.annotate(canvas, detections)
        labels = self._labels(tracks, names or {})
        anchors = to_supervision(tracks)
        # The label sits on top of its box: one at the border moves in, or a person who fills the picture has no id.
        anchors.xyxy = np.maximum(tracks.xyxy, np.array([0, self._label_height, 0, 0], np.float32))
        labelled: Image = self._label.annotate(canvas, anchors, labels=labels)
        return labelled

    def _labels(self, tracks: Tracks, names: Mapping[int, str]) -> list[str]:
        """Return the id of each track, with its class where there are several, and its name where it has one."""
        labels = []
        for track_id, class_id in zip(tracks.track_id.tolist(), tracks.class_id.tolist()):
            known = self._classes[class_id] if class_id < len(self._classes) else str(class_id)
            words = [str(track_id), known if len(self._classes) > 1 else "", names.get(track_id, "")]
            labels.append(" ".join(filter(None, words)))
        return labels


def to_supervision(records: Detections | Tracks) -> sv.Detections:
    """Convert to ``supervision.Detections``, for its annotators, zones and metrics.

    Args:
        records: one frame's detections or tracks.

    Returns:
        The same rows in the same order: score as ``confidence``, track ids as ``tracker_id``, embeddings as
        ``data["embedding"]``.
    """
    converted = sv.Detections(xyxy=records.xyxy, confidence=records.score, class_id=records.class_id)
    if isinstance(records, Tracks):
        converted.tracker_id = records.track_id
    elif records.embedding is not None:
        converted.data["embedding"] = records.embedding
    return converted


def from_supervision(detections: sv.Detections) -> Detections:
    """Convert from ``supervision.Detections``, so that any detector it wraps can be tracked.

    Args:
        detections: one frame's boxes; ``data["embedding"]``, if there, is ``(N, D)``. Without ``confidence`` the score
            is 1, without ``class_id`` the class is 0. Track ids and masks are left out.

    Returns:
        The same rows in the same order.

    Raises:
        ShapeError: an embedding does not have one row per box.
    """
    count = len(detections)
    score: ArrayLike = np.ones(count, np.float32) if detections.confidence is None else detections.confidence
    class_id: ArrayLike = np.zeros(count, np.int64) if detections.class_id is None else detections.class_id
    embedding = detections.data.get("embedding")
    if embedding is not None and len(embedding) != count:
        raise ShapeError(f"{len(embedding)} embeddings for {count} boxes in supervision.Detections; give one row per box")
    values = None if embedding is None else np.asarray(embedding, np.float32)
    boxes = np.asarray(detections.xyxy, np.float32)
    return Detections(boxes, np.asarray(score, np.float32), np.asarray(class_id, np.int64), values)
