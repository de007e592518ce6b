"""Atomic writing: the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tdtrack.errors import OutputError
from tdtrack.files import atomic_write, sweep


def test_text_arrives_as_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "folder" / "a.txt") as file:
        file.write("grüß\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "grüß\n".encode()


def test_nothing_shows_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path, "wb") as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_parent_that_is_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/a\.txt: "), atomic_write(tmp_path / "file" / "a.txt"):
        pass


def test_no_permission_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source), None, str(target))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: Permission denied"), atomic_write(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that refuses everyone")
def test_a_folder_no_one_may_write_to_is_an_output_error() -> None:
    with pytest.raises(OutputError, match=r"cannot write /proc/a\.txt: "), atomic_write("/proc/a.txt"):
        pass


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), atomic_write(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_about_another_file_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a regular file"), atomic_write(tmp_path):
        pass


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "x"


def test_what_killed_writers_left_is_swept_and_what_living_ones_write_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "killed.txt")], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "open\n"
        sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1  # it lives
        writer.kill()
    with atomic_write(tmp_path / "mine.txt") as file:
        file.write("mine")
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [Path(file.name).name]
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


WRITER = """
import sys, time
from tdtrack.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    print("open", flush=True)
    time.sleep(600)
"""
