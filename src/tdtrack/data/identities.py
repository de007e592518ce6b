"""Identities of boxes, in a file of their own: no data set holds them, and only Tab. 4's counterpart learns from them."""

from __future__ import annotations

import json
from collections import Counter
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
        DataError: the file cannot be read, its lists do not pair up, a box is listed twice, or a number is not a whole one of
            64 bits, identities from 0.
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
    bad = next((key for key, value in pairs.items() if not _is_id(key, -(2**63)) or not _is_id(value, 0)), None)
    if bad is not None:
        raise DataError(
            f"{path}: annotation {bad!r:.80} has identity {pairs[bad]!r:.80}; both must be whole numbers below 2**63, "
            "identities from 0"
        )
    if len(pairs) < len(boxes):
        ((twice, _),) = Counter(boxes).most_common(1)
        raise DataError(f"{path}: annotation {twice} is listed twice; list every box once")
    return pairs


def _is_id(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**63
