"""Names for tracks: known looks that tracks of any video and camera are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tdtrack.association.appearance import GENERIC
from tdtrack.association.costs import unit_length
from tdtrack.boxes import iou
from tdtrack.errors import DataError, ShapeError
from tdtrack.files import atomic_write
from tdtrack.npz import read_arrays
from tdtrack.types import Detections, FloatArray, Tracks

__all__ = ["Gallery", "TrackLooks", "min_cosine_of"]

MAX_LOOKS = 16
"""Looks kept of one name; a new one beyond takes the place of the one most like another."""

MIN_LOOKS = 5
"""Detections of a track before its look says who it is."""

ISOLATED_IOU = 0.3
"""A detection that overlaps another by more shows two objects."""

SAME_BOX_IOU = 0.5
"""A track's box and the detection it came from overlap by more."""

FORGET_AFTER = 1_000
"""Frames after which a track that never showed enough of itself is forgotten, so that memory stays bounded by real tracks."""


def min_cosine_of(statistics: Iterable[float] | None) -> float:
    """Choose the cosine from which two looks are one object's.

    Args:
        statistics: what ``tdtrack calibrate`` stored as ``cosine_statistics``: mean and deviation of same pairs, then of
            different pairs; ``None`` takes those of a network that nobody measured.

    Returns:
        The middle between the two means.
    """
    same, _, different, _ = GENERIC if statistics is None else tuple(statistics)
    return (same + different) / 2


