"""What the demo shows: a table in the terminal and a page with the video."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from tdtrack.data.walkers import World
from tdtrack.demo.compare import MODES, MOTION, ONE_STAGE
from tdtrack.output import report as html
from tdtrack.output.plots import plot_training
from tdtrack.version import __version__

__all__ = ["DemoResult", "print_result", "write_page"]


@dataclass
class DemoResult:
    """What the demo measured.

    Attributes:
        modes: per mode key the overall metrics (fractions) and ``fps``, frames per second of detection and association.
        detection_ap: AP at IoU 0.5 on the held-out detection frames, fraction.
        sequence_ap: the same on the held-out sequences.
        agreement: mean cosine between the model's and the teacher's embedding of a held-out box.
        teacher: rank-1 and mAP of the teacher on people it has not seen, fractions.
        seconds: wall time of every stage that ran, summed over interrupted runs.
    """

    modes: dict[str, dict[str, float]] = field(default_factory=dict)
    detection_ap: float = 0.0
    sequence_ap: float = 0.0
    agreement: float = 0.0
    teacher: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def _comparison(result: DemoResult) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table that the demo prints and the page shows."""
    columns = ["", "MOTA", "IDF1", "HOTA", "IDSW", "frames/s"]
    rows = [
        [
            mode.title,
            *(f"{100 * row[name]:.1f}" for name in ("MOTA", "IDF1", "HOTA")),
            f"{row['IDSW']:.0f}",
            f"{row['fps']:.1f}",
        ]
        for mode in MODES
        for row in [result.modes[mode.key]]
    ]
    return columns, rows


def print_result(result: DemoResult, page: Path, seconds: float, console: Console) -> None:
    """Print the table, what else was measured, and where the page is."""
    columns, rows = _comparison(result)
    table = RichTable(title="held-out walkers sequences, one detector, three ways to link", title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row, mode in zip(rows, MODES):
        table.add_row(*row, style="bold" if mode is ONE_STAGE else "")
    console.print(table)
    console.print(
        f"AP at IoU 0.5: {result.sequence_ap:.1%} on these sequences, {result.detection_ap:.1%} on held-out photos; "
        f"cosine with the teacher {result.agreement:.3f}; this run took {seconds / 60:.1f} minutes",
        highlight=False,
    )
    console.print(f"open {page}", markup=False, highlight=False)


def write_page(result: DemoResult, world: World, out: Path, seed: int) -> Path:
    """Write ``report.html``: numbers, video, curves, wall times and how to go on."""
    one = result.modes[ONE_STAGE.key]
    motion = result.modes[MOTION.key]
    columns, rows = _comparison(result)
    plot = plot_training(out / "run" / "metrics.csv", out / "training.png", title="Training of the joint model")
    shown = world.sequences[0].name
    total = sum(result.seconds.values())
    return html.write_html_report(
        out / "report.html",
        title="tdtrack demo",
        summary=(
            "A detector learned to track in a synthetic world: from boxes without identities, "
            "and a teacher that gives each box an embedding."
        ),
        numbers=[
            html.Number(
                "IDF1, one-stage", f"{100 * one['IDF1']:.1f}", f"{100 * (one['IDF1'] - motion['IDF1']):+.1f} over motion only"
            ),
            html.Number("AP at IoU 0.5", f"{100 * result.sequence_ap:.1f}", "on held-out sequences"),
            html.Number("Cosine with teacher", f"{result.agreement:.3f}", "on held-out boxes"),
            html.Number("From nothing", f"{total / 60:.1f} min", "all stages together"),
        ],
        sections=[
            html.Section(
                "Three ways to link the same detections",
                [
                    html.Table(
                        columns,
                        rows,
                        "All held-out sequences together; frames per second of network and association.",
                        highlight=len(MODES) - 1,
                    )
                ],
            ),
            html.Section(
                "What it looks like",
                [html.Video(out / "tracks" / ONE_STAGE.key / f"{shown}.mp4", f"{shown}, one-stage: a colour per identity.")],
            ),
            html.Section("How it learned", [html.Figure(plot, "Losses, and validation on held-out frames.")]),
            html.Section(
                "Where the time went",
                [html.Bars([(title.split(":")[0], spent, f"{spent:.0f} s") for title, spent in result.seconds.items()])],
            ),
            html.Section(
                "Now with your own data",
                [
                    html.Commands(
                        "tdtrack doctor boxes.json --images photos/\n"
                        "tdtrack teach boxes.json --images photos/ --out run \\\n"
                        "    --teacher osnet_x0_25 --weights osnet_x0_25_msmt17.pth\n"
                        "tdtrack track video.mp4 --model run --out tracks",
                        "boxes.json is a COCO file; no identities, no videos needed.",
                    )
                ],
            ),
        ],
        notes=[
            f"tdtrack {__version__}, seed {seed}",
            f"teacher: rank-1 {result.teacher['rank1']:.1%}, mAP {result.teacher['mAP']:.1%} on people it has not seen",
        ],
    )
