"""The command line: verbs that parse, call and print; no logic lives here."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from io import TextIOWrapper

from rich.console import Console
from rich.markup import escape

from tdtrack.cli import data_verbs, learning_verbs, reproduce_verbs, runtime_verbs, tracking_verbs
from tdtrack.cli.parsing import INTERRUPTED, Verb, nearest, parse
from tdtrack.errors import ConfigError, TdtrackError
from tdtrack.files import reason_of
from tdtrack.version import __version__

__all__ = ["VERBS", "main"]

VERBS: dict[str, Verb] = (
    learning_verbs.VERBS | runtime_verbs.VERBS | tracking_verbs.VERBS | data_verbs.VERBS | reproduce_verbs.VERBS
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: words after ``tdtrack``; ``None`` takes them from the process.

    Returns:
        Exit status: 0 done, 1 a tdtrack error (printed in one line), 2 unusable arguments, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as the error stream: names may hold what no encoding has
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if words in (["--version"], ["-V"]):
        print(f"tdtrack {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, rest = words[0], words[1:]
    try:
        if name not in VERBS:
            raise ConfigError(f"unknown command {name!r}{nearest(name, VERBS)}; run tdtrack --help for the list")
        verb = VERBS[name]
        return verb.run(parse(name, verb, rest), Console())
    except ArgumentError as error:
        errors.print(f"[red]tdtrack {name}:[/] {escape(str(error))}")
        return 2
    except TdtrackError as error:
        errors.print(f"[red]tdtrack {name}:[/] {escape(str(error))}")
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        lost = f"{os.fsdecode(error.filename)}: {reason_of(error)}"
        errors.print(
            f"[red]tdtrack {name}:[/] {escape(lost)}; bring the file, its disk or mount back and run the same command again"
        )
        return 1
    except KeyboardInterrupt:
        errors.print(f"tdtrack {name}: interrupted; the same command continues where this one stopped")
        return INTERRUPTED


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
    return (
        f"tdtrack {__version__}: teach any detector to track, from plain detection data\n\n"
        f"usage: tdtrack COMMAND [options]        tdtrack COMMAND --help for its options\n\n{verbs}\n"
    )
