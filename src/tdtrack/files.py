"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, overload

from tdtrack.errors import OutputError

__all__ = ["atomic_write", "is_bomb", "once", "reason_of"]

_SMALL = 1 << 30  # bytes; a file that unpacks to less harms no one


@overload
@contextmanager
def atomic_write(path: Path | str, mode: Literal["w"] = "w") -> Iterator[IO[str]]: ...
@overload
@contextmanager
def atomic_write(path: Path | str, mode: Literal["wb"]) -> Iterator[IO[bytes]]: ...
@contextmanager
def atomic_write(path: Path | str, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when the block ends without an error.

    The content goes to a temporary file beside ``path``, reaches the disk, and then takes the name in one step: whoever
    looks, even after a power cut, sees the old file or the new one. Missing parent folders are made. A link is
    followed, so the file it names is replaced and the link stays.

    Args:
        path: the file to write.
        mode: ``"w"`` for UTF-8 text with Unix line ends, ``"wb"`` for bytes.

    Yields:
        The open temporary file; its ``.name`` is a path, for writers that want one.

    Raises:
        OutputError: the file cannot be written; names it and the system's reason. Errors of the block about other files pass.
    """
    target = Path(os.path.realpath(path))
    # The name is cut so that it stays within what file systems allow, and random so that two writers do not meet.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        if target.exists() and not target.is_file():  # replacing a folder fails late, replacing a device does not fail at all
            raise OutputError(f"cannot write {path}: it exists and is not a regular file; name another one")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]  # noqa: PTH123
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105  (tests reach the system call by this name)
    except OSError as error:
        own = (None, str(temporary), str(target), *(str(parent) for parent in target.parents))
        if error.filename not in own:
            raise
        raise OutputError(f"cannot write {path}: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def reason_of(error: OSError) -> str:
    """Return the system's words for why a file operation failed, for instance "No space left on device"."""
    return error.strerror or str(error) or type(error).__name__


def is_bomb(unpacked: int, packed: int) -> bool:
    """Tell whether a compressed file unpacks to far more than data do.

    Args:
        unpacked: bytes it says it unpacks to.
        packed: bytes it has.

    Returns:
        True from a gigabyte on where the ratio is above 100: tables of numbers stay below 20, zeros reach 1,000.
    """
    return unpacked > _SMALL and unpacked > 100 * packed


def once(path: Path, make: Callable[[], Any]) -> Any:
    """Return what an earlier run left in a JSON file, or make it now and leave it there."""
    if not path.is_file():
        made = make()
        with atomic_write(path, "w") as file:
            json.dump(made, file, indent=2)
    return json.loads(path.read_text(encoding="utf-8"))
