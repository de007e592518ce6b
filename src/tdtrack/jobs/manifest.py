"""What a job of many items has done so far: one line of JSON per item, in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tdtrack.errors import BusyError, ConfigError, OutputError
from tdtrack.files import atomic_write, reason_of, require_still_there, sweep, try_lock

__all__ = ["MANIFEST_FILE", "Manifest"]

MANIFEST_FILE = "manifest.jsonl"
"""Name of the manifest in a result folder."""

_FORMAT = 1


class Manifest:
    """The account of a job; its first line holds the settings, every other an item.

    A finished item gets its line at once, after its results have their names. A line that a kill cut short is forgotten, and
    its item is done again. ``close`` sorts the lines, so that equal jobs leave equal bytes, in whatever order items finished.
    One process at a time keeps it: a second one would write its own memory over the first one's lines.

    Attributes:
        path: the file.
        entries: what is known, by name.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Begin an account, or go on with one.

        Args:
            path: the file.
            settings: what the results depend on; values that JSON can hold.

        Raises:
            ConfigError: the file belongs to a job with other settings; names the first that differs.
            OutputError: it cannot be read or written.
            BusyError: another process keeps it.
        """
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        self._head = {"format": _FORMAT, "settings": json.loads(json.dumps(settings))}
        sweep(path.parent, below=True)
        try:
            self._lock = _locked(path.with_name(f".{path.name}.lock"))
            try:
                self._take_up()
                self._file = path.open("a", encoding="utf-8", newline="\n")
            except BaseException:
                self._unlock()
                raise
        except OSError as error:
            raise OutputError(f"cannot write {path}: {reason_of(error)}") from error

    def record(self, entry: Mapping[str, Any]) -> None:
        """Write one item down; it is on the disk when this returns.

        Args:
            entry: with its ``name``; replaces an earlier entry of this name.

        Raises:
            OutputError: it cannot be written, or the file has gone.
        """
        require_still_there(self.path)
        self.entries[entry["name"]] = dict(entry)
        try:
            self._file.write(_line(entry))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {reason_of(error)}") from error

    def close(self) -> None:
        """Close the file, its lines sorted by name; one that has gone is not made anew.

        Raises:
            OutputError: it cannot be written.
        """
        with suppress(OSError):  # of a line that could not be written, which has been said
            self._file.close()
        try:
            if self.path.exists():
                self._rewrite()
        finally:
            self._unlock()

    def _take_up(self) -> None:
        lines = self._lines()
        if lines:
            self._compare(lines[0])
            self.entries = {entry["name"]: entry for entry in lines[1:]}
        self._rewrite()

    def _unlock(self) -> None:
        with suppress(OSError):
            Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def _rewrite(self) -> None:
        with atomic_write(self.path) as file:
            file.writelines(_line(entry) for entry in [self._head, *(self.entries[name] for name in sorted(self.entries))])

    def _lines(self) -> list[dict[str, Any]]:
        """Return the lines that are whole, up to the first that is not."""
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else "it is not text"
            raise OutputError(f"cannot read {self.path}: {reason}; delete it to start the job anew") from error
        lines: list[dict[str, Any]] = []
        for line in text.splitlines():
            try:
                content = json.loads(line)
            except ValueError:
                break
            if not isinstance(content, dict) or (lines and "name" not in content):
                break
            lines.append(content)
        return lines

    def _compare(self, head: Mapping[str, Any]) -> None:
        if head.get("format") != _FORMAT:
            raise ConfigError(f"{self.path} is not a manifest of this version; delete it to start anew, or choose another out")
        before, now = head.get("settings", {}), self._head["settings"]
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{self.path} belongs to a job with {name} {before.get(name)}, this one has {now.get(name)}; "
                    "put the setting back, or choose another out"
                )


def _locked(path: Path) -> IO[str]:
    """Create a file that one process holds; it is a file of its own, as the account is replaced by newer ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a")
        if not try_lock(file):
            file.close()
            raise BusyError(f"{path.parent}: another job is at work in this folder; wait for it, or choose another --out")
        if path.exists():  # the one before may have removed it between the two steps
            return file
        file.close()


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content) + "\n"  # ASCII, for names may hold line ends and what no encoding has
