"""Training curves of a run as one picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tdtrack.errors import DataError, MissingExtraError
from tdtrack.files import atomic_write, reason_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_training"]

_LOSS, _QUALITY, _SETTING = "#2f5d8a", "#12805c", "#7a7f87"
_PANELS = (
    ("class_loss", "Classification loss", _LOSS),
    ("box_loss", "Box loss", _LOSS),
    ("embedding_loss", "Embedding loss", _LOSS),
    ("val_ap50", "Validation AP at IoU 0.5", _QUALITY),
    ("val_cosine", "Validation cosine to the teacher", _QUALITY),
    ("learning_rate", "Learning rate", _SETTING),
)
"""Column of the table, title and colour. What a run did not log gets no panel."""

_COLUMNS = 3
_INK, _FAINT = "#22262b", "#dfe3e8"
_MIN_LOG_RATIO = 20.0  # losses that fall further than this are readable on a logarithmic axis only


def plot_training(metrics: Path, out: Path, *, title: str = "") -> Path:
    """Draw the losses, validation quality and learning rate of a run as small multiples.

    Args:
        metrics: ``metrics.csv`` of a run folder: a ``step`` column and some of the others, cells may be empty.
        out: PNG file to write, about 1,900 pixels wide.
        title: heading of the picture; empty draws none.

    Returns:
        ``out``.

    Raises:
        DataError: the table cannot be read, or has no row of numbers to draw.
        OutputError: the picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    series = _read(metrics)
    panels = [(name, label, colour) for name, label, colour in _PANELS if name in series]
    if not panels:
        known = ", ".join(name for name, _, _ in _PANELS)
        raise DataError(f"{metrics} has no numbers under any of {known}; pass the metrics.csv of a run that has started")
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train", "drawing training curves") from error

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (4.0 * columns, 2.6 * rows + (0.4 if title else 0.0))
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=size, dpi=160, facecolor="white", layout=layout)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    for index, (name, label, colour) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw(axes, *series[name], label=label, colour=colour)
    with atomic_write(out, "wb") as file:
        figure.savefig(file, format="png")
    return out


def _read(metrics: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return steps and values of every column that has any."""
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        with metrics.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if "step" not in (table.fieldnames or ()):
                raise DataError(f"{metrics} has no column named step; pass the metrics.csv of a run folder")
            for row in table:
                for name, cell in row.items():
                    if name != "step" and isinstance(cell, str) and cell.strip():
                        points.setdefault(name, []).append((float(row["step"]), float(cell)))
    except OSError as error:
        raise DataError(f"cannot read {metrics}: {reason_of(error)}") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{metrics}:{table.line_num}: {error}; mend or remove the line") from error
    return {name: (np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])) for name, pairs in points.items()}


def _draw(axes: Axes, step: NDArray[np.float64], value: NDArray[np.float64], *, label: str, colour: str) -> None:
    sparse = len(step) <= 40  # few points: show each; many: show their course
    if colour == _LOSS and not sparse:
        axes.plot(step, value, color=colour, linewidth=0.7, alpha=0.25)
        axes.plot(step, _smooth(value), color=colour, linewidth=1.8)
    else:
        axes.plot(
            step, value, color=colour, linewidth=1.8, marker="o" if sparse and colour != _SETTING else None, markersize=3.5
        )
    _scale(axes, value, colour)
    axes.set_title(label, loc="left", fontsize=10.5, fontweight="bold", color=_INK)
    last = _smooth(value)[-1] if colour == _LOSS and not sparse else value[-1]
    if colour != _SETTING:
        axes.set_title(f"{last:.3g}", loc="right", fontsize=10.5, color=colour)
    axes.set_xlabel("iteration", fontsize=8.5, color=_INK)
    axes.tick_params(which="both", labelsize=8.5, length=0, colors=_INK)
    axes.grid(True, color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_FAINT)


def _scale(axes: Axes, value: NDArray[np.float64], colour: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = value[np.isfinite(value)]
    if colour == _QUALITY:
        axes.set_ylim(min(0.0, *finite, 0.0), 1.02)
    elif colour == _LOSS and len(finite) and finite.min() > 0 and finite.max() / finite.min() > _MIN_LOG_RATIO:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)


def _smooth(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a centred window of one thirtieth of the curve, shorter at its ends."""
    window = np.ones(max(1, len(value) // 30))
    return np.asarray(np.convolve(value, window, "same") / np.convolve(np.ones_like(value), window, "same"))
