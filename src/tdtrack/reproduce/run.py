"""One table from start to end."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from tdtrack.errors import ConfigError
from tdtrack.files import atomic_write, sweep
from tdtrack.output.bars import plot_bars
from tdtrack.reproduce.folder import FolderMaterial
from tdtrack.reproduce.material import Material, WalkersMaterial
from tdtrack.reproduce.pages import bars, markdown, print_table
from tdtrack.reproduce.results import TableResult
from tdtrack.reproduce.scale import Scale
from tdtrack.reproduce.side_by_side import measure_side_by_side
from tdtrack.reproduce.tables import Table
from tdtrack.reproduce.workshop import Workshop
from tdtrack.training.pace import seconds_per_iteration

__all__ = ["Request", "reproduce", "requested"]


@dataclass(frozen=True)
class Request:
    """What ``tdtrack reproduce`` was asked for.

    Attributes:
        table: a key of ``TABLES``.
        out: folder for everything; tables share what they have in common there.
        data_root: folder of real data; empty takes the walkers world.
        seeds: trainings per row; results are means over them.
        processes: trainings at a time.
        rows: labels of the rows that are wanted; empty takes all.
        length: how many times as long as the scale says rows are trained.
    """

    table: str
    out: str = "runs/reproduce"
    data_root: str = ""
    seeds: int = 1
    processes: int = 1
    rows: tuple[str, ...] = ()
    length: int = 1


def reproduce(request: Request, scale: Scale, console: Console) -> TableResult:
    """Run what is missing of one table, then print and save it beside the paper's numbers.

    Args:
        request: which table, from what, how often.
        scale: how large.
        console: where the table goes.

    Returns:
        What was measured; also in ``out/<table>.json`` and ``.md``, and as a picture where the paper has one. Each holds
        what was asked for last.

    Raises:
        ConfigError: there is no such table or row, the scale's ``table_length`` cannot be used, or ``seeds``,
            ``processes`` or ``length`` is below 1.
        TdtrackError: whatever stops a stage; a second call goes on from there.
        KeyboardInterrupt: the user stopped it; a second call goes on from there.
    """
    for name in ("seeds", "processes", "length"):
        if (value := getattr(request, name)) < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    table, out = requested(request, scale), Path(request.out)
    sweep(out, below=True)
    material: Material = FolderMaterial(Path(request.data_root)) if request.data_root else WalkersMaterial(scale, out)
    workshop = Workshop(material, scale, out)
    _announce(table, workshop, request.seeds, console)
    if request.processes > 1:
        measure_side_by_side(workshop, table.rows, request.seeds, request.processes, console)
    measured = {row.label: [workshop.measure(row, seed) for seed in range(request.seeds)] for row in table.rows}
    result = TableResult(request.table, measured, request.length)
    with atomic_write(out / f"{request.table}.json", "w") as file:
        json.dump(result.to_dict(), file, indent=2)
    with atomic_write(out / f"{request.table}.md", "w") as file:
        file.write(markdown(result))
    if table.plot:
        plot_bars(*bars(result), out / f"{request.table}.png", title=table.title)
    print_table(result, console)
    return result


def requested(request: Request, scale: Scale) -> Table:
    """Return the rows that a request asks for, trained as long as it says.

    Args:
        request: names table, rows and length.
        scale: how long the table's rows are trained at length 1.

    Raises:
        ConfigError: there is no such table or row, or the scale's ``table_length`` cannot be used.
    """
    table = scale.of(request.table)
    labels = [row.label for row in table.rows]
    for label in request.rows:
        if label not in labels:
            raise ConfigError(f"{request.table} has no row {label!r}; choose of {', '.join(map(repr, labels))}")
    wanted = [row for row in table.rows if not request.rows or row.label in request.rows]
    return replace(table, rows=tuple(replace(row, length=row.length * request.length) for row in wanted))


def _announce(table: Table, workshop: Workshop, seeds: int, console: Console) -> None:
    """Say what each row's training will take here, by one timed iteration; a model that rows share is counted once."""
    console.print(table.title, style="bold", highlight=False, markup=False)
    total, counted = 0.0, set[str]()
    for row in table.rows:
        plans = [workshop.plan(row, seed) for seed in range(seeds) if not workshop.trained(row, seed)]
        pending = [plan for plan in plans if plan.out not in counted]
        counted |= {plan.out for plan in pending}
        minutes = len(pending) * seconds_per_iteration(pending[0]) * pending[0].optimizer.steps / 60 if pending else 0.0
        total += minutes
        state = f"about {minutes:.1f} minutes of training ({len(pending)} of {seeds} to do)" if pending else "trained"
        console.print(f"  {row.label}: {state}", highlight=False, markup=False)
    console.print(
        f"  about {total:.0f} minutes in all (processor time, on a CPU); world, teachers and tracking come on top",
        highlight=False,
        markup=False,
    )
