"""A gallery from a folder of photos, embedded by the engine that tracks."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np

from tdtrack.association.calibration import APPEARANCE_TEACHER
from tdtrack.association.gallery import Gallery
from tdtrack.boxes import box_area
from tdtrack.data.images import load_image
from tdtrack.data.reading import IMAGE_SUFFIXES
from tdtrack.errors import ConfigError, DataError
from tdtrack.runtime.engine import Engine
from tdtrack.types import FloatArray, Image

__all__ = ["LOOKS_FILE", "read_gallery"]

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
