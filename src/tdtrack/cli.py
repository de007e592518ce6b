"""The command line: verbs that parse, call and print; no logic lives here."""

from __future__ import annotations

import difflib
import json
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.markup import escape

from tdtrack.config import AssociationConfig, TeacherTrainConfig, TrainConfig
from tdtrack.errors import ConfigError, TdtrackError
from tdtrack.version import __version__

__all__ = ["main"]

Settings = dict[str, Any]
INTERRUPTED = 130  # the shell's own status for Ctrl-C


@dataclass(frozen=True)
class Verb:
    """One sub-command: its help line, its arguments and what it calls."""

    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Settings, Console], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: words after ``tdtrack``; ``None`` takes them from the process.

    Returns:
        Exit status: 0 done, 1 a tdtrack error (printed in one line), 2 unusable arguments, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
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
            raise ConfigError(f"unknown command {name!r}{_nearest(name, VERBS)}; run tdtrack --help for the list")
        settings = _parse(name, rest)
        return VERBS[name].run(settings, Console())
    except ArgumentError as error:
        errors.print(f"[red]tdtrack {name}:[/] {escape(str(error))}")
        return 2
    except TdtrackError as error:
        errors.print(f"[red]tdtrack {name}:[/] {escape(str(error))}")
        return 2 if isinstance(error, ConfigError) else 1
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


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _parser(name: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"tdtrack {name}", description=VERBS[name].summary, exit_on_error=False)
    VERBS[name].arguments(parser)
    return parser


def _parse(name: str, words: Sequence[str]) -> Settings:
    """Parse a verb's words; an unknown setting becomes an error that names the nearest known one.

    Raises:
        ConfigError: a setting is unknown.
        ArgumentError: any other unusable argument.
    """
    parser = _parser(name)
    try:
        parsed = parser.parse_args(list(words))
    except ArgumentError as error:
        setting, in_file = _unknown_setting(str(error))
        if setting is None:
            raise
        known = sorted({option.lstrip("-") for action in parser._actions for option in action.option_strings})
        where = f" in {_config_file(words)}" if in_file and _config_file(words) else ""
        raise ConfigError(f"unknown setting {setting!r}{where}{_nearest(setting, known)}") from error
    settings = dict(vars(parser.instantiate(parsed)))
    settings.pop("config", None)
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


def _add_config(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--config", action="config", help=f"YAML file with {what}; later options override it")


# ---------------------------------------------------------------------------------------------------------- doctor


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", type=str, help="COCO JSON file, folder of MOTChallenge sequences, or embedding store")
    parser.add_argument("--images", type=str, default="", help="folder the file names of a COCO file are relative to")
    parser.add_argument("--decode", type=bool, default=False, help="decode every image, not only its header")
    parser.add_argument("--json", type=str, default="", help="also write the report to this file")


def _doctor(settings: Settings, console: Console) -> int:
    from tdtrack.data.doctor import inspect

    report = inspect(settings["data"], settings["images"], decode=settings["decode"])
    for line in report.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if settings["json"]:
        _write_json(Path(settings["json"]), report.to_dict())
    return 0


# --------------------------------------------------------------------------------------------------------- walkers


def _walkers_arguments(parser: ArgumentParser) -> None:
    from tdtrack.data.walkers import WalkersConfig

    _add_config(parser, "the world's settings")
    parser.add_argument("--out", type=str, required=True, help="folder for the world's three parts")
    parser.add_argument("--workers", type=int, default=2, help="processes; the result does not depend on it")
    parser.add_class_arguments(WalkersConfig, "world")


def _walkers(settings: Settings, console: Console) -> int:
    from tdtrack.data.walkers import write_world

    world = write_world(settings["world"], Path(settings["out"]), workers=settings["workers"])
    console.print(f"world in {world.root}", markup=False)
    return 0


# --------------------------------------------------------------------------------------------------- teacher verbs


def _train_teacher_arguments(parser: ArgumentParser) -> None:
    _add_config(parser, "the settings of a teacher")
    parser.add_class_arguments(TeacherTrainConfig)


def _train_teacher(settings: Settings, console: Console) -> int:
    from tdtrack.teacher import load_teacher
    from tdtrack.teacher.train import evaluate_reid, train_teacher

    config = TeacherTrainConfig(**settings)
    weights = train_teacher(config)
    console.print(f"teacher in {weights}", markup=False)
    if (Path(config.crops) / "query").is_dir():
        quality = evaluate_reid(load_teacher(weights), config.crops)
        console.print(f"rank-1 {quality['rank1']:.1%}, mAP {quality['mAP']:.1%} on query/ against bounding_box_test/")
    return 0


def _annotate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=str, required=True, help="COCO JSON file or folder of MOTChallenge sequences")
    parser.add_argument("--images", type=str, default="", help="folder the file names of a COCO file are relative to")
    _add_teacher(parser, required=True)
    parser.add_argument("--out", type=str, required=True, help="embedding store to write (.parquet)")
    parser.add_argument("--batch-size", type=int, default=64, help="crops per teacher call")
    parser.add_argument("--workers", type=int, default=2, help="decoding threads")
    parser.add_argument("--skip-bad-boxes", action="store_true", help="drop what doctor reports instead of stopping")


