"""A gallery from a folder of photos, embedded by the engine that tracks; and who of it the tracks are."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np

from tdtrack.association.calibration import APPEARANCE_TEACHER
from tdtrack.association.gallery import Gallery, TrackLooks, min_cosine_of
from tdtrack.boxes import box_area
from tdtrack.config import AssociationConfig
from tdtrack.data.images import load_image
from tdtrack.data.reading import IMAGE_SUFFIXES
from tdtrack.errors import ConfigError, DataError
from tdtrack.files import atomic_write
from tdtrack.output.jsonl import readable_json
from tdtrack.runtime.engine import Engine
from tdtrack.types import Detections, FloatArray, Image, Tracks

__all__ = ["LOOKS_FILE", "TrackNaming", "read_gallery", "video_origin"]

LOOKS_FILE = "looks.npz"
"""What earlier videos taught, beside the photos."""

PHOTOS = "photos"
"""Origin of the looks that photos give: they are embedded anew each time, and one that is removed is forgotten."""

MARGINS = (0.0, 0.25, 1.0)
"""Borders tried around a photo, in its sides: a detector finds nobody in a crop that someone fills."""


def read_gallery(folder: Path | str, engine: Engine) -> Gallery:
    """Read ``folder/NAME/*.jpg`` or ``folder/NAME.jpg``, and ``folder/looks.npz`` where an earlier run left one.

    Of each photo the largest object counts. A folder that does not exist is an empty gallery: it will be made.

    Args:
        folder: of the gallery.
        engine: detects and embeds; the one that tracks.

    Returns:
        Looks by name.

    Raises:
        ConfigError: the engine gives no embeddings.
        DataError: a photo cannot be read or shows no object, the looks are damaged, or they are another model's.
    """
    place = Path(folder)
    if engine.embedding_dim is None:
        raise ConfigError(f"gallery {place} needs embeddings, and this model gives none; use one that tdtrack trained")
    if place.exists() and not place.is_dir():
        raise DataError(f"gallery {place} is not a folder; name one with NAME/photo.jpg or NAME.jpg in it")
    looks = place / LOOKS_FILE
    space = _space(engine)
    gallery = Gallery.load(looks) if looks.is_file() else Gallery(space=space)
    if gallery.space != space:
        raise DataError(
            f"{looks} was made with another model or teacher, whose embeddings mean other things; remove it or use that"
        )
    gallery.forget(PHOTOS)
    files = (path for pattern in ("*", "*/*") for path in place.glob(pattern))
    for photo in sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES):
        name = photo.stem if photo.parent == place else photo.parent.name
        gallery.add(name, _embed(photo, engine), PHOTOS)
    return gallery


def video_origin(place: str) -> str:
    """Return what tells a video from others for the gallery that it is enrolled in; the same wherever it is moved."""
    path = Path(place)
    try:
        status = path.stat()
    except OSError:
        return ""  # a camera or stream: what it shows does not come again
    return f"{path.resolve().name} {status.st_size} {status.st_mtime_ns}"


class TrackNaming:
    """Says which track is whom: as far as it is known, and in the end.

    With an origin, the tracks' looks join the gallery. Those of an earlier run of the same video are forgotten before: a kill
    may have come between writing the gallery and the names, and a video does not meet itself.
    """

    def __init__(self, folder: Path, engine: Engine, config: AssociationConfig, origin: str | None) -> None:
        """Read the gallery.

        Args:
            folder: of the gallery.
            engine: detects and embeds.
            config: of the tracker.
            origin: what ``video_origin`` says of the video if its looks are to join the gallery, else ``None``.

        Raises:
            ConfigError, DataError: as ``read_gallery`` says; also where nobody is known and nobody will be.
        """
        self._looks_path = folder / LOOKS_FILE
        self._gallery = read_gallery(folder, engine)
        if origin:
            self._gallery.forget(origin)
        if origin is None and not len(self._gallery):
            raise DataError(
                f"gallery {folder} knows nobody; put photos (.jpg, .png, ...) there as NAME/1.jpg or NAME.jpg, or let "
                "this video's tracks in with --enroll"
            )
        self._min_cosine = min_cosine_of(config.cosine_statistics)
        self._floor = config.floor
        self._origin = origin
        self._looks = TrackLooks()

    def __call__(self, detections: Detections, tracks: Tracks) -> dict[int, str]:
        """Take in one frame; returns the names of its tracks as far as they are known by now."""
        self._looks.observe(detections.select(detections.score >= self._floor), tracks)
        named = self._looks.names(self._gallery, self._min_cosine, tracks.track_id.tolist())
        return {track_id: name for track_id, (name, _) in named.items()}

    def write(self, path: Path, *, whole: bool) -> list[Path]:
        """Write names by track id, and of the whole source the gallery where it grows; returns the files."""
        named = self._looks.names(self._gallery, self._min_cosine)
        entries = {key: {"name": name, "cosine": round(cosine, 4)} for key, (name, cosine) in named.items()}
        written = [path]
        if self._origin is not None and whole:  # else the rest, when it is tracked, would meet itself
            fresh = self._looks.enroll(self._gallery, named, self._origin)
            entries |= {key: {"name": name, "cosine": None} for key, name in fresh.items()}
            self._gallery.save(self._looks_path)
            written.append(self._looks_path)
        with atomic_write(path) as file:
            file.write(readable_json(dict(sorted(entries.items())), indent=1))
        return written


def _space(engine: Engine) -> str:
    """Return a short text that differs for models whose embeddings mean different things, and not for one that was exported."""
    known = {key: value for key, value in engine.metadata.items() if key not in ("appearance", APPEARANCE_TEACHER, "model")}
    known |= {"dim": engine.embedding_dim}
    return sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _embed(photo: Path, engine: Engine) -> FloatArray:
    """Return the ``(D,)`` look of a photo's largest object."""
    image = load_image(photo, upright=True)
    for margin in MARGINS:
        found = engine(_framed(image, margin))
        if len(found) and found.embedding is not None and found.embedding.any():
            look: FloatArray = found.embedding[int((box_area(found.xyxy) * found.score).argmax())]
            return look
    raise DataError(f"{photo}: the model finds nothing in this photo; show the whole object with some background around it")


def _framed(image: Image, margin: float) -> Image:
    """Return the picture in the middle of a grey border."""
    rows, columns = (round(margin * side) for side in image.shape[:2])
    framed: Image = np.pad(image, ((rows, rows), (columns, columns), (0, 0)), constant_values=114)
    return framed
