"""MOTChallenge submissions: one zip of text files, checked to the last row."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tdtrack.benchmarks import BENCHMARKS, Benchmark, scene_of
from tdtrack.errors import ConfigError, DataError
from tdtrack.evaluation.rows import Rows, parse_rows
from tdtrack.files import atomic_write, reason_of
from tdtrack.types import BoolArray

__all__ = ["Submission", "check_submission", "find_benchmark", "write_submission"]

_COLUMNS = 10
_MAX_PIXELS = 100_000.0  # far beyond any frame: a number that is no pixel
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip can hold: the same results give the same bytes
_MAX_BYTES = 1_000_000_000
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (  # what zipfile raises on damaged archives
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error),
    *(NotImplementedError, RuntimeError, EOFError, ValueError),
)


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked submission.

    Attributes:
        path: the zip.
        rows: of each sequence's file, in order of name.
    """

    path: Path
    rows: Mapping[str, int]


def find_benchmark(name: str) -> Benchmark:
    """Return a benchmark by its name in any case.

    Raises:
        ConfigError: there is none of that name.
    """
    if name.upper() not in BENCHMARKS:
        raise ConfigError(f"unknown benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name.upper()]


def write_submission(results: Path | str, benchmark: str, out: Path | str, *, split: str = "test") -> Submission:
    """Gather results into a zip as MOTChallenge takes it, and check it.

    Args:
        results: folder with ``SEQ.txt`` or ``data/SEQ.txt`` for every sequence. For MOT17 ``MOT17-01.txt`` stands in for the
            copies of a scene that have no file of their own: a tracker with its own detector has one result for all three.
        benchmark: ``MOT15``, ``MOT16``, ``MOT17`` or ``MOT20``.
        out: the zip to write; it appears only if all is well.
        split: ``test``, ``train``, or ``all`` for both.

    Returns:
        What was written.

    Raises:
        DataError: a sequence has no file, or a row is not as it should be; names file and line.
        ConfigError: there is no such benchmark or split.
        OutputError: the zip cannot be written.

    Source:
        MOTChallenge's instructions: text files in the root of a zip, named after the sequences, rows ``frame, id, left, top,
        width, height, conf, x, y, z``, frames from 1, no id twice in a frame.
    """
    folder = Path(results)
    lengths = find_benchmark(benchmark).sequences(split)
    files = {name: _result_file(folder, name) for name in sorted(lengths)}
    missing = [name for name, file in files.items() if file is None]
    if missing:
        raise DataError(
            f"{folder}: no results for {len(missing)} of {len(lengths)} sequences of {benchmark.upper()} {split}: "
            f"{', '.join(missing)}; expected a file such as {missing[0]}.txt"
        )
    content = {name: _read(file) for name, file in files.items() if file is not None}
    for name, file in files.items():
        _check(_parse(str(file), content[name]), lengths[name], name)
    with atomic_write(out, "wb") as target:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in content.items():
                rows_only = "".join(f"{line}\n" for line in text.split("\n") if line.strip())  # blank lines stop the server
                archive.writestr(zipfile.ZipInfo(f"{name}.txt", _EPOCH), rows_only, zipfile.ZIP_DEFLATED)
        target.flush()
        rows = check_submission(target.name, benchmark, split=split).rows
    return Submission(Path(out), rows)


def check_submission(path: Path | str, benchmark: str, *, split: str = "test") -> Submission:
    """Check a zip, whoever wrote it.

    Args:
        path: the zip.
        benchmark: as in ``write_submission``.
        split: as in ``write_submission``.

    Raises:
        DataError: the zip is damaged, holds folders, files of other names or not all sequences, or a row is not as it should
            be; names the file in the zip, and the line.
        ConfigError: there is no such benchmark or split.
    """
    lengths = find_benchmark(benchmark).sequences(split)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_layout(Path(path), [member.filename for member in members], lengths, f"{benchmark.upper()} {split}")
            rows = {}
            for member in sorted(members, key=lambda member: member.filename):
                name = member.filename.removesuffix(".txt")
                if member.file_size > _MAX_BYTES:
                    raise DataError(f"{path}: {member.filename} unpacks to {member.file_size} bytes; no results are that long")
                if member.compress_type not in _PACKED:
                    raise DataError(f"{path}: {member.filename} is packed by method {member.compress_type}; pack it by deflate")
                place = f"{path}: {member.filename}"
                text = _decode(place, archive.read(member), "utf-8")  # by which a mark before the text is part of it
                _refuse_blank_lines(place, text)
                found = _parse(place, text)
                _check(found, lengths[name], name)
                rows[name] = len(found.line)
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}") from error
    except _DAMAGED as error:
        raise DataError(f"{path}: damaged, or not a zip ({error}); write it again with tdtrack submit") from error
    return Submission(Path(path), rows)


