"""Words of the command line into settings; what is unknown is answered with the nearest known name."""

from __future__ import annotations

import difflib
import json
import re
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from rich.console import Console

from tdtrack.config import DataSource
from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.errors import ConfigError

if TYPE_CHECKING:
    from tdtrack.jobs.pool import RayCluster
    from tdtrack.teacher import Teacher

__all__ = [
    "INTERRUPTED",
    "Settings",
    "Verb",
    "add_config",
    "add_input_size",
    "add_layout",
    "add_ray",
    "add_teacher",
    "nearest",
    "parse",
    "take_ray",
    "take_size",
    "take_teacher",
    "write_json",
]

Settings = dict[str, Any]
INTERRUPTED = 130  # the shell's own status for Ctrl-C


@dataclass(frozen=True)
class Verb:
    """One sub-command: its help line, its arguments and what it calls."""

    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Settings, Console], int]


def parse(name: str, verb: Verb, words: Sequence[str]) -> Settings:
    """Parse a verb's words; an unknown setting becomes an error that names the nearest known one.

    Args:
        name: of the verb.
        verb: what it takes.
        words: after the verb's name.

    Raises:
        ConfigError: a setting is unknown.
        ArgumentError: any other unusable argument.
    """
    parser = ArgumentParser(prog=f"tdtrack {name}", description=verb.summary, exit_on_error=False)
    verb.arguments(parser)
    try:
        settings = dict(vars(parser.instantiate(parser.parse_args(list(words)))))
    except ArgumentError as error:
        setting, in_file = _unknown_setting(str(error))
        if setting is None:
            raise
        known = sorted({option.lstrip("-") for action in parser._actions for option in action.option_strings})
        if "train" in known:  # settings of the data sets that it lists
            known += [item.name for item in fields(DataSource)]
        where = f" in {_config_file(words)}" if in_file and _config_file(words) else ""
        raise ConfigError(f"unknown setting {setting!r}{where}{nearest(setting, known)}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # the parser's own words for a file that is none
        raise ConfigError(f"{_config_file(words) or 'the options'} cannot be read as settings ({error!s:.200})") from error
    settings.pop("config", None)
    for action in parser._actions:
        if action.default is not None and settings.get(action.dest, action.default) is None:
            raise ConfigError(f"setting {action.dest!r} is empty; give it a value, or leave it out for {action.default!r}")
    return settings


def _unknown_setting(message: str) -> tuple[str | None, bool]:
    """Read from the parser's complaint which setting it does not know, and whether a file named it."""
    if found := re.search(r"unrecognized arguments: -*([^\s=]+)", message):
        return found[1], False
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return f"{found[1]}.{found[2]}", True
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        return found[1], True
    return None, False


def _config_file(words: Sequence[str]) -> str | None:
    for word, following in zip(words, [*words[1:], ""]):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean '...'?" with the known name nearest to this one, or nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def add_config(parser: ArgumentParser, what: str) -> None:
    """Add ``--config``, a YAML file with ``what``."""
    parser.add_argument("--config", action="config", help=f"YAML file with {what}; later options override it")


def add_layout(parser: ArgumentParser) -> None:
    """Add ``--images``, ``--format``, ``--split`` and ``--box``: how a data set is to be read."""
    parser.add_argument(
        "--images", type=str, default="", help="folder that image names are relative to; default: where the layout keeps them"
    )
    parser.add_argument("--format", type=DataFormat, default="auto", help="layout of the data set; default: told by its signs")
    parser.add_argument(
        "--split", type=str, default="", help="part of it (train, val, test, all), or a set of sequences (MOT15-val)"
    )
    parser.add_argument("--box", type=BoxKind, default="full", help="which of a person's boxes, where there are several")


def add_skip_bad_boxes(parser: ArgumentParser) -> None:
    """Add ``--skip-bad-boxes``."""
    parser.add_argument("--skip-bad-boxes", action="store_true", help="drop what doctor reports instead of stopping")


def add_input_size(parser: ArgumentParser) -> None:
    """Add ``--input-size``, of a detector."""
    parser.add_argument(
        "--input-size",
        type=str,
        default="",
        help="HEIGHT,WIDTH of a detector's input in pixels, where its file leaves them open",
    )


def take_size(text: str) -> tuple[int, int] | None:
    """Read the value of ``--input-size``; ``None`` for an empty one.

    Raises:
        ConfigError: it is not two numbers.
    """
    sides = [side.strip() for side in text.split(",") if side.strip()]
    if not sides:
        return None
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise ConfigError(f"input size {text!r} is not HEIGHT,WIDTH in pixels, for instance 416,416")
    return int(sides[0]), int(sides[1])


def add_teacher(parser: ArgumentParser, *, required: bool) -> None:
    """Add ``--teacher``, ``--weights`` and ``--device``."""
    parser.add_argument(
        "--teacher",
        type=str,
        required=required,
        default=None,
        help="network (osnet_x0_25, ...), known checkpoint (tdtrack teachers lists them), .onnx or .safetensors file",
    )
    parser.add_argument("--weights", type=str, default=None, help="checkpoint of a named network")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: what there is")


def add_ray(parser: ArgumentParser) -> None:
    """Add ``--address`` and ``--ray-workers``: where ``--engine ray`` runs."""
    parser.add_argument(
        "--address", type=str, default=None, help="a running Ray cluster (auto, ray://host:10001); default: this machine"
    )
    parser.add_argument("--ray-workers", type=PositiveInt | None, default=None, help="Ray processes; default: one per CPU")


def take_ray(settings: Settings, default: str) -> tuple[str, RayCluster | None]:
    """Take the words of ``add_ray`` and ``--engine`` out of the settings.

    Args:
        settings: of a verb that has both.
        default: engine of a worker, where ``--engine ray`` names none.

    Returns:
        The engine, and the cluster; ``None`` where the work is done in this process.

    Raises:
        ConfigError: there is an address, or a number of workers, but no ``--engine ray``.
    """
    from tdtrack.jobs.pool import RayCluster

    engine, address, workers = (settings.pop(name) for name in ("engine", "address", "ray_workers"))
    where, _, inner = engine.partition(":")
    if where == "ray":
        gpu = (settings.get("device") or "cuda").startswith("cuda")
        return inner or default, RayCluster(address, workers, gpu)
    if address is not None or workers is not None:
        raise ConfigError("--address and --ray-workers are for --engine ray; add it, or leave them out")
    return engine, None


def take_teacher(settings: Settings, console: Console) -> Teacher:
    """Take the words of ``add_teacher`` out of the settings and load what they name; a remark on it is printed."""
    from tdtrack.teacher import load_teacher

    teacher = load_teacher(settings.pop("teacher"), settings.pop("weights"), settings.pop("device"))
    if remark := getattr(teacher, "remark", ""):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
    return teacher


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    from tdtrack.files import atomic_write

    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
