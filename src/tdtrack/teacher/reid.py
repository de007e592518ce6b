"""Crops by identity: reading a folder of them, and measuring a teacher on them (Market-1501's protocol)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tdtrack.data.images import load_image
from tdtrack.errors import DataError, ShapeError
from tdtrack.teacher.load import Teacher
from tdtrack.types import FloatArray, IntArray

__all__ = ["ReidCrops", "evaluate_reid", "rank_gallery", "read_reid_crops"]

_MARKET_NAME = re.compile(r"(?P<identity>-?\d+)_c(?P<camera>\d+)")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_JUNK = -1  # Market-1501's mark of a detection that is no clean person
_CHUNK = 256


@dataclass(frozen=True, slots=True, eq=False)
class ReidCrops:
    """Crop files with who they show.

    Attributes:
        paths: ``N`` files, ordered by name.
        identity: ``(N,)`` int64; -1 is junk.
        camera: ``(N,)`` int64; all 0 where the layout does not say.
    """

    paths: tuple[Path, ...]
    identity: IntArray
    camera: IntArray

    def __len__(self) -> int:
        return len(self.paths)


def read_reid_crops(folder: Path | str, part: str = "bounding_box_train") -> ReidCrops:
    """List the crops of a folder by identity.

    Args:
        folder: a data set in Market-1501 layout (``<folder>/<part>/0002_c1s1_000451_03.jpg``), such a part itself, or a folder
            with one sub-folder of crops per identity.
        part: the part wanted of a whole data set.

    Returns:
        The crops. Identities of sub-folders are numbered from 0 in the order of their names.

    Raises:
        DataError: the folder is missing or holds no crops, or a file name does not begin with identity and camera.
    """
    folder = Path(folder)
    inside = folder / part
    root = inside if inside.is_dir() else folder
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder of crops; name one that holds a folder per part, as tdtrack walkers writes")
    files = _images(root)
    if files:
        return _market(files)
    people = sorted(entry for entry in root.iterdir() if entry.is_dir() and _images(entry))
    if not people:
        raise DataError(f"{root}: holds no crops; expected files like 0002_c1s1_000451_03.jpg, or one folder per identity")
    owned = [(path, number) for number, person in enumerate(people) for path in _images(person)]
    identity = np.array([number for _, number in owned], dtype=np.int64)
    return ReidCrops(tuple(path for path, _ in owned), identity, np.zeros(len(owned), dtype=np.int64))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _market(files: list[Path]) -> ReidCrops:
    matches = [_MARKET_NAME.match(path.name) for path in files]
    for path, match in zip(files, matches):
        if match is None:
            raise DataError(f"{path}: the name does not begin with identity and camera, as 0002_c1s1_000451_03.jpg does")
    named = [match for match in matches if match is not None]
    identity = np.array([int(match["identity"]) for match in named], dtype=np.int64)
    camera = np.array([int(match["camera"]) for match in named], dtype=np.int64)
    return ReidCrops(tuple(files), identity, camera)


def evaluate_reid(teacher: Teacher, folder: Path | str) -> dict[str, float]:
    """Measure how well a teacher finds people again.

    Args:
        teacher: what embeds the crops.
        folder: data set in Market-1501 layout with ``query/`` and ``bounding_box_test/``.

    Returns:
        ``rank1``: fraction of queries whose nearest gallery crop shows the same identity; ``mAP``: mean average precision.

    Raises:
        DataError: a part is missing or empty, a crop cannot be read, or no query has a match in the gallery.

    Source:
        Market-1501's single-query protocol (Zheng et al., ICCV 2015), cosine similarity.
    """
    folder = Path(folder)
    parts = []
    for part in ("query", "bounding_box_test"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder}: has no {part}/; evaluation needs query/ and bounding_box_test/")
        crops = read_reid_crops(folder / part)
        embedded = [
            teacher.embed([load_image(path) for path in crops.paths[start : start + _CHUNK]])
            for start in range(0, len(crops), _CHUNK)
        ]
        parts.append((np.concatenate(embedded), crops))
    (query, asked), (gallery, kept) = parts
    rank1, precision = rank_gallery(query, asked.identity, asked.camera, gallery, kept.identity, kept.camera)
    answered = ~np.isnan(precision)
    if not answered.any():
        raise DataError(f"{folder}: no query identity is in bounding_box_test/ under another camera; nothing can be measured")
    return {"rank1": float(rank1[answered].mean()), "mAP": float(precision[answered].mean())}


def rank_gallery(
    query: FloatArray,
    query_identity: IntArray,
    query_camera: IntArray,
    gallery: FloatArray,
    gallery_identity: IntArray,
    gallery_camera: IntArray,
) -> tuple[FloatArray, FloatArray]:
    """Rank a gallery by similarity to every query and look where the right identity comes.

    Gallery crops of the query's identity under the query's camera, and junk, are left out of that query's ranking.

    Args:
        query: ``(Q, D)`` unit rows.
        query_identity: ``(Q,)``.
        query_camera: ``(Q,)``.
        gallery: ``(M, D)`` unit rows.
        gallery_identity: ``(M,)``; -1 is junk.
        gallery_camera: ``(M,)``.

    Returns:
        For every query whether its first match is right (1 or 0), and its average precision: the mean, over its matches, of the
        fraction of right ones up to and including each. Both NaN, ``(Q,)``, for a query without a match.

    Raises:
        ShapeError: queries and gallery have embeddings of different width.
    """
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(f"query embeddings have {query.shape[1]} dimensions, gallery embeddings {gallery.shape[1]}")
    first = np.full(len(query), np.nan, dtype=np.float32)
    precision = np.full(len(query), np.nan, dtype=np.float32)
    for start in range(0, len(query), _CHUNK):
        similarity = query[start : start + _CHUNK] @ gallery.T
        for row, scores in enumerate(similarity, start):
            same = gallery_identity == query_identity[row]
            counted = ~((same & (gallery_camera == query_camera[row])) | (gallery_identity == _JUNK))
            order = np.argsort(-scores[counted], kind="stable")
            hits = same[counted][order]
            if hits.any():
                places = np.flatnonzero(hits)
                first[row] = hits[0]
                precision[row] = ((np.arange(len(places)) + 1) / (places + 1)).mean()
    return first, precision