def _result_file(folder: Path, name: str) -> Path | None:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of results")
    places = [folder / inner / f"{stem}.txt" for stem in dict.fromkeys((name, scene_of(name))) for inner in ("", "data")]
    return next((place for place in places if place.is_file()), None)


def _read(path: Path) -> str:
    try:
        return _decode(str(path), path.read_bytes(), "utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}") from error


def _decode(place: str, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is not a text file ({error.reason} at byte {error.start}); pass MOT text") from error


def _refuse_blank_lines(place: str, text: str) -> None:
    """Refuse what stops the server, wherever it stands."""
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if not line.strip() and text:
            raise DataError(f"{place}:{number}: a blank line, at which the server stops; remove it, or write the zip anew")


def _parse(place: str, text: str) -> Rows:
    """Parse rows that all have the same between their columns and nothing behind the last: the server may misread others."""
    first = ""
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        first = first or line
        if line.endswith(","):
            raise DataError(f"{place}:{number}: a comma ends the row, which makes one column more of it; remove the comma")
        if line and ("," in line) != ("," in first):
            raise DataError(
                f"{place}:{number}: {line!r:.80} has {'commas' if ',' in line else 'blanks'} between its columns, unlike the "
                "rows before it; put commas in all"
            )
    return parse_rows(place, text)


def _check_layout(path: Path, names: list[str], lengths: Mapping[str, int], what: str) -> None:
    wanted = {f"{name}.txt" for name in lengths}
    for name in names:
        if "/" in name or "\\" in name:
            raise DataError(f"{path}: {name} lies in a folder; MOTChallenge wants all files in the root of the zip")
        if name not in wanted:
            raise DataError(f"{path}: {name} is no file of {what}; remove it, or name the split it belongs to")
    if len(names) != len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: {twice} is in the zip twice; write it again")
    if missing := sorted(wanted - set(names)):
        raise DataError(f"{path}: {len(missing)} of {len(wanted)} files of {what} are missing: {', '.join(missing)}")


def _check(rows: Rows, length: int, name: str) -> None:
    """Refuse what the server would refuse, or count wrongly without a word."""
    if not len(rows.line):
        raise DataError(f"{rows.path}: no rows; a tracker that finds no one in all of {name} was not run on it")
    if rows.columns != _COLUMNS:
        raise DataError(
            f"{rows.where(0)}: {rows.columns} columns; a submission has {_COLUMNS}: "
            "frame, id, left, top, width, height, conf, x, y, z"
        )
    checks: tuple[tuple[BoolArray, Callable[[int], str]], ...] = (
        (rows.frame > length, lambda row: f"frame {rows.frame[row]} is beyond the {length} frames of {name}"),
        (rows.track_id < 1, lambda row: f"id {rows.track_id[row]}; ids of a submission count from 1"),
        (
            np.asarray((rows.tlwh[:, 2:] <= 0).any(axis=1)),
            lambda row: f"a box of {rows.tlwh[row, 2]:g} x {rows.tlwh[row, 3]:g} pixels",
        ),
        (
            np.asarray((np.abs(rows.tlwh) > _MAX_PIXELS).any(axis=1)),
            lambda row: f"box {rows.tlwh[row].tolist()} is not in pixels of a frame",
        ),
    )
    for bad, describe in checks:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{rows.where(row)}: {describe(row)} ({int(bad.sum())} such rows); mend or remove it")
