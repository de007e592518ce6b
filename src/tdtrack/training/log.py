"""What a run writes down while it runs: a CSV table, TensorBoard curves and a progress bar."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tdtrack.errors import MissingExtraError, OutputError
from tdtrack.files import atomic_write, reason_of

__all__ = ["COLUMNS", "METRICS_FILE", "MetricsLog", "ProgressLine"]

METRICS_FILE = "metrics.csv"
"""Name of the table in a run folder."""

COLUMNS = (
    "step",
    "learning_rate",
    "loss",
    "class_loss",
    "box_loss",
    "embedding_loss",
    "gradient_norm",
    "positives",
    "val_ap50",
    "val_cosine",
)
"""Columns of the table. Losses are means over the iterations since the row before and stand before their weights of Eq. 2,
except ``loss``, which is Eq. 2. The table holds no times: equal runs write equal tables."""


class MetricsLog:
    """Rows of numbers by iteration, on disk as soon as they are written."""

    def __init__(self, folder: Path, last_step: int) -> None:
        """Open the logs of a run.

        Args:
            folder: run folder.
            last_step: iteration the run continues from; rows after it, of a run that was cut off, are removed.

        Raises:
            OutputError: the table cannot be written.
            MissingExtraError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "train", "training") from error
        self._path = folder / METRICS_FILE
        rows = _rows_until(self._path, last_step)
        with atomic_write(self._path) as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        try:
            self._file = self._path.open("a", encoding="utf-8", newline="")
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=last_step + 1)
        except OSError as error:
            raise OutputError(f"cannot write the logs in {folder}: {reason_of(error)}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one row.

        Args:
            step: iterations done.
            values: numbers by column; columns that are not named stay empty.

        Raises:
            OutputError: the row cannot be written.
        """
        cells = [str(step), *(f"{values[name]:.9g}" if name in values else "" for name in COLUMNS[1:])]
        try:
            self._file.write(",".join(cells) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {reason_of(error)}") from error

    def __enter__(self) -> MetricsLog:
        """Return the open log."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the files.

        Raises:
            OutputError: what was left to write could not be written, and no other error ends the block.
        """
        try:
            with ExitStack() as stack:
                stack.callback(self._board.close)
                stack.callback(self._file.close)
        except OSError as failure:
            if error is None:  # else that one says why
                raise OutputError(f"cannot write the logs in {self._path.parent}: {reason_of(failure)}") from failure


def _rows_until(path: Path, last_step: int) -> list[list[str]]:
    """Return the whole rows of a table up to an iteration; a row that was cut off in writing has too few cells."""
    if last_step == 0 or not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [row for row in rows if len(row) == len(COLUMNS) and row[0].isdigit() and int(row[0]) <= last_step]


class ProgressLine:
    """A progress bar with the losses and the time left; silent when switched off."""

    def __init__(self, title: str, total: int, completed: int, *, enabled: bool) -> None:
        """Describe the bar; entering the block shows it.

        Args:
            title: what runs.
            total: iterations.
            completed: iterations already done.
            enabled: show anything at all.
        """
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._task = self._progress.add_task(title, total=total, completed=completed, status="")
        self._enabled = enabled
        self._status: dict[str, str] = {}

    def advance(self, values: Mapping[str, float]) -> None:
        """Count one iteration and show new numbers.

        Args:
            values: numbers by column of the log; those shown before stay until replaced.
        """
        short = {"loss": "loss", "embedding_loss": "emb", "val_ap50": "AP50", "val_cosine": "cos"}
        self._status |= {short[name]: f"{value:.3f}" for name, value in values.items() if name in short}
        self._progress.update(self._task, advance=1, status=" ".join(f"{name} {text}" for name, text in self._status.items()))

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        if self._enabled:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> ProgressLine:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()