class Gallery:
    """Looks by name.

    A name may have several looks (front, back, another camera); the nearest one counts.

    Attributes:
        space: tells the network that made the looks from others.
    """

    def __init__(self, looks: Mapping[str, ArrayLike] | None = None, *, space: str = "") -> None:
        """Start with some looks, or none.

        Args:
            looks: by name ``(D,)`` or ``(K, D)`` embeddings of any length but zero.
            space: any text that tells the network that made the looks from others.

        Raises:
            ShapeError: as :meth:`add`.
        """
        self.space = space
        self._looks: dict[str, FloatArray] = {}
        self._origins: dict[str, list[str]] = {}
        for name, embedding in (looks or {}).items():
            self.add(name, embedding)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order they came."""
        return tuple(self._looks)

    @property
    def dim(self) -> int | None:
        """D, or ``None`` while the gallery is empty."""
        return next((looks.shape[1] for looks in self._looks.values()), None)

    def __len__(self) -> int:
        return len(self._looks)

    def looks(self, name: str) -> FloatArray:
        """Return ``(K, D)`` unit-length looks of a name.

        Raises:
            DataError: nobody has that name.
        """
        if name not in self._looks:
            raise DataError(f"the gallery has no {name!r}; it has {', '.join(self._looks) or 'no names'}")
        return self._looks[name]

    def add(self, name: str, embedding: ArrayLike, origin: str = "") -> None:
        """Take in looks of a new or known name.

        Args:
            name: not empty.
            embedding: ``(D,)`` or ``(K, D)`` of any length but zero.
            origin: any text that tells where they come from, by which :meth:`forget` finds them.

        Raises:
            ShapeError: the width differs from the gallery's, a row is zero or not finite, or there is no row.
            DataError: the name is empty.
        """
        if not name.strip():
            raise DataError("a name in the gallery is empty; give each object one")
        rows = np.atleast_2d(np.asarray(embedding, np.float32))
        if rows.ndim != 2 or rows.size == 0 or self.dim not in (None, rows.shape[1]):
            raise ShapeError(
                f"looks of {name!r} have shape {rows.shape}; the gallery holds {self.dim or 'any'} dimensions: "
                "make all looks with one model"
            )
        if not np.isfinite(rows).all() or not rows.any(axis=1).all():
            raise ShapeError(f"looks of {name!r} have NaN, infinite or all-zero rows; check the model that made them")
        kept = [*self._looks.get(name, np.zeros((0, rows.shape[1]), np.float32)), *unit_length(rows).astype(np.float32)]
        origins = [*self._origins.get(name, ()), *(origin for _ in rows)]
        while len(kept) > MAX_LOOKS:
            cosine = np.stack(kept) @ np.stack(kept).T
            np.fill_diagonal(cosine, -np.inf)
            redundant = int(cosine.max(axis=1).argmax())
            del kept[redundant], origins[redundant]
        self._looks[name], self._origins[name] = np.stack(kept), origins

    def forget(self, origin: str) -> None:
        """Drop the looks of one origin, and the names that have no others."""
        for name, origins in list(self._origins.items()):
            kept = [index for index, other in enumerate(origins) if other != origin]
            if kept:
                self._looks[name], self._origins[name] = self._looks[name][kept], [origins[index] for index in kept]
            else:
                del self._looks[name], self._origins[name]

    def cosine(self, embedding: FloatArray) -> NDArray[np.float32]:
        """Compare looks with every name.

        Args:
            embedding: ``(T, D)`` of unit length.

        Returns:
            ``(T, names)`` cosine with the nearest look of each name.

        Raises:
            ShapeError: the width differs from the gallery's.
        """
        if not self._looks:
            return np.zeros((len(embedding), 0), np.float32)
        if embedding.ndim != 2 or embedding.shape[1] != self.dim:
            raise ShapeError(
                f"embeddings have shape {embedding.shape}, the gallery {self.dim} dimensions: it was made with another model"
            )
        return np.stack([(embedding @ looks.T).max(axis=1) for looks in self._looks.values()], axis=1)

    def save(self, path: Path | str) -> None:
        """Write the looks to an ``.npz`` file.

        Raises:
            OutputError: the file cannot be written.
        """
        names = np.array([name for name, looks in self._looks.items() for _ in looks], dtype=np.str_)
        looks = np.concatenate(list(self._looks.values())) if self._looks else np.zeros((0, 0), np.float32)
        origins = np.array([origin for origins in self._origins.values() for origin in origins], dtype=np.str_)
        with atomic_write(path, "wb") as file:
            np.savez(file, name=names, embedding=looks, origin=origins, space=np.array(self.space))

    @classmethod
    def load(cls, path: Path | str) -> Gallery:
        """Read what :meth:`save` wrote; never runs code from the file.

        Raises:
            DataError: the file is missing, damaged or holds something else.
        """
        try:
            arrays = read_arrays(Path(path))
        except DataError as error:
            raise DataError(
                f"{path} is not a gallery ({error}); make it again with tdtrack track --gallery --enroll"
            ) from error
        if missing := {"name", "embedding", "space"} - arrays.keys():
            raise DataError(f"{path} is not a gallery: it lacks {sorted(missing)}; make it again with --enroll")
        names, looks, space = arrays["name"], arrays["embedding"], str(arrays["space"])
        origins = arrays.get("origin", np.full(len(looks), ""))  # files of before have none
        if names.ndim != 1 or looks.ndim != 2 or len(names) != len(looks) or looks.dtype.kind != "f" or names.dtype.kind != "U":
            raise DataError(f"{path}: name has shape {names.shape} and embedding {looks.shape}; one name per look is needed")
        if origins.shape != names.shape or origins.dtype.kind != "U":
            raise DataError(f"{path}: origin has shape {origins.shape}, name {names.shape}; one text per look is needed")
        gallery = cls(space=space)
        for name, look, origin in zip(names.tolist(), looks, origins.tolist()):
            gallery.add(name, look, origin)
        return gallery


@dataclass(slots=True)
class _Seen:
    """What a track showed: frames from first to last, and the sum of its looks."""

    first: int
    last: int
    total: FloatArray
    count: int = 0


@dataclass
class TrackLooks:
    """Gathers the look of every track of a video, and says who they are in the end.

    Attributes:
        tracks: by track id.
        tidied: frame in which those that showed too little were last forgotten.
    """

    tracks: dict[int, _Seen] = field(default_factory=dict)
    tidied: int = 0

    def observe(self, detections: Detections, tracks: Tracks) -> None:
        """Take in a frame: each track learns from the detection it came from, where that stands alone."""
        if detections.embedding is None or len(detections) == 0 or len(tracks) == 0:
            return
        crossing = iou(detections.xyxy, detections.xyxy)
        np.fill_diagonal(crossing, 0.0)
        overlap = iou(tracks.xyxy, detections.xyxy)
        nearest = overlap.argmax(axis=1)
        alone = crossing.max(axis=1) < ISOLATED_IOU
        has_look = np.asarray(detections.embedding.any(axis=1))
        useful = (overlap.max(axis=1) > SAME_BOX_IOU) & alone[nearest] & has_look[nearest]
        useful &= ~np.asarray(tracks.hidden)  # where a hidden object should be, another one is seen
        for row, track_id in enumerate(tracks.track_id.tolist()):
            seen = self.tracks.setdefault(
                track_id, _Seen(tracks.frame_index, 0, np.zeros(detections.embedding.shape[1], np.float32))
            )
            seen.last = tracks.frame_index
            if useful[row]:
                seen.total = seen.total + detections.embedding[nearest[row]]
                seen.count += 1
        past = tracks.frame_index - FORGET_AFTER
        if past >= self.tidied:
            self.tidied = tracks.frame_index
            self.tracks = {key: seen for key, seen in self.tracks.items() if seen.count >= MIN_LOOKS or seen.last > past}

    def names(self, gallery: Gallery, min_cosine: float, among: Iterable[int] | None = None) -> dict[int, tuple[str, float]]:
        """Give tracks the names they resemble, the surest first.

        One name goes to several tracks (someone who left and came back) but never to two that were there at the same time.

        Args:
            gallery: known looks.
            min_cosine: below, two looks are two objects (:func:`min_cosine_of`).
            among: ids of the tracks to name, for instance those of the last frame; ``None`` names all.

        Returns:
            By track id the name and the cosine; tracks that resemble nobody, or showed too little, are left out.

        Raises:
            ShapeError: the gallery was made with another model.
        """
        ids = self._telling() if among is None else [key for key in among if self._tells(key)]
        if not ids or len(gallery) == 0:
            return {}
        cosine = gallery.cosine(np.stack([self.look(track_id) for track_id in ids]))
        named: dict[int, tuple[str, float]] = {}
        taken: dict[int, list[_Seen]] = {}
        for place in np.argsort(-cosine, axis=None, kind="stable"):
            row, column = divmod(int(place), cosine.shape[1])
            if cosine[row, column] < min_cosine:
                break
            seen, others = self.tracks[ids[row]], taken.setdefault(column, [])
            if ids[row] in named or any(seen.first <= other.last and other.first <= seen.last for other in others):
                continue
            named[ids[row]] = gallery.names[column], float(cosine[row, column])
            others.append(seen)
        return dict(sorted(named.items()))

    def enroll(
        self, gallery: Gallery, named: Mapping[int, tuple[str, float]], origin: str = "", prefix: str = "object"
    ) -> dict[int, str]:
        """Add every track's look to the gallery: under its name, or under a new one.

        Args:
            gallery: is changed.
            named: what :meth:`names` returned.
            origin: of the looks, as of :meth:`Gallery.add`.
            prefix: new names are ``prefix-1``, ``prefix-2``, ... as far as they are free.

        Returns:
            By track id the new names.
        """
        fresh: dict[int, str] = {}
        number = 1
        for track_id in self._telling():
            if track_id in named:
                gallery.add(named[track_id][0], self.look(track_id), origin)
                continue
            while f"{prefix}-{number}" in gallery.names:
                number += 1
            fresh[track_id] = f"{prefix}-{number}"
            gallery.add(fresh[track_id], self.look(track_id), origin)
        return fresh

    def look(self, track_id: int) -> FloatArray:
        """Return the ``(D,)`` unit-length mean look of a track."""
        look: FloatArray = unit_length(self.tracks[track_id].total).astype(np.float32)
        return look

    def _telling(self) -> list[int]:
        """Return the tracks that showed enough, in order of id."""
        return sorted(filter(self._tells, self.tracks))

    def _tells(self, track_id: int) -> bool:
        seen = self.tracks.get(track_id)
        return seen is not None and seen.count >= MIN_LOOKS and bool(seen.total.any())