def _add_teacher(parser: ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--teacher",
        type=str,
        required=required,
        default=None,
        help="network name (osnet_x0_25, ...), .onnx or .safetensors file",
    )
    parser.add_argument("--weights", type=str, default=None, help="checkpoint of a named network")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: what there is")


def _annotate(settings: Settings, console: Console) -> int:
    from tdtrack.data import load_dataset
    from tdtrack.teacher import load_teacher
    from tdtrack.teacher.annotate import annotate

    dataset = load_dataset(settings["data"], settings["images"], skip_bad=settings["skip_bad_boxes"])
    teacher = load_teacher(settings["teacher"], settings["weights"], settings["device"])
    out = Path(settings["out"])
    store = annotate(dataset, teacher, out, batch_size=settings["batch_size"], workers=settings["workers"])
    size = out.stat().st_size / 1e6
    console.print(
        f"{len(store)} embeddings of {store.dim} numbers by {store.teacher_name} in {out} ({size:.1f} MB)", markup=False
    )
    return 0


# --------------------------------------------------------------------------------------------------------- training


def _train_arguments(parser: ArgumentParser) -> None:
    _add_config(parser, "a recipe")
    parser.add_class_arguments(TrainConfig)


def _train(settings: Settings, console: Console) -> int:
    from tdtrack.training import train

    model = train(TrainConfig(**settings))
    console.print(f"model in {model}", markup=False)
    return 0


def _teach_arguments(parser: ArgumentParser) -> None:
    from tdtrack.teach import laptop_settings

    _add_config(parser, "a recipe; its data sets are replaced by DATA")
    parser.add_argument("data", type=str, help="COCO JSON file or folder of MOTChallenge sequences; no identities needed")
    parser.add_argument("--images", type=str, default="", help="folder the file names of a COCO file are relative to")
    parser.add_argument("--val-data", type=str, default="", help="data set to validate on; default: every tenth image of DATA")
    parser.add_argument("--val-images", type=str, default="", help="its image folder")
    _add_teacher(parser, required=True)
    parser.add_argument("--skip-bad-boxes", action="store_true", help="drop what doctor reports instead of stopping")
    parser.add_class_arguments(TrainConfig, skip={"train", "validation"})
    parser.set_defaults(laptop_settings())


def _teach(settings: Settings, console: Console) -> int:
    from tdtrack.teach import TeachData, teach
    from tdtrack.teacher import load_teacher

    data = TeachData(
        data=settings.pop("data"),
        images=settings.pop("images"),
        val_data=settings.pop("val_data"),
        val_images=settings.pop("val_images"),
        skip_bad=settings.pop("skip_bad_boxes"),
    )
    teacher = load_teacher(settings.pop("teacher"), settings.pop("weights"), settings.pop("device"))
    result = teach(data, teacher, settings)
    for line in result.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


# --------------------------------------------------------------------------------------------------------- tracking


