"""Grouped bars: one group per model, one bar per metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tdtrack.errors import MissingExtraError, ShapeError
from tdtrack.files import atomic_write

__all__ = ["plot_bars"]

_COLOURS = ("#2f5d8a", "#12805c", "#c26a1b", "#7a7f87")
_INK, _FAINT = "#22262b", "#dfe3e8"
_GROUP_WIDTH = 0.8  # of the distance between two groups


def plot_bars(
    labels: Sequence[str], series: Mapping[str, Sequence[tuple[float, float]]], out: Path, *, title: str = ""
) -> Path:
    """Draw grouped bars with error bars.

    Args:
        labels: names of the groups.
        series: mean and standard deviation per group, by metric; in percent.
        out: PNG file to write.
        title: heading of the picture; empty draws none.

    Returns:
        ``out``.

    Raises:
        ShapeError: a metric has another number of values than there are groups.
        OutputError: the picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    for name, values in series.items():
        if len(values) != len(labels):
            raise ShapeError(f"{name} has {len(values)} values for {len(labels)} groups")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train", "drawing a figure") from error
    figure = Figure(figsize=(2.2 + 1.6 * len(labels), 3.8), dpi=160, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    width = _GROUP_WIDTH / max(1, len(series))
    for position, (name, values) in enumerate(series.items()):
        offset = (position - (len(series) - 1) / 2) * width
        places = [group + offset for group in range(len(labels))]
        means, deviations = [mean for mean, _ in values], [deviation for _, deviation in values]
        drawn = axes.bar(
            places,
            means,
            width,
            yerr=deviations if any(deviations) else None,
            label=name,
            color=_COLOURS[position % len(_COLOURS)],
            error_kw={"ecolor": _INK, "elinewidth": 1},
        )
        axes.bar_label(drawn, fmt="%.1f", fontsize=7.5, padding=2, color=_INK)
    axes.set_xticks(range(len(labels)), [label.replace(", ", ",\n") for label in labels], fontsize=8.5, color=_INK)
    axes.set_ylabel("%", color=_INK)
    axes.grid(True, axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_FAINT)
    axes.tick_params(length=0, colors=_INK)
    figure.legend(loc="outside lower center", ncols=len(series), frameon=False, fontsize=8.5)
    if title:
        axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=_INK)
    with atomic_write(out, "wb") as file:
        figure.savefig(file, format="png")
    return out
