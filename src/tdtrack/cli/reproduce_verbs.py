"""The verb that runs the paper's tables: reproduce."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import Settings, Verb, add_config, parse
from tdtrack.config import AssociationConfig, TeacherTrainConfig, TrainConfig

if TYPE_CHECKING:
    from tdtrack.reproduce import Scale


_SINGLE = ("teacher_steps", "table_length")
"""Parts of a scale that are about single teachers or tables."""


def _reproduce_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("table", type=str, help="table1, table3, table4, table5, table6, fig5 or fig6")
    parser.add_argument("--world", type=str, default="walkers", help="the synthetic world to run in; there is one, walkers")
    parser.add_argument("--data-root", type=str, default="", help="run on real data in this folder instead (docs/paper.md)")
    parser.add_argument("--out", type=str, default="runs/reproduce", help="folder for everything; tables share models there")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per row")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time")
    parser.add_argument("--rows", type=str, nargs="+", default=[], help="labels of single rows, for instance MNet MNet-FPN")
    parser.add_argument("--length", type=int, default=1, help="how many times as long to train as the scale says")
    parser.add_argument("--scale", type=str, default="", help="YAML file: world size, training length, tracker")


def _reproduce(settings: Settings, console: Console) -> int:
    from tdtrack.errors import ConfigError
    from tdtrack.reproduce import paper_scale, reproduce, walkers_scale
    from tdtrack.reproduce.run import Request

    world = settings.pop("world")
    if world != "walkers":
        raise ConfigError(f"there is no world {world!r}; take walkers, or real data with --data-root")
    scale = paper_scale() if settings["data_root"] else walkers_scale()
    if path := settings.pop("scale"):
        scale = read_scale(path, scale)
    reproduce(Request(**{**settings, "rows": tuple(settings["rows"])}), scale, console)
    return 0


def read_scale(path: str, base: Scale) -> Scale:
    """Read a scale file: in sections named as the parts of a ``Scale``, what differs from the base.

    Args:
        path: the YAML file.
        base: what it does not mention.

    Raises:
        ConfigError: a setting is unknown (the nearest known one is named).
        ArgumentError: the file cannot be read, or a value is of the wrong type.
    """
    from tdtrack.reproduce import Scale

    words = ["--config", path]
    parsed = parse("reproduce --scale", Verb("scale of a reproduction", partial(_scale_arguments, base), lambda *_: 0), words)
    sections = {name: dict(vars(parsed[name])) for name in ("teacher", "train", "tracker")}
    single = {name: parsed[name] for name in _SINGLE}
    return Scale(walkers=parsed["walkers"], **single, **sections)


def _scale_arguments(base: Scale, parser: ArgumentParser) -> None:
    add_config(parser, "the scale")
    from tdtrack.data.walkers import WalkersConfig

    skipped: dict[str, tuple[type, set[str]]] = {
        "teacher": (TeacherTrainConfig, {"crops", "out", "architecture"}),
        "train": (TrainConfig, {"out", "train", "validation", "seed", "init_from"}),
        "tracker": (AssociationConfig, {"max_appearance_cost"}),
    }
    parser.add_class_arguments(WalkersConfig, "walkers")
    for name in _SINGLE:
        parser.add_argument(f"--{name}", type=dict[str, int], default=dict(getattr(base, name)))
    for section, (record, names) in skipped.items():
        parser.add_class_arguments(record, section, skip=names, instantiate=False)
    defaults: dict[str, Any] = {f"walkers.{name}": value for name, value in vars(base.walkers).items()}
    for section in skipped:
        defaults |= {f"{section}.{name}": value for name, value in getattr(base, section).items()}
    parser.set_defaults(defaults)


VERBS = {
    "reproduce": Verb("run a table or figure of the paper, and print its numbers beside ours", _reproduce_arguments, _reproduce)
}