def _track_arguments(parser: ArgumentParser) -> None:
    _add_config(parser, "tracking settings")
    parser.add_argument(
        "source", type=str, nargs="?", help="video file, image folder, MOT sequence, camera number or stream URL"
    )
    parser.add_argument("--model", type=str, default=None, help="run folder or model file made by tdtrack train or teach")
    parser.add_argument("--detections", type=str, default=None, help="track saved detections (.npz) instead of a source")
    parser.add_argument("--out", type=str, required=True, help="result folder; with --detections the MOT text file")
    parser.add_argument("--association", type=str, default=None, help="fairmot or motion; default: fairmot")
    _add_teacher(parser, required=False)
    parser.add_argument(
        "--two-stage", action="store_true", help="embed crops with --teacher instead of the model's own embeddings"
    )
    parser.add_argument("--frame-rate", type=float, default=None, help="frames per second, where the source does not say")
    parser.add_argument("--max-frames", type=int, default=None, help="stop after this many frames")
    parser.add_argument("--video", type=bool, default=True, help="write the annotated video")
    parser.add_class_arguments(AssociationConfig, "tracker", skip={"method"})


def _track(settings: Settings, console: Console) -> int:
    from tdtrack.track import TrackRequest, run_track

    tracker = settings.pop("tracker")
    summary = run_track(TrackRequest(**settings), dict(vars(tracker)))
    for line in summary.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return INTERRUPTED if summary.interrupted else 0


# ------------------------------------------------------------------------------------------------------- evaluation


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--gt", type=str, required=True, help="ground truth: a MOT sequence, a folder of them, or a COCO JSON file"
    )
    parser.add_argument("--results", type=str, default=None, help="folder of MOT text files, one per sequence")
    parser.add_argument("--model", type=str, default=None, help="for a COCO file: the model whose detections are measured")
    parser.add_argument("--images", type=str, default="", help="for a COCO file: its image folder")
    parser.add_argument("--store", type=str, default=None, help="for a COCO file: embedding store to measure agreement with")
    parser.add_argument("--json", type=str, default="", help="also write every number to this file")


def _evaluate(settings: Settings, console: Console) -> int:
    if settings["model"] is not None:
        from tdtrack.training.validate import evaluate_model

        report = evaluate_model(settings["model"], settings["gt"], settings["images"], settings["store"])
        for line in report.lines():
            console.print(line, markup=False, highlight=False)
        numbers = report.to_dict()
    elif settings["results"] is not None:
        from tdtrack.evaluation.table import format_table
        from tdtrack.evaluation.tracking import evaluate_tracking

        tracking = evaluate_tracking(settings["gt"], settings["results"])
        print(format_table(tracking, width=console.width))
        numbers = tracking.to_dict()
    else:
        raise ConfigError("pass --results DIR to measure tracks, or --model M to measure a model's detections")
    if settings["json"]:
        _write_json(Path(settings["json"]), numbers)
    return 0


# ------------------------------------------------------------------------------------------------------------- demo


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="tdtrack-demo", help="folder for everything the demo makes")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of both trainings")


def _demo(settings: Settings, console: Console) -> int:
    from tdtrack.demo import run_demo

    run_demo(Path(settings["out"]), seed=settings["seed"], console=console)
    return 0


def _write_json(path: Path, content: Any) -> None:
    from tdtrack.files import atomic_write

    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


VERBS: dict[str, Verb] = {
    "demo": Verb("the whole path on a synthetic world, no data needed", _demo_arguments, _demo),
    "teach": Verb("annotate, train and validate on your own boxes, in one command", _teach_arguments, _teach),
    "track": Verb("track a video, image folder, MOT sequence, camera or saved detections", _track_arguments, _track),
    "evaluate": Verb("MOTA, IDF1, HOTA of tracks; AP and embedding agreement of a model", _evaluate_arguments, _evaluate),
    "annotate": Verb("give every box of a data set its teacher embedding", _annotate_arguments, _annotate),
    "train": Verb("train the joint model from a recipe", _train_arguments, _train),
    "train-teacher": Verb("train a Re-ID teacher on crops by identity", _train_teacher_arguments, _train_teacher),
    "doctor": Verb("say what is in a data set, what would be dropped and why", _doctor_arguments, _doctor),
    "walkers": Verb("write a synthetic world of walking people", _walkers_arguments, _walkers),
}
