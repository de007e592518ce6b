"""Identities of boxes, in a file of their own: no data set holds them, and only Tab. 4's counterpart learns from them."""

from __future__ import annotations

import json
from pathlib import Path

from tdtrack.errors import DataError
from tdtrack.files import atomic_write, reason_of
from tdtrack.types import IntArray

__all__ = ["read_identities", "write_identities"]


def write_identities(path: Path | str, annotation_id: IntArray, identity: IntArray) -> None:
    """Write who is in which box.

    Args:
        path: the JSON file.
        annotation_id: ``(N,)`` boxes of one data set.
        identity: ``(N,)`` who each shows, at least 0; equal numbers are the same object.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path, "w") as file:
        json.dump({"annotation_id": annotation_id.tolist(), "identity": identity.tolist()}, file)


def read_identities(path: Path | str) -> dict[int, int]:
    """Read who is in which box.

    Args:
        path: a file that ``write_identities`` wrote, or any JSON file with the lists ``annotation_id`` and ``identity``.

    Returns:
        Identity by annotation id.

    Raises:
        DataError: the file cannot be read, its lists do not pair up, or hold anything but whole numbers from 0 on.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        boxes, identities = content["annotation_id"], content["identity"]
        pairs = dict(zip(boxes, identities, strict=True))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: is not a file of identities ({error!r}); it needs two lists of one length, annotation_id and identity"
        ) from error
    bad = next((key for key, value in pairs.items() if type(key) is not int or type(value) is not int or value < 0), None)
    if bad is not None:
        raise DataError(
            f"{path}: annotation {bad!r} has identity {pairs[bad]!r}; both must be whole numbers, identities from 0"
        )
    if len(pairs) < len(boxes):
        twice = next(box for box in boxes if boxes.count(box) > 1)
        raise DataError(f"{path}: annotation {twice} is listed twice; list every box once")
    return pairs
