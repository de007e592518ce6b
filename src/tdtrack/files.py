"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, overload

from tdtrack.errors import OutputError

if sys.platform != "win32":
    import fcntl

__all__ = ["atomic_write", "is_bomb", "is_out_of_reach", "once", "reason_of", "require_still_there", "sweep", "try_lock"]

_SMALL = 1 << 30  # bytes; a file that unpacks to less harms no one
_OUT_OF_REACH = ("ENOENT", "EIO", "ENXIO", "ENODEV", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "ESTALE", "EREMOTEIO")


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
        with ExitStack() as stack:
            with _open_locked(temporary, mode.replace("w", "x"), text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform != "win32":
                    stack.callback(os.close, os.dup(file.fileno()))  # keeps the lock until the file has its name
            os.replace(temporary, target)  # noqa: PTH105  (tests reach the system call by this name)
    except OSError as error:
        own = (None, str(temporary), str(target), *(str(parent) for parent in target.parents))
        if error.filename not in own:
            raise
        raise OutputError(f"cannot write {path}: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _open_locked(path: Path, mode: str, text: dict[str, str]) -> IO[Any]:
    """Create a file that no one sweeps away while it is open."""
    while True:
        file: IO[Any] = open(path, mode, **text)  # type: ignore[call-overload]  # noqa: PTH123, SIM115
        if try_lock(file) and path.exists():  # swept between the two steps, it would be gone
            return file
        file.close()


def try_lock(file: IO[Any]) -> bool:
    """Take the lock of an open file until it is closed; returns False where another process has it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove the temporary files that writers left in a folder when they were killed; those of living ones stay.

    Args:
        folder: it may be missing.
        below: look through the folders in it too.
    """
    if sys.platform == "win32":
        return
    for left in folder.glob("**/.*.????????.tmp" if below else ".*.????????.tmp"):
        with suppress(OSError), left.open("r+b") as file:
            if try_lock(file):
                left.unlink()


def reason_of(error: OSError) -> str:
    """Return the system's words for why a file operation failed, for instance "No space left on device"."""
    return error.strerror or str(error) or type(error).__name__


def is_out_of_reach(error: OSError) -> bool:
    """Tell whether a file is gone or its disk or mount does not answer, so that its content is not what is at fault."""
    return error.errno in {getattr(errno, name) for name in _OUT_OF_REACH if hasattr(errno, name)}


def require_still_there(path: Path) -> None:
    """Stop a job whose result folder has gone; what it writes on would lie below the mount, or without the rest.

    Args:
        path: a file that the job has left there.

    Raises:
        OutputError: it is gone, or cannot be looked at.
    """
    try:
        path.stat()
    except OSError as error:
        raise OutputError(
            f"cannot find {path} again, which this job has written ({reason_of(error)}); bring its folder, disk or mount "
            "back and run the same command again"
        ) from error


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
